//! The page: reads the form, sends requests to the engine and renders the state. Every fault is shown, and leaves a page on
//! which the next image can be generated.
import { checkpointUrl, componentUrl } from '../checkpoints/address';
import { COMPONENTS, type Component } from '../checkpoints/place';
import { withoutSignature } from '../checkpoints/source';
import type { ImageRequest } from '../engine/client';
import { type GenerateOptions, type ResilientEngine, startEngine, weightsHash } from '../engine/engine';
import { faultOf, ignore } from '../engine/fault';
import type {
  Checkpoint,
  DeviceKind,
  ImageResult,
  StorageBackend,
  StorageTask,
  StoredCheckpoint,
  TapRow,
  WeightDtype,
} from '../engine/protocol.gen';
import type { ImageMetadata } from '../gallery/image-metadata';
import { renderCarried } from './carried';
import { type Classified, classifiedFile, placesOf, renderComponents, startComponents } from './components';
import { element } from './dom';
import { startDrop } from './drop';
import { startExplanations } from './explanations';
import {
  applyCheckpoint,
  applyRequest,
  readFiles,
  readNumImages,
  readPrompts,
  readPromptVariants,
  readRequest,
  renderForm,
  setPrompt,
  setPromptLines,
  setSize,
  useInitImage,
  withChosenWords,
  withPromptSize,
} from './form';
import { fillCell, hideGrid, readGrid, showGrid } from './grid';
import { HISTORY_MAX, type HistoryItem, renderHistory } from './history';
import { startI18n, t } from './i18n';
import { startIcons } from './icons';
import { renderImageActions, startImageActions } from './image-actions';
import { startImageStore } from './image-store';
import { refreshEditor, startInputImage } from './input-image';
import { loadPart, remarkOf } from './load-part';
import { addLora, clearLoras, removeLora, renderLoras, type SelectedLoras, selectedLoras, startLoras } from './lora-list';
import { startModelList } from './model-list';
import type { ModelComponents, ModelPlace } from './model-place';
import { notifyDone, startNotifications } from './notify';
import { openPanel, showCanvas, startPanels } from './panels';
import { startPromptLists } from './prompt-lists';
import { GenerationQueue, type Task } from './queue';
import { commandOf } from './shortcuts';
import { generating, type Notice, OPENING, reduce, type State, withFault } from './state';
import { folderName, isCheckpoint, type ModelSource, pickedFolder, withIdentity } from './stored-models';
import { encodesInTab, selectedCompanion, startTextSource } from './text-source';
import { startTokenCounter } from './token-counter';
import { startTooltips } from './tooltips';
import { render } from './view';
import { renderWelcome } from './welcome';

/** `window.pixart`: the page without its form, for pages that embed it and for tests. Promises reject with a `Fault`. */
export interface Pixart {
  /** Resolves once a checkpoint is loaded. */
  ready(): Promise<Checkpoint>;
  /** Generates an image and shows it; resolves with `undefined` if it was cancelled. */
  generate(request: ImageRequest): Promise<ImageResult | undefined>;
  /** Compares every tap of the golden variant in the folder at `url`. */
  check(url: string): Promise<TapRow[]>;
  /** Lists, verifies or deletes stored checkpoints. */
  storage(task: StorageTask): Promise<StoredCheckpoint[]>;
  state(): State;
}

declare global {
  interface Window {
    pixart: Pixart;
  }
}

const form = element('request', HTMLFormElement);
const device = element('device', HTMLSelectElement);
const folderPicker = element('model-folder', HTMLInputElement);
const modelUrlInput = element('model-url', HTMLInputElement);
const unfinishedGroup = element('unfinished', HTMLElement);

const query = new URLSearchParams(location.search);
/** `?hub=` is the model hub for `owner/name`. */
const hub = query.get('hub') ?? 'https://huggingface.co/';
/** `?checkpoint=` is a checkpoint's folder, or a repository of the model hub; with an empty one the page loads none. `?transformer=`,
    `?vae=`, `?text_encoder=`, `?tokenizer=` and `?scheduler=` are the addresses of components in other places. */
