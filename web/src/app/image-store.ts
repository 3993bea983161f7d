//! The gallery and the journal of unfinished generations, as the page uses them. A browser that stores nothing, or no more, costs neither an
//! image nor a generation: what fails is described in a remark.
import { ignore, messageOf } from '../engine/fault';
import type { ImageResult } from '../engine/protocol.gen';
import { Gallery, type Journal, refusalOf, tabId } from '../gallery/database';
import { pngBlob } from '../gallery/files';
import type { Unfinished } from '../gallery/schema';
import { startGalleryView } from './gallery/gallery';
import { t } from './i18n';

const tab = tabId();

export interface ImageStore {
  /** Stores an image in the gallery. One that is refused stays on the page. */
  add(prompt: string, image: ImageResult): Promise<void>;
  /** Starts the journal of a generation; resolves with `undefined` in a window without storage. */
  journal(unfinished: Omit<Unfinished, 'tab' | 'started_at_millis'>): Promise<Journal | undefined>;
  /** Returns this tab's unfinished generation. */
  unfinished(): Promise<Unfinished | undefined>;
  /** Removes this tab's unfinished generation. */
  discard(): void;
  /** Renders the gallery in another language. */
  refresh(): void;
}

/** Opens the gallery, and shows it. Calls `onReuse` with the file whose settings the user wants again, and `onRemark` with what fails. */
export function startImageStore(onReuse: (image: File) => void, onRemark: (text: string) => void): ImageStore {
  /** Why the gallery could not be opened. Images are then only shown. */
  let refusal: unknown;
  const gallery = Gallery.open().then(
    (database) => ({
      database,
      view: startGalleryView(database, {
        onReuse,
        onFailed: (thrown) => onRemark(t('galleryUnchanged', { why: reasonOf(thrown) })),
      }),
    }),
    (thrown: unknown) => {
      refusal = thrown;
      return undefined;
    },
  );
  return {
    async add(prompt, { seed, png }) {
      try {
        const opened = await gallery;
        if (opened === undefined) throw refusal;
        await opened.view.add({ prompt, seed, favourite: false, created_at_millis: Date.now(), png: pngBlob(png) });
      } catch (thrown) {
        onRemark(t('notStored', { why: reasonOf(thrown) }));
      }
    },
    async journal(unfinished) {
      return (await gallery)?.database.journal({ ...unfinished, tab, started_at_millis: Date.now() });
    },
    async unfinished() {
      return (await gallery)?.database.unfinished(tab);
    },
    discard() {
      // It expires by itself.
      gallery.then((opened) => opened?.database.discard(tab)).catch(ignore);
    },
    refresh() {
      gallery.then((opened) => opened?.view.refresh()).catch(ignore);
    },
  };
}

/** Returns why the gallery threw, in words. */
function reasonOf(thrown: unknown): string {
  const keys = { full: 'galleryFull', newer: 'galleryNewer', closed: 'galleryClosed', blocked: 'galleryBlocked' } as const;
  const refusal = refusalOf(thrown);
  return refusal === undefined ? messageOf(thrown) : t(keys[refusal]);
}
