//! The gallery's IndexedDB database: generated images, and the unfinished generation of each tab. Independent of the page.
import { type DBSchema, type IDBPDatabase, type IDBPTransaction, openDB, type StoreNames } from 'idb';
import type { ImageRequest } from '../engine/client';
import { currentNames } from '../engine/former-names';
import { putBlob } from '../indexed-db';

/** A generated image. */
export interface GalleryImage {
  id: number;
  prompt: string;
  seed: number;
  favourite: boolean;
  /** Unix time. */
  created_at_millis: number;
  /** The file, with its request in the metadata. */
  png: Blob;
}

/** A generation that was running when its tab was closed or reloaded. */
export interface Unfinished {
  /** The tab's id, which survives a reload. */
  tab: string;
  checkpoint: string;
  request: ImageRequest;
  /** The checkpoint's `model_hash`: at the same address there may be another one later. */
  model_hash?: string | null | undefined;
  /** The guided model output of every finished step. */
  model_outputs: Uint8Array[];
  /** Unix time. */
  started_at_millis: number;
}

/** A log of the running generation's steps. */
export interface Journal {
  add(model_output: Uint8Array): void;
  /** Drops the steps so far: the generation begins anew with the checkpoint of this hash. */
  restart(model_hash: string | null | undefined): void;
  /** Removes what was written: the generation is over. */
  end(): Promise<void>;
}

/** An image as it is stored, with the bytes of its file where the browser stores no Blobs. The database assigns the key. */
type StoredImage = Omit<GalleryImage, 'id' | 'png'> & { id?: number; png: Blob | Uint8Array<ArrayBuffer> };

interface Schema extends DBSchema {
  images: { key: number; value: StoredImage };
  unfinished: { key: string; value: Omit<Unfinished, 'model_outputs'> };
  /** By tab and step. */
  model_outputs: { key: [string, number]; value: Uint8Array };
}

const DATABASE = 'pixart-web gallery';
const VERSION = 3;
const DAY_MILLIS = 86_400_000;
/** The shortest time between two writes of a journal. */
const WRITE_INTERVAL_MILLIS = 500;
/** The longest time that the database is waited for. A window without storage may never answer. */
const ANSWER_MILLIS = 10_000;

/** Reasons for which the database refuses an image. */
export type GalleryRefusal = 'full' | 'newer' | 'closed' | 'blocked';

/** Returns why the database threw; `undefined` for any other error. */
export function refusalOf(thrown: unknown): GalleryRefusal | undefined {
  const reasons: Readonly<Record<string, GalleryRefusal>> = {
    QuotaExceededError: 'full',
    VersionError: 'newer',
    InvalidStateError: 'closed',
    NotFoundError: 'closed',
    TimeoutError: 'blocked',
    SecurityError: 'blocked',
  };
  return thrown instanceof DOMException ? reasons[thrown.name] : undefined;
}

export class Gallery {
  private constructor(private readonly database: IDBPDatabase<Schema>) {}

  /** Opens the database. Rejects in a window without storage, and while another tab holds an older version open. */
  static async open(): Promise<Gallery> {
    const database = new Promise<IDBPDatabase<Schema>>((resolve, reject) => {
      openDB<Schema>(DATABASE, VERSION, {
        upgrade: (database, version, _, transaction) => upgrade(database, version, transaction),
        blocked: () => reject(new DOMException('another tab holds an older version of the gallery open', 'TimeoutError')),
        blocking: (_current, _blocked, event) => (event.target as IDBDatabase).close(),
      }).then(resolve, reject);
    });
    return new Gallery(await answered(database));
  }

  /** Returns all images, newest first. */
  async all(): Promise<GalleryImage[]> {
    const stored = (await this.database.getAll('images')).reverse();
    return stored.map((image) => ({ ...image, png: new Blob([image.png], { type: 'image/png' }) }) as GalleryImage);
  }

  async add(image: Omit<GalleryImage, 'id'>): Promise<void> {
    await putBlob(await bytesOf(image.png), (png) => answered(this.database.add('images', { ...image, png })));
  }

  async put(image: GalleryImage): Promise<void> {
    await putBlob(await bytesOf(image.png), (png) => answered(this.database.put('images', { ...image, png })));
  }

  async delete(id: number): Promise<void> {
    await answered(this.database.delete('images', id));
  }

  /** Returns the unfinished generation of `tab`, and removes those of any tab that are older than a day. */
  async unfinished(tab: string): Promise<Unfinished | undefined> {
    const all = await this.database.getAll('unfinished');
    const [expired, recent] = [all.filter(isExpired), all.filter((one) => !isExpired(one))];
    await Promise.all(expired.map((one) => this.discard(one.tab)));
    const own = recent.find((one) => one.tab === tab);
    return own && { ...own, model_outputs: await this.database.getAll('model_outputs', stepsOf(tab)) };
  }