let source: ModelSource = {
  checkpoint: checkpointUrl(query.get('checkpoint') ?? 'models/scenes/', hub, document.baseURI),
  components: Object.fromEntries(
    COMPONENTS.flatMap((component): [Component, ModelPlace][] => {
      const address = query.get(component);
      return address === null ? [] : [[component, { place: componentUrl(address, hub, document.baseURI) }]];
    }),
  ),
};
/** `?dtype=`, formerly `?convert=`, is the format in which a folder of safetensors is stored: f32, f16, q8 or q4. */
const dtype = (query.get('dtype') ?? query.get('convert') ?? 'auto') as WeightDtype;
/** `?ask=` is the size in megabytes above which a download needs the user's confirmation. */
const CONFIRM_MEGABYTES = 100;
const measure_above_bytes = Number(query.get('ask') ?? CONFIRM_MEGABYTES) * 1e6;
/** `?storage=`, formerly `?store=`, selects the browser storage for checkpoints. */
const backend = (query.get('storage') ?? query.get('store') ?? 'auto') as StorageBackend;

/** The last source that was loaded, to return to when a download is declined. */
let loadedSource: ModelSource = { checkpoint: '' };

let state: State = OPENING;
let engine: ResilientEngine | undefined;
let ready: Promise<Checkpoint>;
/** The settings in the address are those of the page's first model, or of none. */
let isLinkRestored = false;
/** The download of the model was confirmed before it was paused. */
let isConfirmed = false;
/** Starts of the engine: of two at once the later one counts. */
let starts = 0;
/** The LoRAs that the engine was last told to merge. */
let merged = '';
const queue = new GenerationQueue<ImageResult>((jobs) => {
  const [last] = state.jobs;
  show({ ...state, jobs });
  if (last !== undefined && jobs.length === 0) notifyDone(last.prompt);
});
/** The images of this visit, the newest first. */
let history: readonly HistoryItem[] = [];
let historyIds = 0;
/** The ids in the gallery of the images of this visit. */
const galleryIds = new Map<HistoryItem['id'], number>();
const images = startImageStore({
  onReuse: (image) =>
    void image
      .arrayBuffer()
      .then(
        (bytes) => restoreImage(image, new Uint8Array(bytes)),
        () => notify({ text: t('dropUnreadable', { name: image.name }) }),
      )
      .catch((thrown: unknown) => notify({ text: remarkOf(thrown) })),
  onRemark: (text) => notify({ text }),
  onFavour: () => show(state),
});

// Nothing is shown before the texts of the page's language are there. `?lang=` is read by language.ts.
await startI18n({
  onChange: () => {
    show(state);
    renderForm();
    renderCarried();
    renderLoras();
    models.refresh();
    explanations.refresh();
    showComponents();
    images.refresh();
    refreshEditor();
  },
  onFailed: (text) => notify({ text }),
});
startIcons();
startPanels();
form.addEventListener('submit', (event) => {
  event.preventDefault();
  if (state.phase === 'ready' || state.phase === 'generating') submit();
});
form.addEventListener('keydown', (event) => {
  if (commandOf('page', event) !== 'generate') return;
  // A panel that closes gives the focus back to its button, which Safari would then click by the same key press.
  event.preventDefault();
  form.requestSubmit();
});
form.addEventListener('input', renderForm);
const countTokens = startTokenCounter(() => currentEngine().countTokens(readPrompts()));
form.addEventListener('input', countTokens);
element('cancel', HTMLButtonElement).addEventListener('click', () => queue.cancelRunning());
element('restart', HTMLButtonElement).addEventListener('click', start);
device.addEventListener('change', start);
folderPicker.addEventListener('change', () => {
  const picked = pickedFolder(folderPicker.files);
  if (picked === undefined || isCheckpoint(picked)) return openModel(picked);
  notify({ text: `${t('dropNoCheckpoint', { name: folderName(picked) })} ${t('droppable')}` });
});
const openTypedModel = (): void => {
  const checkpoint = checkpointUrl(modelUrlInput.value, hub, document.baseURI);
  if (checkpoint !== '') openModel({ checkpoint });
};
element('open-model', HTMLButtonElement).addEventListener('click', openTypedModel);
modelUrlInput.addEventListener('keydown', ({ key }) => key === 'Enter' && openTypedModel());
startDrop({
  onImage: restoreImage,
  onFolder: (dropped) => {
    if (state.phase === 'generating') notify({ text: t('dropWhileGenerating', { name: folderName(dropped) }) });
    else openModel(dropped);
  },
  onComponent: useClassified,
  onRefused: (text) => notify({ text }),
});
element('use-image', HTMLButtonElement).addEventListener('click', () => {
  const image = state.notice?.image;
  show({ ...state, notice: undefined });
  if (image !== undefined) useInitImage(image);
});
const models = startModelList({
  hub,
  state: () => state,
  source: () => source,
  open: (opened, confirmed) => openModel(opened, confirmed),
  openStored,
  leave: () => openModel(loadedSource),
  storage,
  onRemark: (text) => notify({ text }),
});
startTooltips();
startNotifications((text) => notify({ text }));
startPromptLists({
  onPrompts: (text) => {
    setPromptLines(text);
    countTokens();
  },
  onLists: renderForm,
  onRemark: (text) => notify({ text }),
});
const explanations = startExplanations({
  state: () => state,
  companion: selectedCompanion,
  onFailed: (thrown) => notify({ text: remarkOf(thrown) }),
});
startInputImage({
  limits: () => state.checkpoint?.limits,
  onSize: setSize,
  onFailed: (thrown) => notify({ text: remarkOf(thrown) }),
});
startImageActions({
  shown: shownItem,
  generate: (request) => void generate(request).catch(ignore),
  favour: (item) => {
    const id = galleryIds.get(item.id);
    if (id !== undefined) void images.favour(id, !images.isFavourite(id));
  },
  onFailed: (thrown) => notify({ text: remarkOf(thrown) }),
});

