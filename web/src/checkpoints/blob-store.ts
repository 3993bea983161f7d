//! Named blobs in IndexedDB, the origin private file system, or memory. Independent of checkpoints, except for the database's
//! schema. Contract: writes are atomic and durable.
import { type DBSchema, type IDBPDatabase, openDB } from 'idb';
import { fault, ignore, isFault, messageOf } from '../engine/fault';
import type { Fault, StoredComposition } from '../engine/protocol.gen';
import { putBlob } from '../indexed-db';

export type BlobStoreKind = 'indexeddb' | 'opfs' | 'memory';

export interface BlobStore {
  readonly kind: BlobStoreKind;
  /** Returns the size of every blob in bytes, by name. */
  sizes(): Promise<Map<string, number>>;
  /** Opens `name` for reads of byte ranges; `undefined` where there is none. */
  open(name: string): Promise<OpenBlob | undefined>;
  write(name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  remove(names: readonly string[]): Promise<void>;
}

/** An open blob. Its bytes are read-only. */
export interface OpenBlob {
  readonly bytes: number;
  read(begin: number, end: number): Uint8Array<ArrayBuffer>;
  close(): void;
}

/** Reads a blob whole; `undefined` where there is none. */
export async function readBlob(blobs: BlobStore, name: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const blob = await blobs.open(name);
  try {
    return blob?.read(0, blob.bytes);
  } finally {
    blob?.close();
  }
}

function memoryBlob(bytes: Uint8Array<ArrayBuffer>): OpenBlob {
  return { bytes: bytes.length, read: (begin, end) => bytes.subarray(begin, end), close: () => {} };
}

/** The index entry of a stored checkpoint, or of one that is still being downloaded. Stored in IndexedDB. */
export interface CheckpointRow {
  /** URL and part, see `rowKey`. */
  key: string;
  checkpoint: string;
  /** The places of its components, where there are several. */
  composition?: StoredComposition | undefined;
  /** The text of the manifest; `undefined` until the checkpoint is complete. */
  manifest: string | undefined;
  /** Names of the complete sections. */
  sections: string[];
  /** True for a checkpoint that was converted here: the server does not have its shards. */
  converted: boolean;
  saved_at: number;
  /** The server's version of it when it was stored, and whether the version differed at the last check. */
  version?: string | undefined;
  changed?: boolean | undefined;
  /** State of an unfinished conversion. */
  conversion: ConversionState | undefined;
}

/** State of a conversion, to resume after an interruption. */
export interface ConversionState {
  /** ETag or modification date of every source file, by path. */
  versions: Record<string, string>;
  settings: string;
  shards: Record<string, { file: string; bytes: number; sha256: string }[]>;
}

interface Schema extends DBSchema {
  rows: { key: string; value: CheckpointRow };
  /** A Blob is read several times faster than an array, which is decoded on the calling thread. */
  records: { key: string; value: Blob | Uint8Array<ArrayBuffer> };
  sizes: { key: string; value: number };
  settings: { key: string; value: string };
}

export type Database = IDBPDatabase<Schema>;

export const DATABASE = 'pixart-web';
/** Version 1 had rows and records. Version 2 adds settings, and the records' sizes, which are summed without reading a record. */
export const SCHEMA = 2;

/** Opens the database, and upgrades one of an older version. */
export async function openDatabase(): Promise<Database> {
  let abandon: (reason: Error) => void = ignore;
  const blocked = new Promise<never>((_, reject) => (abandon = reject));
  const opening = openDB<Schema>(DATABASE, SCHEMA, {
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
    // A page of an older version that does not close it.
    blocked: () => abandon(new Error('another tab holds it open; close the other tabs of this page')),
    blocking: (_current, _blocked, event) => (event.target as IDBDatabase).close(),
  });
  return Promise.race([opening, blocked]);
}

export class IndexedDbBlobStore implements BlobStore {
  readonly kind = 'indexeddb';
  constructor(private readonly database: Database) {}

