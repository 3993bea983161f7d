//! Conversion of a diffusers folder: safetensors are read in ranges and converted by the engine into shards, which are stored one by
//! one. An interrupted conversion resumes after its last shard.
import { Engine } from '../../pkg/pixart_browser.js';
import { fault, isRecord } from '../engine/fault';
import type { LoadProgress, WeightDtype } from '../engine/protocol.gen';
import { type CheckpointRow, type ConversionState, quotaFault } from './blob-store';
import { FileChangedError } from './http';
import { ProgressReporter } from './progress';
import { HttpSource, readFile, type Source } from './source';
import { type Manifest, type Shard, type Store, sha256Of } from './store';

/** A part of a checkpoint that is stored and loaded at once: transformer and VAE decoder, or one of the encoders. */
export type Part = 'denoiser' | 'text_encoder' | 'vae_encoder';

/** The manifest of a stored part, with its text. */
export type StoredManifest = { text: string; manifest: Manifest };

/** Receives the configurations as soon as they are known, with the manifest where there is one. */
export type OnConfigs = (configs: Map<string, Uint8Array>, manifest: string | undefined) => void;

const CONFIGS = ['transformer/config.json', 'vae/config.json', 'scheduler/scheduler_config.json'];
/** Files that a folder may lack. */
const OPTIONAL = ['model_index.json', 'text_encoder/config.json'];
const TOKENIZERS = ['tokenizer/tokenizer.json', 'tokenizer/spiece.model'];
const STEMS: Record<string, string> = {
  transformer: 'transformer/diffusion_pytorch_model',
  vae: 'vae/diffusion_pytorch_model',
  text_encoder: 'text_encoder/model',
};
/** Bytes of a shard: a tab holds two shards at once, and a copy of one while it is written. */
const SHARD_BYTES = 16 << 20;

/** Conversion of one part of a checkpoint. */
export class Conversion {
  constructor(
    private readonly store: Store,
    private readonly engine: Engine,
    private readonly dtype: WeightDtype,
    private readonly onProgress: (progress: LoadProgress) => void,
  ) {}

  /** Converts and stores a part. Throws a fault; finished shards stay stored and are not converted again. */
  async run(source: Source, part: Part, onConfigs: OnConfigs): Promise<StoredManifest> {
    const networks = networksOf(part);
    const key = rowKey(source, part);
    const { files, versions, total } = await this.describe(source, networks);
    onConfigs(inMemoryFiles(files), undefined);
    const chosen = part === 'denoiser' && this.dtype !== 'auto' ? this.dtype : undefined;
    const weight_format = chosen ?? (this.engine.conversion_dtype(networks[0] ?? '', files as Map<string, Uint8Array>) as string);

    const settings = `${weight_format} ${SHARD_BYTES} ${source.isSequential()}`;
    const before = await this.store.row(key);
    const unfinished = before?.conversion;
    const resumes = unfinished?.settings === settings && versionOf(unfinished.versions) === versionOf(versions);
    const state: ConversionState = resumes ? unfinished : { versions, settings, shards: {} };
    const finished = await this.finishedShards(state);
    state.shards = finished;
    const row: CheckpointRow = { ...newRow(key, source.name), converted: true, conversion: state };
    const progress = new ProgressReporter('convert', total, this.onProgress);

    const conversion = {
      networks,
      weight_format,
      shard_bytes: SHARD_BYTES,
      source: source.name,
      in_file_order: source.isSequential(),
      finished_shards: structuredClone(finished),
    };
    const read = async (path: string, begin: number, end: number): Promise<Uint8Array> => {
      const bytes = await source.read(path, begin, end).catch((thrown: unknown) => {
        if (thrown instanceof FileChangedError)
          throw fault('network', `${source.name}${path} changed during the download`, 'try again: the download starts over');
        throw thrown;
      });
      progress.add(path, bytes.length);
      return bytes;
    };
    const begin = (bytes: number): Promise<void> => requireStorage(this.store, bytes);
    const put = async (section: string, index: number, bytes: Uint8Array<ArrayBuffer>): Promise<string> => {
      const sha256 = await sha256Of(bytes);
      await this.store.blobs.write(sha256, bytes);
      const shards = (state.shards[section] ??= []);
      shards[index] = { file: `${section}-${String(index).padStart(5, '0')}-${sha256.slice(0, 8)}.bin`, bytes: bytes.length, sha256 };
      await this.store.put(row);
      return sha256;
    };
    const text = await Engine.convert(conversion, files, read, begin, put);
    const manifest = JSON.parse(text) as Manifest;
    // Local files have no version on a server.
    const version = source instanceof HttpSource ? versionOf(versions) : undefined;
    await this.store.put({ ...row, version, manifest: text, conversion: undefined, sections: manifest.sections.map(({ name }) => name) });
    return { text, manifest };
  }

