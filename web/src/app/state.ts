//! Everything the page shows, as one value, and the changes that events make to it. Pure: no DOM, no clock, no worker.
import { endsEngine } from '../engine/fault';
import type {
  AdapterInfo,
  Checkpoint,
  DenoisingStep,
  EngineEvent,
  Estimate,
  Fault,
  GenerationStage,
  ImageResult,
  LoadProgress,
  PreviewImage,
  PromptCacheSize,
  StoredCheckpoint,
  TextEncoderLayer,
} from '../engine/protocol.gen';
import type { Job } from './queue';
import { type Timeline, withEvent } from './timeline';

/** The progress of the running generation. */
export interface Progress {
  stage: GenerationStage;
  step: number;
  total_steps: number;
  /** 2 in the second pass of a request with `hires_scale`. */
  pass: number;
  preview: PreviewImage | undefined;
  /** The first step that this tab ran, and when it ended: the base of `step_millis`. */
  first: { step: number; millis: number } | undefined;
  step_millis: number | undefined;
}

export interface State {
  /** `stopped`: nothing can be generated until the engine is restarted. */
  phase: 'opening' | 'ready' | 'generating' | 'stopped';
  adapter: AdapterInfo | undefined;
  checkpoint: Checkpoint | undefined;
  compiling: { compiled: number; shaders: number } | undefined;
  loading: LoadProgress | undefined;
  /** The download that waits for the user's confirmation. */
  estimate: Estimate | undefined;
  stored: StoredCheckpoint[];
  progress: Progress | undefined;
  /** The blocks of the text encoder that were applied, and of how many. */
  layer: Pick<TextEncoderLayer, 'layer' | 'layers' | 'is_streamed'> | undefined;
  prompt_cache: PromptCacheSize;
  /** The memory plan of the current image, in words. */
  plan: string | undefined;
  /** The jobs that run or wait. */
  jobs: readonly Job[];
  /** The prompt of the running generation. */
  prompt: string;
  /** The image on the canvas, and its prompt. */
  image: ImageResult | undefined;
  image_prompt: string;
  /** The user looks at an image while another one is generated. */
  hides_preview: boolean;
  fault: Fault | undefined;
  /** A remark about the current image. */
  note: string | undefined;
  /** A remark about something that the user dropped, restored or stored. It changes nothing else. */
  notice: Notice | undefined;
  /** The times of the running generation, and those of the last image. */
  timeline: Timeline | undefined;
  image_timeline: Timeline | undefined;
  /** When the device was open and the last image was there, since the navigation started. */
  opened_millis: number | undefined;
  image_millis: number | undefined;
}

/** A remark, with an image file that the user may choose as input image, or the title of a model that the user may open. */
export interface Notice {
  text: string;
  image?: File;
  model?: string;
}

export const OPENING: State = {
  phase: 'opening',
  adapter: undefined,
  checkpoint: undefined,
  compiling: undefined,
  loading: undefined,
  estimate: undefined,
  stored: [],
  progress: undefined,
  layer: undefined,
  prompt_cache: { prompts: 0, bytes: 0 },
  plan: undefined,
  jobs: [],
  prompt: '',
  image: undefined,
  image_prompt: '',
  hides_preview: false,
  fault: undefined,
  note: undefined,
  notice: undefined,
  timeline: undefined,
  image_timeline: undefined,
  opened_millis: undefined,
  image_millis: undefined,
};

/** Returns the state at the start of a generation. */
export function generating(state: State, prompt: string): State {
  return {
    ...state,
    phase: 'generating',
    prompt,
    hides_preview: false,
    fault: undefined,
    note: undefined,
    progress: undefined,
    layer: undefined,
    timeline: undefined,
  };
}

/** Returns the state after `event`, which arrived at `now_millis`. */
export function reduce(before: State, event: EngineEvent, now_millis: number): State {
  const state = before.phase === 'generating' ? { ...before, timeline: withEvent(before.timeline, event, now_millis) } : before;
  switch (event.kind) {
    case 'adapter':
      return { ...state, adapter: event, opened_millis: now_millis };
    case 'compiling':
      return { ...state, compiling: event };
    case 'loading':
      return { ...state, loading: event };
    case 'estimated':
      return { ...state, estimate: event.generation_cost === null ? undefined : event };
    case 'stored_checkpoints':
      return { ...state, stored: event.checkpoints, prompt_cache: event.prompt_cache };
    case 'ready': {
      // After a lost device the generation goes on.
      const phase = state.phase === 'generating' ? 'generating' : 'ready';
      return { ...state, phase, checkpoint: event, compiling: undefined, loading: undefined, fault: undefined };
    }
    case 'planned':
      return { ...state, plan: event.plan };
    case 'note':
      return { ...state, note: event.text };
    case 'stage_started':
      return { ...state, loading: undefined, layer: undefined, progress: withStage(state.progress, event.stage) };
    case 'text_encoder_layer': {
      // The state keeps no hidden states.
      const { layer, layers, is_streamed } = event;
      return { ...state, layer: { layer, layers, is_streamed } };
    }
    case 'step':
      return { ...state, progress: withStep(state.progress, event, now_millis) };
    case 'image':
      return {
        ...state,
        phase: 'ready',
        progress: undefined,
        image: event,
        image_prompt: state.prompt,
        image_timeline: state.timeline,
        image_millis: now_millis,
      };
    case 'cancelled':
      return { ...state, phase: 'ready', progress: undefined };
    case 'loras_set':
      return { ...state, loading: undefined, checkpoint: state.checkpoint && { ...state.checkpoint, loras: event.loras } };
    case 'tokens_counted':
    case 'checked':
      return state;
    case 'fault':
      return withFault(state, event.fault);
    default: {
      const missing: never = event;
      throw new Error(`unknown event ${JSON.stringify(missing)}`);
    }
  }
}

function withStage(progress: Progress | undefined, stage: GenerationStage): Progress {
  const before = progress ?? { step: 0, total_steps: 0, pass: 1, preview: undefined };
  return { ...before, stage, first: undefined, step_millis: undefined };
}

function withStep(progress: Progress | undefined, { step, total_steps, pass, preview }: DenoisingStep, now_millis: number): Progress {
  const first = progress?.first ?? { step, millis: now_millis };
  const step_millis = step > first.step ? (now_millis - first.millis) / (step - first.step) : undefined;
  return { stage: 'denoise', step, total_steps, pass, preview: preview ?? undefined, first, step_millis };
}

/** Returns the state after `fault`: stopped where the engine cannot go on, else ready. */
export function withFault(state: State, fault: Fault): State {
  const stopped = state.phase === 'opening' || state.phase === 'stopped' || endsEngine(fault);
  return { ...state, phase: stopped ? 'stopped' : 'ready', loading: undefined, estimate: undefined, progress: undefined, fault };
}
