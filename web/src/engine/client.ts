//! The page's side of the worker: requests as promises, and every event to one listener. Its only state is the pending promises.
//! Whatever the worker throws or fails to catch arrives as a `Fault`.
import { fault } from './fault';
import type {
  Checkpoint,
  ComponentPlaces,
  DeviceKind,
  EngineEvent,
  EngineRequest,
  Estimate,
  Fault,
  GenerateRequest,
  ImageResult,
  LoraScale,
  LoraSource,
  StorageBackend,
  StorageTask,
  StoredCheckpoint,
  TapRow,
  TextEncoderLayer,
  TokensCounted,
  WeightDtype,
} from './protocol.gen';
import type { LocalFiles } from './worker';

/** A request for an image; the client numbers it. */
export type ImageRequest = Omit<GenerateRequest, 'id'>;

/** A checkpoint to load, by its URL; with `files`, by any name for the user's local files. */
export interface CheckpointOptions {
  checkpoint: string;
  files?: ReadonlyMap<string, File> | undefined;
  load_text_encoder: boolean;
  /** Components in other places, by their URLs or the names of `local` files. */
  components?: ComponentPlaces | undefined;
  /** LoRAs to merge into the transformer. */
  loras?: readonly LoraSource[] | undefined;
  /** Local files of components and LoRAs, by the name of their place. */
  local?: ReadonlyMap<string, ReadonlyMap<string, File>> | undefined;
  /** Format that a diffusers folder is converted to. */
  dtype: WeightDtype;
  /** Memory to plan with, where that is less than the device seems to have. */
  memory_limit_bytes?: number | null;
}

export interface WorkerClient {
  /** Estimates what loading a checkpoint takes; measures where more than `measure_above_bytes` are to be downloaded. */
  estimate(options: CheckpointOptions, measure_above_bytes: number): Promise<Estimate>;
  load(options: CheckpointOptions): Promise<Checkpoint>;
  /** Resolves with the image, or with `undefined` once `signal` is aborted. `model_outputs` are those of the steps that were run
      before, `layer` is the last one that the text encoder applied. */
  generate(
    request: ImageRequest,
    signal?: AbortSignal,
    model_outputs?: readonly Uint8Array[],
    layer?: TextEncoderLayer,
  ): Promise<ImageResult | undefined>;
  /** Merges these LoRAs, and no others; resolves with those that are not off. */
  setLoras(loras: readonly LoraSource[], local?: CheckpointOptions['local']): Promise<LoraScale[]>;
  /** Counts the tokens of the prompts, as the text encoder in the tab reads them. */
  countTokens(request: ImageRequest): Promise<TokensCounted>;
  check(variant: string): Promise<TapRow[]>;
  /** Runs a task on stored checkpoints; resolves with those that are then stored. */
  storage(task: StorageTask): Promise<StoredCheckpoint[]>;
  /** Ends the worker and its device, and rejects all pending promises. */
  close(): void;
}

type Reply = Extract<
  EngineEvent,
  { kind: 'estimated' | 'ready' | 'image' | 'cancelled' | 'tokens_counted' | 'checked' | 'stored_checkpoints' | 'loras_set' }
>;
type Pending = { resolve: (reply: Reply) => void; reject: (fault: Fault) => void };

/** The id under which `load` is pending; all others count up from it. */
const LOAD_ID = 0;

/**
 * Starts a worker that computes on `device` and stores checkpoints in `storage`. `onEvent` receives every event before the promise
 * that it settles. All promises reject with a `Fault`.
 */
