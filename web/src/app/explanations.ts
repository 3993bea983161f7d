//! Explanations on demand: the list of shortcuts, the timeline of the last image, why images take long on this device, and a sentence for
//! each setting. This part only opens them; `explain/` is downloaded when the first is opened.
import { element } from './dom';
import type { ExplainContext } from './explain/context';
import { loadPart } from './load-part';
import { commandOf, isTyping } from './shortcuts';

/** The localStorage key that is set while settings are explained. */
const HELP_KEY = 'explain settings';

export interface Explanations {
  /** Renders again, in another language or for another model. */
  refresh(): void;
}

/** Connects the buttons and `?`. */
export function startExplanations(context: ExplainContext & { onFailed(thrown: unknown): void }): Explanations {
  type Part = typeof import('./explain/explain');
  const withPart = (use: (part: Part) => void | Promise<void>): void =>
    void loadPart('explanations', () => import('./explain/explain'))
      .then(use)
      .catch(context.onFailed);
  const openShortcuts = (): void => withPart(({ showShortcuts }) => showShortcuts());
  element('open-shortcuts', HTMLButtonElement).addEventListener('click', openShortcuts);
  document.addEventListener('keydown', (event) => {
    if (commandOf('page', event) !== 'shortcuts' || isTyping(event) || event.defaultPrevented) return;
    event.preventDefault();
    openShortcuts();
  });
  element('show-timeline', HTMLButtonElement).addEventListener('click', () => withPart(({ showTimeline }) => showTimeline(context)));
  element('why-slow', HTMLButtonElement).addEventListener('click', () => withPart(({ showSlow }) => showSlow(context)));

  const toggle = element('show-help', HTMLButtonElement);
  const isShown = (): boolean => toggle.getAttribute('aria-pressed') === 'true';
  const renderHelp = (): void => withPart(({ showHelp }) => showHelp(isShown(), context));
  const setShown = (shown: boolean): void => {
    toggle.setAttribute('aria-pressed', String(shown));
    renderHelp();
  };
  toggle.addEventListener('click', () => {
    setShown(!isShown());
    try {
      if (isShown()) localStorage.setItem(HELP_KEY, 'true');
      else localStorage.removeItem(HELP_KEY);
    } catch {
      // Without storage the explanations are shown until the window is closed.
    }
  });
  if (isRemembered()) setShown(true);
  return {
    refresh: () => {
      if (isShown()) renderHelp();
    },
  };
}

function isRemembered(): boolean {
  try {
    return localStorage.getItem(HELP_KEY) !== null;
  } catch {
    return false;
  }
}
