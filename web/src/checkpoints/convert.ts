//! Conversion of a diffusers folder: safetensors are read in ranges and converted by the engine into shards, which are stored one by
//! one. An interrupted conversion resumes after its last shard.
import { Engine } from '../../pkg/pixart_browser.js';
import { fault, faultOf } from '../engine/fault';
import type { Fault, LoadProgress, WeightDtype } from '../engine/protocol.gen';
import { type CheckpointRow, type ConversionState, quotaFault } from './blob-store';
import { type Description, describe, isSameVersion } from './describe';
import { FileChangedError } from './http';
import { ProgressReporter } from './progress';
import { sha256Of } from './sha256';
import type { Source } from './source';
import type { Manifest, Read, Shard, Store } from './store';

/** A part of a checkpoint that is stored and loaded at once: transformer and VAE decoder, or one of the encoders. */
export type Part = 'denoiser' | 'text_encoder' | 'vae_encoder';

/** The manifest of a stored part, with its text. */
export type StoredManifest = { text: string; manifest: Manifest };

/** A LoRA as the engine reads it. */
export interface LoraFile {
  name: string;
  scale: number;
  /** The name of its file. */
  file: string;
  bytes: Uint8Array<ArrayBuffer>;
  /** PEFT's configuration. */
  config?: Uint8Array<ArrayBuffer>;
}

/** Receives the configurations as soon as they are known, with the manifest where there is one. */
export type OnConfigs = (configs: Map<string, Uint8Array>, manifest: string | undefined) => void;

/** Bytes of a shard: a tab holds two shards at once, and a copy of one while it is written. */
const SHARD_BYTES = 16 << 20;
/** Ends a conversion that is only checked, before the weights are read. */
const CHECKED = fault('internal', 'the headers are valid', 'convert the checkpoint');

/** Conversion of one part of a checkpoint. */
export class Conversion {
  private readonly descriptions = new Map<string, Promise<Description>>();

  constructor(
    private readonly store: Store,
    private readonly engine: Engine,
    private readonly dtype: WeightDtype,
    private readonly onProgress: (progress: LoadProgress) => void,
  ) {}

  /** Returns the files of some networks. They are requested once. */
  describe(source: Source, networks: readonly string[]): Promise<Description> {
    const key = `${source.name} ${networks.join()}`;
    const description = this.descriptions.get(key) ?? describe(source, networks);
    this.descriptions.set(key, description);
    return description;
  }

  /** Adds the configuration of a text encoder that has none, derived from the shapes of its weights. */
  async deriveConfig({ files }: Description, networks: readonly string[], read: Read): Promise<void> {
    const config = 'text_encoder/config.json';
    if (!networks.includes('text_encoder') || files.has(config)) return;
    const text = await Engine.derive_text_encoder_config(files, read);
    if (text !== undefined) files.set(config, new TextEncoder().encode(text));
  }

  /** Reads a part's small files and the headers of its weights. Throws the fault that its conversion would begin with. */
  async check(source: Source, part: Part, loras: readonly LoraFile[]): Promise<void> {
    const networks = networksOf(part);
    const description = await this.describe(source, networks);
    const { files, names } = description;
    // A file that arrives once has its header read with its weights.
    if (source.isSequential()) return;
    // Each check reads the headers.
    const headers = new Map<string, ReturnType<Read>>();
    const read: Read = (path, begin, end) => {
      const key = `${path} ${begin} ${end}`;
      const bytes = headers.get(key) ?? source.read(names.get(path) ?? path, begin, end);
      headers.set(key, bytes);
      return bytes;
    };
    await this.deriveConfig(description, networks, read);
    const weight_format = this.engine.conversion_dtype(networks[0] ?? '', files as Map<string, Uint8Array>) as string;
    const conversion = {
      networks,
      weight_format,
      shard_bytes: SHARD_BYTES,
      source: source.title,
      in_file_order: false,
      finished_shards: {},
    };
    const stop = (): Promise<never> => Promise.reject(CHECKED);
    await Engine.convert(conversion, files, read, stop, stop).catch((thrown: unknown) => {
      if (faultOf(thrown).what !== CHECKED.what) throw withNames(faultOf(thrown), names);
    });
    const checked = this.engine.check_headers(part === 'text_encoder', files as Map<string, Uint8Array>, weight_format, read, [...loras]);
    await checked.catch((thrown: unknown) => {
      throw withNames(faultOf(thrown), names);
    });
  }

