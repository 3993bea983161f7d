//! Checkpoints between a source and the store: packed ones are downloaded shard by shard, diffusers folders are converted.
//! Interrupted downloads resume, nothing is downloaded twice, and one tab at a time downloads a checkpoint.
import { Engine } from '../../pkg/pixart_browser.js';
import { fault } from '../engine/fault';
import type { LoadProgress, WeightDtype } from '../engine/protocol.gen';
import { readBlob } from './blob-store';
import { ComponentSource, type PartSources } from './component-source';
import {
  Conversion,
  inMemoryFiles,
  type LoraFile,
  networksOf,
  newRow,
  type OnConfigs,
  type Part,
  requireStorage,
  rowKey,
  type StoredManifest,
} from './convert';
import { describe, isSameVersion } from './describe';
import { FileChangedError, isRefusal, measureRate, refusalFault, requestFile, stream } from './http';
import { ProgressReporter } from './progress';
import { isOutdated, MANIFEST, markCurrent, mayBeManifest } from './revalidate';
import { sha256Of } from './sha256';
import { FilesSource, HttpSource, readFile, type Source } from './source';
import { DOWNLOAD_LOCK, type Manifest, type Shard, type Store, shardsOf } from './store';

/** A download that is still to be made: its size, and the configurations of the networks. */
export interface Download {
  bytes: number;
  configs: Map<string, Uint8Array>;
  manifest: string | undefined;
  /** A file that is large enough to measure the connection with. */
  sample: { url: string; bytes: number } | undefined;
}

const SECTIONS: Record<Part, readonly string[]> = {
  denoiser: ['transformer', 'vae_decoder'],
  text_encoder: ['text_encoder', 'tokenizer'],
  vae_encoder: ['vae_encoder'],
};
/** Interval at which an unfinished shard is stored, so that its download can resume. */
const PIECE_BYTES = 4 << 20;
const CONCURRENT_DOWNLOADS = 4;
/** Downloads of a shard whose hash is wrong, before that is a fault. */
const MAX_ATTEMPTS = 3;

export class Checkpoints {
  private readonly conversion: Conversion;

  constructor(
    private readonly store: Store,
    engine: Engine,
    private readonly dtype: WeightDtype,
    private readonly onProgress: (progress: LoadProgress) => void,
  ) {
    this.conversion = new Conversion(store, engine, dtype, onProgress);
  }

  /** Checks all parts before the first is downloaded: small files and headers are read. Throws a fault. */
  async check(sources: PartSources, parts: readonly Part[], loras: readonly LoraFile[] = []): Promise<void> {
    for (const part of parts) {
      const source = sources[part];
      if ((await this.stored(source, part)) !== undefined) continue;
      if (source instanceof ComponentSource) await source.refusePacked();
      const packed = await this.manifestOf(source);
      const lacking = packed && SECTIONS[part].find((name) => packed.manifest.sections.every((section) => section.name !== name));
      if (lacking !== undefined) {
        const what = `${source.title}${MANIFEST} lists no ${lacking}`;
        throw fault('bad_weights', what, 'pack the checkpoint again from a folder that has it, or let a companion encode prompts');
      }
      if (packed === undefined) await this.conversion.check(source, part, part === 'denoiser' ? loras : []);
    }
  }

  /** Stores a part of the checkpoint, unless it is stored. Throws a fault; finished shards stay stored. */
  async provide(source: Source, part: Part, onConfigs: OnConfigs = () => {}): Promise<StoredManifest> {
    const stored = await this.stored(source, part);
    if (stored !== undefined) return this.reportConfigs(stored, onConfigs);
    return this.withLock(source.name, async () => {
      // Another tab may have stored it while this one waited for the lock.
      const stored = await this.stored(source, part);
      if (stored !== undefined) return this.reportConfigs(stored, onConfigs);
      const packed = await this.manifestOf(source);
      if (packed === undefined) {
        const converted = await this.conversion.run(source, part, onConfigs);
        await this.deleteUnidentified(source);
        markCurrent(rowKey(source, part));
        return converted;
      }
      this.reportConfigs(packed, onConfigs);
      await this.download(source, packed.manifest, SECTIONS[part]);
      const row = await this.store.row(source.name);
      const earlier = row?.manifest === packed.text ? row : undefined;
      const sections = [...new Set([...(earlier?.sections ?? []), ...SECTIONS[part]])];
      const version = earlier?.version ?? (await source.info(MANIFEST))?.version;
      await this.store.put({ ...newRow(source.name, source), version, manifest: packed.text, sections });
      if (row !== undefined && earlier === undefined) await this.store.deleteReplaced(row);
      await this.deleteUnidentified(source);
      markCurrent(source.name);
      return packed;
    });
  }

