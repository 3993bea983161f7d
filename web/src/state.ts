//! Everything the page shows, as one value, and how each event changes it. Pure: no DOM, no clock, no worker.
import { endsEngine } from './fault';
import type { Adapter, Checkpoint, Estimate, Event, Fault, Image, KeptCheckpoint, Loading, Preview, Stage, Step } from './protocol.gen';

/** How far a picture is. */
export interface Progress {
  stage: Stage;
  step: number;
  steps: number;
  preview: Preview | undefined;
  /** When the first step of this run was done, which one that was, and how long a step takes since. */
  first: { step: number; millis: number } | undefined;
  step_millis: number | undefined;
}

export interface State {
  /** `stopped`: nothing can be drawn until the engine is started anew. */
  phase: 'opening' | 'ready' | 'drawing' | 'stopped';
  adapter: Adapter | undefined;
  checkpoint: Checkpoint | undefined;
  compiling: { compiled: number; shaders: number } | undefined;
  loading: Loading | undefined;
  /** What the reader is asked about, before it is fetched. */
  asking: Estimate | undefined;
  kept: KeptCheckpoint[];
  progress: Progress | undefined;
  /** How the picture being drawn, or the last one, is computed within the device's memory. */
  plan: string | undefined;
  /** The prompt being drawn, then that of `image`. */
  prompt: string;
  image: Image | undefined;
  fault: Fault | undefined;
  /** What else there is to know about the picture. */
  note: string | undefined;
  /** When the device was open and when the last picture was there, since the navigation began. */
  opened_millis: number | undefined;
  pictured_millis: number | undefined;
}

export const OPENING: State = {
  phase: 'opening',
  adapter: undefined,
  checkpoint: undefined,
  compiling: undefined,
  loading: undefined,
  asking: undefined,
  kept: [],
  progress: undefined,
  plan: undefined,
  prompt: '',
  image: undefined,
  fault: undefined,
  note: undefined,
  opened_millis: undefined,
  pictured_millis: undefined,
};

/** The state in which a picture of `prompt` has just been asked for. */
export function drawing(state: State, prompt: string): State {
  return { ...state, phase: 'drawing', prompt, fault: undefined, note: undefined, progress: undefined };
}

/** The state after `event` at `now_millis`. */
export function next(state: State, event: Event, now_millis: number): State {
  switch (event.kind) {
    case 'adapter':
      return { ...state, adapter: event, opened_millis: now_millis };
    case 'compiling':
      return { ...state, compiling: event };
    case 'loading':
      return { ...state, loading: event };
    case 'estimated':
      return { ...state, asking: event.drawing === null ? undefined : event };
    case 'kept':
      return { ...state, kept: event.checkpoints };
    case 'ready':
      // A device that is opened again goes on with its picture.
      return { ...state, phase: state.phase === 'drawing' ? 'drawing' : 'ready', checkpoint: event, compiling: undefined, loading: undefined, fault: undefined };
    case 'planned':
      return { ...state, plan: event.plan };
    case 'note':
      return { ...state, note: event.text };
    case 'began':
      return { ...state, progress: began(state.progress, event.stage) };
    case 'step':
      return { ...state, progress: stepped(state.progress, event, now_millis) };
    case 'image':
      return { ...state, phase: 'ready', progress: undefined, image: event, pictured_millis: now_millis };
    case 'cancelled':
      return { ...state, phase: 'ready', progress: undefined };
    case 'checked':
      return state;
    case 'fault':
      return failed(state, event.fault);
    default: {
      const missing: never = event;
      throw new Error(`unknown event ${JSON.stringify(missing)}`);
    }
  }
}

function began(progress: Progress | undefined, stage: Stage): Progress {
  const before = progress ?? { step: 0, steps: 0, preview: undefined };
  return { ...before, stage, first: undefined, step_millis: undefined };
}

function stepped(progress: Progress | undefined, { step, steps, preview }: Step, now_millis: number): Progress {
  const first = progress?.first ?? { step, millis: now_millis };
  const step_millis = step > first.step ? (now_millis - first.millis) / (step - first.step) : undefined;
  return { stage: 'denoise', step, steps, preview: preview ?? undefined, first, step_millis };
}

/** The state after `fault`: usable again, unless there is no engine left to ask. */
export function failed(state: State, fault: Fault): State {
  const stopped = state.phase === 'opening' || state.phase === 'stopped' || endsEngine(fault);
  return { ...state, phase: stopped ? 'stopped' : 'ready', loading: undefined, asking: undefined, progress: undefined, fault };
}
