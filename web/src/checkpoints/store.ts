//! Checkpoints that are kept: rows that list them, and their shards on a shelf, by content. Verifies, repairs by forgetting
//! what is damaged, deletes. Fetches nothing. Contract: a row is written after everything that it lists.
import { fault } from '../engine/fault';
import type { StoredCheckpoint, StorageBackend } from '../engine/protocol.gen';
import { IndexedDbShelf, MemoryShelf, OpfsShelf, openDatabase, readAll, type Database, type Opened, type Row, type Shelf, type ShelfKind } from './blob-store';

/** As the Rust type of that name; checked there before anything here believes it. */
export interface Manifest {
  precision: string;
  sections: { name: string; dir: string; shard_bytes: number; shards: Shard[]; tensors: { bytes: number }[] }[];
}

export interface Shard {
  file: string;
  bytes: number;
  sha256: string;
}

export type Read = (file: string, begin: number, end: number) => Promise<Uint8Array<ArrayBuffer>>;

/** Bytes with which shelves are compared, and how many times faster the second has to be. */
const TRIAL_BYTES = 8 << 20;
const FASTER = 1.25;
const CHOSEN = 'shelf';

export class Store {
  private constructor(
    readonly shelf: Shelf,
    private readonly database: Database | undefined,
    private readonly memory = new Map<string, Row>(),
  ) {}

  /** The store of this kind; in a window that keeps nothing, memory takes the place of `auto`. */
  static async open(kind: StorageBackend): Promise<Store> {
    if (kind === 'memory') return new Store(new MemoryShelf(), undefined);
    try {
      const database = await openDatabase();
      const choose = (): Promise<Shelf> => shelfOf(kind, database);
      // Tabs that open at once have to choose alike.
      return new Store(await (navigator.locks?.request('pixart-web shelf', choose) ?? choose()), database);
    } catch (thrown) {
      if (kind === 'auto') return new Store(new MemoryShelf(), undefined);
      throw fault('storage', `${kind} cannot be opened: ${String(thrown)}`, 'let the page choose where checkpoints are kept');
    }
  }

  get kind(): ShelfKind {
    return this.shelf.kind;
  }

  async row(key: string): Promise<Row | undefined> {
    return this.database === undefined ? this.memory.get(key) : this.database.get('rows', key);
  }

  async rows(): Promise<Row[]> {
    return this.database === undefined ? [...this.memory.values()] : this.database.getAll('rows');
  }

  async put(row: Row): Promise<void> {
    if (this.database === undefined) this.memory.set(row.key, row);
    else await this.database.put('rows', row);
  }

  private async forget(key: string): Promise<void> {
    this.memory.delete(key);
    await this.database?.delete('rows', key);
  }

  /** The shards of these sections that are not here. */
  async missing(manifest: Manifest, sections: readonly string[]): Promise<Shard[]> {
    const sizes = await this.shelf.sizes();
    return shardsOf(manifest, sections).filter(({ sha256, bytes }) => sizes.get(sha256) !== bytes);
  }

  /** Reads shards of these manifests; the one that follows is read while the one before is used. */
  reader(manifests: readonly Manifest[], passed: (file: string, bytes: number) => void): Read {
    const shards = manifests.flatMap((manifest) => shardsOf(manifest));
    const places = new Map(shards.map(({ file }, at) => [file, at]));
    const held = new Map<number, Promise<Opened>>();
    const hold = (at: number, shard: Shard): Promise<Opened> => {
      const opening = held.get(at) ?? this.record(shard);
      held.set(at, opening);
      return opening;
    };
    const letGo = (at: number): void => {
      held.get(at)?.then((opened) => opened.close(), () => 'it was never open');
      held.delete(at);
    };
    return async (file, begin, end) => {
      const at = places.get(file);
      const shard = shards[at ?? -1];
      if (at === undefined || shard === undefined) throw fault('internal', `${file} is in no manifest`, 'reload the page');
      const opening = hold(at, shard);
      for (const other of held.keys()) if (other !== at && other !== at + 1) letGo(other);
      const bytes = (await opening).read(begin, end);
      const next = shards[at + 1];
      if (next !== undefined) hold(at + 1, next).catch(() => 'told when it is asked for');
      passed(file, bytes.length);
      return bytes;
    };
  }

