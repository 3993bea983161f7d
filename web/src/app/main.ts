//! The page: connects the form, the open model, generations and the state that is shown. Every fault is shown, and leaves a page on
//! which the next image can be generated.
import { checkpointUrl, componentUrl } from '../checkpoints/address';
import type { ImageRequest } from '../engine/client';
import { ignore } from '../engine/fault';
import type { Checkpoint, ImageResult, StorageTask, StoredCheckpoint, TapRow } from '../engine/protocol.gen';
import { renderCarried } from './carried';
import { type Classified, classifiedFile, renderComponents, startComponents } from './components';
import { element } from './dom';
import { startDrop } from './drop';
import { startExplanations } from './explanations';
import { readPrompts, renderForm, setPrompt, setPromptLines, setSize, useInitImage } from './form';
import { createGenerations } from './generation';
import { renderHistory } from './history';
import { startI18n, t } from './i18n';
import { startIcons } from './icons';
import { renderImageActions, startImageActions } from './image-actions';
import { startImageStore } from './image-store';
import { refreshEditor, startInputImage } from './input-image';
import { remarkOf } from './load-part';
import { addLora, renderLoras, startLoras } from './lora-list';
import { startModelList } from './model-list';
import { createModelSession } from './model-session';
import { startNotifications } from './notify';
import { createPageState } from './page-state';
import { openPanel, showCanvas, startPanels } from './panels';
import { recordPrompt, startPromptHistory } from './prompt-history';
import { startPromptLists } from './prompt-lists';
import { startSettingsRestorer } from './settings-restorer';
import { commandOf } from './shortcuts';
import type { State } from './state';
import { folderName, isCheckpoint, pickedFolder } from './stored-models';
import { selectedCompanion, startTextSource } from './text-source';
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

const query = new URLSearchParams(location.search);
/** `?hub=` is the model hub for `owner/name`. */
const hub = query.get('hub') ?? 'https://huggingface.co/';
/** The settings in the address are those of the page's first model, or of none. */
let isLinkRestored = false;

const page = createPageState(renderPage);
const failed = (thrown: unknown): void => page.notify({ text: remarkOf(thrown) });
const model = createModelSession(query, {
  page,
  hub,
  device,
  onEvent: (event) => models.record(event),
  onComponents: showComponents,
  onOpen: showCanvas,
  async onLoaded() {
    explanations.refresh();
    countTokens();
    if (!isLinkRestored) {
      isLinkRestored = true;
      await settings.restoreLink();
    }
    await settings.restorePending();
    models.reload();
    // Without the journal of an interrupted generation there is nothing to offer.
    await generations.offerUnfinished().catch(ignore);
  },
});
const images = startImageStore({
  onReuse: (image) =>
    void image
      .arrayBuffer()
      .then(
        (bytes) => settings.restoreImage(image, new Uint8Array(bytes)),
        () => page.notify({ text: t('dropUnreadable', { name: image.name }) }),
      )
      .catch(failed),
  onRemark: (text) => page.notify({ text }),
  onChange: () => page.show(page.current()),
});
const generations = createGenerations(page, model, images);

// Nothing is shown before the texts of the page's language are there. `?lang=` is read by language.ts.
await startI18n({
  onChange: () => {
    page.show(page.current());
    renderForm();
    renderCarried();
    renderLoras();
    models.refresh();
    explanations.refresh();
    showComponents();
    images.refresh();
    refreshEditor();
  },
  onFailed: (text) => page.notify({ text }),
});
startIcons();
startPanels();
form.addEventListener('submit', (event) => {
  event.preventDefault();
  const { phase } = page.current();
  if (phase === 'ready' || phase === 'generating') submit();
});
form.addEventListener('keydown', (event) => {
  if (commandOf('page', event) !== 'generate') return;
  // A panel that closes gives the focus back to its button, which Safari would then click by the same key press.
  event.preventDefault();
  form.requestSubmit();
});
form.addEventListener('input', renderForm);
const countTokens = startTokenCounter(() => model.engine().countTokens(readPrompts()));
form.addEventListener('input', countTokens);
element('cancel', HTMLButtonElement).addEventListener('click', () => generations.cancelRunning());
element('restart', HTMLButtonElement).addEventListener('click', () => model.start());
device.addEventListener('change', () => model.start());
folderPicker.addEventListener('change', () => {
  const picked = pickedFolder(folderPicker.files);
  if (picked === undefined || isCheckpoint(picked)) return model.open(picked);
  page.notify({ text: `${t('dropNoCheckpoint', { name: folderName(picked) })} ${t('droppable')}` });
});
const openTypedModel = (): void => {
  const checkpoint = checkpointUrl(modelUrlInput.value, hub, document.baseURI);
  if (checkpoint !== '') model.open({ checkpoint });
};
element('open-model', HTMLButtonElement).addEventListener('click', openTypedModel);
modelUrlInput.addEventListener('keydown', ({ key }) => key === 'Enter' && openTypedModel());
const settings = startSettingsRestorer(page, model, hub, countTokens);
settings.pasteInto(element('prompt', HTMLTextAreaElement));
startDrop({
  onImage: settings.restoreImage,
  onFolder: (dropped) => {
    if (page.current().phase === 'generating') page.notify({ text: t('dropWhileGenerating', { name: folderName(dropped) }) });
    else model.open(dropped);
  },
  onComponent: useClassified,
  onRefused: (text) => page.notify({ text }),
});
element('use-image', HTMLButtonElement).addEventListener('click', () => {
  const image = page.current().notice?.image;
  page.show({ ...page.current(), notice: undefined });
  if (image !== undefined) useInitImage(image);
});
const models = startModelList({
  hub,
  state: page.current,
  source: model.source,
  open: model.open,
  openStored: model.openStored,
  leave: model.leave,
  storage: model.storage,
  onRemark: (text) => page.notify({ text }),
});
startTooltips();
startNotifications((text) => page.notify({ text }));
startPromptHistory((prompt) => {
  setPrompt(prompt, undefined);
  countTokens();
  element('prompt', HTMLTextAreaElement).focus();
});
startPromptLists({
  onPrompts: (text) => {
    setPromptLines(text);
    countTokens();
  },
  onLists: renderForm,
  onRemark: (text) => page.notify({ text }),
});
const explanations = startExplanations({ state: page.current, companion: selectedCompanion, onFailed: failed });
startInputImage({ limits: () => page.current().checkpoint?.limits, onSize: setSize, onFailed: failed });
startImageActions({
  shown: generations.shown,
  limits: () => page.current().checkpoint?.limits,
  generate: (request) => void generations.generate(request).catch(ignore),
  favour: (item) => {
    const id = generations.galleryId(item);
    if (id !== undefined) void images.favour(id, !images.isFavourite(id));
  },
  onFailed: failed,
});

