//! Stored checkpoints: index rows, and shards that are content-addressed by SHA-256. Lists, reads, verifies and deletes; downloads
//! nothing. Contract: a row is written after everything that it lists, so a partial download is never visible as complete.
import { fault, ignore, messageOf } from '../engine/fault';
import type { StorageBackend, StoredCheckpoint, StoredKind } from '../engine/protocol.gen';
import {
  type BlobStore,
  type BlobStoreKind,
  type CheckpointRow,
  type ConversionState,
  type Database,
  guarded,
  IndexedDbBlobStore,
  MemoryBlobStore,
  type OpenBlob,
  OpfsBlobStore,
  openDatabase,
  readBlob,
} from './blob-store';
import { sha256Of } from './sha256';

/** The fields of the Rust type `Manifest` that are used here. Rust validates it first. */
export interface Manifest {
  weight_format?: string;
  /** The former name of `weight_format`. */
  precision?: string;
  sections: { name: string; dir: string; shard_bytes: number; shards: Shard[]; tensors: { bytes: number }[] }[];
}

export interface Shard {
  file: string;
  bytes: number;
  sha256: string;
}

export type Read = (file: string, begin: number, end: number) => Promise<Uint8Array<ArrayBuffer>>;

/** Bytes of the benchmark of the two backends, and the speed-up that OPFS needs to be chosen. */
const BENCHMARK_BYTES = 8 << 20;
const MIN_SPEEDUP = 1.25;
/** Time without a read after which a reader closes its shards. */
const IDLE_MILLIS = 1_000;
/** Key of the chosen backend in the settings. */
const BACKEND_KEY = 'shelf';
/** The lock under which the backend is chosen, and what the names of all locks of downloads begin with. */
const BACKEND_LOCK = 'pixart-web shelf';
export const DOWNLOAD_LOCK = 'pixart-web ';
/** The name of a shard, or of a piece of one. */
const SHARD_NAME = /^[0-9a-f]{64}(\.\d+)?$/;

export class Store {
  /** Close the shards of each reader that has any open. */
  private readonly closers = new Set<() => Promise<void>>();

  private constructor(
    readonly blobs: BlobStore,
    private readonly database: Database | undefined,
    private readonly memory = new Map<string, CheckpointRow>(),
  ) {}

  /** Opens the storage backend; `auto` falls back to memory where the browser persists nothing. */
  static async open(kind: StorageBackend): Promise<Store> {
    if (kind === 'memory') return new Store(new MemoryBlobStore(), undefined);
    try {
      const database = await openDatabase();
      const choose = (): Promise<BlobStore> => chooseBackend(kind, database);
      // Tabs that open at the same time have to choose the same backend.
      return new Store(await (navigator.locks?.request(BACKEND_LOCK, choose) ?? choose()), database);
    } catch (thrown) {
      if (kind === 'auto') return new Store(new MemoryBlobStore(), undefined);
      throw fault(
        'storage',
        `${kind} cannot be opened: ${messageOf(thrown)}`,
        'leave out storage in the address: the page then uses one that works',
      );
    }
  }

  get kind(): BlobStoreKind {
    return this.blobs.kind;
  }

  async row(key: string): Promise<CheckpointRow | undefined> {
    const { database } = this;
    const row = database === undefined ? this.memory.get(key) : await guarded(() => database.get('rows', key));
    return row && currentRow(row);
  }

  async rows(): Promise<CheckpointRow[]> {
    const { database } = this;
    const rows = database === undefined ? [...this.memory.values()] : await guarded(() => database.getAll('rows'));
    return rows.map(currentRow);
  }

  async put(row: CheckpointRow): Promise<void> {
    const { database } = this;
    if (database === undefined) this.memory.set(row.key, row);
    else await guarded(() => database.put('rows', row));
  }

  private async deleteRow(key: string): Promise<void> {
    this.memory.delete(key);
    await guarded(async () => this.database?.delete('rows', key));
  }

  /** Returns the shards of these sections that are not stored. */
  async missing(manifest: Manifest, sections: readonly string[]): Promise<Shard[]> {
    const sizes = await this.blobs.sizes();
    return shardsOf(manifest, sections).filter(({ sha256, bytes }) => sizes.get(sha256) !== bytes);
  }