/** `?companion=` is the URL of a companion that encodes prompts. */
startTextSource(query.get('companion'));
startComponents((component, address) => setComponent(component, { place: componentUrl(address, hub, document.baseURI) }));
startLoras((address) => useLora({ place: componentUrl(address, hub, document.baseURI) }));
/** `?lora=` is the address of a LoRA, and may be repeated; a weight follows after `=`. */
for (const lora of query.getAll('lora')) {
  const [, address = lora, scale = '1'] = /^(.*?)(?:=(\d*\.?\d+))?$/.exec(lora) ?? [];
  addLora({ place: componentUrl(address, hub, document.baseURI) }, Number(scale));
}
for (const [id, expected] of [
  ['component-file', undefined],
  ['lora-file', 'lora'],
] as const) {
  const picker = element(id, HTMLInputElement);
  picker.addEventListener('change', () => {
    const [file] = picker.files ?? [];
    // The same file can be chosen again.
    if (file !== undefined) pickFile(file, expected).finally(() => (picker.value = ''));
  });
}
/** `?device=` selects the device, as the form does. */
const requestedDevice = [...device.options].find(({ value }) => value === query.get('device'));
if (requestedDevice !== undefined) requestedDevice.selected = true;
addEventListener('hashchange', () => void restoreLink());
window.pixart = {
  ready: () => ready,
  generate,
  check: async (url) => currentEngine().check(new URL(url, document.baseURI).href),
  storage,
  state: () => state,
};
start();
if (import.meta.env.PROD && 'serviceWorker' in navigator) addEventListener('load', registerServiceWorker);

function showComponents(): void {
  renderComponents(source.components ?? {}, (component) => setComponent(component, undefined));
}

/** Starts the engine, or restarts it. */
function start(): void {
  engine?.close();
  showComponents();
  const { image, image_prompt, prompt, jobs, stored, notice } = state;
  show({ ...OPENING, image, image_prompt, prompt, jobs, stored, notice });
  ready = load();
  // The engine reports the fault as an event, too.
  ready.catch(ignore);
}

async function load(): Promise<Checkpoint> {
  // The browser decides whether storage persists; the page works either way.
  navigator.storage?.persist?.().catch(ignore);
  starts += 1;
  const started = starts;
  if (source.files !== undefined) {
    const identified = await withIdentity(source).catch((thrown: unknown) => {
      const reason = faultOf(thrown);
      if (started === starts) show(withFault(state, reason));
      throw reason;
    });
    // The user has opened another one meanwhile.
    if (started !== starts) return ready;
    source = identified;
  }
  const { checkpoint: name, files } = source;
  const { components, local } = placesOf(source.components ?? {});
  const selected = selectedLoras();
  engine = startEngine({
    device: device.value as DeviceKind,
    storage: backend,
    checkpoint:
      name === ''
        ? undefined
        : {
            checkpoint: name,
            files,
            dtype,
            load_text_encoder: encodesInTab(),
            components,
            loras: selected.loras,
            local: new Map([...local, ...selected.local]),
          },
    confirmDownload: { measure_above_bytes: isConfirmed ? Number.MAX_SAFE_INTEGER : measure_above_bytes, confirm: confirmDownload },
    onEvent: (event) => {
      models.record(event);
      show(reduce(state, event, performance.now()));
    },
  });
  merged = lorasKey(selected);
  const checkpoint = await engine.ready;
  loadedSource = source;
  // A checkpoint's files do not tell that it was distilled to one step.
  const preset = checkpoint.presets.find(({ name }) => name === source.preset) ?? checkpoint.preset;
  applyCheckpoint({ ...checkpoint, preset });
  explanations.refresh();
  countTokens();
  if (!isLinkRestored) {
    isLinkRestored = true;
    await restoreLink();
  }
  models.reload();
  // Without the journal of an interrupted generation there is nothing to offer.
  await offerUnfinished().catch(ignore);
  return checkpoint;
}

