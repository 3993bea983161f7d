//! Folders of safetensors on their way into the store: read piece by piece, converted by the engine into shards, which are kept
//! one by one. An interrupted conversion goes on after the last shard that it made.
import { Engine } from '../../pkg/pixart_browser.js';
import type { Kept, Known, Part } from './checkpoint';
import { fault, isRecord } from '../engine/fault';
import { Changed } from './http';
import { Meter } from './progress';
import type { WeightDtype, LoadProgress } from '../engine/protocol.gen';
import { full, type Made, type Row } from './blob-store';
import { HttpSource, whole, type Source } from './source';
import { sha256Of, type Manifest, type Shard, type Store } from './store';

const CONFIGS = ['transformer/config.json', 'vae/config.json', 'scheduler/scheduler_config.json'];
/** Files that a folder may lack. */
const OPTIONAL = ['model_index.json', 'text_encoder/config.json'];
const TOKENIZERS = ['tokenizer/tokenizer.json', 'tokenizer/spiece.model'];
const STEMS: Record<string, string> = {
  transformer: 'transformer/diffusion_pytorch_model',
  vae: 'vae/diffusion_pytorch_model',
  text_encoder: 'text_encoder/model',
};
/** Of the shards that are made here: a tab holds two of them at once, and their bytes once more while they are kept. */
const SHARD_BYTES = 16 << 20;

/** One conversion of one checkpoint's part. */
export class Conversion {
  constructor(
    private readonly store: Store,
    private readonly engine: Engine,
    private readonly dtype: WeightDtype,
    private readonly listen: (loading: LoadProgress) => void,
  ) {}

  /** Brings a part into the store. Throws a fault; the shards that were made stay, and are not made again. */
  async run(source: Source, part: Part, known: Known): Promise<Kept> {
    const networks = networksOf(part);
    const key = keyOf(source, part);
    const { files, versions, total } = await this.describe(source, networks);
    known(held(files), undefined);
    const chosen = part === 'draw' && this.dtype !== 'auto' ? this.dtype : undefined;
    const precision = chosen ?? (this.engine.conversion_dtype(networks[0] ?? '', files as Map<string, Uint8Array>) as string);

    const settings = `${precision} ${SHARD_BYTES} ${source.inFileOrder()}`;
    const before = await this.store.row(key);
    const same = before?.made?.settings === settings && versionOf(before.made.versions) === versionOf(versions);
    const made: Made = same ? (before.made as Made) : { versions, settings, shards: {} };
    const whole = await this.wholeShards(made);
    made.shards = whole;
    const row: Row = { ...rowOf(key, source.name), converted: true, made };
    const meter = new Meter('convert', total, this.listen);

    const conversion = { networks, precision, shard_bytes: SHARD_BYTES, source: source.name, in_file_order: source.inFileOrder(), made: structuredClone(whole) };
    const read = async (path: string, begin: number, end: number): Promise<Uint8Array> => {
      const bytes = await source.read(path, begin, end).catch((thrown: unknown) => {
        if (thrown instanceof Changed) throw fault('network', `${source.name}${path} changed while it was fetched`, 'try again: it begins anew');
        throw thrown;
      });
      meter.add(path, bytes.length);
      return bytes;
    };
    const begin = (bytes: number): Promise<void> => room(this.store, bytes);
    const put = async (section: string, index: number, bytes: Uint8Array<ArrayBuffer>): Promise<string> => {
      const sha256 = await sha256Of(bytes);
      await this.store.shelf.write(sha256, bytes);
      const shards = (made.shards[section] ??= []);
      shards[index] = { file: `${section}-${String(index).padStart(5, '0')}-${sha256.slice(0, 8)}.bin`, bytes: bytes.length, sha256 };
      await this.store.put(row);
      return sha256;
    };
    const text = await Engine.convert(conversion, files, read, begin, put);
    const manifest = JSON.parse(text) as Manifest;
    // What the reader chose has no address to be compared with.
    const version = source instanceof HttpSource ? versionOf(versions) : undefined;
    await this.store.put({ ...row, version, manifest: text, made: undefined, sections: manifest.sections.map(({ name }) => name) });
    return { text, manifest };
  }