  /** Converts and stores a part. Throws a fault; finished shards stay stored and are not converted again. */
  async run(source: Source, part: Part, onConfigs: OnConfigs): Promise<StoredManifest> {
    const networks = networksOf(part);
    const key = rowKey(source, part);
    const description = await this.describe(source, networks);
    const { files, names, versions, total } = description;
    await this.deriveConfig(description, networks, (path, begin, end) => source.read(names.get(path) ?? path, begin, end));
    onConfigs(inMemoryFiles(files), undefined);
    const chosen = part === 'denoiser' && this.dtype !== 'auto' ? this.dtype : undefined;
    const weight_format = chosen ?? (this.engine.conversion_dtype(networks[0] ?? '', files as Map<string, Uint8Array>) as string);

    const settings = `${weight_format} ${SHARD_BYTES} ${source.isSequential()}`;
    const before = await this.store.row(key);
    const unfinished = before?.conversion;
    const resumes = unfinished?.settings === settings && isSameVersion(unfinished.versions, versions);
    const state: ConversionState = resumes ? unfinished : { versions, settings, shards: {} };
    const finished = await this.finishedShards(state);
    state.shards = finished;
    const replaced = before !== undefined && !resumes ? before : undefined;
    const row: CheckpointRow = { ...newRow(key, source), converted: true, conversion: state };
    const progress = new ProgressReporter('convert', total, this.onProgress);

    const conversion = {
      networks,
      weight_format,
      shard_bytes: SHARD_BYTES,
      source: source.title,
      in_file_order: source.isSequential(),
      finished_shards: structuredClone(finished),
    };
    const read = async (known_as: string, begin: number, end: number): Promise<Uint8Array> => {
      const path = names.get(known_as) ?? known_as;
      const bytes = await source.read(path, begin, end).catch((thrown: unknown) => {
        if (thrown instanceof FileChangedError)
          throw fault('network', `${source.title}${path} changed during the download`, 'try again: the download starts over');
        throw thrown;
      });
      progress.add(path, bytes.length);
      return bytes;
    };
    const begin = async (bytes: number): Promise<void> => {
      if (replaced !== undefined) {
        await this.store.put(row);
        await this.store.deleteReplaced(replaced);
      }
      await requireStorage(this.store, bytes);
    };
    const put = async (section: string, index: number, bytes: Uint8Array<ArrayBuffer>): Promise<string> => {
      const sha256 = await sha256Of(bytes);
      await this.store.blobs.write(sha256, bytes);
      const shards = (state.shards[section] ??= []);
      shards[index] = { file: `${section}-${String(index).padStart(5, '0')}-${sha256.slice(0, 8)}.bin`, bytes: bytes.length, sha256 };
      await this.store.put(row);
      return sha256;
    };
    const text = await Engine.convert(conversion, files, read, begin, put).catch((thrown: unknown) => {
      throw withNames(faultOf(thrown), names);
    });
    const manifest = JSON.parse(text) as Manifest;
    // Files that never change are not compared with the server's.
    const version = source.isImmutable() ? undefined : JSON.stringify(versions);
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
}

/** Returns a fault with the names that files have at the source. */
function withNames(reason: Fault, names: ReadonlyMap<string, string>): Fault {
  const what = [...names].reduce((text, [known_as, name]) => text.replaceAll(known_as, name), reason.what);
  return { ...reason, what };
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

export function newRow(key: string, { name: checkpoint, composition }: Pick<Source, 'name' | 'composition'>): CheckpointRow {
  return { key, checkpoint, composition, manifest: undefined, sections: [], converted: false, saved_at: Date.now(), conversion: undefined };
}
