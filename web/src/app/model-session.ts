//! The open model: its source with components and LoRAs, the engine that runs it, and the consent before a download.
import { checkpointUrl, componentUrl } from '../checkpoints/address';
import { COMPONENTS, type Component } from '../checkpoints/place';
import { withoutSignature } from '../checkpoints/source';
import { type ResilientEngine, startEngine } from '../engine/engine';
import { faultOf, ignore } from '../engine/fault';
import type {
  Checkpoint,
  DeviceKind,
  EngineEvent,
  StorageBackend,
  StorageTask,
  StoredCheckpoint,
  WeightDtype,
} from '../engine/protocol.gen';
import { placesOf } from './components';
import { element } from './dom';
import { applyCheckpoint } from './form';
import { addLora, clearLoras, removeLora, type SelectedLoras, selectedLoras } from './lora-list';
import type { ModelPlace } from './model-place';
import type { PageState } from './page-state';
import { OPENING, reduce, withFault } from './state';
import { type ModelSource, sourceOfStored, withIdentity } from './stored-models';
import { encodesInTab } from './text-source';

export interface ModelSessionContext {
  page: PageState;
  /** The model hub for `owner/name`. */
  hub: string;
  device: HTMLSelectElement;
  /** Receives every event of the engine, before the page's state does. */
  onEvent(event: EngineEvent): void;
  /** The components of the model have changed. */
  onComponents(): void;
  /** A model is going to be opened in place of another one. */
  onOpen(): void;
  /** A model is loaded, and its presets are in the form. */
  onLoaded(): Promise<void>;
}

export interface ModelSession {
  /** Returns the model that is open or being opened. */
  source(): ModelSource;
  /** Returns what tells the open model from others, in a journal. */
  key(): string;
  /** Resolves once the checkpoint is loaded. */
  ready(): Promise<Checkpoint>;
  /** Returns the running engine; throws a `Fault` without one. */
  engine(): ResilientEngine;
  /** Starts the engine, or restarts it. */
  start(): void;
  /** Opens a model; one that is confirmed is downloaded without a question. */
  open(source: ModelSource | undefined, isConfirmed?: boolean): void;
  /** Opens what is stored: a model, a text encoder for the open model, or a LoRA. */
  openStored(entry: StoredCheckpoint): void;
  /** Returns to the model that was open before the one that is being downloaded. */
  leave(): void;
  /** Replaces a component of the open model; without a place it is the model's own again. */
  setComponent(component: Component, place: ModelPlace | undefined): void;
  /** Adds a LoRA and merges it at once, so that one that does not fit is refused now. */
  useLora(place: ModelPlace): Promise<void>;
  /** Lets the engine merge these LoRAs, unless it has merged them. */
  mergeLoras(selected: SelectedLoras): Promise<void>;
  storage(task: StorageTask): Promise<StoredCheckpoint[]>;
}

/** `?ask=` is the size in megabytes above which a download needs the user's confirmation. */
const CONFIRM_MEGABYTES = 100;

