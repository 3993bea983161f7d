//! The package `pixart-web`: an engine for other people's pages, in a worker of its own. Draws nothing on the page.
import type { Picture } from './client';
import { startEngine } from './engine';
import { fault, faultOf } from './fault';
import { currentNames } from './former';
import type { Checkpoint, WeightDtype, DeviceKind, Estimate, EngineEvent, Fault, ImageResult, StepProgress, StorageBackend, TextEncoderSource } from './protocol.gen';

export type * from './protocol.gen';
export { isFault } from './fault';

/** A picture to draw: the prompt, and what is not to be as the checkpoint has it. */
export type PictureRequest = Picture;

export interface CreateEngineOptions {
  /** A checkpoint's folder, or a packed one's: its address, which other origins must let this page read. */
  model: string | URL;
  /** The address of a `pixart serve` that reads the prompts; without one the tab loads the text encoder. */
  companion?: string;
  /** The processor where WebGPU is missing or played by software, unless one is named. */
  device?: DeviceKind;
  /** Where the checkpoint is stored. */
  storage?: StorageBackend;
  /** What the matrices of a diffusers folder are converted to. */
  dtype?: WeightDtype;
  /** Asked before anything is fetched, with what it takes and what a picture will cost here; false ends the engine. Measuring takes
      about two seconds, and is done only for this. */
  onEstimate?: (estimate: Estimate) => boolean | Promise<boolean>;
  /** Hears everything that happens: loading with its rate, shaders, steps, notes. */
  onProgress?: (event: EngineEvent) => void;
  /** Ends the engine, at any time. */
  signal?: AbortSignal;
}

/** Former names of options. */
interface FormerOptions {
  store?: StorageBackend;
  convert?: WeightDtype;
}

export interface Engine {
  /** What the checkpoint can draw, and is best asked for. */
  readonly checkpoint: Checkpoint;
  /** Draws a picture, after those that were asked for before. */
  generate(request: PictureRequest, options?: { signal?: AbortSignal }): Drawing;
  /** Frees the worker and its device. What waits is rejected. */
  close(): void;
}

/** A picture on its way: iterated, its steps with a preview each; awaited, the picture, or `undefined` once it was stopped. */
export interface Drawing extends AsyncIterable<StepProgress>, PromiseLike<ImageResult | undefined> {}

/** Starts a worker, brings the checkpoint to its device, and resolves once pictures can be asked for. Rejects with a `Fault`. */
export async function createEngine(options: CreateEngineOptions): Promise<Engine> {
  const former: FormerOptions = options as FormerOptions;
  const { companion, device = 'auto', storage = former.store ?? 'auto', dtype = former.convert ?? 'auto', onEstimate, onProgress, signal } = options;
  const checkpoint = new URL(String(options.model).replace(/\/?$/, '/'), document.baseURI).href;
  const text_encoder: TextEncoderSource = companion === undefined ? { kind: 'tab' } : { kind: 'companion', url: companion };
  const engine = startEngine({
    device,
    storage,
    opening: { checkpoint, dtype, load_text_encoder: companion === undefined },
    agree: onEstimate && { measure_above_bytes: 0, ask: async (estimate) => onEstimate(estimate) },
    listen: (event) => onProgress?.(event),
  });
  const close = (): void => engine.close();
  signal?.addEventListener('abort', close, { once: true });
  if (signal?.aborted) close();
  const stopped = new Promise<never>((_, reject) => signal?.addEventListener('abort', () => reject(aborted()), { once: true }));
  let opened: Checkpoint;
  try {
    if (signal?.aborted) throw aborted();
    opened = await Promise.race([engine.ready, stopped]);
  } catch (thrown) {
    close();
    throw faultOf(thrown);
  }

  return {
    checkpoint: opened,
    close,
    generate(request, { signal: stop } = {}) {
      const steps = new Steps();
      const mine = engine.generate({ text_encoder, ...currentNames(request) }, { stop, stepped: (step) => steps.push(step) });
      mine.then(
        () => steps.end(undefined),
        (thrown: unknown) => steps.end(faultOf(thrown)),
      );
      return { then: (...then) => mine.then(...then), [Symbol.asyncIterator]: () => steps.read() };
    },
  };
}

function aborted(): Fault {
  return fault('internal', 'the engine was stopped by its signal', 'create another one');
}

/** Steps that have been made, for anyone who reads, from the first. */
class Steps {
  private readonly made: StepProgress[] = [];
  private ended: { fault: Fault | undefined } | undefined;
  private wake: (() => void)[] = [];

  push(step: StepProgress): void {
    this.made.push(step);
    this.tell();
  }

  end(reason: Fault | undefined): void {
    this.ended = { fault: reason };
    this.tell();
  }

  async *read(): AsyncGenerator<StepProgress, void> {
    for (let at = 0; ; at += 1) {
      while (this.made[at] === undefined && this.ended === undefined) await new Promise<void>((resolve) => this.wake.push(resolve));
      const step = this.made[at];
      if (step !== undefined) yield step;
      else if (this.ended?.fault !== undefined) throw this.ended.fault;
      else return;
    }
  }

  private tell(): void {
    const waiting = this.wake;
    this.wake = [];
    for (const wake of waiting) wake();
  }
}
