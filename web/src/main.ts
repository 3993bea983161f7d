//! The page: reads the form, asks the worker, renders the state. The only module that touches the DOM. Contract: every
//! fault ends up visible, and leaves a page on which the next picture can be asked for.
import { connect, type Client, type Picture } from './client';
import { fault, faultOf } from './fault';
import type { Checkpoint, DeviceKind, Image, Stage, TapRow } from './protocol.gen';
import { drawing, failed, next, OPENING, type State } from './state';

/** `window.pixart`: the page without its form, for pages that embed it and for tests. Rejects with a `Fault`. */
export interface Pixart {
  /** The checkpoint, once it is on the device. */
  ready(): Promise<Checkpoint>;
  /** Draws `picture`, on the page too; `undefined` if it was cancelled. */
  generate(picture: Picture): Promise<Image | undefined>;
  /** Compares every tap of the golden variant in the folder at `url`. */
  check(url: string): Promise<TapRow[]>;
  /** What the page shows. */
  state(): State;
}

declare global {
  interface Window {
    pixart: Pixart;
  }
}

const form = element('request', HTMLFormElement);
const prompt = element('prompt', HTMLTextAreaElement);
const negative = element('negative', HTMLInputElement);
const seed = element('seed', HTMLInputElement);
const random = element('random', HTMLInputElement);
const steps = element('steps', HTMLInputElement);
const guidance = element('guidance', HTMLInputElement);
const scheduler = element('scheduler', HTMLSelectElement);
const style = element('style', HTMLSelectElement);
const overImage = element('image', HTMLInputElement);
const overMask = element('mask', HTMLInputElement);
const strength = element('strength', HTMLInputElement);
const width = element('width', HTMLInputElement);
const height = element('height', HTMLInputElement);
const companion = element('companion', HTMLInputElement);
const companionUrl = element('companion-url', HTMLInputElement);
const device = element('device', HTMLSelectElement);
const draw = element('draw', HTMLButtonElement);
const cancel = element('cancel', HTMLButtonElement);
const restart = element('restart', HTMLButtonElement);
const status = element('status', HTMLElement);
const adapter = element('adapter', HTMLElement);
const progress = element('progress', HTMLProgressElement);
const alert = element('fault', HTMLElement);
const what = element('what', HTMLElement);
const remedy = element('remedy', HTMLElement);
const figure = element('figure', HTMLElement);
const picture = element('picture', HTMLImageElement);
const caption = element('caption', HTMLElement);
const download = element('download', HTMLAnchorElement);

const query = new URLSearchParams(location.search);
/** `?checkpoint=` names the checkpoint folder; empty, the page loads none and can only check goldens. */
const folder = query.get('checkpoint') ?? 'models/scenes/';
const U32_MAX = 2 ** 32 - 1;
const STAGES: Record<Stage, string> = { text: 'Reading the prompt', denoise: 'Drawing', decode: 'Developing' };

let state: State = OPENING;
let client: Client | undefined;
let ready: Promise<Checkpoint>;
let stop = new AbortController();
let turn: Promise<unknown> = Promise.resolve();

form.addEventListener('submit', (event) => {
  event.preventDefault();
  if (state.phase === 'ready') submit();
});
form.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});
cancel.addEventListener('click', () => stop.abort());
restart.addEventListener('click', start);
device.addEventListener('change', start);
form.addEventListener('change', renderForm);

companionUrl.value = location.origin;
/** `?device=` chooses what computes, as the form does. */
const wanted = [...device.options].find(({ value }) => value === query.get('device'));
if (wanted !== undefined) wanted.selected = true;
window.pixart = {
  ready: () => ready,
  generate,
  check: async (url) => running().check(absolute(url)),
  state: () => state,
};
start();

/** Starts the engine, anew where there was one. */
function start(): void {
  client?.close();
  show({ ...OPENING, image: state.image, prompt: state.prompt });
  ready = opened();
  ready.catch(() => 'shown through its event');
}

