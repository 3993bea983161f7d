//! The page: reads the form, asks the worker, renders the state. Contract: every fault ends up visible, and leaves a page on
//! which the next picture can be asked for.
import { connect, type Client, type Picture } from './client';
import { element } from './dom';
import { fault, faultOf } from './fault';
import { addressOf, chosenFolder, droppedFolder, renderKept, type Folder } from './kept';
import { pngOf, slug } from './picture';
import type { Checkpoint, ConvertTo, DeviceKind, Image, KeepTask, KeptCheckpoint, Stage, StoreKind, TapRow } from './protocol.gen';
import { drawing, failed, loadingText, next, OPENING, type State } from './state';
import { beginText, chosenText, readsHere } from './text';

/** `window.pixart`: the page without its form, for pages that embed it and for tests. Rejects with a `Fault`. */
export interface Pixart {
  /** The checkpoint, once it is on the device. */
  ready(): Promise<Checkpoint>;
  /** Draws `picture`, on the page too; `undefined` if it was cancelled. */
  generate(picture: Picture): Promise<Image | undefined>;
  /** Compares every tap of the golden variant in the folder at `url`. */
  check(url: string): Promise<TapRow[]>;
  /** Lists, verifies or deletes checkpoints that are kept in this browser. */
  keep(task: KeepTask): Promise<KeptCheckpoint[]>;
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
const record = element('record', HTMLInputElement);
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
const recording = element('recording', HTMLAnchorElement);
const note = element('note', HTMLElement);
const choose = element('folder', HTMLInputElement);
const keptFold = element('kept', HTMLDetailsElement);
const keptList = element('kept-list', HTMLElement);

const query = new URLSearchParams(location.search);
/** Where `owner/name` is looked for. */
const HUB = 'https://huggingface.co/';
/** `?checkpoint=` names a checkpoint's folder, or a repository of the `?hub=`; empty, the page loads none. */
let folder: Folder = { checkpoint: addressOf(query.get('checkpoint') ?? 'models/scenes/', query.get('hub') ?? HUB) };
/** `?convert=` chooses what a folder of safetensors is kept as: f32, f16, q8 or q4. */
const convert = (query.get('convert') ?? 'auto') as ConvertTo;
/** `?store=` chooses where checkpoints are kept. */
const store = (query.get('store') ?? 'auto') as StoreKind;
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
choose.addEventListener('change', () => openFolder(chosenFolder(choose.files)));
document.addEventListener('dragover', (event) => event.preventDefault());
document.addEventListener('drop', (event) => {
  event.preventDefault();
  droppedFolder(event.dataTransfer).then(openFolder);
});
keptFold.addEventListener('toggle', () => keptFold.open && keep({ kind: 'list' }).catch(() => 'shown'));

/** `?companion=` has a companion at that address read prompts. */
beginText(query.get('companion'));
/** `?device=` chooses what computes, as the form does. */
const wanted = [...device.options].find(({ value }) => value === query.get('device'));
if (wanted !== undefined) wanted.selected = true;
window.pixart = {
  ready: () => ready,
  generate,
  check: async (url) => running().check(new URL(url, document.baseURI).href),
  keep,
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
  client = connect(device.value as DeviceKind, store, (event) => show(next(state, event, performance.now())));
  if (folder.checkpoint === '') return new Promise(() => 'never: there is no checkpoint to wait for');
  // Whether it may be evicted is for the browser to say; the page works either way.
  void navigator.storage?.persist?.();
  const checkpoint = await client.open({ ...folder, convert, text: readsHere() });
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

/** Opens a checkpoint that the reader chose. */
function openFolder(chosen: Folder | undefined): void {
  if (chosen === undefined) return;
  folder = chosen;
  start();
}

async function keep(task: KeepTask): Promise<KeptCheckpoint[]> {
  return running().keep(task);
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
    generate(asked(), files()).catch(() => 'shown');
  } catch (thrown) {
    show(failed(state, faultOf(thrown)));
  }
}

/** Who reads the prompt, and the picture to draw over, its mask and its strength, where they are chosen. */
async function files(): Promise<Partial<Picture>> {
  const [text, picture, drawn] = await Promise.all([chosenText(), pngOf(overImage), pngOf(overMask)]);
  return {
    text,
    ...(picture && { image: picture }),
    ...(drawn && { mask_image: drawn }),
    ...(strength.value && { strength: strength.valueAsNumber }),
  };
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
    record: record.checked,
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
  note.hidden = state.note === undefined;
  note.textContent = state.note ?? '';
  alert.hidden = shown === undefined;
  what.textContent = shown?.what ?? '';
  remedy.textContent = shown?.remedy ?? '';
  restart.hidden = phase !== 'stopped' || shown?.code === 'no_webgpu';
  device.disabled = phase === 'drawing';
  figure.setAttribute('aria-busy', String(phase === 'drawing'));
  if (keptFold.open) renderKept(keptList, state.kept, (task) => keep(task).catch(() => 'shown'));
  renderForm();
}

function renderForm(): void {
  seed.readOnly = random.checked;
}

function renderProgress(): void {
  const { loading, progress: at, phase } = state;
  progress.hidden = phase !== 'opening' && phase !== 'drawing';
  if (loading !== undefined && loading.total_bytes !== null && loading.loaded_bytes < loading.total_bytes) {
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
      if (folder.checkpoint === '') return 'No checkpoint';
      if (loading?.loaded_bytes === loading?.total_bytes && compiling !== undefined && compiling.compiled < compiling.shaders)
        return `Compiling shader ${compiling.compiled + 1} of ${compiling.shaders}`;
      return loading === undefined ? 'Opening the device' : loadingText(loading);
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
  URL.revokeObjectURL(recording.href);
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
  recording.hidden = image.recording === null;
  if (image.recording !== null) recording.href = URL.createObjectURL(new Blob([new Uint8Array(image.recording)]));
  recording.download = `${slug(drawn)}-${image.seed}.safetensors`;
}

function seconds(millis: number): string {
  return (millis / 1e3).toFixed(1);
}
