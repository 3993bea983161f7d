//! The schema of the gallery's IndexedDB database. A grid of many images reads `entries` at once, `thumbnails` of what is on the screen,
//! and `images` one by one.
import type { DBSchema } from 'idb';
import type { ImageRequest } from '../engine/client';

/** An image as the gallery lists it. */
export interface GalleryEntry {
  id: number;
  prompt: string;
  seed: number;
  favourite: boolean;
  /** Unix time. */
  created_at_millis: number;
  /** In pixels. `undefined` until the file has been read, 0 where it is no image. */
  width?: number;
  height?: number;
  /** The model's name; empty where the file names none. */
  model?: string;
  /** Unix time of a deletion that can be undone. */
  deleted_at_millis?: number;
}

/** A generated or imported image, before the database assigns its key. */
export type NewImage = Omit<GalleryEntry, 'id' | 'deleted_at_millis'> & {
  /** The file, with its request in the metadata. */
  png: Blob;
  /** A small WebP or JPEG file of it. */
  thumbnail?: Uint8Array<ArrayBuffer> | undefined;
};

/** A generation that was running when its tab was closed or reloaded. */
export interface Unfinished {
  /** The tab's id, which survives a reload. */
  tab: string;
  checkpoint: string;
  request: ImageRequest;
  /** The checkpoint's `weightsHash`: at the same address there may be another one later. */
  model_hash?: string | null | undefined;
  /** The guided model output of every finished step. */
  model_outputs: Uint8Array[];
  /** Unix time. */
  started_at_millis: number;
}

/** The file of an image, as its bytes where the browser stores no Blobs. The database assigns the key. Rows of version 3 hold the fields of
    the entry, too; those of `entries` count. */
export interface StoredImage {
  id?: number;
  png: Blob | Uint8Array<ArrayBuffer>;
}

export interface GallerySchema extends DBSchema {
  images: { key: number; value: StoredImage };
  /** By the key of the image. */
  entries: { key: number; value: GalleryEntry };
  /** By the key of the image. Bytes, which are read together with the row; a Blob would be a file of its own. */
  thumbnails: { key: number; value: Uint8Array<ArrayBuffer> };
  unfinished: { key: string; value: Omit<Unfinished, 'model_outputs'> };
  /** By tab and step. */
  model_outputs: { key: [string, number]; value: Uint8Array };
}

export const DATABASE = 'pixart-web gallery';
export const VERSION = 4;