async function opened(): Promise<Checkpoint> {
  client = connect(device.value as DeviceKind, (event) => show(next(state, event, performance.now())));
  if (folder === '') return new Promise(() => 'never: there is no checkpoint to wait for');
  const checkpoint = await client.open(absolute(folder));
  const { native_size, size_min, size_max, size_multiple } = checkpoint.limits;
  const { preset } = checkpoint;
  for (const [field, best] of [[steps, preset.steps], [guidance, preset.guidance]] as const) {
    if (field.value === field.defaultValue) field.valueAsNumber = best;
  }
  offer(scheduler, checkpoint.schedulers);
  offer(style, checkpoint.styles);
  for (const side of [width, height]) {
    Object.assign(side, { min: size_min, max: size_max, step: size_multiple });
    if (side.value === '') side.valueAsNumber = native_size;
  }
  return checkpoint;
}

/** Fills a list with names below its first entry, which is none of them. */
function offer(list: HTMLSelectElement, names: string[]): void {
  const chosen = list.value;
  list.options.length = 1;
  list.append(...names.map((name) => new Option(name, name, false, name === chosen)));
}

/** Draws `request`, and what is `still` being read for it, once every picture asked for before it has ended. */
function generate(request: Picture, still: Promise<Partial<Picture>> = Promise.resolve({})): Promise<Image | undefined> {
  const mine = turn.then(() => drawNow(request, still));
  turn = mine.catch(() => 'answered to whom it concerns');
  return mine;
}

async function drawNow(request: Picture, still: Promise<Partial<Picture>>): Promise<Image | undefined> {
  stop = new AbortController();
  const engine = running();
  show(drawing(state, request.prompt));
  const read = await still.catch((thrown) => {
    show(failed(state, faultOf(thrown)));
    throw thrown;
  });
  return engine.generate({ ...request, ...read }, stop.signal);
}

function running(): Client {
  if (client === undefined) throw state.fault ?? faultOf('the engine is not running');
  return client;
}

function submit(): void {
  try {
    generate(asked(), overPicture()).catch(() => 'shown');
  } catch (thrown) {
    show(failed(state, faultOf(thrown)));
  }
}

/** The picture to draw over, its mask and its strength, where they are chosen. */
async function overPicture(): Promise<Partial<Picture>> {
  const [picture, drawn] = await Promise.all([pngOf(overImage), pngOf(overMask)]);
  return {
    ...(picture && { image: picture }),
    ...(drawn && { mask_image: drawn }),
    ...(strength.value && { strength: strength.valueAsNumber }),
  };
}

/** The chosen file as a PNG, whatever kind of picture it is that the browser reads. Throws a fault. */
async function pngOf({ files }: HTMLInputElement): Promise<Uint8Array | undefined> {
  const file = files?.[0];
  if (file === undefined) return undefined;
  const bitmap = await createImageBitmap(file).catch(() => {
    throw fault('bad_request', `${file.name} is no picture that this browser reads`, 'choose a PNG, JPEG or WebP file');
  });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext('2d')?.drawImage(bitmap, 0, 0);
  bitmap.close();
  return new Uint8Array(await (await canvas.convertToBlob({ type: 'image/png' })).arrayBuffer());
}

/** The request the form holds; what its values mean is for the engine to judge. Throws a fault. */
function asked(): Picture {
  if (random.checked) seed.valueAsNumber = crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
  return {
    prompt: prompt.value,
    negative_prompt: negative.value,
    seed: whole('seed', seed),
    steps: whole('steps', steps),
    guidance: guidance.valueAsNumber,
    ...(state.checkpoint && { max_sequence_length: state.checkpoint.preset.max_sequence_length }),
    ...(scheduler.value && { scheduler: scheduler.value }),
    ...(style.value && { style: style.value }),
    width: whole('width', width),
    height: whole('height', height),
    text: companion.checked ? { kind: 'companion', url: companionUrl.value } : { kind: 'tab' },
  };
}

/** The value of a field that travels as a `u32`. */
function whole(name: string, { value, valueAsNumber }: HTMLInputElement): number {
  if (Number.isInteger(valueAsNumber) && valueAsNumber >= 0 && valueAsNumber <= U32_MAX) return valueAsNumber;
  throw fault('bad_request', `${name} is ${value || 'not a number'}`, `choose a whole number from 0 to ${U32_MAX}`);
}

