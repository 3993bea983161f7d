//! Object URLs of thumbnails. Those that are on the screen are read in one transaction a frame; those that have been off it for longest are
//! revoked, so that memory does not grow with the gallery.
import type { Gallery } from '../../gallery/database';
import { describeImage } from '../../gallery/describe';
import type { GalleryEntry } from '../../gallery/schema';

/** Thumbnails that stay decoded beside those on the screen. */
const CACHED_MAX = 300;

export interface Thumbnails {
  /** Returns the URL, or `undefined` while it is being read: then `onChange` follows. */
  urlOf(entry: GalleryEntry): string | undefined;
  /** Revokes the URL of a deleted image. */
  drop(id: number): void;
}

export function startThumbnails(
  gallery: Gallery,
  onChange: () => void,
  onDescribed: (entry: GalleryEntry) => void,
  onFailed: (thrown: unknown) => void,
): Thumbnails {
  /** By use: the first was used least recently. */
  const urls = new Map<number, string>();
  const wanted = new Map<number, GalleryEntry>();
  const reading = new Set<number>();
  let scheduled = false;

  const set = (id: number, blob: Blob): void => {
    URL.revokeObjectURL(urls.get(id) ?? '');
    urls.set(id, URL.createObjectURL(blob));
    for (const [oldest, url] of urls) {
      if (urls.size <= CACHED_MAX) break;
      URL.revokeObjectURL(url);
      urls.delete(oldest);
    }
  };
  const read = async (): Promise<void> => {
    scheduled = false;
    const entries = [...wanted.values()];
    wanted.clear();
    for (const { id } of entries) reading.add(id);
    try {
      const found = await gallery.thumbnails(entries.map(({ id }) => id));
      for (const [id, blob] of found) set(id, blob);
      onChange();
      // Images of earlier versions, one by one: each is decoded.
      for (const entry of entries) {
        if (found.has(entry.id)) continue;
        const { image, described } = await completeEntry(gallery, entry);
        if (image !== undefined) set(entry.id, image);
        if (described !== undefined) onDescribed(described);
        onChange();
      }
    } finally {
      for (const { id } of entries) reading.delete(id);
    }
  };
  return {
    urlOf(entry) {
      const url = urls.get(entry.id);
      if (url !== undefined) {
        urls.delete(entry.id);
        urls.set(entry.id, url);
        return url;
      }
      if (!reading.has(entry.id)) wanted.set(entry.id, entry);
      if (!scheduled && wanted.size > 0) {
        scheduled = true;
        requestAnimationFrame(() => read().catch(onFailed));
      }
      return undefined;
    },
    drop(id) {
      URL.revokeObjectURL(urls.get(id) ?? '');
      urls.delete(id);
    },
  };
}

/** Reads an image that was stored without size, model and thumbnail, and stores those. Returns what to show of it: the file itself where
    no thumbnail can be made. */
export async function completeEntry(
  gallery: Gallery,
  entry: GalleryEntry,
): Promise<{ image: Blob | undefined; described: GalleryEntry | undefined }> {
  const png = await gallery.image(entry.id);
  if (png === undefined) return { image: undefined, described: undefined };
  if (entry.width !== undefined) return { image: png, described: undefined };
  const { thumbnail, ...fields } = (await describeImage(png)).description;
  if (thumbnail !== undefined) await gallery.setThumbnail(entry.id, thumbnail);
  const [described] = await gallery.update([entry.id], (stored) => ({ ...stored, ...fields }));
  return { image: thumbnail === undefined ? png : new Blob([thumbnail]), described };
}
