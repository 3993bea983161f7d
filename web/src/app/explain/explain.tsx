//! The explanations: each opens a dialog, or shows a sentence below each setting.
import './explain.css';
import { loadPart } from '../load-part';
import type { ExplainContext } from './context';
import { openDialog } from './dialog';
import { renderHelp } from './help';
import { Shortcuts } from './shortcuts';
import { findings, Slow } from './slow';
import { loadTexts, x } from './texts';
import { TimelinePlot } from './timeline';

const ready = (): Promise<void> => loadPart('explanations', loadTexts);

export async function showShortcuts(): Promise<void> {
  await ready();
  openDialog('shortcuts', x('shortcuts'), <Shortcuts />);
}

export async function showTimeline({ state, companion }: ExplainContext): Promise<void> {
  await ready();
  openDialog('timeline', x('timelineTitle'), <TimelinePlot state={state()} companion={companion()} />);
}

export async function showSlow({ state }: ExplainContext): Promise<void> {
  await ready();
  const found = await findings();
  openDialog('slow', x('slowTitle'), <Slow state={state()} found={found} />);
}

/** Shows or removes a sentence below each setting. */
export async function showHelp(isShown: boolean, { state }: ExplainContext): Promise<void> {
  await ready();
  renderHelp(isShown, state().checkpoint);
}
