//! A checkpoint on its way into the store: fetched shard by shard where it is packed, converted where it is a folder of
//! safetensors. Resumes what was interrupted, fetches nothing twice, and lets one tab at a time do so.
import { Engine } from '../pkg/pixart_browser.js';
import { fault, isRecord } from './fault';
import { ask, Changed, stream } from './http';
import { Meter } from './meter';
import type { ConvertTo, Loading } from './protocol.gen';
import { full, readAll, type Made, type Row } from './shelf';
import { FilesSource, HttpSource, whole, type Source } from './source';
import { sha256Of, shardsOf, type Manifest, type Shard, type Store } from './store';

/** What a picture needs of a checkpoint: to draw at all, to read its prompt, to read a picture to draw over. */
export type Part = 'draw' | 'text' | 'encode';

/** A part that is kept: the text of the manifest that lists it. */
export type Kept = { text: string; manifest: Manifest };

/** Hears of the configurations as soon as they are known, with the manifest where there is one. */
export type Known = (configs: Map<string, Uint8Array>, manifest: string | undefined) => void;

const SECTIONS: Record<Part, readonly string[]> = {
  draw: ['transformer', 'vae_decoder'],
  text: ['text_encoder', 'tokenizer'],
  encode: ['vae_encoder'],
};
const MANIFEST = 'manifest.json';
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
/** What of a shard is kept while the rest is on its way. */
const PIECE_BYTES = 4 << 20;
const IN_FLIGHT = 4;
/** How often a shard whose bytes are wrong is fetched before that is told. */
const ATTEMPTS = 3;

export class Checkpoints {
  constructor(
    private readonly store: Store,
    private readonly engine: Engine,
    private readonly precision: ConvertTo,
    private readonly listen: (loading: Loading) => void,
  ) {}

  /** Brings a part of the checkpoint into the store, unless it is there. Throws a fault; what arrived stays. */
  async provide(source: Source, part: Part, known: Known = () => {}): Promise<Kept> {
    const kept = await this.kept(source, part);
    if (kept !== undefined) return this.tellKnown(kept, known);
    return this.alone(source.name, async () => {
      // Another tab may have brought it meanwhile.
      const brought = await this.kept(source, part);
      if (brought !== undefined) return this.tellKnown(brought, known);
      const row = await this.store.row(source.name);
      const bytes = row?.manifest !== undefined && !row.converted ? new TextEncoder().encode(row.manifest) : await whole(source, MANIFEST);
      if (bytes === undefined) return this.convert(source, part, known);
      const text = new TextDecoder().decode(bytes);
      Engine.check_manifest(text);
      const manifest = JSON.parse(text) as Manifest;
      this.tellKnown({ text, manifest }, known);
      await this.fetch(source, manifest, SECTIONS[part]);
      const sections = [...new Set([...(row?.sections ?? []), ...SECTIONS[part]])];
      await this.store.put({ ...rowOf(source.name, source.name), manifest: text, sections });
      return { text, manifest };
    });
  }

  /** The part, where all of it is kept. */
  private async kept(source: Source, part: Part): Promise<Kept | undefined> {
    for (const key of [source.name, keyOf(source, 'text')]) {
      const row = await this.store.row(key);
      if (row?.manifest === undefined) continue;
      const manifest = JSON.parse(row.manifest) as Manifest;
      const names = manifest.sections.map(({ name }) => name);
      const wanted = SECTIONS[part].filter((name) => names.includes(name));
      if (wanted.length === 0 || !SECTIONS[part].every((name) => row.sections.includes(name))) continue;
      if ((await this.store.missing(manifest, wanted)).length === 0) return { text: row.manifest, manifest };
    }
    return undefined;
  }

  private tellKnown(kept: Kept, known: Known): Kept {
    known(new Map(), kept.text);
    return kept;
  }

  /** Does `work` once no other tab is at work on this checkpoint. */
  private async alone<T>(name: string, work: () => Promise<T>): Promise<T> {
    if (navigator.locks === undefined) return work();
    const lock = `pixart-web ${name}`;
    const held = (await navigator.locks.query()).held?.some((other) => other.name === lock) ?? false;
    if (held) new Meter('wait', null, this.listen).tell(name);
    return navigator.locks.request(lock, work);
  }

  /** Fetches the shards of some sections that are not here, a few at a time. */
  private async fetch(source: Source, manifest: Manifest, sections: readonly string[]): Promise<void> {
    const all = shardsOf(manifest, sections);
    const missing = await this.store.missing(manifest, sections);
    const sum = (shards: Shard[]): number => shards.reduce((bytes, shard) => bytes + shard.bytes, 0);
    await this.room(sum(missing));
    const meter = new Meter('fetch', sum(all), this.listen);
    meter.add(missing[0]?.file ?? '', sum(all) - sum(missing));
    const sizes = await this.store.shelf.sizes();
    const next = missing.values();
    const failed: unknown[] = [];
    const work = async (): Promise<void> => {
      for (const shard of next) {
        if (failed.length > 0) return;
        await this.shard(source, shard, sizes, meter).catch((thrown: unknown) => failed.push(thrown));
      }
    };
    await Promise.all(Array.from({ length: IN_FLIGHT }, work));
    if (failed.length > 0) throw failed[0];
  }

