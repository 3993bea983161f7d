//! Embeddings of prompts in IndexedDB, so that a prompt is encoded once: another seed, size or guidance needs no text encoder. Keyed by
//! text encoder, cleaned prompt and length; the least recently used are deleted beyond a size. Knows nothing of their contents.
import { type DBSchema, type IDBPDatabase, openDB } from 'idb';
import type { PromptCacheSize } from '../engine/protocol.gen';
import { sha256Of } from './sha256';
import { type Manifest, shardsOf } from './store';

/** The most bytes of embeddings that are kept: about 100 long prompts of T5-XXL. */
const CACHE_BYTES = 64 << 20;

interface Schema extends DBSchema {
  /** An entry of each prompt: reading their sizes reads no embeddings. */
  entries: { key: string; value: Entry; indexes: { used_at: number } };
  embeds: { key: string; value: Uint8Array<ArrayBuffer> };
}

interface Entry {
  key: string;
  bytes: number;
  used_at: number;
}

export class PromptCache {
  private constructor(
    private readonly database: IDBPDatabase<Schema> | undefined,
    private readonly memory = new Map<string, Uint8Array<ArrayBuffer>>(),
  ) {}

  /** Opens the cache; in memory where the browser persists nothing, or `is_persistent` is false. */
  static async open(is_persistent: boolean): Promise<PromptCache> {
    if (!is_persistent) return new PromptCache(undefined);
    const opening = openDB<Schema>('pixart-web-prompts', 1, {
      upgrade(database) {
        database.createObjectStore('entries', { keyPath: 'key' }).createIndex('used_at', 'used_at');
        database.createObjectStore('embeds');
      },
    });
    return new PromptCache(await opening.catch(() => undefined));
  }

  async get(key: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
    if (this.database === undefined) return this.memory.get(key);
    const bytes = await this.database.get('embeds', key);
    if (bytes !== undefined) await this.database.put('entries', { key, bytes: bytes.length, used_at: Date.now() });
    return bytes;
  }

  async put(key: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    if (this.database === undefined) return void this.memory.set(key, bytes);
    const transaction = this.database.transaction(['entries', 'embeds'], 'readwrite');
    const [entries, embeds] = [transaction.objectStore('entries'), transaction.objectStore('embeds')];
    const writes: Promise<unknown>[] = [entries.put({ key, bytes: bytes.length, used_at: Date.now() }), embeds.put(bytes, key)];
    const all = await entries.index('used_at').getAll();
    let total = all.reduce((sum, entry) => sum + entry.bytes, 0);
    for (const entry of all) {
      if (total <= CACHE_BYTES || entry.key === key) break;
      writes.push(entries.delete(entry.key), embeds.delete(entry.key));
      total -= entry.bytes;
    }
    await Promise.all([...writes, transaction.done]);
  }

  async size(): Promise<PromptCacheSize> {
    const all = this.database === undefined ? [...this.memory.values()].map(({ length }) => length) : await this.sizes(this.database);
    return { prompts: all.length, bytes: all.reduce((sum, bytes) => sum + bytes, 0) };
  }

  private async sizes(database: IDBPDatabase<Schema>): Promise<number[]> {
    return (await database.getAll('entries')).map(({ bytes }) => bytes);
  }

  async clear(): Promise<void> {
    this.memory.clear();
    if (this.database === undefined) return;
    const transaction = this.database.transaction(['entries', 'embeds'], 'readwrite');
    await Promise.all([transaction.objectStore('entries').clear(), transaction.objectStore('embeds').clear(), transaction.done]);
  }
}

/** Returns the identity of the text encoder that a manifest lists: a hash of its shards' hashes and its tokenizer's. */
export async function textEncoderId(manifest: Manifest): Promise<string> {
  const hashes = shardsOf(manifest, ['text_encoder', 'tokenizer']).map(({ sha256 }) => sha256);
  return sha256Of(new TextEncoder().encode(hashes.join('\n')));
}

/** Returns the key of a cleaned prompt of at most `max_sequence_length` tokens. */
export async function promptKey(text_encoder: string, max_sequence_length: number | undefined, prompt: string): Promise<string> {
  return sha256Of(new TextEncoder().encode(`${text_encoder}\n${max_sequence_length ?? 'default'}\n${prompt}`));
}
