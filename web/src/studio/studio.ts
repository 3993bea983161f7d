//! `<pixart-studio model="…">`: a prompt, its settings and the image as a custom element. Importing this module defines it. The model is
//! loaded when the first image is requested, or with the attribute `eager`; nothing is downloaded without the user's consent where it is large.
import { fault } from '../engine/fault';
import { createEngine, type Engine, type EngineEvent, type Estimate, type Fault, type ImageResult, isFault } from '../engine/index';
import { attributeOf, FIELDS, type Field, reflect, requestOf, type StudioRequest } from './fields';
import { filled, type StudioTexts, textsFor } from './texts';
import { createView, type Input, renderPreview, type StudioView } from './view';

export type { StudioRequest } from './fields';

/** The attributes that select the model; changing one closes the engine. */
const ENGINE_ATTRIBUTES = [
  'model',
  'transformer',
  'text-encoder',
  'vae',
  'tokenizer',
  'scheduler-config',
  'hub',
  'companion',
  'device',
  'storage',
  'dtype',
];
/** Downloads above this size ask first. */
const CONSENT_BYTES = 100e6;

export interface StudioImage {
  image: ImageResult;
  request: StudioRequest;
}

export interface PixartStudioEventMap {
  image: CustomEvent<StudioImage>;
  fault: CustomEvent<Fault>;
  progress: CustomEvent<EngineEvent>;
}

// A server that renders pages has no elements; there the class is never made.
const Base: typeof HTMLElement = globalThis.HTMLElement ?? (class {} as typeof HTMLElement);

export class PixartStudio extends Base {
  static readonly observedAttributes = [...ENGINE_ATTRIBUTES, ...(Object.keys(FIELDS) as Field[]).map(attributeOf)];

  #view: StudioView | undefined;
  #texts: StudioTexts | undefined;
  #language = 'en';
  #engine: Promise<Engine> | undefined;
  #closing = new AbortController();
  #cancellation: AbortController | undefined;

  connectedCallback(): void {
    const { texts, language } = textsFor(this);
    [this.#texts, this.#language] = [texts, language];
    const view = createView(this.shadowRoot ?? this.attachShadow({ mode: 'open' }), texts);
    this.#view = view;
    view.form.addEventListener('submit', (event) => {
      event.preventDefault();
      void this.generate();
    });
    view.form.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      view.form.requestSubmit();
    });
    view.form.addEventListener('input', ({ target }) => {
      if (!(target instanceof HTMLInputElement || target instanceof HTMLTextAreaElement)) return;
      reflect(this, { [target.name]: target.value === '' && target.name !== 'prompt' ? undefined : target.value });
    });
    view.cancel.addEventListener('click', () => this.cancel());
    this.#renderFields();
    if (this.hasAttribute('eager')) this.load().catch((thrown: unknown) => this.#fail(thrown));
  }

