//! Where bytes are kept under names: IndexedDB, the origin's private file system, or memory alone. Knows nothing of
//! checkpoints. Contract: a `write` that resolved is there after a crash; one that did not leaves the name as it was.
import { openDB, type DBSchema, type IDBPDatabase } from 'idb';
import { fault, messageOf } from '../engine/fault';
import type { Fault } from '../engine/protocol.gen';

export type ShelfKind = 'indexeddb' | 'opfs' | 'memory';

export interface Shelf {
  readonly kind: ShelfKind;
  /** Every name, with its bytes. */
  sizes(): Promise<Map<string, number>>;
  /** Opens `name` to be read piece by piece; `undefined` where there is none. */
  open(name: string): Promise<Opened | undefined>;
  write(name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  remove(names: readonly string[]): Promise<void>;
}

/** A record that is open. What it returns is not to be changed. */
export interface Opened {
  readonly bytes: number;
  read(begin: number, end: number): Uint8Array<ArrayBuffer>;
  close(): void;
}

/** All bytes of a record; `undefined` where there is none. */
export async function readAll(shelf: Shelf, name: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const opened = await shelf.open(name);
  try {
    return opened?.read(0, opened.bytes);
  } finally {
    opened?.close();
  }
}

/** A record that is in memory. */
function held(bytes: Uint8Array<ArrayBuffer>): Opened {
  return { bytes: bytes.length, read: (begin, end) => bytes.subarray(begin, end), close: () => {} };
}

/** A checkpoint that is kept, or on its way. */
export interface Row {
  /** Its address and the part of it, see `partKey`. */
  key: string;
  checkpoint: string;
  /** The text of its manifest; `undefined` while it is on its way. */
  manifest: string | undefined;
  /** The names of the sections that are whole. */
  sections: string[];
  /** Whether it was converted here; its shards are nowhere else. */
  converted: boolean;
  saved_at: number;
  /** What its address said of it when it was kept, and whether that was another thing at the last look. */
  version?: string | undefined;
  changed?: boolean | undefined;
  /** What a conversion has made so far, and from what. */
  made: Made | undefined;
}

/** The state of a conversion, to go on with after an interruption. */
export interface Made {
  /** The ETag or date of every file, by path: another one means another checkpoint. */
  versions: Record<string, string>;
  settings: string;
  shards: Record<string, { file: string; bytes: number; sha256: string }[]>;
}

interface Schema extends DBSchema {
  rows: { key: string; value: Row };
  /** A blob is read several times faster than an array, which is decoded on the reader's thread. */
  records: { key: string; value: Blob | Uint8Array<ArrayBuffer> };
  sizes: { key: string; value: number };
  settings: { key: string; value: string };
}

export type Database = IDBPDatabase<Schema>;

export const DATABASE = 'pixart-web';
/** Version 1 kept rows and records; 2 keeps the records' sizes beside them, so that they are counted without being read, and
    settings. */
export const SCHEMA = 2;

/** Opens the database, and brings one of an older schema up to date. */
export async function openDatabase(): Promise<Database> {
  return openDB<Schema>(DATABASE, SCHEMA, {
    async upgrade(database, from, _to, transaction) {
      if (from < 1) {
        database.createObjectStore('rows', { keyPath: 'key' });
        database.createObjectStore('records');
      }
      if (from < 2) {
        database.createObjectStore('settings');
        database.createObjectStore('sizes');
        const sizes = transaction.objectStore('sizes');
        for (let at = await transaction.objectStore('records').openCursor(); at !== null; at = await at.continue()) {
          await sizes.put(at.value instanceof Blob ? at.value.size : at.value.length, at.key);
        }
      }
    },
    blocking: (_current, _blocked, event) => (event.target as IDBDatabase).close(),
  });
}

export class IndexedDbShelf implements Shelf {
  readonly kind = 'indexeddb';
  constructor(private readonly database: Database) {}

  async sizes(): Promise<Map<string, number>> {
    const transaction = this.database.transaction('sizes');
    const [names, sizes] = await Promise.all([transaction.store.getAllKeys(), transaction.store.getAll()]);
    return new Map(names.map((name, at) => [name, sizes[at] ?? 0]));
  }

  async open(name: string): Promise<Opened | undefined> {
    const record = await this.database.get('records', name);
    const bytes = record instanceof Blob ? new Uint8Array(await record.arrayBuffer()) : record;
    return bytes && held(bytes);
  }

  async write(name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    await kept(name, bytes.length, async () => {
      const transaction = this.database.transaction(['records', 'sizes'], 'readwrite');
      await Promise.all([
        transaction.objectStore('records').put(new Blob([bytes]), name),
        transaction.objectStore('sizes').put(bytes.length, name),
        transaction.done,
      ]);
    });
  }