/** Returns whether the user confirms the download, whose estimate is shown. If not, the previous model is opened again. */
function confirmDownload(): Promise<boolean> {
  return new Promise((resolve) => {
    const answer = (confirmed: boolean): void => {
      show({ ...state, estimate: undefined });
      resolve(confirmed);
      if (!confirmed) openModel(loadedSource);
    };
    element('accept-download', HTMLButtonElement).onclick = () => answer(true);
    element('decline-download', HTMLButtonElement).onclick = () => answer(false);
  });
}

/** Fills in the form from an image's metadata, or offers the image as input image. */
async function restoreImage(image: File, bytes: Uint8Array): Promise<void> {
  const { name } = image;
  const { readMetadata, restore } = await settingsReader();
  const metadata = await readMetadata(bytes);
  // A graph or a text without a prompt is no request.
  if (metadata?.request.prompt !== undefined) restoreSettings(metadata, name, restore);
  else notify({ text: t('noSettings', { name }), image });
}

type SettingsReader = typeof import('./restore');

function settingsReader(): Promise<SettingsReader> {
  return loadPart('reader of settings', () => import('./restore'));
}

function restoreSettings(metadata: ImageMetadata, name: string, restore: SettingsReader['restore']): void {
  const restored = (stored: readonly StoredCheckpoint[]): void =>
    notify({ text: restore(metadata, name, state.checkpoint, stored, source.components ?? {}) });
  restored(state.stored);
  // LoRAs that are not in the list may be stored. Without the list of what is stored they are named as missing.
  if ((metadata.loras ?? []).length > 0) storage({ kind: 'list' }).then(restored, ignore);
  countTokens();
}

/** Fills in the form from the settings in the address, if it holds some. */
async function restoreLink(): Promise<void> {
  if (location.hash.length < 2) return;
  try {
    const { settingsOfFragment, restore } = await settingsReader();
    const metadata = settingsOfFragment(location.hash);
    if (metadata === 'damaged') notify({ text: t('damagedLink') });
    else if (metadata !== undefined) restoreSettings(metadata, t('sharedSettings'), restore);
  } catch (thrown) {
    notify({ text: remarkOf(thrown) });
  }
}

/** Shows a remark, which changes nothing else. */
function notify(notice: Notice): void {
  show({ ...state, notice });
}

/** Offers to resume the generation that was running when this tab was closed or reloaded. */
async function offerUnfinished(): Promise<void> {
  const unfinished = await images.unfinished();
  if (unfinished === undefined || unfinished.checkpoint !== sourceKey()) return;
  const { request, model_outputs, model_hash } = unfinished;
  unfinishedGroup.hidden = false;
  element('unfinished-text', HTMLElement).textContent = t('unfinished', { prompt: request.prompt, step: model_outputs.length });
  element('resume', HTMLButtonElement).onclick = () => {
    unfinishedGroup.hidden = true;
    applyRequest(request, ['image', 'mask_image']);
    generate(request, Promise.resolve({}), { model_outputs, model_hash }).catch(ignore);
  };
  element('discard', HTMLButtonElement).onclick = () => {
    unfinishedGroup.hidden = true;
    images.discard();
  };
}

/** Registers the service worker, which makes the page work offline, once a checkpoint is loaded: its download comes first. */
function registerServiceWorker(): void {
  // Without a service worker the page only needs its network.
  ready.then(() => navigator.serviceWorker.register('./sw.js')).catch(ignore);
}

/** Opens a model. A text encoder from another place serves every model; other components and LoRAs are those of one. */
function openModel(selected: ModelSource | undefined, confirmed = false): void {
  if (selected === undefined) return;
  isConfirmed = confirmed;
  showCanvas();
  const { text_encoder, tokenizer } = source.components ?? {};
  const shared = { ...(text_encoder && { text_encoder }), ...(tokenizer && { tokenizer }) };
  if (selected.checkpoint !== source.checkpoint) clearLoras();
  source = { ...selected, components: { ...shared, ...selected.components } };
  start();
}