function show(changed: State): void {
  const { image } = state;
  state = changed;
  if (state.image !== image) renderPicture();
  render();
}

function render(): void {
  const { phase, fault: shown } = state;
  draw.disabled = phase !== 'ready';
  cancel.hidden = phase !== 'drawing';
  draw.hidden = phase === 'drawing';
  status.textContent = statusText();
  adapter.textContent = adapterText();
  adapter.classList.toggle('slow', state.adapter?.software === true);
  renderProgress();
  alert.hidden = shown === undefined;
  what.textContent = shown?.what ?? '';
  remedy.textContent = shown?.remedy ?? '';
  restart.hidden = phase !== 'stopped' || shown?.code === 'no_webgpu';
  device.disabled = phase === 'drawing';
  figure.setAttribute('aria-busy', String(phase === 'drawing'));
  renderForm();
}

function renderForm(): void {
  seed.readOnly = random.checked;
  companionUrl.disabled = !companion.checked;
}

function renderProgress(): void {
  const { loading, progress: at, phase } = state;
  progress.hidden = phase !== 'opening' && phase !== 'drawing';
  if (loading !== undefined && loading.loaded_bytes < loading.total_bytes) {
    progress.max = loading.total_bytes;
    progress.value = loading.loaded_bytes;
  } else if (at?.stage === 'denoise' && at.steps > 0) {
    progress.max = at.steps;
    progress.value = at.step;
  } else {
    progress.removeAttribute('value');
  }
}

function statusText(): string {
  const { phase, loading, compiling, progress: at, image } = state;
  switch (phase) {
    case 'opening':
      if (folder === '') return 'No checkpoint';
      if (loading === undefined) return 'Opening the device';
      if (loading.loaded_bytes === loading.total_bytes && compiling !== undefined && compiling.compiled < compiling.shaders)
        return `Compiling shader ${compiling.compiled + 1} of ${compiling.shaders}`;
      if (loading.loaded_bytes === loading.total_bytes) return 'Moving the weights to the device';
      return `Loading ${megabytes(loading.loaded_bytes)} of ${megabytes(loading.total_bytes)} MB`;
    case 'drawing':
      if (at === undefined) return 'Starting';
      return at.stage === 'denoise' && at.steps > 0 ? `Drawing: step ${at.step} of ${at.steps}` : STAGES[at.stage];
    case 'ready':
      return image === undefined ? 'Ready' : `Ready. The last picture took ${seconds(image.millis.total)} s`;
    case 'stopped':
      return 'Stopped';
    default: {
      const missing: never = phase;
      return missing;
    }
  }
}

function adapterText(): string {
  if (state.adapter === undefined) return '';
  const { name, backend, software, why } = state.adapter;
  const plan = state.plan === undefined ? '' : ` · ${state.plan}`;
  return `${name} (${backend})${software ? ': a software adapter, slow' : ''}: ${why}${plan}`;
}

function renderPicture(): void {
  const { image, prompt: drawn } = state;
  URL.revokeObjectURL(picture.src);
  figure.hidden = image === undefined;
  if (image === undefined) return;
  const url = URL.createObjectURL(new Blob([new Uint8Array(image.png)], { type: 'image/png' }));
  picture.src = url;
  picture.alt = drawn;
  picture.width = image.width;
  picture.height = image.height;
  caption.textContent = `${drawn} · seed ${image.seed} · ${image.steps} steps`;
  download.href = url;
  download.download = `${slug(drawn)}-${image.seed}.png`;
}

/** `text` as a file name: its first letters and digits, the rest dashes. */
function slug(text: string): string {
  const dashed = text.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, '-');
  return dashed.slice(0, 60).replace(/^-|-$/g, '') || 'picture';
}

function absolute(url: string): string {
  return new URL(url, document.baseURI).href;
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}

function seconds(millis: number): string {
  return (millis / 1e3).toFixed(1);
}

function element<E extends HTMLElement>(id: string, type: new () => E): E {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`index.html has no ${type.name} #${id}`);
  return found;
}
