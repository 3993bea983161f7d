//! The panels: settings, models, the gallery and the editor. Each is a non-modal dialog with a button that opens and closes it. On a wide
//! page settings and models are columns beside the canvas, and the gallery and the editor cover it; on a narrow page each covers the canvas alone. The
//! prompt bar stays in reach, and what is covered takes no focus.
import { element } from './dom';
import { commandOf } from './shortcuts';

/** The width from which panels are beside the canvas, as in layout.css. */
const wide = matchMedia('(width >= 64rem)');
const PANELS = ['settings', 'models', 'gallery', 'editor'] as const;
export type Panel = (typeof PANELS)[number];

const dialogs = new Map(PANELS.map((panel) => [panel, element(panel, HTMLDialogElement)]));
const covered = [element('canvas', HTMLElement), element('history', HTMLElement)];
const listeners = new Map<Panel, () => void>();

/** Starts the panels: a narrow page begins with the canvas. */
export function startPanels(): void {
  for (const panel of PANELS) {
    const dialog = dialogOf(panel);
    buttonOf(panel).addEventListener('click', () => (dialog.open ? dialog.close() : openPanel(panel)));
    dialog.querySelector('[data-close]')?.addEventListener('click', () => dialog.close());
    dialog.addEventListener('keydown', (event) => {
      if (commandOf('page', event) !== 'closePanel' || event.defaultPrevented || !covers(panel)) return;
      event.preventDefault();
      dialog.close();
    });
    new MutationObserver(() => {
      renderPanels();
      listeners.get(panel)?.();
    }).observe(dialog, { attributeFilter: ['open'] });
  }
  const fit = (): void => {
    const settings = dialogOf('settings');
    settings.open = wide.matches;
    renderPanels();
  };
  wide.addEventListener('change', fit);
  fit();
  document.body.classList.add('started');
}

/** Calls `onToggle` whenever the panel was opened or closed. */
export function onPanelToggle(panel: Panel, onToggle: () => void): void {
  listeners.set(panel, onToggle);
}

export function isOpen(panel: Panel): boolean {
  return dialogOf(panel).open;
}

/** Opens a panel, in place of those that cover the same. */
export function openPanel(panel: Panel): void {
  if (covers(panel)) for (const other of PANELS) if (other !== panel && covers(other)) dialogOf(other).close();
  if (!dialogOf(panel).open) dialogOf(panel).show();
}

/** Closes the panels that cover the canvas. */
export function showCanvas(): void {
  for (const panel of PANELS) if (covers(panel)) dialogOf(panel).close();
}

function renderPanels(): void {
  for (const panel of PANELS) buttonOf(panel).setAttribute('aria-expanded', String(dialogOf(panel).open));
  const is_covered = PANELS.some((panel) => dialogOf(panel).open && covers(panel));
  for (const part of covered) part.inert = is_covered;
}

function covers(panel: Panel): boolean {
  return panel === 'gallery' || panel === 'editor' || !wide.matches;
}

function dialogOf(panel: Panel): HTMLDialogElement {
  const dialog = dialogs.get(panel);
  if (dialog === undefined) throw new Error(`there is no panel ${panel}`);
  return dialog;
}

function buttonOf(panel: Panel): HTMLButtonElement {
  return element(`open-${panel}`, HTMLButtonElement);
}