  sizes(): Promise<Map<string, number>> {
    return guarded(async () => {
      const transaction = this.database.transaction('sizes');
      const [names, sizes] = await Promise.all([transaction.store.getAllKeys(), transaction.store.getAll()]);
      return new Map(names.map((name, at) => [name, sizes[at] ?? 0]));
    });
  }

  open(name: string): Promise<OpenBlob | undefined> {
    return guarded(async () => {
      const record = await this.database.get('records', name);
      const bytes = record instanceof Blob ? new Uint8Array(await record.arrayBuffer()) : record;
      return bytes && memoryBlob(bytes);
    });
  }

  async write(name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const put = async (record: Blob | Uint8Array<ArrayBuffer>): Promise<void> => {
      const transaction = this.database.transaction(['records', 'sizes'], 'readwrite');
      await Promise.all([
        transaction.objectStore('records').put(record, name),
        transaction.objectStore('sizes').put(bytes.length, name),
        transaction.done,
      ]);
    };
    await checkedWrite(name, bytes.length, () => putBlob(bytes, put));
  }

  remove(names: readonly string[]): Promise<void> {
    return guarded(async () => {
      const transaction = this.database.transaction(['records', 'sizes'], 'readwrite');
      const [records, sizes] = [transaction.objectStore('records'), transaction.objectStore('sizes')];
      await Promise.all([...names.flatMap((name) => [records.delete(name), sizes.delete(name)]), transaction.done]);
    });
  }
}

/** Files of the origin private file system. A file is written under a temporary name and renamed once it is complete. */
export class OpfsBlobStore implements BlobStore {
  readonly kind = 'opfs';
  private constructor(private readonly folder: FileSystemDirectoryHandle) {}

  static async open(): Promise<OpfsBlobStore> {
    const root = await navigator.storage.getDirectory();
    return new OpfsBlobStore(await root.getDirectoryHandle('pixart-web', { create: true }));
  }

  sizes(): Promise<Map<string, number>> {
    return guarded(async () => {
      const sizes = new Map<string, number>();
      for await (const [name, handle] of this.folder) {
        if (handle.kind !== 'file' || name.endsWith(PARTIAL)) continue;
        const file = await ifFound((handle as FileSystemFileHandle).getFile());
        if (file !== undefined) sizes.set(name, file.size);
      }
      return sizes;
    });
  }

  open(name: string): Promise<OpenBlob | undefined> {
    return guarded(async () => {
      const handle = await ifFound(this.folder.getFileHandle(name));
      if (handle === undefined) return undefined;
      // With `read-only` several tabs can read a file at once. Browsers without it read the file whole, which is slower.
      const access = await (handle as OpfsFileHandle).createSyncAccessHandle({ mode: 'read-only' }).catch(() => undefined);
      if (access === undefined) return memoryBlob(new Uint8Array(await (await handle.getFile()).arrayBuffer()));
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
    });
  }

  async write(name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    await checkedWrite(name, bytes.length, async () => {
      const handle = await this.folder.getFileHandle(name + PARTIAL, { create: true });
      const access = await (handle as OpfsFileHandle).createSyncAccessHandle();
      try {
        access.truncate(0);
        for (let at = 0; at < bytes.length; ) at += access.write(bytes.subarray(at), { at });
        access.flush();
      } finally {
        access.close();
      }
      await (handle as OpfsFileHandle).move(name).catch(async (thrown: unknown) => {
        // A reader may hold a file of this name open, which then cannot be replaced. Names are hashes: it has the same bytes.
        const stored = await ifFound(this.folder.getFileHandle(name));
        if ((await stored?.getFile())?.size !== bytes.length) throw thrown;
        await this.remove([name + PARTIAL]);
      });
    });
  }

  remove(names: readonly string[]): Promise<void> {
    return guarded(async () => {
      await Promise.all(names.map((name) => this.removeUnread(name)));
    });
  }

