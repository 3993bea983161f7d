//! The state of the page that the explanations read.
import type { State } from '../state';

export interface ExplainContext {
  state(): State;
  /** Returns the address of the companion that encodes prompts, if one is selected. */
  companion(): string | undefined;
}
