//! A worker with a device and a checkpoint, restarted after a failure: the running generation resumes at its last finished step.
//! Generates one image at a time, in the order of the requests. Contract: every promise rejects with a `Fault`, and an event of kind
//! `fault` has ended something.
import { type CheckpointOptions, connect, type ImageRequest, type WorkerClient } from './client';
import { fault, faultOf, ignore, isRecoverable } from './fault';
import type {
  Checkpoint,
  DenoisingStep,
  DeviceKind,
  EngineEvent,
  Estimate,
  ImageResult,
  LoraScale,
  LoraSource,
  StorageBackend,
  StorageTask,
  StoredCheckpoint,
  TapRow,
  TextEncoderLayer,
  TokensCounted,
} from './protocol.gen';

export interface EngineOptions {
  device: DeviceKind;
  storage: StorageBackend;
  /** The checkpoint to load; without one only what needs none can be requested. */
  checkpoint: CheckpointOptions | undefined;
  /** Called once before more than `measure_above_bytes` are downloaded. Without it, whatever is missing is downloaded. */
  confirmDownload?: { measure_above_bytes: number; confirm: (estimate: Estimate) => Promise<boolean> } | undefined;
  /** Receives every event until `close`. */
  onEvent: (event: EngineEvent) => void;
}

export interface GenerateOptions {
  signal?: AbortSignal | undefined;
  /** The model outputs of the steps that were run before an interruption. */
  model_outputs?: readonly Uint8Array[];
  /** The `weightsHash` at that time. Where other weights are loaded now, the generation begins anew, with a note. */
  model_hash?: string | null | undefined;
  /** Receives each step that is run. */
  onStep?: (step: DenoisingStep) => void;
  /** Receives the `weightsHash` of the checkpoint with which the generation begins anew: its earlier steps are void. */
  onAnew?: (model_hash: string | null | undefined) => void;
}

export interface ResilientEngine {
  /** The checkpoint, once it is on the device for the first time. */
  ready: Promise<Checkpoint>;
  /** Generates an image; resolves with `undefined` where it was cancelled. */
  generate(request: ImageRequest, options?: GenerateOptions): Promise<ImageResult | undefined>;
  /** Merges these LoRAs, and no others, after the generations that were requested before. */
  setLoras(loras: readonly LoraSource[], local?: CheckpointOptions['local']): Promise<LoraScale[]>;
  countTokens(request: ImageRequest): Promise<TokensCounted>;
  check(variant: string): Promise<TapRow[]>;
  storage(task: StorageTask): Promise<StoredCheckpoint[]>;
  close(): void;
}

/** Attempts in a row that may fail without finishing another step. */
const MAX_ATTEMPTS = 3;
const NOTE_CHANGED = 'The model has other weights than before the interruption: the generation began again at its first step';
/** Part of the memory that is planned with after a device had not enough. */
const MEMORY_BACKOFF = 0.7;

/** The hashes of a checkpoint's parts. */
type CheckpointHashes = Pick<Checkpoint, 'model_hash' | 'text_encoder_hash'>;

/** Returns a text that differs for other weights: the checkpoint's hash, the text encoder's where it has its own, and the LoRAs. */
export function weightsHash({ model_hash, text_encoder_hash }: CheckpointHashes, loras: readonly LoraScale[]): string | null {
  const text_encoder = text_encoder_hash === null || text_encoder_hash === model_hash ? '' : ` ${text_encoder_hash}`;
  const merged = loras.length === 0 ? '' : ` ${JSON.stringify(loras.map(({ name, scale }) => [name, scale]))}`;
  const others = text_encoder + merged;
  return others === '' ? model_hash : `${model_hash}${others}`;
}

function resumedAfter(steps: number, layer: TextEncoderLayer | undefined): string {
  return steps === 0 && layer !== undefined ? `layer ${layer.layer} of the text encoder` : `step ${steps}`;
}

