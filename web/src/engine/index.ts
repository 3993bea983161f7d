//! The npm package `pixart-web`: an engine in a worker, for other people's pages. Changes nothing on the page.
import { checkpointUrl, componentUrl, HUB } from '../checkpoints/address';
import { COMPONENTS, nameOfPlace } from '../checkpoints/place';
import type { ImageRequest } from './client';
import { startEngine } from './engine';
import { fault, faultOf, ignore } from './fault';
import { currentNames } from './former-names';
import type {
  Checkpoint,
  ComponentPlaces,
  DenoisingStep,
  DeviceKind,
  EngineEvent,
  Estimate,
  Fault,
  ImageResult,
  LoraScale,
  LoraSource,
  StorageBackend,
  TextEncoderSource,
  WeightDtype,
} from './protocol.gen';

export type { ImageRequest } from './client';
export { isFault } from './fault';
export type * from './protocol.gen';

/** @deprecated Use `ImageRequest`. */
export type PictureRequest = ImageRequest;

export interface CreateEngineOptions {
  /** The address of a diffusers folder or a packed checkpoint, or `owner/name@revision` of a model hub. Another origin has to allow this page to read it (CORS). */
  model: string | URL;
  /** Components in other places than the model. Each is the address of a checkpoint's folder, of the component's own folder, or of a
      `.safetensors` or `.gguf` file. */
  transformer?: string | URL;
  textEncoder?: string | URL;
  vae?: string | URL;
  tokenizer?: string | URL;
  scheduler?: string | URL;
  /** LoRAs to merge into the transformer: addresses of `.safetensors` files or PEFT folders, with diffusers' `adapter_weights`. */
  loras?: readonly LoraOptions[];
  /** The model hub for `owner/name` and `owner/name@revision`. */
  hub?: string | URL;
  /** The URL of a `pixart serve` that encodes prompts; without one the tab loads the text encoder. */
  companion?: string;
  /** By default the GPU; the CPU where WebGPU is missing or has a fallback adapter only. */
  device?: DeviceKind;
  /** Browser storage for the checkpoint. */
  storage?: StorageBackend;
  /** Format that a diffusers folder is converted to. */
  dtype?: WeightDtype;
  /** Called before a download, with its size and the cost of an image on this device; `false` declines. The measurements take about
      two seconds, and are made only where this is set. */
  onEstimate?: (estimate: Estimate) => boolean | Promise<boolean>;
  /** Receives every event: loading with its rate, shaders, steps, notes. */
  onProgress?: (event: EngineEvent) => void;
  /** Closes the engine, at any time. */
  signal?: AbortSignal;
}

/** A LoRA to merge. */
export interface LoraOptions {
  source: string | URL;
  /** The factor of its update, 1 by default. At 0 it is off. */
  scale?: number;
  /** Its name in the metadata of images; by default that of its file. */
  name?: string;
}

/** Former names of options, which are still read. */
interface FormerOptions {
  store?: StorageBackend;
  convert?: WeightDtype;
}

export interface Engine {
  /** The checkpoint's limits and presets. */
  readonly checkpoint: Checkpoint;
  /** Generates an image, after those that were requested before. */
  generate(request: ImageRequest, options?: { signal?: AbortSignal }): Generation;
  /** Merges these LoRAs, and no others, after the images that were requested before. Downloads what is not stored. */
  setLoras(loras: readonly LoraOptions[]): Promise<LoraScale[]>;
  /** Ends the worker and its device. Pending generations are rejected. */
  close(): void;
}

/** A running generation. Iterating gives its steps, each with a preview; awaiting gives the image, or `undefined` where it was
    cancelled. */
export interface Generation extends AsyncIterable<DenoisingStep>, PromiseLike<ImageResult | undefined> {}

/** Starts a worker and loads the checkpoint; resolves once images can be requested. Rejects with a `Fault`. */
export async function createEngine(options: CreateEngineOptions): Promise<Engine> {
  const former: FormerOptions = options as FormerOptions;
  const { companion, device = 'auto', onEstimate, onProgress, signal } = options;
  const { storage = former.store ?? 'auto', dtype = former.convert ?? 'auto' } = options;
  const hub = String(options.hub ?? HUB);
  const checkpoint = checkpointUrl(String(options.model), hub, document.baseURI);
  const placed = { ...options, text_encoder: options.textEncoder };
  const components: ComponentPlaces = {};
  for (const component of COMPONENTS) {
    const place = placed[component];
    if (place !== undefined) components[component] = componentUrl(String(place), hub, document.baseURI);
  }
  const lorasOf = (loras: readonly LoraOptions[]): LoraSource[] =>
    loras.map(({ source, scale = 1, name }) => {
      const url = componentUrl(String(source), hub, document.baseURI);
      return { source: url, scale, name: name ?? nameOfPlace(url) };
    });
  const text_encoder: TextEncoderSource = companion === undefined ? { kind: 'tab' } : { kind: 'companion', url: companion };
  const engine = startEngine({
    device,
    storage,
    checkpoint: { checkpoint, dtype, load_text_encoder: companion === undefined, components, loras: lorasOf(options.loras ?? []) },
    confirmDownload: onEstimate && { measure_above_bytes: 0, confirm: async (estimate) => onEstimate(estimate) },
    onEvent: (event) => onProgress?.(event),
  });
  const close = (): void => engine.close();
  signal?.addEventListener('abort', close, { once: true });
  if (signal?.aborted) close();
  // Where the signal ends the engine first, nothing awaits it.
  engine.ready.catch(ignore);
  const abortion = new Promise<never>((_, reject) => signal?.addEventListener('abort', () => reject(aborted()), { once: true }));
  let loaded: Checkpoint;
  try {
    if (signal?.aborted) throw aborted();
    loaded = await Promise.race([engine.ready, abortion]);
  } catch (thrown) {
    close();
    throw faultOf(thrown);
  }

  return {
    checkpoint: loaded,
    close,
    setLoras: (loras) => engine.setLoras(lorasOf(loras)),
    generate(request, { signal } = {}) {
      const steps = new StepBuffer();
      const image = engine.generate({ text_encoder, ...currentNames(request) }, { signal, onStep: (step) => steps.push(step) });
      image.then(
        () => steps.end(undefined),
        (thrown: unknown) => steps.end(faultOf(thrown)),
      );
      // biome-ignore lint/suspicious/noThenProperty: a generation can be awaited.
      return { then: (...callbacks) => image.then(...callbacks), [Symbol.asyncIterator]: () => steps.read() };
    },
  };
}

function aborted(): Fault {
  return fault('internal', 'the engine was closed by its signal', 'create another engine');
}

/** The steps of a generation. Every reader starts at the first. */
class StepBuffer {
  private readonly steps: DenoisingStep[] = [];
  private result: { fault: Fault | undefined } | undefined;
  private readers: (() => void)[] = [];

  push(step: DenoisingStep): void {
    this.steps.push(step);
    this.wakeReaders();
  }

  end(reason: Fault | undefined): void {
    this.result = { fault: reason };
    this.wakeReaders();
  }

  async *read(): AsyncGenerator<DenoisingStep, void> {
    for (let index = 0; ; index += 1) {
      while (this.steps[index] === undefined && this.result === undefined) await new Promise<void>((resolve) => this.readers.push(resolve));
      const step = this.steps[index];
      if (step !== undefined) yield step;
      else if (this.result?.fault !== undefined) throw this.result.fault;
      else return;
    }
  }

  private wakeReaders(): void {
    const readers = this.readers;
    this.readers = [];
    for (const wake of readers) wake();
  }
}
