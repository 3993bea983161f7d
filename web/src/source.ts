//! Where bytes come from: fetches the files of a checkpoint or golden folder, and reports every chunk. Looks into no
//! file but a shard index.
import { fault, isRecord, messageOf } from './fault';

/** One wanted file, or the alternatives for it in order of preference. */
export type Wanted = readonly string[];

export type Progress = (file: string, loaded_bytes: number, total_bytes: number) => void;

/** What the shaders of a checkpoint depend on. */
export const CONFIGS: readonly Wanted[] = [['text_encoder/config.json'], ['transformer/config.json'], ['vae/config.json']];

/** The rest of a diffusers pipeline folder. */
export const WEIGHTS: readonly Wanted[] = [
  ['model_index.json'],
  ['scheduler/scheduler_config.json'],
  ['tokenizer/tokenizer.json', 'tokenizer/spiece.model'],
  ['text_encoder/model.safetensors', 'text_encoder/model.safetensors.index.json'],
  ['transformer/diffusion_pytorch_model.safetensors', 'transformer/diffusion_pytorch_model.safetensors.index.json'],
  ['vae/diffusion_pytorch_model.safetensors', 'vae/diffusion_pytorch_model.safetensors.index.json'],
];

/** What reads a picture to draw over. */
export const ENCODING: readonly Wanted[] = [
  ['vae/config.json'],
  ['vae/diffusion_pytorch_model.safetensors', 'vae/diffusion_pytorch_model.safetensors.index.json'],
];

/** A golden variant: what was recorded, and the pipeline it was recorded from. */
export const GOLDEN: readonly Wanted[] = [
  ['meta.json'],
  ['text.safetensors'],
  ['dit_step0.safetensors'],
  ['sampling.safetensors'],
  ['vae.safetensors'],
  ['image.safetensors'],
  ...[...CONFIGS, ...WEIGHTS].map((wanted) => wanted.map((path) => `pipeline/${path}`)),
];

/**
 * Fetches `wanted` from the folder at `base` (ending in `/`), by path. A file that is nowhere is refused, or with
 * `missing` `'skip'` left to whoever reads the folder.
 */
export async function fetchFolder(
  base: string,
  wanted: readonly Wanted[],
  missing: 'refuse' | 'skip',
  progress: Progress,
): Promise<Map<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>();
  let loaded_bytes = 0;
  let total_bytes = 0;

  const add = async (paths: Wanted): Promise<void> => {
    const found = await firstOf(base, paths);
    if (found === undefined) {
      if (missing === 'skip') return;
      throw fault('network', `${base} has no ${paths.join(' and no ')}`, 'check the address of the checkpoint folder');
    }
    const { path, response } = found;
    total_bytes += Number(response.headers.get('content-length') ?? 0);
    const bytes = await bodyOf(response, (chunk_bytes) => {
      loaded_bytes += chunk_bytes;
      // A compressed or chunked reply announces fewer bytes than arrive.
      total_bytes = Math.max(total_bytes, loaded_bytes);
      progress(path, loaded_bytes, total_bytes);
    });
    files.set(path, bytes);
    if (path.endsWith('.index.json')) {
      const folder = path.slice(0, path.lastIndexOf('/') + 1);
      await Promise.all(shardsOf(path, bytes).map((shard) => add([folder + shard])));
    }
  };

  await Promise.all(wanted.map(add));
  return files;
}

async function firstOf(base: string, paths: Wanted): Promise<{ path: string; response: Response } | undefined> {
  for (const path of paths) {
    const response = await get(base + path);
    if (response.ok) return { path, response };
    await response.body?.cancel();
    if (response.status !== 404) {
      throw fault('network', `${response.url} answered ${response.status}`, 'try again, or ask who serves the checkpoint');
    }
  }
  return undefined;
}

async function get(url: string): Promise<Response> {
  try {
    return await fetch(url);
  } catch (thrown) {
    throw unreachable(url, thrown);
  }
}

async function bodyOf(response: Response, arrived: (chunk_bytes: number) => void): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size_bytes = 0;
  try {
    const reader = response.body?.getReader();
    for (let part = await reader?.read(); part?.value !== undefined; part = await reader?.read()) {
      chunks.push(part.value);
      size_bytes += part.value.length;
      arrived(part.value.length);
    }
  } catch (thrown) {
    throw unreachable(response.url, thrown);
  }
  const bytes = new Uint8Array(size_bytes);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}

function unreachable(url: string, thrown: unknown) {
  return fault('network', `${url} could not be fetched: ${messageOf(thrown)}`, 'check the connection, then try again');
}

/** The distinct file names in a shard index's `weight_map`. */
function shardsOf(path: string, bytes: Uint8Array): string[] {
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