  /** Returns a reader of the shards of these manifests, which opens the next shard ahead, and closes all while nothing is read. `onRead`
      receives every read. */
  reader(manifests: readonly Manifest[], onRead: (file: string, bytes: number) => void): Read {
    const shards = manifests.flatMap((manifest) => shardsOf(manifest));
    const indices = new Map(shards.map(({ file }, index) => [file, index]));
    const open_shards = new Map<number, Promise<OpenBlob>>();
    const open = (index: number, shard: Shard): Promise<OpenBlob> => {
      const opening = open_shards.get(index) ?? this.openShard(shard);
      open_shards.set(index, opening);
      this.closers.add(closeAll);
      return opening;
    };
    const release = async (index: number): Promise<void> => {
      const opening = open_shards.get(index);
      open_shards.delete(index);
      // A shard that could not be opened needs no closing.
      await opening?.then((blob) => blob.close(), ignore);
    };
    // An open file can neither be replaced nor deleted.
    const closeAll = async (): Promise<void> => {
      this.closers.delete(closeAll);
      await Promise.all([...open_shards.keys()].map(release));
    };
    let [pending, idle] = [0, 0];
    const read = async (file: string, begin: number, end: number): Promise<Uint8Array<ArrayBuffer>> => {
      const index = indices.get(file);
      const shard = shards[index ?? -1];
      if (index === undefined || shard === undefined) throw fault('internal', `${file} is in no manifest`, 'reload the page');
      const opening = open(index, shard);
      for (const other of open_shards.keys()) if (other !== index && other !== index + 1) void release(other);
      const bytes = (await opening).read(begin, end);
      const next = shards[index + 1];
      // Its rejection is thrown when it is read.
      if (next !== undefined) open(index + 1, next).catch(ignore);
      onRead(file, bytes.length);
      return bytes;
    };
    return async (file, begin, end) => {
      clearTimeout(idle);
      pending += 1;
      try {
        return await read(file, begin, end);
      } finally {
        pending -= 1;
        if (pending === 0) idle = setTimeout(() => void closeAll(), IDLE_MILLIS) as unknown as number;
      }
    };
  }

  private async openShard({ file, bytes, sha256 }: Shard): Promise<OpenBlob> {
    const found = await this.blobs.open(sha256);
    if (found?.bytes === bytes) return found;
    found?.close();
    if (found !== undefined) await this.blobs.remove([sha256]);
    throw fault('storage', `${file} is no longer in the store`, 'open the checkpoint again to download what is missing');
  }

  async list(): Promise<StoredCheckpoint[]> {
    const sizes = await this.blobs.sizes();
    const checkpoints = new Map<string, StoredCheckpoint>();
    for (const row of await this.rows()) {
      const { checkpoint, saved_at, composition } = row;
      const known = checkpoints.get(checkpoint);
      const entry = known ?? { checkpoint, kind: kindOf(row), storage: this.kind, bytes: 0, missing: 0, changed: false, saved_at };
      if (kindOf(row) === 'model') entry.kind = 'model';
      if (composition !== undefined) entry.composition = composition;
      entry.changed ||= row.changed ?? false;
      for (const { bytes, sha256 } of shardsOfRow(row)) {
        if (sizes.get(sha256) === bytes) entry.bytes += bytes;
        else entry.missing += 1;
      }
      checkpoints.set(checkpoint, entry);
    }
    return [...checkpoints.values()];
  }

  /** Hashes every shard of a checkpoint, and deletes those whose hash is wrong. */
  async verify(checkpoint: string): Promise<void> {
    for (const row of await this.rows()) {
      if (row.checkpoint !== checkpoint) continue;
      for (const { sha256 } of shardsOfRow(row)) {
        const bytes = await readBlob(this.blobs, sha256);
        if (bytes !== undefined && (await sha256Of(bytes)) !== sha256) await this.removeShards([sha256]);
      }
    }
  }

  /** Deletes a checkpoint, and those of its shards that no other checkpoint shares. */
  async delete(checkpoint: string): Promise<void> {
    const rows = await this.rows();
    const deleted = rows.filter((row) => row.checkpoint === checkpoint);
    const others = rows.filter((row) => row.checkpoint !== checkpoint);
    // Shards of sections that are not complete, too.
    await this.deleteShards(deleted.map(withAllSections), others);
    for (const { key } of deleted) await this.deleteRow(key);
    if (deleted.length === 0) await this.deleteUnlisted(others);
  }

