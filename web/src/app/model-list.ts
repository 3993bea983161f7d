//! Connects the list of models, which is downloaded when its panel is first opened, with the engine: pausing and resuming downloads, verifying
//! and deleting, and the rate of the device.
import { ignore } from '../engine/fault';
import type { EngineEvent, StorageTask, StoredCheckpoint } from '../engine/protocol.gen';
import { rateOf, recordRate } from './device-rate';
import { element } from './dom';
import { t } from './i18n';
import { loadPart, remarkOf } from './load-part';
import type { PausedDownload } from './models/model-cards';
import { isOpen, onPanelToggle } from './panels';
import type { State } from './state';
import { isSameModel, type ModelSource, renderStorageUsage } from './stored-models';

/** The localStorage key of the download that was paused. */
const PAUSED_KEY = 'paused download';

export interface ModelListContext {
  hub: string;
  state(): State;
  /** Returns the model that is open or being opened. */
  source(): ModelSource;
  /** Opens a model; one that is confirmed is downloaded without another question. */
  open(source: ModelSource, isConfirmed: boolean): void;
  openStored(entry: StoredCheckpoint): void;
  /** Ends the download that is running, and returns to the model before it. */
  leave(): void;
  storage(task: StorageTask): Promise<readonly StoredCheckpoint[]>;
  onRemark(text: string): void;
}

export interface ModelList {
  /** Renders the list again, if it is open. */
  refresh(): void;
  /** Reads again what is stored, if the list is open. */
  reload(): void;
  /** Keeps the rate that an event tells. */
  record(event: EngineEvent): void;
}

/** Starts the list of models. */
export function startModelList(context: ModelListContext): ModelList {
  let cards: typeof import('./models/model-cards') | undefined;
  let paused = storedPause();
  const storageUsage = element('storage-usage', HTMLElement);

  const setPaused = (changed: PausedDownload | undefined): void => {
    paused = changed;
    storePause(changed);
  };
  const pause = (): void => {
    const { loading } = context.state();
    const { loaded_bytes = 0, total_bytes = null } = loading ?? {};
    // Local files have no download, and are gone with the tab.
    const { checkpoint, components = {}, preset, work } = context.source();
    const places = Object.fromEntries(Object.entries(components).map(([component, { place }]) => [component, { place }]));
    const source: ModelSource = { checkpoint, components: places, ...(preset && { preset }), ...(work && { work }) };
    setPaused({ source, loaded_bytes, total_bytes });
    context.leave();
  };
  const run = async (task: StorageTask): Promise<void> => {
    // The engine reports a fault as an event.
    const stored = await context.storage(task).catch(() => undefined);
    const entry = task.kind === 'verify' ? stored?.find(({ checkpoint }) => checkpoint === task.checkpoint) : undefined;
    if (entry === undefined) return;
    const { checkpoint: name, missing: count } = entry;
    context.onRemark(count === 0 ? t('verifiedIntact', { name }) : t('verifiedDamaged', { name, count }));
  };
  const refresh = (): void => {
    const { phase, stored, prompt_cache, loading, adapter } = context.state();
    const source = context.source();
    if (paused !== undefined && phase === 'ready' && isSameModel(paused.source, source)) setPaused(undefined);
    if (!isOpen('models')) return;
    cards?.renderModels(
      { stored, prompt_cache, source, loading: phase === 'opening' ? loading : undefined, paused, rate: rateOf(adapter) },
      {
        hub: context.hub,
        onOpen: (opened) => context.open(opened, false),
        onOpenStored: context.openStored,
        onPause: pause,
        onResume: (download) => context.open(download.source, true),
        onDiscard: (download, entry) => {
          setPaused(undefined);
          void run({ kind: 'delete', checkpoint: entry?.checkpoint ?? download.source.checkpoint });
          refresh();
        },
        onTask: run,
      },
    );
    // A browser that does not report its storage shows none.
    renderStorageUsage(storageUsage).catch(ignore);
  };
  const reload = (): void => {
    if (!isOpen('models')) return;
    context.storage({ kind: 'list' }).catch(ignore);
    loadPart('list of models', () => import('./models/model-cards')).then(
      (loaded) => {
        cards = loaded;
        refresh();
      },
      (thrown: unknown) => context.onRemark(remarkOf(thrown)),
    );
  };
  onPanelToggle('models', reload);
  return {
    refresh,
    reload,
    record: (event) => {
      const { adapter, checkpoint } = context.state();
      const { work, preset } = context.source();
      const steps = (checkpoint?.presets.find(({ name }) => name === preset) ?? checkpoint?.preset)?.num_inference_steps;
      recordRate(event, adapter, work, steps);
    },
  };
}

function storedPause(): PausedDownload | undefined {
  try {
    const stored = JSON.parse(localStorage.getItem(PAUSED_KEY) ?? 'null') as Partial<PausedDownload> | null;
    const { source, loaded_bytes, total_bytes = null } = stored ?? {};
    if (typeof source?.checkpoint !== 'string' || typeof loaded_bytes !== 'number') return undefined;
    return { source, loaded_bytes, total_bytes: typeof total_bytes === 'number' ? total_bytes : null };
  } catch {
    // There is no storage, or another page has written there.
    return undefined;
  }
}

function storePause(paused: PausedDownload | undefined): void {
  try {
    if (paused === undefined) localStorage.removeItem(PAUSED_KEY);
    else localStorage.setItem(PAUSED_KEY, JSON.stringify(paused));
  } catch {
    // Without storage the pause lasts until the window is closed.
  }
}