/** Opens what is stored: a model, a text encoder for the open model, or a LoRA. */
function openStored({ kind, checkpoint, composition }: StoredCheckpoint): void {
  if (kind === 'lora') return void useLora({ place: checkpoint });
  if (kind === 'text_encoder') return setComponent('text_encoder', { place: composition?.components.text_encoder ?? checkpoint });
  const components = Object.entries(composition?.components ?? {}).map(([component, place]) => [component, { place }]);
  openModel({ checkpoint: composition?.checkpoint ?? checkpoint, components: Object.fromEntries(components) as ModelComponents });
}

/** Replaces a component of the open model; without a place it is the model's own again. */
function setComponent(component: Component, place: ModelPlace | undefined): void {
  const { [component]: _, ...others } = source.components ?? {};
  source = { ...source, components: place === undefined ? others : { ...others, [component]: place } };
  if (source.checkpoint === '') showComponents();
  else start();
}

/** Adds a LoRA and merges it at once, so that one that does not fit is refused now. */
async function useLora(place: ModelPlace): Promise<void> {
  addLora(place);
  if (state.phase === 'opening' || source.checkpoint === '') return;
  // The engine reports the fault as an event.
  await mergeLoras(selectedLoras()).catch(() => removeLora(place.place));
}

function useClassified({ component, place }: Classified, name: string): void {
  if (component === 'lora') useLora(place).catch(ignore);
  else if (state.phase === 'generating') notify({ text: t('dropWhileGenerating', { name }) });
  else setComponent(component, place);
}

/** Uses a file from a file picker; `expected` where it can be nothing else. */
async function pickFile(file: File, expected: 'lora' | undefined): Promise<void> {
  const { name } = file;
  const classified = await classifiedFile(file).catch(() => undefined);
  if (classified === undefined || (expected !== undefined && classified.component !== expected))
    return notify({ text: `${t(expected === undefined ? 'dropWeights' : 'noLora', { name })} ${t('droppable')}` });
  useClassified(classified, name);
}

function lorasKey({ loras }: SelectedLoras): string {
  return JSON.stringify(loras.filter(({ scale }) => scale !== 0));
}

/** Lets the engine merge other LoRAs, unless it has merged these. */
async function mergeLoras(selected: SelectedLoras): Promise<void> {
  const key = lorasKey(selected);
  if (key === merged) return;
  await currentEngine().setLoras(selected.loras, selected.local);
  merged = key;
}

/** Returns what tells the open model from others, in a journal. */
function sourceKey(): string {
  const { components } = placesOf(source.components ?? {});
  const places = Object.keys(components).length === 0 ? '' : ` ${JSON.stringify(components)}`;
  return withoutSignature(source.checkpoint) + places;
}

async function storage(task: StorageTask): Promise<StoredCheckpoint[]> {
  return currentEngine().storage(task);
}

/** Steps of a generation that was interrupted. */
type ResumedSteps = Pick<GenerateOptions, 'model_outputs' | 'model_hash'>;

/** Generates an image once those requested before have ended. `files` holds the fields of the request that are still being read;
    `resumed` the steps that are done, and the weights that they were made with. */
function generate(
  request: ImageRequest,
  files: Promise<Partial<ImageRequest>> = Promise.resolve({}),
  resumed: ResumedSteps = {},
): Promise<ImageResult | undefined> {
  const [result = Promise.resolve(undefined)] = queue.add(request.prompt, [taskOf(request, files, resumed)]);
  return result;
}

/** Returns a generation with the LoRAs that are selected now. */
function taskOf(request: ImageRequest, files: Promise<Partial<ImageRequest>>, resumed: ResumedSteps = {}): Task<ImageResult> {
  const selected = selectedLoras();
  return (signal) => run(request, files, resumed, selected, signal);
}

