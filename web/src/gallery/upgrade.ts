//! Upgrades of the gallery's database. Images of every version open in the newest one.
import type { IDBPDatabase, IDBPTransaction, StoreNames } from 'idb';
import { currentNames } from '../engine/former-names';
import type { GalleryEntry, GallerySchema } from './schema';

type Upgrade = IDBPTransaction<GallerySchema, StoreNames<GallerySchema>[], 'versionchange'>;

/** Rows of `images` that are read at once. */
const BATCH_ROWS = 500;

/** A row of `unfinished` in version 2. */
interface UnfinishedV2 {
  tab: string;
  checkpoint: string;
  picture: object;
  begun_at: number;
}

/** A row of `images` in version 3, or of `drawn` before. */
type ImageRow = Omit<GalleryEntry, 'created_at_millis'> & { created_at_millis?: number; drawn_at?: number };

/** Creates the object stores, or carries those of earlier versions over. */
export async function upgrade(database: IDBPDatabase<GallerySchema>, version: number, transaction: Upgrade): Promise<void> {
  if (version === 0) database.createObjectStore('images', { keyPath: 'id', autoIncrement: true });
  if (version === 1 || version === 2) renameStore(transaction, 'drawn', 'images');
  // Version 1 held all steps of a generation in one row.
  if (version === 1) database.deleteObjectStore('unfinished');
  if (version < 2) {
    database.createObjectStore('unfinished', { keyPath: 'tab' });
    database.createObjectStore('model_outputs');
  }
  database.createObjectStore('entries', { keyPath: 'id' });
  database.createObjectStore('thumbnails');
  if (version === 2) {
    renameStore(transaction, 'said', 'model_outputs');
    await renameUnfinished(transaction);
  }
  if (version > 0) await listImages(transaction);
}

/** Writes an entry for every image. Size, model and thumbnail follow when the gallery is opened: an upgrade cannot decode images. */
async function listImages(transaction: Upgrade): Promise<void> {
  const [images, entries] = [transaction.objectStore('images'), transaction.objectStore('entries')];
  for (let after = Number.NEGATIVE_INFINITY; ; ) {
    const rows = (await images.getAll(IDBKeyRange.lowerBound(after, true), BATCH_ROWS)) as unknown as ImageRow[];
    for (const { id, prompt, seed, favourite, created_at_millis, drawn_at } of rows)
      entries.put({ id, prompt, seed, favourite, created_at_millis: created_at_millis ?? drawn_at ?? 0 });
    const last = rows.at(-1);
    if (last === undefined) return;
    after = last.id;
  }
}

async function renameUnfinished(transaction: Upgrade): Promise<void> {
  const unfinished = transaction.objectStore('unfinished');
  for (let cursor = await unfinished.openCursor(); cursor !== null; cursor = await cursor.continue()) {
    const { tab, checkpoint, picture, begun_at } = cursor.value as unknown as UnfinishedV2;
    await cursor.update({ tab, checkpoint, request: currentNames(picture), started_at_millis: begun_at });
  }
}

function renameStore(transaction: Upgrade, from: string, to: 'images' | 'model_outputs'): void {
  // The DOM allows this during an upgrade; idb types the name as read-only.
  Object.assign(transaction.objectStore(from as typeof to), { name: to });
}