  async remove(names: readonly string[]): Promise<void> {
    const transaction = this.database.transaction(['records', 'sizes'], 'readwrite');
    const [records, sizes] = [transaction.objectStore('records'), transaction.objectStore('sizes')];
    await Promise.all([...names.flatMap((name) => [records.delete(name), sizes.delete(name)]), transaction.done]);
  }
}

/** Files of the origin's private file system. A file is written under another name and renamed once it is whole. */
export class OpfsShelf implements Shelf {
  readonly kind = 'opfs';
  private constructor(private readonly folder: FileSystemDirectoryHandle) {}

  static async open(): Promise<OpfsShelf> {
    const root = await navigator.storage.getDirectory();
    return new OpfsShelf(await root.getDirectoryHandle('pixart-web', { create: true }));
  }

  async sizes(): Promise<Map<string, number>> {
    const sizes = new Map<string, number>();
    for await (const [name, handle] of this.folder) {
      if (handle.kind !== 'file' || name.endsWith(PARTIAL)) continue;
      const file = await found((handle as FileSystemFileHandle).getFile());
      if (file !== undefined) sizes.set(name, file.size);
    }
    return sizes;
  }

  async open(name: string): Promise<Opened | undefined> {
    const handle = await found(this.folder.getFileHandle(name));
    if (handle === undefined) return undefined;
    // Several tabs may read a file at once where the browser knows the mode; where it does not, the slower way is open.
    const access = await (handle as Handle).createSyncAccessHandle({ mode: 'read-only' }).catch(() => undefined);
    if (access === undefined) return held(new Uint8Array(await (await handle.getFile()).arrayBuffer()));
    const read = (begin: number, end: number): Uint8Array<ArrayBuffer> => {
      const bytes = new Uint8Array(end - begin);
      for (let at = 0; at < bytes.length; ) {
        const read = access.read(bytes.subarray(at), { at: begin + at });
        if (read === 0) throw fault('storage', `${name} ends at byte ${begin + at}`, 'open the checkpoint again');
        at += read;
      }
      return bytes;
    };
    return { bytes: access.getSize(), read, close: () => access.close() };
  }

  async write(name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    await kept(name, bytes.length, async () => {
      const handle = await this.folder.getFileHandle(name + PARTIAL, { create: true });
      const access = await (handle as Handle).createSyncAccessHandle();
      try {
        access.truncate(0);
        for (let at = 0; at < bytes.length; ) at += access.write(bytes.subarray(at), { at });
        access.flush();
      } finally {
        access.close();
      }
      await (handle as Handle).move(name);
    });
  }

  async remove(names: readonly string[]): Promise<void> {
    await Promise.all(names.map((name) => found(this.folder.removeEntry(name))));
  }
}

const PARTIAL = '.partial';

/** `undefined` for a file that is not there, or no longer. */
async function found<T>(promise: Promise<T>): Promise<T | undefined> {
  try {
    return await promise;
  } catch (thrown) {
    if (thrown instanceof DOMException && thrown.name === 'NotFoundError') return undefined;
    throw thrown;
  }
}

/** What TypeScript's description of the DOM lacks: a worker's way to write, and renaming. */
interface Handle extends FileSystemFileHandle {
  createSyncAccessHandle(options?: { mode: 'read-only' }): Promise<{
    getSize(): number;
    read(bytes: Uint8Array, options: { at: number }): number;
    truncate(size: number): void;
    write(bytes: Uint8Array, options: { at: number }): number;
    flush(): void;
    close(): void;
  }>;
  move(name: string): Promise<void>;
}

/** For windows that keep nothing. */
export class MemoryShelf implements Shelf {
  readonly kind = 'memory';
  private readonly records = new Map<string, Uint8Array<ArrayBuffer>>();

  async sizes(): Promise<Map<string, number>> {
    return new Map([...this.records].map(([name, bytes]) => [name, bytes.length]));
  }

  async open(name: string): Promise<Opened | undefined> {
    const bytes = this.records.get(name);
    return bytes && held(bytes);
  }

  async write(name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    this.records.set(name, bytes);
  }

  async remove(names: readonly string[]): Promise<void> {
    for (const name of names) this.records.delete(name);
  }
}

async function kept(name: string, bytes: number, write: () => Promise<void>): Promise<void> {
  try {
    await write();
  } catch (thrown) {
    if (thrown instanceof DOMException && thrown.name === 'QuotaExceededError') throw full(bytes, undefined);
    throw fault('storage', `${name} could not be kept: ${messageOf(thrown)}`, 'free some disk space, then try again');
  }
}

/** The fault of a browser that has no room for `needed_bytes` more; `left_bytes` is what it says it has. */
export function full(needed_bytes: number, left_bytes: number | undefined): Fault {
  const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(0)} MB`;
  // What a write meets is the truth; a browser may promise more room than it gives.
  const what =
    left_bytes === undefined
      ? `this browser has no room for ${megabytes(needed_bytes)} more`
      : `the checkpoint needs ${megabytes(needed_bytes)} and this browser offers ${megabytes(Math.max(0, left_bytes))}`;
  return fault('storage', what, 'delete checkpoints that are kept, or free some disk space; what has arrived is kept');
}
