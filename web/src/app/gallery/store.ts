//! The gallery's state and what changes it. Components render the state and call these actions.
import { ignore } from '../../engine/fault';
import type { Gallery } from '../../gallery/database';
import { describeImage } from '../../gallery/describe';
import { imageFormat } from '../../gallery/image-file';
import type { GalleryEntry, NewImage } from '../../gallery/schema';
import { t } from '../i18n';
import { CLOSED, type GalleryFilter, type GalleryState, type GalleryToast, withEntries, withoutFilter, withSelected } from './state';
import { completeEntry, startThumbnails, type Thumbnails } from './thumbnails';

/** The time in which a deletion can be undone, and that in which any other message is read. */
const UNDO_MILLIS = 10_000;
const MESSAGE_MILLIS = 6000;
/** Images of earlier versions that are read before the list is shown again. */
const COMPLETED_AT_ONCE = 8;
/** The largest file that is imported. */
const IMPORT_BYTES_MAX = 1 << 28;

export interface GalleryStore {
  readonly gallery: Gallery;
  readonly thumbnails: Thumbnails;
  state(): GalleryState;
  /** Changes what is shown, and nothing that is stored. */
  set(change: Partial<GalleryState>): void;
  /** Reads the entries: the gallery is visible. */
  load(): void;
  filter(change: Partial<GalleryFilter>): void;
  clearFilter(): void;
  select(id: number, how: 'toggle' | 'range'): void;
  /** Ends the selection. */
  deselect(): void;
  /** Moves the lightbox, and the focus under it, by `step` images. */
  move(step: number): void;
  compareWith(id: number): void;
  toast(text: string, deleted?: readonly number[]): void;
  /** Sets whether images are favourites. */
  favour(ids: readonly number[], favourite: boolean): void;
  remove(ids: readonly number[]): void;
  undo(): void;
  /** Keeps the toast while the pointer or the focus is on it. */
  holdToast(held: boolean): void;
  importFiles(files: readonly File[]): Promise<void>;
  /** Lists images that were just stored. */
  insert(added: readonly GalleryEntry[]): void;
}

export interface GalleryStoreHandlers {
  /** A change of the gallery has thrown. */
  onFailed(thrown: unknown): void;
  /** Images have become favourites, or no longer are. */
  onFavour(ids: readonly number[], favourite: boolean): void;
}