  /** Deletes shards that no row lists: a download that was given up has left them. While a tab downloads, they may be its own, and stay. */
  private async deleteUnlisted(rows: readonly CheckpointRow[]): Promise<void> {
    const { held } = (await navigator.locks?.query()) ?? {};
    if (held === undefined || held.some(({ name }) => name?.startsWith(DOWNLOAD_LOCK) && name !== BACKEND_LOCK)) return;
    const listed = new Set(rows.flatMap(shardsOfRow).map(({ sha256 }) => sha256));
    const names = [...(await this.blobs.sizes()).keys()];
    await this.removeShards(names.filter((name) => SHARD_NAME.test(name) && !listed.has(name.split('.')[0] ?? '')));
  }

  /** Deletes the shards of a row that was replaced, except those that some row lists. */
  async deleteReplaced(row: CheckpointRow): Promise<void> {
    await this.deleteShards([row], await this.rows());
  }

  /** Deletes the shards of `deleted` that no row of `others` lists. */
  private async deleteShards(deleted: readonly CheckpointRow[], others: readonly CheckpointRow[]): Promise<void> {
    const shared = new Set(others.flatMap(shardsOfRow).map(({ sha256 }) => sha256));
    const unshared = new Set(deleted.flatMap(shardsOfRow).flatMap(({ sha256 }) => (shared.has(sha256) ? [] : [sha256])));
    const names = [...(await this.blobs.sizes()).keys()];
    await this.removeShards(names.filter((name) => unshared.has(name.split('.')[0] ?? '')));
  }

  /** Removes shards that this worker's readers may have open. */
  private async removeShards(names: readonly string[]): Promise<void> {
    await Promise.all([...this.closers].map((close) => close()));
    await this.blobs.remove(names);
  }
}

/** Returns the shards of a manifest, or of some of its sections. */
export function shardsOf(manifest: Manifest, sections?: readonly string[]): Shard[] {
  return manifest.sections.filter(({ name }) => sections?.includes(name) ?? true).flatMap(({ shards }) => shards);
}

/** A row of an earlier version calls `conversion` `made`. */
function currentRow(row: CheckpointRow & { made?: ConversionState | undefined }): CheckpointRow {
  const { made, ...current } = row;
  return { ...current, conversion: row.conversion ?? made };
}

/** Returns what a row holds, by its key: see `rowKey` and `loraKey`. */
function kindOf({ key }: CheckpointRow): StoredKind {
  return key.startsWith('lora ') ? 'lora' : key.endsWith('#text') ? 'text_encoder' : 'model';
}

function shardsOfRow({ manifest, sections, conversion }: CheckpointRow): Shard[] {
  if (manifest !== undefined) return shardsOf(JSON.parse(manifest) as Manifest, sections);
  return Object.values(conversion?.shards ?? {}).flat();
}

function withAllSections(row: CheckpointRow): CheckpointRow {
  const { sections = [] } = row.manifest === undefined ? {} : (JSON.parse(row.manifest) as Manifest);
  return { ...row, sections: sections.map(({ name }) => name) };
}

/** Returns the blob store of `kind`; for `auto` the faster one, which is measured once and remembered. */
async function chooseBackend(kind: StorageBackend, database: Database): Promise<BlobStore> {
  const indexed = new IndexedDbBlobStore(database);
  if (kind === 'indexeddb') return indexed;
  if (kind === 'opfs') return OpfsBlobStore.open();
  const chosen = await database.get('settings', BACKEND_KEY);
  if (chosen === 'indexeddb') return indexed;
  const files = await OpfsBlobStore.open().catch(() => undefined);
  if (files === undefined) return indexed;
  if (chosen === 'opfs') return files;
  const [indexed_millis, files_millis] = [await benchmark(indexed), await benchmark(files)];
  if (indexed_millis === Infinity && files_millis === Infinity) throw new Error('this browser stores nothing');
  const faster = files_millis * MIN_SPEEDUP < indexed_millis ? files : indexed;
  await database.put('settings', faster.kind, BACKEND_KEY);
  return faster;
}

/** Returns the milliseconds that a blob store takes to write and read a blob; infinite where it fails. */
async function benchmark(blobs: BlobStore): Promise<number> {
  const [name, bytes] = ['trial', crypto.getRandomValues(new Uint8Array(1 << 16))];
  const record = new Uint8Array(BENCHMARK_BYTES);
  for (let at = 0; at < record.length; at += bytes.length) record.set(bytes, at);
  const started_millis = performance.now();
  try {
    await blobs.write(name, record);
    await readBlob(blobs, name);
    return performance.now() - started_millis;
  } catch {
    return Infinity;
  } finally {
    // A failed write leaves nothing to remove.
    await blobs.remove([name]).catch(ignore);
  }
}