async function run(
  request: ImageRequest,
  files: Promise<Partial<ImageRequest>>,
  { model_outputs = [], model_hash }: ResumedSteps,
  loras: SelectedLoras,
  signal: AbortSignal,
): Promise<ImageResult | undefined> {
  const engine = currentEngine();
  show(generating(state, request.prompt));
  const read = await files.catch((thrown) => {
    show(withFault(state, faultOf(thrown)));
    throw thrown;
  });
  const complete = withPromptSize({ ...request, ...read });
  // The engine reports the fault as an event, too.
  await mergeLoras(loras);
  const loaded = state.checkpoint;
  const hash = model_hash ?? (loaded && weightsHash(loaded, loaded.loras));
  const started = {
    checkpoint: sourceKey(),
    request: complete,
    model_hash: hash,
    model_outputs: [...model_outputs],
  };
  const journal = await images.journal(started);
  try {
    const image = await engine.generate(complete, {
      signal,
      model_outputs,
      model_hash,
      onStep: (step) => journal?.add(step.model_output),
      onAnew: (hash) => journal?.restart(hash),
    });
    if (image === undefined) return image;
    // The seed of the image is final.
    const { image_index: _, num_images_per_prompt: __, ...repeatable } = complete;
    historyIds += 1;
    const item = { id: historyIds, image, prompt: request.prompt, request: repeatable };
    history = [item, ...history].slice(0, HISTORY_MAX);
    show(state);
    const id = await images.add(request.prompt, image);
    if (id !== undefined) galleryIds.set(item.id, id);
    show(state);
    return image;
  } finally {
    // What it leaves behind expires by itself.
    await journal?.end().catch(ignore);
  }
}

function currentEngine(): ResilientEngine {
  if (engine === undefined) throw state.fault ?? faultOf('the engine is not running');
  return engine;
}

/** Requests what the form holds as one job: the images of the X/Y grid, or one or several of each prompt, with a seed each. */
function submit(): void {
  showCanvas();
  show({ ...state, notice: undefined });
  try {
    const [request, files, count, grid] = [readRequest(), readFiles(), readNumImages(), readGrid()];
    // What is not awaited now is reported by the job that needs it.
    files.catch(ignore);
    if (grid !== undefined) {
      // The cell's values take precedence over those read with the files.
      const tasks = grid.cells.map(({ overrides }) => {
        const overridden = files.then((read) => ({ ...read, ...overrides }));
        overridden.catch(ignore);
        return taskOf({ ...request, ...overrides }, overridden);
      });
      const results = queue.add(request.prompt, tasks, () => showGrid(grid));
      for (const [index, cell] of grid.cells.entries())
        results[index]?.then((image) => image && fillCell(cell, image, cell.overrides.prompt ?? request.prompt), ignore);
      return;
    }
    // Variations of one seed have the next variation seeds.
    const field = request.variation_strength ? 'variation_seed' : 'seed';
    const requests = readPromptVariants().flatMap((prompt, variant) =>
      Array.from({ length: count }, (_, index) => {
        const numbered = { ...request, [field]: ((request[field] ?? 0) + index) >>> 0 };
        // Prompts of one text and seed differ in the words that are chosen.
        return { ...numbered, prompt: withChosenWords(prompt, (numbered.seed ?? 0) + Math.imul(variant, 0x9e3779b1)) };
      }),
    );
    const tasks = requests.map((request) => taskOf(request, files));
    for (const result of queue.add(request.prompt, tasks, hideGrid)) result.catch(ignore);
  } catch (thrown) {
    show(withFault(state, faultOf(thrown)));
  }
}

/** Returns the image on the canvas, if it is of this visit. */
function shownItem(): HistoryItem | undefined {
  return history.find(({ image }) => image === state.image);
}

function show(changed: State): void {
  const before = state;
  state = changed;
  render(state, before, source.checkpoint !== '');
  const item = shownItem();
  const id = item && galleryIds.get(item.id);
  renderImageActions(item, id === undefined ? undefined : images.isFavourite(id));
  renderWelcome({
    isVisible: state.image === undefined && state.phase !== 'generating' && state.estimate === undefined,
    isReady: state.phase === 'ready',
    checkpoint: source.checkpoint,
    companion: selectedCompanion(),
    onExample: ({ prompt, seed }) => {
      setPrompt(prompt, seed);
      countTokens();
      submit();
    },
    onModels: () => openPanel('models'),
  });
  renderHistory(history, state.jobs, state.image, {
    onSelect: ({ image, prompt }) => show({ ...state, image, image_prompt: prompt, hides_preview: true }),
    onCancel: ({ id }) => queue.cancel(id),
  });
  const { stored, loading, phase, adapter } = state;
  if (stored !== before.stored || loading !== before.loading || phase !== before.phase || adapter !== before.adapter) models.refresh();
}