  disconnectedCallback(): void {
    // An element that is only moved keeps its engine.
    queueMicrotask(() => this.isConnected || this.#close());
  }

  attributeChangedCallback(name: string): void {
    if (ENGINE_ATTRIBUTES.includes(name)) this.#close();
    else this.#renderFields();
  }

  /** The request that the attributes hold. Setting it sets those that it names. */
  get request(): StudioRequest & { prompt: string } {
    return requestOf(this);
  }
  set request(request: StudioRequest) {
    reflect(this, request);
  }

  /** Loads the model. Resolves with its engine, or rejects with a `Fault`. */
  load(): Promise<Engine> {
    this.#engine ??= this.#open().catch((thrown: unknown) => {
      this.#engine = undefined;
      throw thrown;
    });
    return this.#engine;
  }

  /** Generates an image and shows it. Resolves with `undefined` where it was cancelled or refused: `fault` tells why. */
  async generate(): Promise<ImageResult | undefined> {
    if (this.#cancellation !== undefined) return undefined;
    const cancellation = new AbortController();
    this.#cancellation = cancellation;
    this.#renderRunning(true);
    try {
      const { request } = this;
      const engine = await this.load();
      const generation = engine.generate(request, { signal: cancellation.signal });
      for await (const { step, total_steps, preview } of generation) this.#renderStep(step, total_steps, preview);
      const image = await generation;
      this.#renderImage(image, request.prompt);
      if (image !== undefined) this.#dispatch('image', { image, request });
      return image;
    } catch (thrown) {
      this.#fail(thrown);
      return undefined;
    } finally {
      this.#cancellation = undefined;
      this.#renderRunning(false);
    }
  }

  /** Cancels the running generation. */
  cancel(): void {
    this.#cancellation?.abort();
  }

  async #open(): Promise<Engine> {
    const option = (name: string): string | undefined => this.getAttribute(name) ?? undefined;
    const model = option('model')?.trim();
    if (!model)
      throw fault(
        'bad_request',
        'the element pixart-studio has no attribute `model`',
        'set it to the address of a model, as model="./models/scenes/", or to a repository, as model="PixArt-alpha/PixArt-XL-2-512x512"',
      );
    const given = {
      transformer: option('transformer'),
      textEncoder: option('text-encoder'),
      vae: option('vae'),
      tokenizer: option('tokenizer'),
      scheduler: option('scheduler-config'),
      hub: option('hub'),
      companion: option('companion'),
      device: option('device'),
      storage: option('storage'),
      dtype: option('dtype'),
    };
    const set = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
    this.#closing = new AbortController();
    this.#setStatus(this.#texts?.loading ?? '');
    return createEngine({
      ...set,
      model,
      signal: this.#closing.signal,
      onEstimate: (estimate) => this.#consent(estimate),
      onProgress: (event) => this.#onProgress(event),
    });
  }

  #close(): void {
    this.#engine = undefined;
    this.#closing.abort();
  }

  /** Asks before a large download. */
  #consent({ download_bytes }: Estimate): boolean | Promise<boolean> {
    const { texts, view } = { texts: this.#texts, view: this.#view };
    if (download_bytes <= CONSENT_BYTES || texts === undefined || view === undefined) return true;
    view.consentText.textContent = filled(texts.confirm, { size: this.#megabytes(download_bytes) });
    view.consent.hidden = false;
    return new Promise((resolve) => {
      const answer = (accepted: boolean): void => {
        view.consent.hidden = true;
        resolve(accepted);
      };
      view.accept.onclick = () => answer(true);
      view.decline.onclick = () => answer(false);
    });
  }

  #onProgress(event: EngineEvent): void {
    const { texts } = { texts: this.#texts };
    if (texts !== undefined) {
      if (event.kind === 'loading') {
        const { loaded_bytes, total_bytes } = event;
        const of = total_bytes === null ? '' : ` / ${this.#megabytes(total_bytes)}`;
        this.#setStatus(
          `${texts.loading}: ${this.#megabytes(loaded_bytes)}${of}`,
          total_bytes === null ? undefined : loaded_bytes / total_bytes,
        );
      } else if (event.kind === 'ready') this.#setStatus('');
      else if (event.kind === 'stage_started' && event.stage !== 'denoise')
        this.#setStatus(event.stage === 'text' ? texts.starting : texts.decoding);
    }
    this.#dispatch('progress', event);
  }

  #dispatch<K extends keyof PixartStudioEventMap>(kind: K, detail: PixartStudioEventMap[K]['detail']): void {
    this.dispatchEvent(new CustomEvent(kind, { detail, bubbles: true, composed: true }));
  }

  #fail(thrown: unknown): void {
    // Whatever is no fault is a mistake of this module, for the console.
    if (!isFault(thrown)) throw thrown;
    const view = this.#view;
    if (view !== undefined) {
      view.alert.textContent = `${thrown.what}: ${thrown.remedy}`;
      view.alert.hidden = false;
    }
    this.#setStatus('');
    this.#dispatch('fault', thrown);
  }

  #renderFields(): void {
    if (this.#view === undefined) return;
    for (const [name, input] of Object.entries(this.#view.inputs)) {
      const value = this.getAttribute(attributeOf(name as Input)) ?? '';
      if (input.value !== value) input.value = value;
    }
  }

  #renderRunning(isRunning: boolean): void {
    const view = this.#view;
    if (view === undefined) return;
    view.generate.disabled = isRunning;
    view.cancel.hidden = !isRunning;
    view.progress.hidden = !isRunning;
    view.progress.removeAttribute('value');
    view.preview.hidden = true;
    if (isRunning) view.alert.hidden = true;
    view.form.setAttribute('aria-busy', String(isRunning));
  }

  #renderStep(step: number, steps: number, preview: Parameters<typeof renderPreview>[1] | null): void {
    if (this.#view !== undefined && preview !== null) renderPreview(this.#view.preview, preview);
    this.#setStatus(filled(this.#texts?.step ?? '', { step, steps }), step / steps);
  }

  #renderImage(image: ImageResult | undefined, prompt: string): void {
    const [view, texts] = [this.#view, this.#texts];
    if (view === undefined || texts === undefined) return;
    if (image === undefined) return this.#setStatus(texts.cancelled);
    URL.revokeObjectURL(view.image.src);
    const src = URL.createObjectURL(new Blob([new Uint8Array(image.png)], { type: 'image/png' }));
    Object.assign(view.image, { src, alt: prompt, hidden: false });
    const seconds = this.#unit('second', image.millis.total / 1e3);
    this.#setStatus(filled(texts.done, { seconds }));
  }

  #setStatus(text: string, part?: number): void {
    const view = this.#view;
    if (view === undefined) return;
    view.status.textContent = text;
    if (part === undefined) view.progress.removeAttribute('value');
    else view.progress.value = part;
  }

  #megabytes(bytes: number): string {
    return this.#unit('megabyte', bytes / 1e6);
  }

  #unit(unit: string, value: number): string {
    return new Intl.NumberFormat(this.#language, { style: 'unit', unit, maximumFractionDigits: 1 }).format(value);
  }
}

declare global {
  interface HTMLElementTagNameMap {
    'pixart-studio': PixartStudio;
  }
}

if (globalThis.customElements?.get('pixart-studio') === undefined) globalThis.customElements?.define('pixart-studio', PixartStudio);