  /** Removes a file, as soon as no tab reads it: a tab closes its files when it has read nothing for a second. */
  private async removeUnread(name: string): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await ifFound(this.folder.removeEntry(name));
        return;
      } catch (thrown) {
        if (!(thrown instanceof DOMException) || thrown.name !== 'NoModificationAllowedError') throw thrown;
        if (attempt === REMOVE_ATTEMPTS)
          throw fault('storage', `another tab reads the stored file ${name}`, 'close the other tabs of this page, then delete it again');
      }
      await new Promise((resolve) => setTimeout(resolve, REMOVE_INTERVAL_MILLIS));
    }
  }
}

const PARTIAL = '.partial';
const REMOVE_ATTEMPTS = 20;
const REMOVE_INTERVAL_MILLIS = 100;
const QUOTA_REMEDY = 'delete stored models, or free some disk space; what was downloaded stays stored';

/** Resolves with `undefined` for a file that does not exist. */
async function ifFound<T>(promise: Promise<T>): Promise<T | undefined> {
  try {
    return await promise;
  } catch (thrown) {
    if (thrown instanceof DOMException && thrown.name === 'NotFoundError') return undefined;
    throw thrown;
  }
}

/** Methods that TypeScript's DOM types lack. */
interface OpfsFileHandle extends FileSystemFileHandle {
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

/** Blobs in memory, for browsers without persistent storage. */
export class MemoryBlobStore implements BlobStore {
  readonly kind = 'memory';
  private readonly records = new Map<string, Uint8Array<ArrayBuffer>>();

  async sizes(): Promise<Map<string, number>> {
    return new Map([...this.records].map(([name, bytes]) => [name, bytes.length]));
  }

  async open(name: string): Promise<OpenBlob | undefined> {
    const bytes = this.records.get(name);
    return bytes && memoryBlob(bytes);
  }

  async write(name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    this.records.set(name, bytes);
  }

  async remove(names: readonly string[]): Promise<void> {
    for (const name of names) this.records.delete(name);
  }
}

/** Runs an operation of the browser's storage and turns its failure into a fault, which does not end the engine. */
export async function guarded<T>(operation: () => Promise<T>): Promise<T> {
  try {
    return await operation();
  } catch (thrown) {
    throw isFault(thrown) ? thrown : storageFault(thrown);
  }
}

function storageFault(thrown: unknown): Fault {
  if (isQuotaError(thrown)) return fault('storage', 'this browser has no storage for more', QUOTA_REMEDY);
  const what = `this browser's storage failed: ${messageOf(thrown)}`;
  return fault('storage', what, 'reload the page; if it fails again, free some disk space, or add ?storage=memory to the address');
}

function isQuotaError(thrown: unknown): boolean {
  return thrown instanceof DOMException && thrown.name === 'QuotaExceededError';
}

/** Runs `write` and turns its failure into a fault. */
async function checkedWrite(name: string, bytes: number, write: () => Promise<void>): Promise<void> {
  try {
    await write();
  } catch (thrown) {
    if (isQuotaError(thrown)) throw quotaFault(bytes, undefined);
    throw fault('storage', `${name} could not be stored: ${messageOf(thrown)}`, 'free some disk space, then try again');
  }
}

/** Returns the fault of an exceeded quota; `free_bytes` is the free part of the quota, where the browser reports it. */
export function quotaFault(needed_bytes: number, free_bytes: number | undefined): Fault {
  const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(0)} MB`;
  // A write may fail although the browser reports enough free storage.
  const what =
    free_bytes === undefined
      ? `this browser has no storage for ${megabytes(needed_bytes)} more`
      : `the checkpoint needs ${megabytes(needed_bytes)} and this browser has ${megabytes(Math.max(0, free_bytes))} of free storage`;
  return fault('storage', what, QUOTA_REMEDY);
}