  /** Deletes what an earlier version stored of a local folder under its name alone: nothing tells whether it is the same folder. */
  private async deleteUnidentified(source: Source): Promise<void> {
    const name = source.name.replace(/#[0-9a-f]*\/$/, '/');
    if (source instanceof FilesSource && name !== source.name) await this.store.delete(name);
  }

  /** Returns what `provide` would download. Reads manifests, configurations and a text encoder's header only. */
  async estimateDownload(sources: PartSources, parts: readonly Part[]): Promise<Download> {
    const download: Download = { bytes: 0, configs: new Map(), manifest: undefined, sample: undefined };
    const addSample = (url: string | undefined, bytes: number): void => {
      if (url !== undefined && bytes > (download.sample?.bytes ?? 0)) download.sample = { url, bytes };
    };
    const shards = new Set<string>();
    for (const part of parts) {
      const source = sources[part];
      const stored = await this.stored(source, part);
      const packed = stored ?? (await this.manifestOf(source));
      if (part === 'denoiser') download.manifest = packed?.text;
      if (packed === undefined) {
        const description = await this.conversion.describe(source, networksOf(part));
        const { files, names } = description;
        if (!source.isSequential())
          await this.conversion.deriveConfig(description, networksOf(part), (path, begin, end) =>
            source.read(names.get(path) ?? path, begin, end),
          );
        for (const [known_as, bytes] of files) {
          const path = names.get(known_as) ?? known_as;
          // Local files are read, not downloaded.
          if (typeof bytes !== 'number' || source.isLocal(path)) continue;
          download.bytes += bytes;
          addSample(source.urlOf?.(path), bytes);
        }
        for (const [path, bytes] of inMemoryFiles(files)) download.configs.set(path, bytes);
      } else if (stored === undefined && !(source instanceof FilesSource)) {
        for (const shard of await this.store.missing(packed.manifest, SECTIONS[part])) {
          if (shards.has(shard.sha256)) continue;
          shards.add(shard.sha256);
          download.bytes += shard.bytes;
          addSample(source.urlOf?.(shard.file), shard.bytes);
        }
      }
    }
    return download;
  }

  /** Records whether the server's checkpoint differs from the stored one. A server that does not answer counts as unchanged. */
  async checkForUpdate(sources: PartSources): Promise<void> {
    for (const part of ['denoiser', 'text_encoder'] as const) {
      const source = sources[part];
      const row = await this.store.row(part === 'denoiser' ? source.name : rowKey(source, part));
      if (row?.version === undefined || !navigator.onLine) continue;
      const { version } = row;
      const isSame = async (): Promise<boolean> => {
        if (!row.converted) return [undefined, version].includes((await source.info(MANIFEST))?.version);
        return isSameVersion(JSON.parse(version) as Record<string, string>, (await describe(source, networksOf(part))).versions);
      };
      // A server that does not answer counts as unchanged.
      const changed = !(await isSame().catch(() => true));
      await this.store.put({ ...row, changed });
    }
  }

  /** Measures the bytes per second of the connection; `undefined` where nothing is to be downloaded. */
  async measureRate({ sample }: Download): Promise<number | undefined> {
    return sample && measureRate(sample.url, sample.bytes);
  }

  /** Returns the source's manifest; `undefined` for a diffusers folder, which has to be converted. */
  private async manifestOf(source: Source): Promise<StoredManifest | undefined> {
    const row = await this.store.row(source.name);
    const is_valid = row?.converted === false && !(await isOutdated(source, row));
    const stored = is_valid ? row.manifest : undefined;
    const bytes = stored === undefined ? await readFile(source, MANIFEST) : undefined;
    const text = stored ?? (bytes && new TextDecoder().decode(bytes));
    if (text === undefined || !mayBeManifest(text)) return undefined;
    Engine.validate_manifest(text);
    return { text, manifest: JSON.parse(text) as Manifest };
  }

  /** Returns the manifest of a part, where all its shards are stored. */
  async stored(source: Source, part: Part): Promise<StoredManifest | undefined> {
    for (const key of [source.name, rowKey(source, 'text_encoder')]) {
      const row = await this.store.row(key);
      if (row?.manifest === undefined) continue;
      const manifest = JSON.parse(row.manifest) as Manifest;
      const names = manifest.sections.map(({ name }) => name);
      const wanted = SECTIONS[part].filter((name) => names.includes(name));
      // A format that was chosen at another time is not the one that is chosen now.
      const format = manifest.weight_format ?? manifest.precision;
      if (part === 'denoiser' && row.converted && this.dtype !== 'auto' && format !== this.dtype) continue;
      if (wanted.length === 0 || !SECTIONS[part].every((name) => row.sections.includes(name))) continue;
      if ((await this.store.missing(manifest, wanted)).length > 0 || (await isOutdated(source, row))) continue;
      return { text: row.manifest, manifest };
    }
    return undefined;
  }

  private reportConfigs(stored: StoredManifest, onConfigs: OnConfigs): StoredManifest {
    onConfigs(new Map(), stored.text);
    return stored;
  }

  /** Runs `work` while no other tab works on this checkpoint. */
  private async withLock<T>(name: string, work: () => Promise<T>): Promise<T> {
    if (navigator.locks === undefined) return work();
    const lock = `${DOWNLOAD_LOCK}${name}`;
    const is_held = (await navigator.locks.query()).held?.some((other) => other.name === lock) ?? false;
    if (is_held) new ProgressReporter('wait', null, this.onProgress).report(name);
    return navigator.locks.request(lock, work);
  }

  /** Downloads the missing shards of some sections, several at a time. */
  private async download(source: Source, manifest: Manifest, sections: readonly string[]): Promise<void> {
    const all = shardsOf(manifest, sections);
    const missing = await this.store.missing(manifest, sections);
    await requireStorage(this.store, sumBytes(missing));
    const progress = new ProgressReporter('fetch', sumBytes(all), this.onProgress);
    progress.add(missing[0]?.file ?? '', sumBytes(all) - sumBytes(missing));
    const sizes = await this.store.blobs.sizes();
    const queue = missing.values();
    const failures: unknown[] = [];
    const work = async (): Promise<void> => {
      for (const shard of queue) {
        if (failures.length > 0) return;
        await this.downloadShard(source, shard, sizes, progress).catch((thrown: unknown) => failures.push(thrown));
      }
    };
    await Promise.all(Array.from({ length: CONCURRENT_DOWNLOADS }, work));
    if (failures.length > 0) throw failures[0];
  }

  /** Downloads one shard, after the pieces of it that are stored. It is stored once its hash is right. */
  private async downloadShard(source: Source, shard: Shard, sizes: ReadonlyMap<string, number>, progress: ProgressReporter): Promise<void> {
    const { file, bytes, sha256 } = shard;
    const { blobs } = this.store;
    const pieces = [...sizes.keys()].filter((name) => name.startsWith(`${sha256}.`));
    const buffer = new Uint8Array(bytes);
    let [at, stored, counted] = [0, 0, 0];
    const count = (): void => {
      if (at > counted) progress.add(file, at - counted);
      counted = Math.max(counted, at);
    };
    for (let size = sizes.get(`${sha256}.0`); size !== undefined && at + size <= bytes; size = sizes.get(`${sha256}.${at}`)) {
      const piece = await readBlob(blobs, `${sha256}.${at}`);
      if (piece?.length !== size) break;
      buffer.set(piece, at);
      stored = at += size;
    }
    count();
    const onChunk = async (chunk: Uint8Array): Promise<void> => {
      buffer.set(chunk, at);
      at += chunk.length;
      count();
      if (at - stored < PIECE_BYTES) return;
      const name = `${sha256}.${stored}`;
      await blobs.write(name, buffer.slice(stored, at));
      pieces.push(name);
      stored = at;
    };
    let problem = '';
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt += 1) {
      try {
        problem = (await this.readShard(source, shard, at, () => (at = stored = 0), onChunk)) ?? '';
      } catch (thrown) {
        if (!(thrown instanceof FileChangedError)) throw thrown;
        problem = 'it changed during the download';
      }
      if (problem === '') {
        const hash = await sha256Of(buffer);
        if (hash === sha256) {
          await blobs.write(sha256, buffer);
          return blobs.remove(pieces);
        }
        problem = `its SHA-256 is ${hash}, and the manifest says ${sha256}`;
      }
      await blobs.remove(pieces.splice(0));
      at = stored = 0;
    }
    throw fault(
      'bad_weights',
      `${source.title}${file}: ${problem}, ${MAX_ATTEMPTS} times`,
      'ask the owner of the server; valid shards stay stored',
    );
  }