  /** The shards of an earlier pass that are still here, as far as none is missing. */
  private async wholeShards(made: Made): Promise<Made['shards']> {
    const sizes = await this.store.shelf.sizes();
    const isWhole = (shard: Shard | undefined): shard is Shard => shard !== undefined && sizes.get(shard.sha256) === shard.bytes;
    return Object.fromEntries(
      Object.entries(made.shards).map(([section, shards]) => {
        const gap = shards.findIndex((shard) => !isWhole(shard));
        return [section, gap < 0 ? shards : shards.slice(0, gap)];
      }),
    );
  }

  /** The files of some networks: small ones whole, large ones by their length. */
  async describe(source: Source, networks: string[]) {
    const files = new Map<string, Uint8Array | number>();
    const versions: Record<string, string> = {};
    let total = 0;
    const hold = async (path: string): Promise<boolean> => {
      const bytes = await whole(source, path);
      if (bytes !== undefined) files.set(path, bytes);
      return bytes !== undefined;
    };
    const refuse = (path: string) => fault('network', `${source.name} has no ${path}`, 'check the address of the checkpoint folder');
    const need = async (path: string): Promise<void> => {
      const info = await source.info(path);
      if (info === undefined) throw refuse(path);
      files.set(path, info.bytes);
      versions[path] = `${info.version} ${info.bytes}`;
      total += info.bytes;
    };
    const weights = async (stem: string): Promise<void> => {
      const [single, index] = [`${stem}.safetensors`, `${stem}.safetensors.index.json`];
      if ((await source.info(single)) !== undefined) return need(single);
      if (!(await hold(index))) throw refuse(single);
      const folder = stem.slice(0, stem.lastIndexOf('/') + 1);
      await Promise.all(filesOf(index, files.get(index) as Uint8Array).map((file) => need(folder + file)));
    };
    const config = async (path: string): Promise<void> => {
      if (!(await hold(path)) && !OPTIONAL.includes(path)) throw refuse(path);
    };
    const tokenizer = async (): Promise<void> => {
      for (const path of TOKENIZERS) if (await hold(path)) return;
      throw refuse(TOKENIZERS.join(' and no '));
    };
    const reads = networks.includes('text_encoder');
    const configs = reads ? ['text_encoder/config.json', 'model_index.json'] : [...CONFIGS, ...OPTIONAL];
    await Promise.all([...configs.map(config), ...(reads ? [tokenizer()] : []), ...networks.map((network) => weights(STEMS[network] ?? network))]);
    // In one order, so that they can be compared as text.
    return { files, versions: Object.fromEntries(Object.entries(versions).sort()), total };
  }
}

/** Refuses before the first byte where the browser offers less than `bytes`. */
export async function room(store: Store, bytes: number): Promise<void> {
  const left = await roomLeft(store);
  if (left !== undefined && left < bytes) throw full(bytes, left);
}

/** Bytes that the browser offers beyond what is kept, where it tells. */
export async function roomLeft(store: Store): Promise<number | undefined> {
  if (store.kind === 'memory') return undefined;
  const { quota, usage = 0 } = (await navigator.storage?.estimate?.()) ?? {};
  return quota === undefined ? undefined : quota - usage;
}

/** What a server said of a folder's files, as one text. */
export function versionOf(versions: Record<string, string>): string {
  return JSON.stringify(versions);
}

/** The networks of a folder that a part is converted from. */
export function networksOf(part: Part): string[] {
  return part === 'text' ? ['text_encoder'] : ['transformer', 'vae'];
}

/** Of described files, those that are here. */
export function held(files: ReadonlyMap<string, Uint8Array | number>): Map<string, Uint8Array> {
  return new Map([...files].filter((file): file is [string, Uint8Array] => file[1] instanceof Uint8Array));
}

/** The name of a part's row. A folder's text encoder is converted by itself. */
export function keyOf(source: Source, part: Part): string {
  return part === 'text' ? `${source.name}#text` : source.name;
}

export function rowOf(key: string, checkpoint: string): Row {
  return { key, checkpoint, manifest: undefined, sections: [], converted: false, saved_at: Date.now(), made: undefined };
}

/** The distinct file names in a shard index's `weight_map`. */
function filesOf(path: string, bytes: Uint8Array): string[] {
  const broken = fault('bad_weights', `${path} is no shard index`, 'it must be JSON with a weight_map of file names');
  let index: unknown;
  try {
    index = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw broken;
  }
  if (!isRecord(index) || !isRecord(index.weight_map)) throw broken;
  const names = new Set<string>();
  for (const name of Object.values(index.weight_map)) {
    if (typeof name !== 'string') throw broken;
    names.add(name);
  }
  return [...names];
}
