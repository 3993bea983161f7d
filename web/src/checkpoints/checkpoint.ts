//! A checkpoint on its way into the store: fetched shard by shard where it is packed, converted where it is a folder of
//! safetensors. Resumes what was interrupted, fetches nothing twice, and lets one tab at a time do so.
import { Engine } from '../../pkg/pixart_browser.js';
import { Conversion, held, keyOf, networksOf, room, rowOf, versionOf } from './convert';
import { fault } from '../engine/fault';
import { ask, Changed, rateOf, stream } from './http';
import { Meter } from './progress';
import type { WeightDtype, LoadProgress } from '../engine/protocol.gen';
import { readAll } from './blob-store';
import { FilesSource, HttpSource, whole, type Source } from './source';
import { sha256Of, shardsOf, type Manifest, type Shard, type Store } from './store';

/** What a picture needs of a checkpoint: to draw at all, to read its prompt, to read a picture to draw over. */
export type Part = 'draw' | 'text' | 'encode';

/** A part that is kept: the text of the manifest that lists it. */
export type Kept = { text: string; manifest: Manifest };

/** What of a checkpoint is still to be fetched, and what its networks are told by. */
export interface Survey {
  bytes: number;
  configs: Map<string, Uint8Array>;
  manifest: string | undefined;
  /** A file of it, large enough to time the connection by. */
  sample: { path: string; bytes: number } | undefined;
}

/** Hears of the configurations as soon as they are known, with the manifest where there is one. */
export type Known = (configs: Map<string, Uint8Array>, manifest: string | undefined) => void;

const SECTIONS: Record<Part, readonly string[]> = {
  draw: ['transformer', 'vae_decoder'],
  text: ['text_encoder', 'tokenizer'],
  encode: ['vae_encoder'],
};
const MANIFEST = 'manifest.json';
/** What of a shard is kept while the rest is on its way. */
const PIECE_BYTES = 4 << 20;
const IN_FLIGHT = 4;
/** How often a shard whose bytes are wrong is fetched before that is told. */
const ATTEMPTS = 3;

export class Checkpoints {
  constructor(
    private readonly store: Store,
    private readonly engine: Engine,
    private readonly dtype: WeightDtype,
    private readonly listen: (loading: LoadProgress) => void,
  ) {}

  /** Brings a part of the checkpoint into the store, unless it is there. Throws a fault; what arrived stays. */
  async provide(source: Source, part: Part, known: Known = () => {}): Promise<Kept> {
    const kept = await this.kept(source, part);
    if (kept !== undefined) return this.tellKnown(kept, known);
    return this.alone(source.name, async () => {
      // Another tab may have brought it meanwhile.
      const brought = await this.kept(source, part);
      if (brought !== undefined) return this.tellKnown(brought, known);
      const packed = await this.manifestOf(source);
      if (packed === undefined) return this.conversion().run(source, part, known);
      this.tellKnown(packed, known);
      await this.fetch(source, packed.manifest, SECTIONS[part]);
      const row = await this.store.row(source.name);
      const sections = [...new Set([...(row?.sections ?? []), ...SECTIONS[part]])];
      const version = row?.version ?? (await source.info(MANIFEST))?.version;
      await this.store.put({ ...rowOf(source.name, source.name), version, manifest: packed.text, sections });
      return packed;
    });
  }

  /** What `provide` would have to fetch. Reads descriptions alone. */
  async survey(source: Source, parts: readonly Part[]): Promise<Survey> {
    const kept = await Promise.all(parts.map((part) => this.kept(source, part)));
    const missing = parts.filter((_, at) => kept[at] === undefined);
    const nothing: Survey = { bytes: 0, configs: new Map(), manifest: undefined, sample: undefined };
    // What the reader chose is here, and is read and not fetched.
    if (missing.length === 0 || source instanceof FilesSource) return nothing;
    const packed = await this.manifestOf(source);
    if (packed === undefined) {
      const described = await Promise.all(missing.map((part) => this.conversion().describe(source, networksOf(part))));
      const files = new Map(described.flatMap((part) => [...part.files]));
      const sizes = [...files].filter((file): file is [string, number] => typeof file[1] === 'number');
      const [path, bytes] = sizes.reduce((most, file) => (file[1] > most[1] ? file : most), ['', 0]);
      const manifest = missing.includes('draw') ? undefined : kept.find((part) => part !== undefined)?.text;
      return { bytes: described.reduce((all, { total }) => all + total, 0), configs: held(files), manifest, sample: { path, bytes } };
    }
    const shards = await this.store.missing(packed.manifest, missing.flatMap((part) => SECTIONS[part]));
    const [first] = shards;
    const sample = first && { path: first.file, bytes: first.bytes };
    return { ...nothing, bytes: sum(shards), manifest: packed.text, sample };
  }

  /** Notes where another checkpoint is at its address than is kept; one that does not answer is taken for the same. */
  async compare(source: Source): Promise<void> {
    for (const part of ['draw', 'text'] as const) {
      const row = await this.store.row(part === 'draw' ? source.name : keyOf(source, part));
      if (row?.version === undefined || !navigator.onLine) continue;
      const described = async () => versionOf((await this.conversion().describe(source, networksOf(part))).versions);
      const now = row.converted ? described() : source.info(MANIFEST).then((info) => info?.version);
      const version = await now.catch(() => undefined);
      await this.store.put({ ...row, changed: version !== undefined && version !== row.version });
    }
  }

  /** Bytes per second of the connection to `source`, where something is fetched from it. */
  async rate(source: Source, { sample }: Survey): Promise<number | undefined> {
    return sample === undefined ? undefined : rateOf(source.name + sample.path, sample.bytes);
  }

  /** The source's manifest; `undefined` where it is a folder to be converted. */
  private async manifestOf(source: Source): Promise<Kept | undefined> {
    const row = await this.store.row(source.name);
    const kept = row?.converted === false ? row.manifest : undefined;
    const bytes = kept === undefined ? await whole(source, MANIFEST) : undefined;
    const text = kept ?? (bytes && new TextDecoder().decode(bytes));
    if (text === undefined || !isJson(text)) return undefined;
    Engine.validate_manifest(text);
    return { text, manifest: JSON.parse(text) as Manifest };
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

  private conversion(): Conversion {
    return new Conversion(this.store, this.engine, this.dtype, this.listen);
  }

  /** Fetches the shards of some sections that are not here, a few at a time. */
  private async fetch(source: Source, manifest: Manifest, sections: readonly string[]): Promise<void> {
    const all = shardsOf(manifest, sections);
    const missing = await this.store.missing(manifest, sections);
    await room(this.store, sum(missing));
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
}

function sum(shards: readonly Shard[]): number {
  return shards.reduce((bytes, shard) => bytes + shard.bytes, 0);
}

/** Whether a file looks like a manifest. A server may answer with a page where it has none. */
function isJson(text: string): boolean {
  return /^\s*\{/.test(text);
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