/** Calls `onChange` after every change. */
export function createGalleryStore(gallery: Gallery, onChange: () => void, { onFailed, onFavour }: GalleryStoreHandlers): GalleryStore {
  let state = CLOSED;
  let expiry: ReturnType<typeof setTimeout> | undefined;
  let completing = false;

  const show = (changed: GalleryState): void => {
    state = changed;
    onChange();
  };
  const set = (change: Partial<GalleryState>): void => show({ ...state, ...change });
  /** Replaces entries that have changed. */
  const replace = (changed: readonly GalleryEntry[]): void => {
    const byId = new Map(changed.map((entry) => [entry.id, entry]));
    show(withEntries(state, state.entries?.map((entry) => byId.get(entry.id) ?? entry) ?? []));
  };
  const insert = (added: readonly GalleryEntry[]): void => {
    if (state.entries === undefined) return;
    const ids = new Set(added.map(({ id }) => id));
    const entries = [...added, ...state.entries.filter(({ id }) => !ids.has(id))];
    show(
      withEntries(
        state,
        entries.sort((left, right) => right.created_at_millis - left.created_at_millis || right.id - left.id),
      ),
    );
  };
  const attempt = (work: () => Promise<void>): void => void work().catch(onFailed);
  const thumbnails = startThumbnails(gallery, onChange, (entry) => replace([entry]), onFailed);

  /** Reads sizes and models of images of earlier versions, so that filters know them. */
  const complete = async (): Promise<void> => {
    if (completing) return;
    completing = true;
    try {
      for (;;) {
        const missing = (state.entries ?? []).filter(({ width }) => width === undefined).slice(0, COMPLETED_AT_ONCE);
        if (missing.length === 0) return;
        const described: GalleryEntry[] = [];
        for (const entry of missing) {
          const read = await completeEntry(gallery, entry);
          // Another tab has deleted it.
          described.push(read.described ?? { ...entry, width: 0, height: 0, model: '' });
        }
        replace(described);
      }
    } finally {
      completing = false;
    }
  };
  const measure = (): void => {
    navigator.storage?.estimate?.().then(({ usage = 0, quota = 0 }) => {
      if (quota > 0) set({ usage: { used_bytes: usage, quota_bytes: quota } });
    }, ignore);
  };
  const purge = (toast: GalleryToast | undefined): void => {
    if (toast === undefined || toast.deleted.length === 0) return;
    for (const id of toast.deleted) thumbnails.drop(id);
    attempt(() => gallery.purge(toast.deleted).then(measure));
  };
  const expire = (): void => {
    clearTimeout(expiry);
    expiry = setTimeout(
      () => {
        purge(state.toast);
        set({ toast: undefined });
      },
      (state.toast?.deleted.length ?? 0) > 0 ? UNDO_MILLIS : MESSAGE_MILLIS,
    );
  };

  return {
    gallery,
    thumbnails,
    state: () => state,
    set,
    load: () =>
      attempt(async () => {
        const entries = await gallery.entries();
        // The filter may have changed meanwhile.
        show(withEntries(state, entries));
        measure();
        await complete();
      }),
    filter(change) {
      const filter = { ...state.filter, ...change };
      if (state.entries === undefined) set({ filter });
      else show(withEntries(state, state.entries, filter));
    },
    clearFilter: () => show(withoutFilter(state)),
    select: (id, how) => show(withSelected(state, id, how)),
    deselect: () => set({ selecting: false, selected: new Set(), anchor: undefined, comparing: undefined }),
    move(step) {
      const at = state.shown.findIndex(({ id }) => id === state.opened);
      const next = state.shown[Math.min(Math.max(at + step, 0), state.shown.length - 1)];
      if (next !== undefined) set({ opened: next.id, active: next.id });
    },
    compareWith(id) {
      if (state.comparing === undefined || state.comparing === id) set({ comparing: state.comparing === id ? undefined : id });
      else set({ compared: [state.comparing, id], comparing: undefined });
    },
    toast(text, deleted = []) {
      purge(state.toast);
      set({ toast: { text, deleted } });
      expire();
    },
    favour: (ids, favourite) =>
      attempt(async () => {
        replace(await gallery.update(ids, (entry) => ({ ...entry, favourite })));
        onFavour(ids, favourite);
      }),
    remove(ids) {
      attempt(async () => {
        await gallery.delete(ids);
        const gone = new Set(ids);
        const at = state.shown.findIndex(({ id }) => gone.has(id));
        const left = withEntries(state, state.entries?.filter(({ id }) => !gone.has(id)) ?? []);
        const next = (left.shown[at] ?? left.shown.at(-1))?.id;
        const opened = state.opened !== undefined && gone.has(state.opened) ? next : state.opened;
        purge(state.toast);
        show({ ...left, opened, active: next, toast: { text: t('deletedCount', { count: ids.length }), deleted: ids } });
        expire();
      });
    },
    undo() {
      const deleted = state.toast?.deleted ?? [];
      clearTimeout(expiry);
      set({ toast: undefined });
      attempt(async () => {
        const restored = await gallery.restore(deleted);
        insert(restored);
        const id = restored[0]?.id;
        set({ active: id, opened: state.opened === undefined ? undefined : id });
      });
    },
    holdToast(held) {
      clearTimeout(expiry);
      if (!held && state.toast !== undefined) expire();
    },
    async importFiles(files) {
      const refused: string[] = [];
      const added: GalleryEntry[] = [];
      for (const file of files) {
        const image = await importedImage(file);
        if (image === undefined) refused.push(file.name);
        else added.push(await gallery.add(image));
      }
      insert(added);
      measure();
      const sentences = [
        ...(added.length > 0 ? [t('imported', { count: added.length })] : []),
        ...(refused.length > 0 ? [t('notImported', { names: refused.join(', ') })] : []),
      ];
      if (sentences.length > 0) this.toast(sentences.join(' '));
    },
    insert(added) {
      insert(added);
      measure();
    },
  };
}

/** Returns a file as an image of the gallery; `undefined` for one that is no PNG. */
async function importedImage(file: File): Promise<NewImage | undefined> {
  if (file.size > IMPORT_BYTES_MAX) return undefined;
  const start = new Uint8Array(
    await file
      .slice(0, 16)
      .arrayBuffer()
      .catch(() => new ArrayBuffer(0)),
  );
  if (imageFormat(start) !== 'png') return undefined;
  const { description, metadata } = await describeImage(file);
  // A browser without an OffscreenCanvas makes no thumbnails.
  const isDecoded = description.thumbnail !== undefined || !('OffscreenCanvas' in globalThis);
  if (description.width === 0 || !isDecoded) return undefined;
  const { prompt = file.name, seed = 0 } = metadata?.request ?? {};
  return { ...description, prompt, seed, favourite: false, created_at_millis: file.lastModified, png: file };
}
