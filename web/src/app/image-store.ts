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
import { isOpen, onPanelToggle, openPanel } from './panels';

const tab = tabId();

/** An image of the gallery, with the address of its thumbnail. */
export interface StoredThumbnail {
  id: number;
  prompt: string;
  url: string;
}

/** Images of the gallery that the strip shows. */
const NEWEST_MAX = 24;
/** The longest time that the strip waits for the page to be idle. */
const IDLE_MILLIS = 2_000;

export interface ImageStore {
  /** Returns the newest images of the gallery: none until the page was idle. */
  newest(): readonly StoredThumbnail[];
  /** Shows an image of the gallery. */
  open(id: number): void;
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
  /** Images have become favourites, or no longer are; or the newest of the gallery are others. */
  onChange(): void;
}

/** Opens the gallery, and shows it once its panel is open. */
export function startImageStore({ onReuse, onRemark, onChange }: ImageStoreHandlers): ImageStore {
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
    onChange();
  };
  const openView = async (): Promise<GalleryView | undefined> => {
    const [database, { startGalleryView }] = await Promise.all([gallery, loadPart('gallery', () => import('./gallery/gallery'))]);
    const onFailed = (thrown: unknown): void => onRemark(t('galleryUnchanged', { why: reasonOf(thrown) }));
    return database && startGalleryView(database, { onReuse, onFailed, onFavour: setFavourites, onClosed: readNewest });
  };
  const openedView = (): Promise<GalleryView | undefined> => {
    view ??= openView().catch((thrown: unknown) => {
      view = undefined;
      onRemark(remarkOf(thrown));
      return undefined;
    });
    return view;
  };
  onPanelToggle('gallery', () => void (isOpen('gallery') && openedView()));
  let newest: readonly StoredThumbnail[] = [];
  const readNewest = (): void => {
    // A gallery that cannot be read has no images in the strip; opening it reports why.
    gallery
      .then((database) => database && thumbnailsOf(database))
      .then((read = []) => {
        for (const { url } of newest) URL.revokeObjectURL(url);
        newest = read;
        onChange();
      }, ignore);
  };
  whenIdle(readNewest);
  return {
    newest: () => newest,
    open(id) {
      openPanel('gallery');
      openedView().then((opened) => opened?.open(id), ignore);
    },
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

/** Returns the newest images that have a thumbnail. */
async function thumbnailsOf(database: Gallery): Promise<StoredThumbnail[]> {
  const entries = await database.newest(NEWEST_MAX);
  const thumbnails = await database.thumbnails(entries.map(({ id }) => id));
  return entries.flatMap(({ id, prompt }) => {
    const thumbnail = thumbnails.get(id);
    return thumbnail === undefined ? [] : [{ id, prompt, url: URL.createObjectURL(thumbnail) }];
  });
}

/** Runs `work` after the first paint, once nothing else is to be done. */
function whenIdle(work: () => void): void {
  const start = (): void => {
    // Safari has no such callback.
    if ('requestIdleCallback' in globalThis) requestIdleCallback(work, { timeout: IDLE_MILLIS });
    else setTimeout(work, IDLE_MILLIS);
  };
  if (document.readyState === 'complete') start();
  else addEventListener('load', start, { once: true });
}

/** Returns why the gallery threw, in words. */
function reasonOf(thrown: unknown): string {
  if (isFault(thrown)) return thrown.what;
  const keys = { full: 'galleryFull', newer: 'galleryNewer', closed: 'galleryClosed', blocked: 'galleryBlocked' } as const;
  const refusal = refusalOf(thrown);
  return refusal === undefined ? messageOf(thrown) : t(keys[refusal]);
}