/** `?companion=` is the URL of a companion that encodes prompts. */
startTextSource(query.get('companion'));
startComponents((component, address) => model.setComponent(component, { place: componentUrl(address, hub, document.baseURI) }));
startLoras((address) => model.useLora({ place: componentUrl(address, hub, document.baseURI) }));
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
addEventListener('hashchange', () => void settings.restoreLink());
window.pixart = {
  ready: model.ready,
  generate: generations.generate,
  check: async (url) => model.engine().check(new URL(url, document.baseURI).href),
  storage: model.storage,
  state: page.current,
};
model.start();
if (import.meta.env.PROD && 'serviceWorker' in navigator) registerServiceWorker();

function showComponents(): void {
  renderComponents(model.source().components ?? {}, (component) => model.setComponent(component, undefined));
}

/** Registers the service worker, which makes the page work offline, once a checkpoint is loaded: its download comes first. */
function registerServiceWorker(): void {
  // Without a service worker the page only needs its network.
  model
    .ready()
    .then(() => navigator.serviceWorker.register('./sw.js'))
    .catch(ignore);
}

function useClassified({ component, place }: Classified, name: string): void {
  if (component === 'lora') model.useLora(place).catch(ignore);
  else if (page.current().phase === 'generating') page.notify({ text: t('dropWhileGenerating', { name }) });
  else model.setComponent(component, place);
}

/** Uses a file from a file picker; `expected` where it can be nothing else. */
async function pickFile(file: File, expected: 'lora' | undefined): Promise<void> {
  const { name } = file;
  const classified = await classifiedFile(file).catch(() => undefined);
  if (classified === undefined || (expected !== undefined && classified.component !== expected))
    return page.notify({ text: `${t(expected === undefined ? 'dropWeights' : 'noLora', { name })} ${t('droppable')}` });
  useClassified(classified, name);
}

function submit(): void {
  recordPrompt(element('prompt', HTMLTextAreaElement).value);
  showCanvas();
  generations.submit();
}

function renderPage(state: State, before: State): void {
  const { checkpoint } = model.source();
  render(state, before, checkpoint !== '');
  const item = generations.shown();
  const id = item && generations.galleryId(item);
  renderImageActions(item, id === undefined ? undefined : images.isFavourite(id), state.checkpoint?.limits);
  renderWelcome({
    isVisible: state.image === undefined && state.phase !== 'generating' && state.estimate === undefined,
    isReady: state.phase === 'ready',
    checkpoint,
    companion: selectedCompanion(),
    onExample: ({ prompt, seed }) => {
      setPrompt(prompt, seed);
      countTokens();
      submit();
    },
    onModels: () => openPanel('models'),
  });
  const earlier = images.newest().filter(({ id }) => !generations.isOfVisit(id));
  renderHistory(generations.history(), earlier, state.jobs, state.image, {
    onSelect: ({ image, prompt }) => page.show({ ...page.current(), image, image_prompt: prompt, hides_preview: true }),
    onCancel: ({ id }) => generations.cancel(id),
    onOpen: images.open,
  });
  const { stored, loading, phase, adapter } = state;
  if (stored !== before.stored || loading !== before.loading || phase !== before.phase || adapter !== before.adapter) models.refresh();
}
