//! Everything the page shows, as one value, and how each event changes it. Pure: no DOM, no clock, no worker.
import type { Adapter, Checkpoint, Event, Fault, FaultCode, Image, KeptCheckpoint, Loading, Stage } from './protocol.gen';

export interface State {
  /** `stopped`: nothing can be drawn until the engine is started anew. */
  phase: 'opening' | 'ready' | 'drawing' | 'stopped';
  adapter: Adapter | undefined;
  checkpoint: Checkpoint | undefined;
  compiling: { compiled: number; shaders: number } | undefined;
  loading: Loading | undefined;
  kept: KeptCheckpoint[];
  progress: { stage: Stage; step: number; steps: number } | undefined;
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
    case 'kept':
      return { ...state, kept: event.checkpoints };
    case 'ready':
      return { ...state, phase: 'ready', checkpoint: event, compiling: undefined, loading: undefined, fault: undefined };
    case 'planned':
      return { ...state, plan: event.plan };
    case 'note':
      return { ...state, note: event.text };
    case 'began':
      return { ...state, progress: { stage: event.stage, step: 0, steps: state.progress?.steps ?? 0 } };
    case 'step':
      return { ...state, progress: { stage: 'denoise', step: event.step, steps: event.steps } };
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

/** The state after `fault`: usable again, unless there is no engine left to ask. */
export function failed(state: State, fault: Fault): State {
  const stopped = state.phase === 'opening' || state.phase === 'stopped' || ENDS_ENGINE[fault.code];
  return { ...state, phase: stopped ? 'stopped' : 'ready', loading: undefined, progress: undefined, fault };
}

const ENDS_ENGINE: Record<FaultCode, boolean> = {
  no_webgpu: true,
  device_lost: true,
  internal: true,
  out_of_memory: false,
  gpu_validation: false,
  bad_request: false,
  bad_weights: false,
  bad_config: false,
  network: false,
  storage: false,
  companion: false,
  busy: false,
};

/** How far a checkpoint is on its way, in words. */
export function loadingText({ stage, loaded_bytes, total_bytes, bytes_per_second, seconds_left }: Loading): string {
  const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1);
  if (stage === 'wait') return 'Another tab is fetching this checkpoint';
  const doing = { fetch: 'Loading', convert: 'Converting', upload: 'Moving to the device' }[stage];
  const of = total_bytes === null ? '' : ` of ${megabytes(total_bytes)}`;
  const rate = bytes_per_second > 0 ? `, ${megabytes(bytes_per_second)} MB/s` : '';
  const left = seconds_left === null || seconds_left < 1 ? '' : `, ${Math.round(seconds_left)} s left`;
  return `${doing}: ${megabytes(loaded_bytes)}${of} MB${rate}${left}`;
}