/** Starts a worker, and loads the checkpoint. */
export function startEngine({ device, storage, checkpoint: opened, confirmDownload, onEvent }: EngineOptions): ResilientEngine {
  let checkpoint = opened;
  let memory_limit_bytes = checkpoint?.memory_limit_bytes ?? null;
  let peak_bytes = 0;
  /** Receives the steps of the running generation; `undefined` between generations. */
  let onStep: ((step: DenoisingStep) => void) | undefined;
  /** The last layer that the text encoder applied for the running generation. */
  const encoding: { layer: TextEncoderLayer | undefined } = { layer: undefined };
  /** The hash of the checkpoint on the device. */
  let loaded_hash: string | null | undefined;
  let hashes: CheckpointHashes = { model_hash: null, text_encoder_hash: null };
  let [confirmed, loaded] = [confirmDownload === undefined, false];
  let closed = false;
  let queue: Promise<unknown> = Promise.resolve();

  const emit = (event: EngineEvent): void => {
    if (!closed) onEvent(event);
  };
  const receive = (event: EngineEvent): void => {
    if (event.kind === 'planned') peak_bytes = event.peak_bytes;
    if (event.kind === 'step') onStep?.(event);
    if (event.kind === 'text_encoder_layer') encoding.layer = event;
    if (event.kind === 'ready') [hashes, loaded, loaded_hash] = [event, true, weightsHash(event, event.loras)];
    if (event.kind === 'fault' && onStep !== undefined) return;
    // A device that is lost between generations is replaced for the next one.
    const lost = event.kind === 'fault' && event.id === null && event.fault.code === 'device_lost' && loaded;
    if (!lost) return emit(event);
    const { what } = event.fault;
    // A restart that fails emits a fault of its own.
    restart().then(() => emit({ kind: 'note', id: 0, text: `${what}. It was opened again` }), ignore);
  };
  const start = (): WorkerClient => connect(device, storage, receive);
  const load = async (): Promise<Checkpoint> => {
    // Never resolves: there is no checkpoint to wait for.
    if (checkpoint === undefined) return new Promise(ignore);
    if (confirmDownload !== undefined && !confirmed) {
      const estimate = await client.estimate(checkpoint, confirmDownload.measure_above_bytes);
      confirmed = estimate.generation_cost === null || (await confirmDownload.confirm(estimate));
      if (!confirmed)
        throw fault('bad_request', `the download of ${checkpoint.checkpoint} was declined`, 'open it again, or another checkpoint');
    }
    return client.load({ ...checkpoint, memory_limit_bytes });
  };
  const restart = (): Promise<Checkpoint> => {
    loaded = false;
    client.close();
    client = start();
    return load();
  };

  const run = async (
    request: ImageRequest,
    { signal, model_outputs = [], model_hash, onStep: report, onAnew }: GenerateOptions,
  ): Promise<ImageResult | undefined> => {
    let outputs = [...model_outputs];
    let outputs_hash = model_hash;
    // The worker may still load the checkpoint. A failure is that of the generation.
    if (outputs.length > 0) await ready.catch(ignore);
    onStep = (step) => {
      outputs.push(step.model_output);
      report?.(step);
    };
    encoding.layer = undefined;
    let [attempts, furthest] = [0, outputs.length];
    try {
      for (;;) {
        if (outputs_hash !== undefined && outputs_hash !== loaded_hash && (outputs.length > 0 || encoding.layer !== undefined)) {
          emit({ kind: 'note', id: 0, text: NOTE_CHANGED });
          [outputs, encoding.layer, furthest] = [[], undefined, 0];
          onAnew?.(loaded_hash);
        }
        outputs_hash = loaded_hash;
        try {
          return await client.generate(request, signal, outputs, outputs.length === 0 ? encoding.layer : undefined);
        } catch (thrown) {
          const reason = faultOf(thrown);
          // A layer of the text encoder counts as a part of the first step.
          const layer = encoding.layer as TextEncoderLayer | undefined;
          const reached = outputs.length === 0 && layer !== undefined ? layer.layer / (layer.layers + 1) : outputs.length;
          attempts = reached > furthest ? 1 : attempts + 1;
          furthest = reached;
          if (!isRecoverable(reason) || attempts > MAX_ATTEMPTS || closed || signal?.aborted === true) throw reason;
          if (reason.code === 'out_of_memory') memory_limit_bytes = Math.floor((memory_limit_bytes ?? peak_bytes) * MEMORY_BACKOFF);
          const limit = memory_limit_bytes === null ? '' : `, with ${Math.round(memory_limit_bytes / 2 ** 20)} MiB`;
          await restart();
          emit({
            kind: 'note',
            id: 0,
            text: `${reason.what}. The device was opened again${limit}, and the generation resumes after ${resumedAfter(outputs.length, layer)}`,
          });
        }
      }
    } catch (thrown) {
      emit({ kind: 'fault', id: 0, fault: faultOf(thrown) });
      throw thrown;
    } finally {
      onStep = undefined;
    }
  };

  let client = start();
  const ready = load();
  return {
    ready,
    generate(request, options = {}) {
      const generation = queue.then(() => {
        if (options.signal?.aborted === true) return undefined;
        if (closed) throw fault('internal', 'the engine was closed', 'send the request again once the engine is ready');
        return run(request, options);
      });
      // The caller handles the rejection.
      queue = generation.catch(ignore);
      return generation;
    },
    setLoras(loras, local = new Map()) {
      const merged = queue.then(async () => {
        await ready.catch(ignore);
        // A worker that is started again merges them, too.
        const before = checkpoint;
        checkpoint = checkpoint && { ...checkpoint, loras, local: new Map([...(checkpoint.local ?? []), ...local]) };
        try {
          const merged = await client.setLoras(loras, local);
          loaded_hash = weightsHash(hashes, merged);
          return merged;
        } catch (thrown) {
          checkpoint = before;
          throw thrown;
        }
      });
      // The caller handles the rejection.
      queue = merged.catch(ignore);
      return merged;
    },
    countTokens: (request) => client.countTokens(request),
    check: (variant) => client.check(variant),
    storage: (task) => client.storage(task),
    close() {
      closed = true;
      client.close();
    },
  };
}