  private async record({ file, bytes, sha256 }: Shard): Promise<Opened> {
    const found = await this.shelf.open(sha256);
    if (found?.bytes === bytes) return found;
    found?.close();
    if (found !== undefined) await this.shelf.remove([sha256]);
    throw fault('storage', `${file} is no longer in the store`, 'open the checkpoint again: what is missing is fetched again');
  }

  async list(): Promise<StoredCheckpoint[]> {
    const sizes = await this.shelf.sizes();
    const kept = new Map<string, StoredCheckpoint>();
    for (const row of await this.rows()) {
      const { checkpoint, saved_at } = row;
      const before = kept.get(checkpoint) ?? { checkpoint, storage: this.kind, bytes: 0, missing: 0, changed: false, saved_at };
      before.changed ||= row.changed ?? false;
      for (const { bytes, sha256 } of shardsOfRow(row)) {
        if (sizes.get(sha256) === bytes) before.bytes += bytes;
        else before.missing += 1;
      }
      kept.set(checkpoint, before);
    }
    return [...kept.values()];
  }

  /** Hashes every record of a checkpoint and forgets those that are not what they should be. */
  async verify(checkpoint: string): Promise<void> {
    for (const row of await this.rows()) {
      if (row.checkpoint !== checkpoint) continue;
      for (const { sha256 } of shardsOfRow(row)) {
        const bytes = await readAll(this.shelf, sha256);
        if (bytes !== undefined && (await sha256Of(bytes)) !== sha256) await this.shelf.remove([sha256]);
      }
    }
  }

  /** Deletes a checkpoint, and of its records those that no other one shares. */
  async delete(checkpoint: string): Promise<void> {
    const rows = await this.rows();
    const [gone, others] = [rows.filter((row) => row.checkpoint === checkpoint), rows.filter((row) => row.checkpoint !== checkpoint)];
    const shared = new Set(others.flatMap(shardsOfRow).map(({ sha256 }) => sha256));
    const names = gone.flatMap(shardsOfRow).map(({ sha256 }) => sha256);
    const kept = [...(await this.shelf.sizes()).keys()];
    const unshared = names.filter((name) => !shared.has(name));
    await this.shelf.remove(kept.filter((name) => unshared.some((sha256) => name.startsWith(sha256))));
    for (const { key } of gone) await this.forget(key);
  }
}

/** Those of a manifest, or of some of its sections. */
export function shardsOf(manifest: Manifest, sections?: readonly string[]): Shard[] {
  return manifest.sections.filter(({ name }) => sections?.includes(name) ?? true).flatMap(({ shards }) => shards);
}

function shardsOfRow({ manifest, sections, made }: Row): Shard[] {
  if (manifest !== undefined) return shardsOf(JSON.parse(manifest) as Manifest, sections);
  return Object.values(made?.shards ?? {}).flat();
}

export async function sha256Of(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

async function shelfOf(kind: StorageBackend, database: Database): Promise<Shelf> {
  const indexed = new IndexedDbShelf(database);
  if (kind === 'indexeddb') return indexed;
  if (kind === 'opfs') return OpfsShelf.open();
  const chosen = await database.get('settings', CHOSEN);
  if (chosen === 'indexeddb') return indexed;
  const files = await OpfsShelf.open().catch(() => undefined);
  if (files === undefined) return indexed;
  if (chosen === 'opfs') return files;
  const [one, other] = [await trial(indexed), await trial(files)];
  const faster = other * FASTER < one ? files : indexed;
  await database.put('settings', faster.kind, CHOSEN);
  return faster;
}

/** Milliseconds that a shelf takes to keep and read a record; infinite where it fails. */
async function trial(shelf: Shelf): Promise<number> {
  const [name, bytes] = ['trial', crypto.getRandomValues(new Uint8Array(1 << 16))];
  const record = new Uint8Array(TRIAL_BYTES);
  for (let at = 0; at < record.length; at += bytes.length) record.set(bytes, at);
  const began = performance.now();
  try {
    await shelf.write(name, record);
    await readAll(shelf, name);
    return performance.now() - began;
  } catch {
    return Infinity;
  } finally {
    await shelf.remove([name]).catch(() => 'a trial that failed leaves nothing to remove');
  }
}
