//! LoRA files in the store: downloaded or copied once, and read from there whenever the transformer is loaded. Knows nothing of their
//! contents but the names of their files.
import { fault } from '../engine/fault';
import type { LoadProgress, LoraSource } from '../engine/protocol.gen';
import { readBlob } from './blob-store';
import { placeOf } from './component-source';
import { type LoraFile, newRow, requireStorage } from './convert';
import type { LocalPlaces } from './place';
import { ProgressReporter } from './progress';
import { sha256Of } from './sha256';
import { type Source, withoutSignature } from './source';
import type { Shard, Store } from './store';

/** The weights of PEFT and of diffusers, and PEFT's configuration. */
const WEIGHTS = ['adapter_model.safetensors', 'pytorch_lora_weights.safetensors'];
const CONFIG = 'adapter_config.json';
/** Bytes that are read at a time. */
const CHUNK_BYTES = 4 << 20;
const SECTION = 'lora';

/** Returns the files of the LoRAs that are not off; stores those that are not stored. */
export async function provideLoras(
  store: Store,
  loras: readonly LoraSource[],
  local: LocalPlaces,
  onProgress: (progress: LoadProgress) => void,
): Promise<LoraFile[]> {
  const files: LoraFile[] = [];
  for (const { source, name, scale } of loras) {
    if (scale === 0) continue;
    const stored = await read(store, withoutSignature(source));
    files.push({ name, scale, ...(stored ?? (await download(store, source, local, onProgress))) });
  }
  return files;
}

type Contents = Omit<LoraFile, 'name' | 'scale'>;

/** Returns a stored LoRA; `undefined` where it, or a part of it, is not stored. */
async function read(store: Store, name: string): Promise<Contents | undefined> {
  const row = await store.row(loraKey(name));
  if (row?.manifest === undefined) return undefined;
  const { sections } = JSON.parse(row.manifest) as { sections: { shards: Shard[] }[] };
  const parts = new Map<string, Uint8Array<ArrayBuffer>>();
  for (const { file, sha256, bytes } of sections[0]?.shards ?? []) {
    const blob = await readBlob(store.blobs, sha256);
    if (blob?.length !== bytes) return undefined;
    parts.set(file, blob);
  }
  return contentsOf(parts);
}

async function download(store: Store, place: string, local: LocalPlaces, onProgress: (progress: LoadProgress) => void): Promise<Contents> {
  const { source, file } = placeOf(place, local);
  const parts = new Map<string, Uint8Array<ArrayBuffer>>();
  const found = await firstOf(source, file === undefined ? [...WEIGHTS, ...(source.weightFiles?.('') ?? [])] : [file]);
  parts.set(found.path, await readWhole(source, found.path, found.bytes, onProgress));
  // A file that stands alone may have PEFT's configuration beside it.
  const config = await source.info(CONFIG);
  if (config !== undefined) parts.set(CONFIG, await source.read(CONFIG, 0, config.bytes));
  const contents = contentsOf(parts);
  if (contents === undefined) throw source.missing(found.path);
  await put(store, withoutSignature(place), parts);
  return contents;
}

async function firstOf(source: Source, paths: readonly string[]): Promise<{ path: string; bytes: number }> {
  for (const path of paths) {
    const info = await source.info(path);
    if (info !== undefined) return { path, bytes: info.bytes };
  }
  const { code, what } = source.missing(...new Set(paths));
  throw fault(code, what, 'name the `.safetensors` file of the LoRA itself');
}

async function readWhole(source: Source, path: string, length: number, onProgress: (progress: LoadProgress) => void) {
  const progress = new ProgressReporter('fetch', length, onProgress);
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at += CHUNK_BYTES) {
    const chunk = await source.read(path, at, Math.min(length, at + CHUNK_BYTES));
    bytes.set(chunk, at);
    progress.add(path, chunk.length);
  }
  return bytes;
}

/** Stores a LoRA as a checkpoint of one section, so that it is listed, verified and deleted as one. */
async function put(store: Store, name: string, parts: ReadonlyMap<string, Uint8Array<ArrayBuffer>>): Promise<void> {
  const shards: Shard[] = [];
  await requireStorage(
    store,
    [...parts.values()].reduce((sum, { length }) => sum + length, 0),
  );
  for (const [file, bytes] of parts) {
    const sha256 = await sha256Of(bytes);
    await store.blobs.write(sha256, bytes);
    shards.push({ file, bytes: bytes.length, sha256 });
  }
  const manifest = JSON.stringify({ sections: [{ name: SECTION, dir: '', shard_bytes: 0, shards, tensors: [] }] });
  await store.put({ ...newRow(loraKey(name), { name }), manifest, sections: [SECTION], converted: true });
}

function contentsOf(parts: ReadonlyMap<string, Uint8Array<ArrayBuffer>>): Contents | undefined {
  const [weights] = [...parts].filter(([file]) => file !== CONFIG);
  const config = parts.get(CONFIG);
  return weights && { file: weights[0], bytes: weights[1], ...(config && { config }) };
}

/** Returns the key of a LoRA's row. */
function loraKey(name: string): string {
  return `lora ${name}`;
}