export function connect(device: DeviceKind, storage: StorageBackend, onEvent: (event: EngineEvent) => void): WorkerClient {
  const worker = new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' });
  const pending = new Map<number, Pending>();
  let last_id = LOAD_ID;

  const receive = (event: EngineEvent): void => {
    onEvent(event);
    switch (event.kind) {
      case 'adapter':
      case 'loading':
      case 'compiling':
      case 'planned':
      case 'note':
      case 'stage_started':
      case 'text_encoder_layer':
      case 'step':
        return;
      case 'ready':
        return settle(LOAD_ID, (promise) => promise.resolve(event));
      case 'estimated':
      case 'image':
      case 'cancelled':
      case 'tokens_counted':
      case 'checked':
      case 'loras_set':
      case 'stored_checkpoints':
        return settle(event.id, (promise) => promise.resolve(event));
      case 'fault': {
        const ids = event.id === null ? [...pending.keys()] : [event.id];
        for (const id of ids) settle(id, (promise) => promise.reject(event.fault));
        return;
      }
      default: {
        const missing: never = event;
        throw new Error(`unknown event ${JSON.stringify(missing)}`);
      }
    }
  };
  const settle = (id: number, end: (promise: Pending) => void): void => {
    const promise = pending.get(id);
    pending.delete(id);
    if (promise !== undefined) end(promise);
  };
  const sendFiles = (local: Iterable<readonly [string, ReadonlyMap<string, File> | undefined]>): void => {
    for (const [checkpoint, files] of local)
      if (files !== undefined) worker.postMessage({ kind: 'local_files', checkpoint, files } satisfies LocalFiles);
  };
  const send = (id: number, request: EngineRequest): Promise<Reply> =>
    new Promise((resolve, reject) => {
      pending.set(id, { resolve, reject });
      worker.postMessage(request);
    });

  worker.onmessage = ({ data }: MessageEvent<EngineEvent>) => receive(data);
  worker.onerror = ({ message }) => receive({ kind: 'fault', id: null, fault: workerFault(message) });
  worker.onmessageerror = () => receive({ kind: 'fault', id: null, fault: workerFault('a message was unreadable') });

  return {
    async estimate({ checkpoint, files, local = new Map(), load_text_encoder, components = {}, dtype }, measure_above_bytes) {
      sendFiles([[checkpoint, files], ...local]);
      const id = ++last_id;
      const request = { checkpoint, device, load_text_encoder, storage, dtype, components };
      const reply = await send(id, { kind: 'estimate', id, ...request, measure_above_bytes });
      if (reply.kind === 'estimated') return reply;
      throw unexpected(reply);
    },
    async load({ checkpoint, files, local = new Map(), load_text_encoder, components = {}, loras = [], dtype, memory_limit_bytes = null }) {
      sendFiles([[checkpoint, files], ...local]);
      const request = { checkpoint, device, load_text_encoder, storage, dtype, components, loras: [...loras] };
      const reply = await send(LOAD_ID, { kind: 'open', ...request, memory_limit_bytes });
      if (reply.kind === 'ready') return reply;
      throw unexpected(reply);
    },
    async setLoras(loras, local = new Map()) {
      sendFiles(local);
      const id = ++last_id;
      const reply = await send(id, { kind: 'set_loras', id, loras: [...loras] });
      if (reply.kind === 'loras_set') return reply.loras;
      throw unexpected(reply);
    },
    async generate(image, signal, model_outputs = [], layer = undefined) {
      const id = ++last_id;
      const cancel = (): void => worker.postMessage({ kind: 'cancel', id } satisfies EngineRequest);
      const request = { id, ...image };
      const resumed = layer === undefined ? {} : { text_encoder_layer: layer };
      const is_resumed = model_outputs.length > 0 || layer !== undefined;
      const sent = send(
        id,
        is_resumed ? { kind: 'resume', request, model_outputs: [...model_outputs], ...resumed } : { kind: 'generate', ...request },
      );
      signal?.addEventListener('abort', cancel);
      if (signal?.aborted) cancel();
      try {
        const reply = await sent;
        if (reply.kind === 'image') return reply;
        if (reply.kind === 'cancelled') return undefined;
        throw unexpected(reply);
      } finally {
        signal?.removeEventListener('abort', cancel);
      }
    },
    async countTokens(request) {
      const id = ++last_id;
      const reply = await send(id, { kind: 'count_tokens', id, request: { id, ...request } });
      if (reply.kind === 'tokens_counted') return reply;
      throw unexpected(reply);
    },
    async check(variant) {
      const id = ++last_id;
      const reply = await send(id, { kind: 'check', id, variant, device });
      if (reply.kind === 'checked') return reply.rows;
      throw unexpected(reply);
    },
    async storage(task) {
      const id = ++last_id;
      const reply = await send(id, { kind: 'storage', id, task, storage });
      if (reply.kind === 'stored_checkpoints') return reply.checkpoints;
      throw unexpected(reply);
    },
    close() {
      worker.terminate();
      const closed = fault('internal', 'the engine was closed', 'send the request again once the engine is ready');
      for (const id of [...pending.keys()]) settle(id, (promise) => promise.reject(closed));
    },
  };
}

function workerFault(message: string | undefined): Fault {
  return fault('internal', `the worker failed: ${message || 'its script could not be loaded'}`, 'restart the engine');
}

function unexpected(reply: Reply): Fault {
  return fault('internal', `the worker replied with ${reply.kind}`, 'reload the page');
}
