//! The state of the page, which is replaced as a whole and rendered after every change.
import { type Notice, OPENING, type State } from './state';

export interface PageState {
  current(): State;
  show(changed: State): void;
  /** Shows a remark, which changes nothing else. */
  notify(notice: Notice): void;
}

/** Calls `render` after every change. */
export function createPageState(render: (state: State, before: State) => void): PageState {
  let state = OPENING;
  const show = (changed: State): void => {
    const before = state;
    state = changed;
    render(state, before);
  };
  return { current: () => state, show, notify: (notice) => show({ ...state, notice }) };
}
