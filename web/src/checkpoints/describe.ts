//! The files that networks of a diffusers folder consist of, and their versions. Reads small files whole, and of weights the length
//! and, where the server names no version, samples. Small files come first: what is missing is reported before weights are requested.
import { fault, isRecord } from '../engine/fault';
import { sha256Of } from './sha256';
import { readFile, type Source } from './source';

/** Small files with their bytes, and large ones with their length, which is `total` bytes. */
export interface Description {
  files: Map<string, Uint8Array | number>;
  /** The names at the source of files of a variant, by their path in `files`, which is that without the variant. */
  names: Map<string, string>;
  /** Version of each file, by path. Sorted. */
  versions: Record<string, string>;
  total: number;
}

const CONFIGS = ['transformer/config.json', 'vae/config.json', 'scheduler/scheduler_config.json'];
/** Files that a folder may lack. */
const OPTIONAL = ['model_index.json', 'text_encoder/config.json'];
const TOKENIZERS = ['tokenizer/tokenizer.json', 'tokenizer/spiece.model'];
const STEMS: Record<string, string> = {
  transformer: 'transformer/diffusion_pytorch_model',
  vae: 'vae/diffusion_pytorch_model',
  text_encoder: 'text_encoder/model',
};
/** Variants of weights in diffusers' file names, in the order in which they are looked for. */
const VARIANTS = ['', '.fp32', '.fp16', '.bf16'];
/** Samples of weights of which the server names no version. */
const SAMPLES = 8;
const SAMPLE_BYTES = 4096;

/** Returns the files of some networks. Throws a fault that names the first file that is missing. */
export async function describe(source: Source, networks: readonly string[]): Promise<Description> {
  const files = new Map<string, Uint8Array | number>();
  const names = new Map<string, string>();
  const versions: Record<string, string> = {};
  const readSmall = async (path: string): Promise<boolean> => {
    const bytes = await readFile(source, path);
    if (bytes === undefined) return false;
    files.set(path, bytes);
    versions[path] = await sha256Of(bytes);
    return true;
  };
  const config = async (path: string): Promise<void> => {
    if (!(await readSmall(path)) && !OPTIONAL.includes(path)) throw source.missing(path);
  };
  const tokenizer = async (): Promise<void> => {
    for (const path of TOKENIZERS) if (await readSmall(path)) return;
    throw source.missing(...TOKENIZERS);
  };
  const addLarge = async (path: string, known_as = path): Promise<boolean> => {
    const info = await source.info(path);
    if (info === undefined) return false;
    files.set(known_as, info.bytes);
    if (known_as !== path) names.set(known_as, path);
    versions[path] = `${info.version || (await samplesOf(source, path, info.bytes))} ${info.bytes}`;
    return true;
  };
  const weights = async (stem: string): Promise<void> => {
    for (const variant of VARIANTS) {
      if (await addLarge(`${stem}${variant}.safetensors`, `${stem}.safetensors`)) return;
      const index = `${stem}.safetensors.index${variant}.json`;
      if (!(await readSmall(index))) continue;
      const folder = stem.slice(0, stem.lastIndexOf('/') + 1);
      const bytes = files.get(index) as Uint8Array;
      files.delete(index);
      files.set(`${stem}.safetensors.index.json`, bytes);
      const shards = filesOf(index, bytes).map((file) => folder + file);
      const found = await Promise.all(shards.map((file) => addLarge(file)));
      const missing = shards.find((_, position) => !found[position]);
      if (missing !== undefined) throw source.missing(missing);
      return;
    }
    const dir = stem.slice(0, stem.lastIndexOf('/') + 1);
    const [only, another] = source.weightFiles?.(dir) ?? [];
    if (another !== undefined)
      throw fault('bad_weights', `${source.title}${dir} holds ${only} and ${another}, and either may be its weights`, 'leave one of them');
    if (only !== undefined && (await addLarge(only))) return;
    throw source.missing(only ?? `${stem}.safetensors`);
  };
  const with_text = networks.includes('text_encoder');
  const configs = with_text ? ['text_encoder/config.json', 'model_index.json'] : [...CONFIGS, ...OPTIONAL];
  await Promise.all([...configs.map(config), ...(with_text ? [tokenizer()] : [])]);
  await Promise.all(networks.map((network) => weights(STEMS[network] ?? network)));
  const total = [...files.values()].reduce<number>((sum, file) => sum + (typeof file === 'number' ? file : 0), 0);
  return { files, names, versions: Object.fromEntries(Object.entries(versions).sort()), total };
}

/** Returns whether files that were stored are those of now. A checkpoint of an earlier version lists weights alone. */
export function isSameVersion(stored: Record<string, string>, now: Record<string, string>): boolean {
  return Object.entries(stored).every(([path, version]) => now[path] === version);
}

/** Returns a hash of parts of a file; empty where the server sends whole files only. */
async function samplesOf(source: Source, path: string, bytes: number): Promise<string> {
  if (source.isSequential()) return '';
  const stride = Math.max(SAMPLE_BYTES, Math.floor((bytes - SAMPLE_BYTES) / (SAMPLES - 1)));
  const begins = Array.from({ length: SAMPLES }, (_, index) => index * stride).filter((begin) => begin + SAMPLE_BYTES <= bytes);
  const samples = await Promise.all(begins.map((begin) => source.read(path, begin, begin + SAMPLE_BYTES)));
  return sha256Of(new Uint8Array(await new Blob(samples).arrayBuffer()));
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