  /** Removes the unfinished generation of `tab`. */
  async discard(tab: string): Promise<void> {
    const transaction = this.database.transaction(['unfinished', 'model_outputs'], 'readwrite');
    const [unfinished, model_outputs] = [transaction.objectStore('unfinished'), transaction.objectStore('model_outputs')];
    await Promise.all([unfinished.delete(tab), model_outputs.delete(stepsOf(tab)), transaction.done]);
  }

  /** Starts the journal of a generation, which writes each step once, at intervals. */
  journal({ model_outputs: earlier, ...unfinished }: Unfinished): Journal {
    const unwritten = [...earlier];
    let [written, written_millis, ended] = [0, -Infinity, false];
    let writing: Promise<unknown> = Promise.resolve();
    const write = async (): Promise<void> => {
      const transaction = this.database.transaction(['unfinished', 'model_outputs'], 'readwrite');
      const model_outputs = transaction.objectStore('model_outputs');
      // Steps of this tab's previous generation.
      if (written === 0) await model_outputs.delete(stepsOf(unfinished.tab));
      const puts = unwritten.splice(0).map((output) => model_outputs.put(output, [unfinished.tab, written++]));
      await Promise.all([transaction.objectStore('unfinished').put(unfinished), ...puts, transaction.done]);
    };
    return {
      add: (model_output) => {
        unwritten.push(model_output);
        if (performance.now() - written_millis < WRITE_INTERVAL_MILLIS) return;
        written_millis = performance.now();
        // After a failed write the generation resumes from the last step that was written; later steps would leave a gap.
        writing = writing.then(() => (ended ? undefined : write())).catch(() => (ended = true));
      },
      restart: (model_hash) => {
        unfinished.model_hash = model_hash;
        unwritten.length = 0;
        written = 0;
      },
      end: async () => {
        ended = true;
        await answered(writing.then(() => this.discard(unfinished.tab)));
      },
    };
  }
}

/** Rejects where the database does not answer in time. */
function answered<T>(work: Promise<T>): Promise<T> {
  const expired = new Promise<never>((_, reject) => {
    setTimeout(() => reject(new DOMException('the database does not answer', 'TimeoutError')), ANSWER_MILLIS);
  });
  return Promise.race([work, expired]);
}

type Upgrade = IDBPTransaction<Schema, StoreNames<Schema>[], 'versionchange'>;

/** Creates the object stores, or carries those of version 1 and 2 over. */
async function upgrade(database: IDBPDatabase<Schema>, version: number, transaction: Upgrade): Promise<void> {
  if (version === 0) {
    database.createObjectStore('images', { keyPath: 'id', autoIncrement: true });
    database.createObjectStore('unfinished', { keyPath: 'tab' });
    database.createObjectStore('model_outputs');
    return;
  }
  const images = renameStore(transaction, 'drawn', 'images');
  for (let cursor = await images.openCursor(); cursor !== null; cursor = await cursor.continue()) {
    const { drawn_at, ...image } = cursor.value as GalleryImage & { drawn_at: number };
    await cursor.update({ ...image, created_at_millis: drawn_at });
  }
  if (version === 1) {
    // Version 1 held all steps of a generation in one row.
    database.deleteObjectStore('unfinished');
    database.createObjectStore('unfinished', { keyPath: 'tab' });
    database.createObjectStore('model_outputs');
    return;
  }
  renameStore(transaction, 'said', 'model_outputs');
  const unfinished = transaction.objectStore('unfinished');
  for (let cursor = await unfinished.openCursor(); cursor !== null; cursor = await cursor.continue()) {
    const { tab, checkpoint, picture, begun_at } = cursor.value as unknown as UnfinishedV2;
    await cursor.update({ tab, checkpoint, request: currentNames(picture), started_at_millis: begun_at });
  }
}

/** A row of `unfinished` in version 2. */
interface UnfinishedV2 {
  tab: string;
  checkpoint: string;
  picture: object;
  begun_at: number;
}

function renameStore<Name extends 'images' | 'model_outputs'>(transaction: Upgrade, from: string, to: Name) {
  const store = transaction.objectStore(from as Name);
  // The DOM allows this during an upgrade; idb types the name as read-only.
  Object.assign(store, { name: to });
  return store;
}

async function bytesOf(blob: Blob): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await blob.arrayBuffer());
}

/** Returns the keys of a tab's steps, in order. */
function stepsOf(tab: string): IDBKeyRange {
  return IDBKeyRange.bound([tab, 0], [tab, Infinity]);
}

function isExpired({ started_at_millis }: Pick<Unfinished, 'started_at_millis'>): boolean {
  return started_at_millis < Date.now() - DAY_MILLIS;
}

/** Returns this tab's id, which survives a reload where session storage is available. */
export function tabId(): string {
  const fresh = crypto.getRandomValues(new Uint32Array(4)).join('-');
  try {
    const id = sessionStorage.getItem('tab') ?? fresh;
    sessionStorage.setItem('tab', id);
    return id;
  } catch {
    return fresh;
  }
}