  /** One shard, from where it broke off. Its bytes count once their hash is right. */
  private async shard(source: Source, shard: Shard, sizes: ReadonlyMap<string, number>, meter: Meter): Promise<void> {
    const { file, bytes, sha256 } = shard;
    const { shelf } = this.store;
    const pieces = [...sizes.keys()].filter((name) => name.startsWith(`${sha256}.`));
    const buffer = new Uint8Array(bytes);
    let [at, saved, counted] = [0, 0, 0];
    const count = (): void => {
      if (at > counted) meter.add(file, at - counted);
      counted = Math.max(counted, at);
    };
    for (let size = sizes.get(`${sha256}.0`); size !== undefined && at + size <= bytes; size = sizes.get(`${sha256}.${at}`)) {
      const piece = await readAll(shelf, `${sha256}.${at}`);
      if (piece?.length !== size) break;
      buffer.set(piece, at);
      saved = at += size;
    }
    count();
    const take = async (chunk: Uint8Array): Promise<void> => {
      buffer.set(chunk, at);
      at += chunk.length;
      count();
      if (at - saved < PIECE_BYTES) return;
      const name = `${sha256}.${saved}`;
      await shelf.write(name, buffer.slice(saved, at));
      pieces.push(name);
      saved = at;
    };
    let wrong = '';
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      try {
        wrong = (await this.arrive(source, shard, at, () => (at = saved = 0), take)) ?? '';
      } catch (thrown) {
        if (!(thrown instanceof Changed)) throw thrown;
        wrong = 'it changed while it was fetched';
      }
      if (wrong === '') {
        const hash = await sha256Of(buffer);
        if (hash === sha256) {
          await shelf.write(sha256, buffer);
          return shelf.remove(pieces);
        }
        wrong = `its SHA-256 is ${hash}, and the manifest says ${sha256}`;
      }
      await shelf.remove(pieces.splice(0));
      at = saved = 0;
    }
    throw fault('bad_weights', `${source.name}${file}: ${wrong}, ${ATTEMPTS} times`, 'ask who serves the checkpoint; what is right is kept');
  }

  /** The bytes of a shard from `begin` on, to `take`; says what is wrong with the server's file. */
  private async arrive(
    source: Source,
    { file, bytes }: Shard,
    begin: number,
    anew: () => void,
    take: (chunk: Uint8Array) => Promise<void>,
  ): Promise<string | undefined> {
    if (begin === bytes) return undefined;
    if (!(source instanceof HttpSource)) {
      const info = await source.info(file);
      if (info === undefined) throw fault('bad_weights', `the manifest names ${file}, which is not there`, 'choose the whole folder');
      if (info.bytes !== bytes) return `it has ${info.bytes} bytes, and the manifest says ${bytes}`;
      await take(await source.read(file, begin, bytes));
      return undefined;
    }
    const url = source.name + file;
    const reply = await ask(url, begin);
    if (reply === undefined) throw fault('bad_weights', `the manifest names ${url}, which is not there`, 'ask who serves the checkpoint; what has arrived is kept');
    const told = reply.described.bytes;
    if (told !== undefined && told !== bytes) {
      await reply.response.body?.cancel();
      return `it has ${told} bytes, and the manifest says ${bytes}`;
    }
    if (reply.begin !== begin) anew();
    await stream(url, reply, bytes, take);
    return undefined;
  }

  /** Converts the files of a diffusers folder into shards of its own. */
  private async convert(source: Source, part: Part, known: Known): Promise<Kept> {
    const networks = part === 'text' ? ['text_encoder'] : ['transformer', 'vae'];
    const key = keyOf(source, part);
    const { files, versions, total } = await this.describe(source, networks);
    const configs = new Map([...files].filter((file): file is [string, Uint8Array] => file[1] instanceof Uint8Array));
    known(configs, undefined);
    const chosen = part === 'draw' && this.precision !== 'auto' ? this.precision : undefined;
    const precision = chosen ?? (this.engine.precision(networks[0] ?? '', files as Map<string, Uint8Array>) as string);

    const settings = `${precision} ${SHARD_BYTES} ${source.inFileOrder()}`;
    const before = await this.store.row(key);
    const same = before?.made?.settings === settings && JSON.stringify(before.made.versions) === JSON.stringify(versions);
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
    const begin = (bytes: number): Promise<void> => this.room(bytes);
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
    await this.store.put({ ...row, manifest: text, made: undefined, sections: manifest.sections.map(({ name }) => name) });
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
  private async describe(source: Source, networks: string[]) {
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

  /** Refuses before the first byte where the browser offers less than `bytes`. */
  private async room(bytes: number): Promise<void> {
    if (this.store.kind === 'memory') return;
    const { quota, usage = 0 } = (await navigator.storage?.estimate()) ?? {};
    if (quota !== undefined && quota - usage < bytes) throw full(bytes, quota - usage);
  }
}

/** Bytes of a part's tensors, which are all that is read of it. */
export function tensorBytes(manifest: Manifest, part: Part): number {
  const tensors = manifest.sections.filter(({ name }) => SECTIONS[part].includes(name)).flatMap((section) => section.tensors);
  return tensors.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** A checkpoint by its address, or by what the reader chose. */
export function sourceOf(checkpoint: string, files: ReadonlyMap<string, File> | undefined): Source {
  return files === undefined ? new HttpSource(checkpoint) : new FilesSource(checkpoint, files);
}

function keyOf(source: Source, part: Part): string {
  return part === 'text' ? `${source.name}#text` : source.name;
}

function rowOf(key: string, checkpoint: string): Row {
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
