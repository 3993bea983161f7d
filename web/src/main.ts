//! The page: reads the form, asks the engine, renders the state. Contract: every fault ends up visible, and leaves a page on
//! which the next picture can be asked for.
import type { Picture } from './client';
import { element } from './dom';
import { startEngine, type Engine } from './engine';
import { fault, faultOf } from './fault';
import * as form from './form';
import { cells, fillCell } from './grid';
import { Gallery, tabName, type Unfinished } from './database';
import { addressOf, chosenFolder, droppedFolder, renderKept, renderSpace, type Folder } from './stored-models';
import type { Checkpoint, ConvertTo, DeviceKind, Image, KeepTask, KeptCheckpoint, StoreKind, TapRow } from './protocol.gen';
import { pngFile } from './files';
import { requestOf } from './metadata';
import { drawing, failed, next, OPENING, type State } from './state';
import { beginText, readsHere } from './text-source';
import { render } from './view';
import { beginWall } from './gallery-view';
import { startI18n, t } from './i18n';

/** `window.pixart`: the page without its form, for pages that frame it and for tests. Rejects with a `Fault`. */
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

const request = element('request', HTMLFormElement);
const device = element('device', HTMLSelectElement);
const choose = element('model-folder', HTMLInputElement);
const keptFold = element('models', HTMLDetailsElement);
const keptList = element('model-list', HTMLElement);
const left = element('unfinished', HTMLElement);
const address = element('model-url', HTMLInputElement);
const space = element('storage-usage', HTMLElement);

const query = new URLSearchParams(location.search);
/** Where `owner/name` is looked for. */
const HUB = 'https://huggingface.co/';
const hub = query.get('hub') ?? HUB;
/** `?checkpoint=` names a checkpoint's folder, or a repository of the `?hub=`; empty, the page loads none. */
let folder: Folder = { checkpoint: addressOf(query.get('checkpoint') ?? 'models/scenes/', hub) };
/** `?convert=` chooses what a folder of safetensors is kept as: f32, f16, q8 or q4. */
const convert = (query.get('convert') ?? 'auto') as ConvertTo;
/** Before more than this is fetched the reader is asked; `?ask=` is another limit. */
const ASK_MEGABYTES = 100;
const least_bytes = Number(query.get('ask') ?? ASK_MEGABYTES) * 1e6;
/** `?store=` chooses where checkpoints are kept. */
const store = (query.get('store') ?? 'auto') as StoreKind;

/** The last one that could be drawn with. */
let before: Folder = { checkpoint: '' };

let state: State = OPENING;
let engine: Engine | undefined;
let ready: Promise<Checkpoint>;
/** Stops every picture that was asked for. */
let stop = new AbortController();
let turn: Promise<unknown> = Promise.resolve();
const tab = tabName();
/** In a window that keeps nothing there is none, and pictures are shown alone. */
const gallery = Gallery.open().then(
  (gallery) => ({ gallery, wall: beginWall(gallery, restore, (reason) => show(failed(state, reason))) }),
  () => undefined,
);

request.addEventListener('submit', (event) => {
  event.preventDefault();
  if (state.phase === 'ready') submit();
});
request.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) request.requestSubmit();
});
request.addEventListener('input', form.render);
element('cancel', HTMLButtonElement).addEventListener('click', cancel);
element('restart', HTMLButtonElement).addEventListener('click', start);
device.addEventListener('change', start);
choose.addEventListener('change', () => openFolder(chosenFolder(choose.files)));
element('open-model', HTMLButtonElement).addEventListener('click', () => {
  if (address.value !== '') openFolder({ checkpoint: addressOf(address.value, hub) });
});
document.addEventListener('dragover', (event) => event.preventDefault());
document.addEventListener('drop', (event) => {
  event.preventDefault();
  const [file, more] = event.dataTransfer?.files ?? [];
  if (file?.type === 'image/png' && more === undefined) void file.arrayBuffer().then((bytes) => restore(new Uint8Array(bytes)));
  else droppedFolder(event.dataTransfer).then(openFolder);
});
keptFold.addEventListener('toggle', listKept);

/** `?lang=` is the language of the page. */
startI18n(query.get('lang'), () => show(state));
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
if (import.meta.env.PROD && 'serviceWorker' in navigator) addEventListener('load', beginOffline);

/** Starts the engine, anew where there was one. */
function start(): void {
  engine?.close();
  show({ ...OPENING, image: state.image, prompt: state.prompt, kept: state.kept });
  ready = opened();
  ready.catch(() => 'shown through its event');
}

async function opened(): Promise<Checkpoint> {
  // Whether it may be evicted is for the browser to say; the page works either way.
  void navigator.storage?.persist?.();
  engine = startEngine({
    device: device.value as DeviceKind,
    store,
    opening: folder.checkpoint === '' ? undefined : { ...folder, convert, text: readsHere() },
    agree: { least_bytes, ask: agreed },
    listen: (event) => show(next(state, event, performance.now())),
  });
  const checkpoint = await engine.ready;
  before = folder;
  form.offer(checkpoint);
  listKept();
  await offerLeft();
  return checkpoint;
}