/** Prepares a session with the model that the address names, and starts nothing. */
export function createModelSession(query: URLSearchParams, context: ModelSessionContext): ModelSession {
  const { page, hub, device } = context;
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
  /** `?storage=`, formerly `?store=`, selects the browser storage for checkpoints. */
  const backend = (query.get('storage') ?? query.get('store') ?? 'auto') as StorageBackend;
  const measure_above_bytes = Number(query.get('ask') ?? CONFIRM_MEGABYTES) * 1e6;

  /** The last source that was loaded, to return to when a download is declined. */
  let loadedSource: ModelSource = { checkpoint: '' };
  let running: ResilientEngine | undefined;
  let ready: Promise<Checkpoint>;
  /** The download of the model was confirmed before it was paused. */
  let isConfirmed = false;
  /** Starts of the engine: of two at once the later one counts. */
  let starts = 0;
  /** Key of the LoRAs of the last request to merge them. */
  let merged = '';

  const engine = (): ResilientEngine => {
    if (running === undefined) throw page.current().fault ?? faultOf('the engine is not running');
    return running;
  };

  const start = (): void => {
    running?.close();
    context.onComponents();
    const { image, image_prompt, prompt, jobs, stored, notice } = page.current();
    page.show({ ...OPENING, image, image_prompt, prompt, jobs, stored, notice });
    ready = load();
    // The engine reports the fault as an event, too.
    ready.catch(ignore);
  };

  const load = async (): Promise<Checkpoint> => {
    // The browser decides whether storage persists; the page works either way.
    navigator.storage?.persist?.().catch(ignore);
    starts += 1;
    const started = starts;
    if (source.files !== undefined) {
      const identified = await withIdentity(source).catch((thrown: unknown) => {
        const reason = faultOf(thrown);
        if (started === starts) page.show(withFault(page.current(), reason));
        throw reason;
      });
      // The user has opened another one meanwhile.
      if (started !== starts) return ready;
      source = identified;
    }
    const { checkpoint: name, files } = source;
    const { components, local } = placesOf(source.components ?? {});
    const selected = selectedLoras();
    running = startEngine({
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
        context.onEvent(event);
        page.show(reduce(page.current(), event, performance.now()));
      },
    });
    merged = lorasKey(selected);
    const checkpoint = await running.ready;
    loadedSource = source;
    // A checkpoint's files do not tell that it was distilled to one step.
    const preset = checkpoint.presets.find(({ name }) => name === source.preset) ?? checkpoint.preset;
    applyCheckpoint({ ...checkpoint, preset });
    await context.onLoaded();
    return checkpoint;
  };

  /** Returns whether the user confirms the download, whose estimate is shown. If not, the previous model is opened again. */
  const confirmDownload = (): Promise<boolean> =>
    new Promise((resolve) => {
      const answer = (isAccepted: boolean): void => {
        page.show({ ...page.current(), estimate: undefined });
        resolve(isAccepted);
        if (!isAccepted) open(loadedSource);
      };
      element('accept-download', HTMLButtonElement).onclick = () => answer(true);
      element('decline-download', HTMLButtonElement).onclick = () => answer(false);
    });

  /** A text encoder from another place serves every model; other components and LoRAs are those of one. */
  const open = (selected: ModelSource | undefined, confirmed = false): void => {
    if (selected === undefined) return;
    isConfirmed = confirmed;
    context.onOpen();
    const { text_encoder, tokenizer } = source.components ?? {};
    const shared = { ...(text_encoder && { text_encoder }), ...(tokenizer && { tokenizer }) };
    if (selected.checkpoint !== source.checkpoint) clearLoras();
    source = { ...selected, components: { ...shared, ...selected.components } };
    start();
  };

  const setComponent = (component: Component, place: ModelPlace | undefined): void => {
    const { [component]: _, ...others } = source.components ?? {};
    source = { ...source, components: place === undefined ? others : { ...others, [component]: place } };
    if (source.checkpoint === '') context.onComponents();
    else start();
  };

  const mergeLoras = async (selected: SelectedLoras): Promise<void> => {
    const key = lorasKey(selected);
    if (key === merged) return;
    await engine().setLoras(selected.loras, selected.local);
    merged = key;
  };

  const useLora = async (place: ModelPlace): Promise<void> => {
    addLora(place);
    if (page.current().phase === 'opening' || source.checkpoint === '') return;
    // The engine reports the fault as an event.
    await mergeLoras(selectedLoras()).catch(() => removeLora(place.place));
  };

  return {
    source: () => source,
    key() {
      const { components } = placesOf(source.components ?? {});
      const places = Object.keys(components).length === 0 ? '' : ` ${JSON.stringify(components)}`;
      return withoutSignature(source.checkpoint) + places;
    },
    ready: () => ready,
    engine,
    start,
    open,
    openStored(entry) {
      const { kind, checkpoint, composition } = entry;
      if (kind === 'lora') useLora({ place: checkpoint }).catch(ignore);
      else if (kind === 'text_encoder') setComponent('text_encoder', { place: composition?.components.text_encoder ?? checkpoint });
      else open(sourceOfStored(entry));
    },
    leave: () => open(loadedSource),
    setComponent,
    useLora,
    mergeLoras,
    storage: async (task) => engine().storage(task),
  };
}

function lorasKey({ loras }: SelectedLoras): string {
  return JSON.stringify(loras.filter(({ scale }) => scale !== 0));
}
