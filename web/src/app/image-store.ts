//! The gallery and the journal of unfinished generations, as the page uses them. A browser that stores nothing, or no more, costs neither an
//! image nor a generation: what fails is described in a remark.
import { ignore, isFault, messageOf } from '../engine/fault';
import type { ImageResult } from '../engine/protocol.gen';
import { Gallery, type Journal, refusalOf, tabId } from '../gallery/database';
import { pngBlob } from '../gallery/files';
import type { Unfinished } from '../gallery/schema';
import type { GalleryView } from './gallery/gallery';
import { t } from './i18n';
import { loadPart, remarkOf } from './load-part';
import { isOpen, onPanelToggle } from './panels';

const tab = tabId();

export interface ImageStore {
  /** Stores an image in the gallery, and returns its id there. One that is refused stays on the page. */
  add(prompt: string, image: ImageResult): Promise<number | undefined>;
  isFavourite(id: number): boolean;
  /** Marks an image of the gallery as favourite, or no longer. */
  favour(id: number, favourite: boolean): Promise<void>;
  /** Starts the journal of a generation; resolves with `undefined` in a window without storage. */
  journal(unfinished: Omit<Unfinished, 'tab' | 'started_at_millis'>): Promise<Journal | undefined>;
  /** Returns this tab's unfinished generation. */
  unfinished(): Promise<Unfinished | undefined>;
  /** Removes this tab's unfinished generation. */
  discard(): void;
  /** Renders the gallery in another language. */
  refresh(): void;
}

export interface ImageStoreHandlers {
  /** The user wants the settings of this file again. */
  onReuse(image: File): void;
  /** Something has failed. */
  onRemark(text: string): void;
  /** Images have become favourites, or no longer are. */
  onFavour(): void;
}

/** Opens the gallery, and shows it once its panel is open. */
export function startImageStore({ onReuse, onRemark, onFavour }: ImageStoreHandlers): ImageStore {
  /** Why the gallery could not be opened. Images are then only shown. */
  let refusal: unknown;
  const gallery = Gallery.open().catch((thrown: unknown) => {
    refusal = thrown;
    return undefined;
  });
  /** Its panel, which is downloaded when it is first opened. */
  let view: Promise<GalleryView | undefined> | undefined;
  /** The favourites among the images of this visit. */
  const favourites = new Set<number>();
  const setFavourites = (ids: readonly number[], favourite: boolean): void => {
    for (const id of ids) {
      if (favourite) favourites.add(id);
      else favourites.delete(id);
    }
    onFavour();
  };
  const openView = async (): Promise<GalleryView | undefined> => {
    const [database, { startGalleryView }] = await Promise.all([gallery, loadPart('gallery', () => import('./gallery/gallery'))]);
    const onFailed = (thrown: unknown): void => onRemark(t('galleryUnchanged', { why: reasonOf(thrown) }));
    return database && startGalleryView(database, { onReuse, onFailed, onFavour: setFavourites });
  };
  onPanelToggle('gallery', () => {
    if (view !== undefined || !isOpen('gallery')) return;
    view = openView().catch((thrown: unknown) => {
      view = undefined;
      onRemark(remarkOf(thrown));
      return undefined;
    });
  });
  return {
    async add(prompt, { seed, png }) {
      try {
        const database = await gallery;
        if (database === undefined) throw refusal;
        const blob = pngBlob(png);
        const { describeImage } = await loadPart('gallery', () => import('../gallery/describe'));
        const { description } = await describeImage(blob);
        const entry = await database.add({ ...description, prompt, seed, favourite: false, created_at_millis: Date.now(), png: blob });
        (await view)?.insert([entry]);
        return entry.id;
      } catch (thrown) {
        onRemark(t('notStored', { why: reasonOf(thrown) }));
        return undefined;
      }
    },
    isFavourite: (id) => favourites.has(id),
    async favour(id, favourite) {
      try {
        const opened = await view;
        if (opened !== undefined) return opened.favour([id], favourite);
        await (await gallery)?.update([id], (entry) => ({ ...entry, favourite }));
        setFavourites([id], favourite);
      } catch (thrown) {
        onRemark(t('galleryUnchanged', { why: reasonOf(thrown) }));
      }
    },
    async journal(unfinished) {
      return (await gallery)?.journal({ ...unfinished, tab, started_at_millis: Date.now() });
    },
    async unfinished() {
      return (await gallery)?.unfinished(tab);
    },
    discard() {
      // It expires by itself.
      gallery.then((database) => database?.discard(tab)).catch(ignore);
    },
    refresh() {
      view?.then((opened) => opened?.refresh()).catch(ignore);
    },
  };
}

/** Returns why the gallery threw, in words. */
function reasonOf(thrown: unknown): string {
  if (isFault(thrown)) return thrown.what;
  const keys = { full: 'galleryFull', newer: 'galleryNewer', closed: 'galleryClosed', blocked: 'galleryBlocked' } as const;
  const refusal = refusalOf(thrown);
  return refusal === undefined ? messageOf(thrown) : t(keys[refusal]);
}