  /** Returns the finished shards of an interrupted conversion, up to the first that is missing. */
  private async finishedShards(state: ConversionState): Promise<ConversionState['shards']> {
    const sizes = await this.store.blobs.sizes();
    const isStored = (shard: Shard | undefined): shard is Shard => shard !== undefined && sizes.get(shard.sha256) === shard.bytes;
    return Object.fromEntries(
      Object.entries(state.shards).map(([section, shards]) => {
        const gap = shards.findIndex((shard) => !isStored(shard));
        return [section, gap < 0 ? shards : shards.slice(0, gap)];
      }),
    );
  }

  /** Returns the files of some networks: small files with their bytes, large ones with their length. */
  async describe(source: Source, networks: string[]) {
    const files = new Map<string, Uint8Array | number>();
    const versions: Record<string, string> = {};
    let total = 0;
    const readSmall = async (path: string): Promise<boolean> => {
      const bytes = await readFile(source, path);
      if (bytes !== undefined) files.set(path, bytes);
      return bytes !== undefined;
    };
    const missingFile = (path: string) => fault('network', `${source.name} has no ${path}`, 'check the address of the checkpoint folder');
    const addLarge = async (path: string): Promise<void> => {
      const info = await source.info(path);
      if (info === undefined) throw missingFile(path);
      files.set(path, info.bytes);
      versions[path] = `${info.version} ${info.bytes}`;
      total += info.bytes;
    };
    const weights = async (stem: string): Promise<void> => {
      const [single, index] = [`${stem}.safetensors`, `${stem}.safetensors.index.json`];
      if ((await source.info(single)) !== undefined) return addLarge(single);
      if (!(await readSmall(index))) throw missingFile(single);
      const folder = stem.slice(0, stem.lastIndexOf('/') + 1);
      await Promise.all(filesOf(index, files.get(index) as Uint8Array).map((file) => addLarge(folder + file)));
    };
    const config = async (path: string): Promise<void> => {
      if (!(await readSmall(path)) && !OPTIONAL.includes(path)) throw missingFile(path);
    };
    const tokenizer = async (): Promise<void> => {
      for (const path of TOKENIZERS) if (await readSmall(path)) return;
      throw missingFile(TOKENIZERS.join(' and no '));
    };
    const with_text = networks.includes('text_encoder');
    const configs = with_text ? ['text_encoder/config.json', 'model_index.json'] : [...CONFIGS, ...OPTIONAL];
    await Promise.all([
      ...configs.map(config),
      ...(with_text ? [tokenizer()] : []),
      ...networks.map((network) => weights(STEMS[network] ?? network)),
    ]);
    // Sorted, so that they can be compared as text.
    return { files, versions: Object.fromEntries(Object.entries(versions).sort()), total };
  }
}

/** Throws a fault where less than `bytes` of the quota are free. */
export async function requireStorage(store: Store, bytes: number): Promise<void> {
  const free = await freeStorageBytes(store);
  if (free !== undefined && free < bytes) throw quotaFault(bytes, free);
}

/** Returns the free bytes of the quota, where the browser reports it. */
export async function freeStorageBytes(store: Store): Promise<number | undefined> {
  if (store.kind === 'memory') return undefined;
  const { quota, usage = 0 } = (await navigator.storage?.estimate?.()) ?? {};
  return quota === undefined ? undefined : quota - usage;
}

/** Returns the versions of a folder's files as one text. */
export function versionOf(versions: Record<string, string>): string {
  return JSON.stringify(versions);
}

/** Returns the networks of a diffusers folder that a part is converted from. */
export function networksOf(part: Part): string[] {
  return part === 'text_encoder' ? ['text_encoder'] : ['transformer', 'vae'];
}

/** Returns the files whose bytes are known. */
export function inMemoryFiles(files: ReadonlyMap<string, Uint8Array | number>): Map<string, Uint8Array> {
  return new Map([...files].filter((file): file is [string, Uint8Array] => file[1] instanceof Uint8Array));
}

/** Returns the key of a part's row. A folder's text encoder is converted separately. */
export function rowKey(source: Source, part: Part): string {
  return part === 'text_encoder' ? `${source.name}#text` : source.name;
}

export function newRow(key: string, checkpoint: string): CheckpointRow {
  return { key, checkpoint, manifest: undefined, sections: [], converted: false, saved_at: Date.now(), conversion: undefined };
}

/** Returns the distinct file names in a shard index's `weight_map`. */
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