/** Whether the reader, who sees what it takes, wants the checkpoint fetched. Without it the one before is opened. */
function agreed(): Promise<boolean> {
  return new Promise((resolve) => {
    const answer = (yes: boolean): void => {
      show({ ...state, asking: undefined });
      resolve(yes);
      if (!yes) openFolder(before);
    };
    element('accept-download', HTMLButtonElement).onclick = () => answer(true);
    element('decline-download', HTMLButtonElement).onclick = () => answer(false);
  });
}

/** Fills in the form with the request of a picture that was drawn here. */
function restore(png: Uint8Array): void {
  const request = requestOf(png);
  if (request !== undefined) return form.fill(request);
  show(failed(state, fault('bad_request', 'the PNG file has no generation parameters', 'drop a PNG file that was generated here')));
}

/** Offers to go on with what this tab was at when it was left. */
async function offerLeft(): Promise<void> {
  const kept = await gallery;
  const unfinished = await kept?.gallery.unfinished(tab);
  if (kept === undefined || unfinished === undefined || unfinished.checkpoint !== folder.checkpoint) return;
  const { picture, said } = unfinished;
  left.hidden = false;
  element('unfinished-text', HTMLElement).textContent = t('unfinished', { prompt: picture.prompt, step: said.length });
  element('resume', HTMLButtonElement).onclick = () => {
    left.hidden = true;
    form.fill(picture);
    generate(picture, Promise.resolve({}), said).catch(() => 'shown');
  };
  element('discard', HTMLButtonElement).onclick = () => {
    left.hidden = true;
    void kept.gallery.forget(tab);
  };
}

/** With a service worker the page works without a network. It waits until a checkpoint is open, whose files come first. */
function beginOffline(): void {
  ready.then(() => navigator.serviceWorker.register('./sw.js')).catch(() => 'without it the page needs its network');
}

/** Opens a checkpoint that the reader chose. */
function openFolder(chosen: Folder | undefined): void {
  if (chosen === undefined) return;
  folder = chosen;
  start();
}

function listKept(): void {
  if (keptFold.open) keep({ kind: 'list' }).catch(() => 'shown');
}

async function keep(task: KeepTask): Promise<KeptCheckpoint[]> {
  return running().keep(task);
}

/** Draws `picture`, and what is `still` being read for it, once every picture asked for before it has ended. */
function generate(
  picture: Picture,
  still: Promise<Partial<Picture>> = Promise.resolve({}),
  said: readonly Uint8Array[] = [],
): Promise<Image | undefined> {
  const { signal } = stop;
  const mine = turn.then(() => (signal.aborted ? undefined : drawNow(picture, still, said, signal)));
  turn = mine.catch(() => 'answered to whom it concerns');
  return mine;
}

async function drawNow(
  picture: Picture,
  still: Promise<Partial<Picture>>,
  said: readonly Uint8Array[],
  signal: AbortSignal,
): Promise<Image | undefined> {
  const engine = running();
  show(drawing(state, picture.prompt));
  const read = await still.catch((thrown) => {
    show(failed(state, faultOf(thrown)));
    throw thrown;
  });
  const asked = { ...picture, ...read };
  const kept = await gallery;
  const unfinished: Unfinished = { tab, checkpoint: folder.checkpoint, picture: asked, said: [...said], begun_at: Date.now() };
  const diary = kept?.gallery.diary(unfinished);
  try {
    const image = await engine.generate(asked, { stop: signal, said, stepped: (step) => diary?.step(step.said) });
    if (image !== undefined) {
      const png = pngFile(image.png);
      await kept?.wall.add({ prompt: picture.prompt, seed: image.seed, favourite: false, drawn_at: Date.now(), png });
    }
    return image;
  } finally {
    await diary?.end();
  }
}

/** Stops the picture at work, and those that wait. */
function cancel(): void {
  stop.abort();
  stop = new AbortController();
}

function running(): Engine {
  if (engine === undefined) throw state.fault ?? faultOf('the engine is not running');
  return engine;
}

/** Asks for what the form holds: one picture, several with a seed each, or those of a table. */
function submit(): void {
  try {
    const [first, still, count, table] = [form.asked(), form.files(), form.pictures(), cells()];
    for (const cell of table ?? []) {
      const picture = { ...first, ...cell.changed };
      const put = (image: Image | undefined): void => image && fillCell(cell, image, picture.prompt);
      // What the cell changes, the form's files do not change back.
      generate(picture, still.then((read) => ({ ...read, ...cell.changed }))).then(put, () => 'shown');
    }
    if (table !== undefined) return;
    for (let more = 0; more < count; more += 1) {
      generate({ ...first, seed: ((first.seed ?? 0) + more) >>> 0 }, still).catch(() => 'shown');
    }
  } catch (thrown) {
    show(failed(state, faultOf(thrown)));
  }
}

function show(changed: State): void {
  const before = state;
  state = changed;
  render(state, before, folder.checkpoint !== '');
  if (keptFold.open) renderKept(keptList, state.kept, (task) => keep(task).catch(() => 'shown'), (checkpoint) => openFolder({ checkpoint }));
  if (state.kept !== before.kept) renderSpace(space).catch(() => 'told where the browser tells');
}
