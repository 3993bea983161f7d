//! The page's side of the worker: requests as promises, every event to one listener. Keeps no state but who is
//! waiting; whatever the worker throws or fails to catch arrives as a `Fault`.
import { fault } from './fault';
import type {
  Checkpoint,
  WeightDtype,
  DeviceKind,
  Estimate,
  EngineEvent,
  Fault,
  GenerateRequest,
  ImageResult,
  StorageTask,
  StoredCheckpoint,
  EngineRequest,
  StorageBackend,
  TapRow,
} from './protocol.gen';
import type { Chosen } from './worker';

/** A picture to draw; the client numbers it. */
export type Picture = Omit<GenerateRequest, 'id'>;

/** A checkpoint to open: by its address, which with `files` is any name for what the reader chose. */
export interface Opening {
  checkpoint: string;
  files?: ReadonlyMap<string, File> | undefined;
  load_text_encoder: boolean;
  /** What the matrices of a diffusers folder are converted to. */
  dtype: WeightDtype;
  /** Memory to plan with, where that is less than the device seems to have. */
  memory_limit_bytes?: number | null;
}

export interface Client {
  /** What opening a checkpoint takes; measured where more than `measure_above_bytes` are to be downloaded. */
  estimate(opening: Opening, measure_above_bytes: number): Promise<Estimate>;
  open(opening: Opening): Promise<Checkpoint>;
  /** Resolves with the picture, or with `undefined` once it was stopped through `stop`. `model_outputs` are those of the
      steps that were run before. */
  generate(picture: Picture, stop?: AbortSignal, model_outputs?: readonly Uint8Array[]): Promise<ImageResult | undefined>;
  check(variant: string): Promise<TapRow[]>;
  /** Does something about kept checkpoints; resolves with those that are then kept. */
  keep(task: StorageTask): Promise<StoredCheckpoint[]>;
  /** Ends the worker and its device, and rejects whatever is still awaited. */
  close(): void;
}

type Answer = Extract<EngineEvent, { kind: 'estimated' | 'ready' | 'image' | 'cancelled' | 'checked' | 'stored_checkpoints' }>;
type Waiting = { resolve: (answer: Answer) => void; reject: (fault: Fault) => void };

/**
 * Starts a worker that computes on `device` and stores checkpoints in `storage`. `listen` hears every event before the promise it settles. All promises
 * reject with a `Fault`.
 */
export function connect(device: DeviceKind, storage: StorageBackend, listen: (event: EngineEvent) => void): Client {
  const worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
  const waiting = new Map<number, Waiting>();
  let asked = OPEN;

  const receive = (event: EngineEvent): void => {
    listen(event);
    switch (event.kind) {
      case 'adapter':
      case 'loading':
      case 'compiling':
      case 'planned':
      case 'note':
      case 'stage_started':
      case 'step':
        return;
      case 'ready':
        return settle(OPEN, (waiter) => waiter.resolve(event));
      case 'estimated':
      case 'image':
      case 'cancelled':
      case 'checked':
      case 'stored_checkpoints':
        return settle(event.id, (waiter) => waiter.resolve(event));
      case 'fault': {
        const ended = event.id === null ? [...waiting.keys()] : [event.id];
        return ended.forEach((id) => settle(id, (waiter) => waiter.reject(event.fault)));
      }
      default: {
        const missing: never = event;
        throw new Error(`unknown event ${JSON.stringify(missing)}`);
      }
    }
  };
  const settle = (id: number, end: (waiter: Waiting) => void): void => {
    const waiter = waiting.get(id);
    waiting.delete(id);
    if (waiter !== undefined) end(waiter);
  };
  const choose = (checkpoint: string, files: Opening['files']): void => {
    if (files !== undefined) worker.postMessage({ kind: 'chosen', checkpoint, files } satisfies Chosen);
  };
  const ask = (id: number, request: EngineRequest): Promise<Answer> =>
    new Promise((resolve, reject) => {
      waiting.set(id, { resolve, reject });
      worker.postMessage(request);
    });

  worker.onmessage = ({ data }: MessageEvent<EngineEvent>) => receive(data);
  worker.onerror = ({ message }) => receive({ kind: 'fault', id: null, fault: workerFault(message) });
  worker.onmessageerror = () => receive({ kind: 'fault', id: null, fault: workerFault('a message was unreadable') });

  return {
    async estimate({ checkpoint, files, load_text_encoder, dtype }, measure_above_bytes) {
      choose(checkpoint, files);
      const id = ++asked;
      const answer = await ask(id, { kind: 'estimate', id, checkpoint, device, load_text_encoder, storage, dtype, measure_above_bytes });
      if (answer.kind === 'estimated') return answer;
      throw unexpected(answer);
    },
    async open({ checkpoint, files, load_text_encoder, dtype, memory_limit_bytes = null }) {
      choose(checkpoint, files);
      const answer = await ask(OPEN, { kind: 'open', checkpoint, device, load_text_encoder, storage, dtype, memory_limit_bytes });
      if (answer.kind === 'ready') return answer;
      throw unexpected(answer);
    },
    async generate(picture, stop, model_outputs = []) {
      const id = ++asked;
      const cancel = (): void => worker.postMessage({ kind: 'cancel', id } satisfies EngineRequest);
      const request = { id, ...picture };
      const asking = ask(id, model_outputs.length > 0 ? { kind: 'resume', request, model_outputs: [...model_outputs] } : { kind: 'generate', ...request });
      stop?.addEventListener('abort', cancel);
      if (stop?.aborted) cancel();
      try {
        const answer = await asking;
        if (answer.kind === 'image') return answer;
        if (answer.kind === 'cancelled') return undefined;
        throw unexpected(answer);
      } finally {
        stop?.removeEventListener('abort', cancel);
      }
    },
    async check(variant) {
      const id = ++asked;
      const answer = await ask(id, { kind: 'check', id, variant, device });
      if (answer.kind === 'checked') return answer.rows;
      throw unexpected(answer);
    },
    async keep(task) {
      const id = ++asked;
      const answer = await ask(id, { kind: 'storage', id, task, storage });
      if (answer.kind === 'stored_checkpoints') return answer.checkpoints;
      throw unexpected(answer);
    },
    close() {
      worker.terminate();
      const closed = fault('internal', 'the engine was stopped', 'ask again once it is open');
      for (const id of [...waiting.keys()]) settle(id, (waiter) => waiter.reject(closed));
    },
  };
}

/** The number under which `open` waits; pictures and checks count up from it. */
const OPEN = 0;

function workerFault(message: string | undefined): Fault {
  return fault('internal', `the worker failed: ${message || 'its script could not be loaded'}`, 'restart the engine');
}

function unexpected(answer: Answer): Fault {
  return fault('internal', `the worker answered with ${answer.kind}`, 'reload the page');
}