  /** Passes the bytes of a shard from `begin` on to `onChunk`; returns what is wrong with the source's file. */
  private async readShard(
    source: Source,
    { file, bytes }: Shard,
    begin: number,
    onRestart: () => void,
    onChunk: (chunk: Uint8Array) => Promise<void>,
  ): Promise<string | undefined> {
    if (begin === bytes) return undefined;
    if (!(source instanceof HttpSource)) {
      const info = await source.info(file);
      if (info === undefined) throw fault('bad_weights', `the manifest names ${file}, which is not there`, 'choose the whole folder');
      if (info.bytes !== bytes) return `it has ${info.bytes} bytes, and the manifest says ${bytes}`;
      await onChunk(await source.read(file, begin, bytes));
      return undefined;
    }
    const url = source.urlOf(file);
    const reply = await requestFile(url, begin);
    if (isRefusal(reply) && reply.status !== 404) throw refusalFault(url, reply);
    if (isRefusal(reply))
      throw fault(
        'bad_weights',
        `the manifest names ${url}, which is not there`,
        'ask the owner of the server; what was downloaded stays stored',
      );
    const reported = reply.file.bytes;
    if (reported !== undefined && reported !== bytes) {
      await reply.response.body?.cancel();
      return `it has ${reported} bytes, and the manifest says ${bytes}`;
    }
    if (reply.begin !== begin) onRestart();
    await stream(url, reply, bytes, onChunk);
    return undefined;
  }
}

function sumBytes(shards: readonly Shard[]): number {
  return shards.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** Returns the bytes of a part's tensors, which are all that is uploaded. */
export function tensorBytes(manifest: Manifest, part: Part): number {
  const tensors = manifest.sections.filter(({ name }) => SECTIONS[part].includes(name)).flatMap((section) => section.tensors);
  return tensors.reduce((sum, { bytes }) => sum + bytes, 0);
}
