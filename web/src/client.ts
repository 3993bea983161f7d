//! The page's side of the worker: requests as promises, every event to one listener. Keeps no state but who is
//! waiting; whatever the worker throws or fails to catch arrives as a `Fault`.
import { fault } from './fault';
import type {
  Checkpoint,
  ConvertTo,
  DeviceKind,
  Estimate,
  Event,
  Fault,
  Generate,
  Image,
  KeepTask,
  KeptCheckpoint,
  Request,
  StoreKind,
  TapRow,
} from './protocol.gen';
import type { Chosen } from './worker';

/** A picture to draw; the client numbers it. */
export type Picture = Omit<Generate, 'id'>;

/** A checkpoint to open: by its address, which with `files` is any name for what the reader chose. */
export interface Opening {
  checkpoint: string;
  files?: ReadonlyMap<string, File> | undefined;
  /** Load its text encoder at once. */
  text: boolean;
  /** What a folder of safetensors is converted to. */
  convert: ConvertTo;
  /** What may be planned with, where that is less than the device seems to have. */
  memory_bytes?: number | null;
}

export interface Client {
  /** What opening a checkpoint takes; measured where more than `least_bytes` are to be fetched. */
  estimate(opening: Opening, least_bytes: number): Promise<Estimate>;
  open(opening: Opening): Promise<Checkpoint>;
  /** Resolves with the picture, or with `undefined` once it was stopped through `stop`. `said` is of the steps that have been
      made before. */
  generate(picture: Picture, stop?: AbortSignal, said?: readonly Uint8Array[]): Promise<Image | undefined>;
  check(variant: string): Promise<TapRow[]>;
  /** Does something about kept checkpoints; resolves with those that are then kept. */
  keep(task: KeepTask): Promise<KeptCheckpoint[]>;
  /** Ends the worker and its device, and rejects whatever is still awaited. */
  close(): void;
}

type Answer = Extract<Event, { kind: 'estimated' | 'ready' | 'image' | 'cancelled' | 'checked' | 'kept' }>;
type Waiting = { resolve: (answer: Answer) => void; reject: (fault: Fault) => void };

/**
 * Starts a worker that computes on `device` and keeps checkpoints in `store`. `listen` hears every event before the promise it settles. All promises
 * reject with a `Fault`.
 */
export function connect(device: DeviceKind, store: StoreKind, listen: (event: Event) => void): Client {
  const worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
  const waiting = new Map<number, Waiting>();
  let asked = OPEN;

  const receive = (event: Event): void => {
    listen(event);
    switch (event.kind) {
      case 'adapter':
      case 'loading':
      case 'compiling':
      case 'planned':
      case 'note':
      case 'began':
      case 'step':
        return;
      case 'ready':
        return settle(OPEN, (waiter) => waiter.resolve(event));
      case 'estimated':
      case 'image':
      case 'cancelled':
      case 'checked':
      case 'kept':
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
  const ask = (id: number, request: Request): Promise<Answer> =>
    new Promise((resolve, reject) => {
      waiting.set(id, { resolve, reject });
      worker.postMessage(request);
    });

  worker.onmessage = ({ data }: MessageEvent<Event>) => receive(data);
  worker.onerror = ({ message }) => receive({ kind: 'fault', id: null, fault: workerFault(message) });
  worker.onmessageerror = () => receive({ kind: 'fault', id: null, fault: workerFault('a message was unreadable') });

  return {
    async estimate({ checkpoint, files, text, convert }, least_bytes) {
      choose(checkpoint, files);
      const id = ++asked;
      const answer = await ask(id, { kind: 'estimate', id, checkpoint, device, text, store, convert, least_bytes });
      if (answer.kind === 'estimated') return answer;
      throw unexpected(answer);
    },
    async open({ checkpoint, files, text, convert, memory_bytes = null }) {
      choose(checkpoint, files);
      const answer = await ask(OPEN, { kind: 'open', checkpoint, device, text, store, convert, memory_bytes });
      if (answer.kind === 'ready') return answer;
      throw unexpected(answer);
    },
    async generate(picture, stop, said = []) {
      const id = ++asked;
      const cancel = (): void => worker.postMessage({ kind: 'cancel', id } satisfies Request);
      const request = { id, ...picture };
      const asking = ask(id, said.length > 0 ? { kind: 'resume', request, said: [...said] } : { kind: 'generate', ...request });
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
      const answer = await ask(id, { kind: 'keep', id, task, store });
      if (answer.kind === 'kept') return answer.checkpoints;
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
