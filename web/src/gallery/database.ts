//! The gallery's IndexedDB database: images, and the unfinished generation of each tab. Independent of the page.
import { type IDBPDatabase, type IDBPTransaction, openDB } from 'idb';
import { ignore } from '../engine/fault';
import { putBlob } from '../indexed-db';
import { DATABASE, type GalleryEntry, type GallerySchema, type NewImage, type Unfinished, VERSION } from './schema';
import { upgrade } from './upgrade';

/** A log of the running generation's steps. */
export interface Journal {
  add(model_output: Uint8Array): void;
  /** Drops the steps so far: the generation begins anew with the checkpoint of this hash. */
  restart(model_hash: string | null | undefined): void;
  /** Removes what was written: the generation is over. */
  end(): Promise<void>;
}

const DAY_MILLIS = 86_400_000;
/** The shortest time between two writes of a journal. */
const WRITE_INTERVAL_MILLIS = 500;
/** The longest time that the database is waited for. A window without storage may never answer. */
const ANSWER_MILLIS = 10_000;
/** The time in which another tab can still undo a deletion. */
const UNDO_MILLIS = 60_000;

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
  private constructor(private readonly database: IDBPDatabase<GallerySchema>) {}

  /** Opens the database. Rejects in a window without storage, and while another tab holds an older version open. */
  static async open(): Promise<Gallery> {
    const database = new Promise<IDBPDatabase<GallerySchema>>((resolve, reject) => {
      openDB<GallerySchema>(DATABASE, VERSION, {
        upgrade: (database, version, _, transaction) => upgrade(database, version, transaction),
        blocked: () => reject(new DOMException('another tab holds an older version of the gallery open', 'TimeoutError')),
        blocking: (_current, _blocked, event) => (event.target as IDBDatabase).close(),
      }).then(resolve, reject);
    });
    return new Gallery(await answered(database));
  }

  /** Returns what is listed, newest first. Removes what was deleted and is too old to be restored. */
  async entries(): Promise<GalleryEntry[]> {
    const all = await this.database.getAll('entries');
    const deleted = all.filter(({ deleted_at_millis }) => deleted_at_millis !== undefined);
    const expired = deleted.filter(({ deleted_at_millis = 0 }) => deleted_at_millis < Date.now() - UNDO_MILLIS);
    // A gallery that cannot be written to can still be read.
    if (expired.length > 0) await this.purge(expired.map(({ id }) => id)).catch(ignore);
    return all.filter(({ deleted_at_millis }) => deleted_at_millis === undefined).sort(byAge);
  }

  /** Returns the images that were stored last, without reading all. */
  async newest(count: number): Promise<GalleryEntry[]> {
    const found: GalleryEntry[] = [];
    let cursor = await this.database.transaction('entries').store.openCursor(null, 'prev');
    while (cursor !== null && found.length < count) {
      if (cursor.value.deleted_at_millis === undefined) found.push(cursor.value);
      cursor = await cursor.continue();
    }
    return found;
  }

  /** Returns the thumbnails of images, as far as they have one. */
  async thumbnails(ids: readonly number[]): Promise<Map<number, Blob>> {
    const store = this.database.transaction('thumbnails').store;
    const found = await Promise.all(ids.map(async (id) => [id, await store.get(id)] as const));
    return new Map(found.flatMap(([id, bytes]) => (bytes === undefined ? [] : [[id, new Blob([bytes])]])));
  }

  /** Returns the file of an image; `undefined` where another tab has removed it. */
  async image(id: number): Promise<Blob | undefined> {
    const stored = await this.database.get('images', id);
    return stored && new Blob([stored.png], { type: 'image/png' });
  }

  /** Stores an image, its thumbnail and its entry, which it returns. */
  async add({ png, thumbnail, ...described }: NewImage): Promise<GalleryEntry> {
    let id = 0;
    await putBlob(await bytesOf(png), (value) =>
      answered(
        this.write(['images', 'entries', 'thumbnails'], async (transaction) => {
          id = await transaction.objectStore('images').add({ png: value });
          const puts: Promise<unknown>[] = [transaction.objectStore('entries').put({ ...described, id })];
          if (thumbnail !== undefined) puts.push(transaction.objectStore('thumbnails').put(thumbnail, id));
          await Promise.all(puts);
        }),
      ),
    );
    return { ...described, id };
  }

  /** Writes fields of entries, and returns those that are still there, as they are then. */
  async update(ids: readonly number[], change: (entry: GalleryEntry) => GalleryEntry): Promise<GalleryEntry[]> {
    const changed: GalleryEntry[] = [];
    await answered(
      this.write(['entries'], async (transaction) => {
        const entries = transaction.objectStore('entries');
        for (const entry of await Promise.all(ids.map((id) => entries.get(id)))) if (entry !== undefined) changed.push(change(entry));
        await Promise.all(changed.map((entry) => entries.put(entry)));
      }),
    );
    return changed;
  }

  /** Stores the thumbnail of an image that was stored without one. */
  async setThumbnail(id: number, thumbnail: Uint8Array<ArrayBuffer>): Promise<void> {
    await answered(this.database.put('thumbnails', thumbnail, id));
  }

  /** Marks images as deleted. They stay stored until `purge`, so that `restore` gives back all of them. */
  async delete(ids: readonly number[]): Promise<void> {
    const deleted_at_millis = Date.now();
    await this.update(ids, (entry) => ({ ...entry, deleted_at_millis }));
  }

  /** Undoes `delete`; returns the entries as they were. */
  async restore(ids: readonly number[]): Promise<GalleryEntry[]> {
    return this.update(ids, ({ deleted_at_millis: _, ...entry }) => entry);
  }

  /** Removes images that were deleted, unless they have been restored. */
  async purge(ids: readonly number[]): Promise<void> {
    await answered(
      this.write(['images', 'entries', 'thumbnails'], async (transaction) => {
        const entries = transaction.objectStore('entries');
        const found = await Promise.all(ids.map((id) => entries.get(id)));
        const deleted = found.filter((entry) => entry?.deleted_at_millis !== undefined).map((entry) => entry?.id ?? 0);
        const stores = (['images', 'entries', 'thumbnails'] as const).map((name) => transaction.objectStore(name));
        await Promise.all(stores.flatMap((store) => deleted.map((id) => store.delete(id))));
      }),
    );
  }

  /** Runs `work` in a transaction, and resolves once it is written. */
  private async write<Name extends 'images' | 'entries' | 'thumbnails'>(
    stores: Name[],
    work: (transaction: IDBPTransaction<GallerySchema, Name[], 'readwrite'>) => Promise<void>,
  ): Promise<void> {
    const transaction = this.database.transaction(stores, 'readwrite');
    // The first rejection tells the reason; that of the transaction follows from it.
    await Promise.all([work(transaction), transaction.done]);
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

async function bytesOf(blob: Blob): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await blob.arrayBuffer());
}

/** Newest first. */
function byAge(left: GalleryEntry, right: GalleryEntry): number {
  return right.created_at_millis - left.created_at_millis || right.id - left.id;
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
