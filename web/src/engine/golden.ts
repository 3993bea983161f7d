//! Fetches the files of a golden variant: the recorded tensors and the pipeline they were recorded from. Holds them in memory.
import { HttpSource, readFile } from '../checkpoints/source';

/** Files, or the alternatives for one in order of preference. The check reports missing ones. */
const FILES: readonly (readonly string[])[] = [
  ['meta.json'],
  ['text.safetensors'],
  ['dit_step0.safetensors'],
  ['sampling.safetensors'],
  ['vae.safetensors'],
  ['image.safetensors'],
  ['pipeline/model_index.json'],
  ['pipeline/scheduler/scheduler_config.json'],
  ['pipeline/tokenizer/tokenizer.json', 'pipeline/tokenizer/spiece.model'],
  ['pipeline/text_encoder/config.json'],
  ['pipeline/text_encoder/model.safetensors'],
  ['pipeline/transformer/config.json'],
  ['pipeline/transformer/diffusion_pytorch_model.safetensors'],
  ['pipeline/vae/config.json'],
  ['pipeline/vae/diffusion_pytorch_model.safetensors'],
];

/** Returns a variant's files by path, from the folder at `base` (ending in `/`). */
export async function fetchGolden(base: string): Promise<Map<string, Uint8Array>> {
  const source = new HttpSource(base);
  const files = new Map<string, Uint8Array>();
  const add = async (paths: readonly string[]): Promise<void> => {
    for (const path of paths) {
      const bytes = await readFile(source, path);
      if (bytes !== undefined) return void files.set(path, bytes);
    }
  };
  await Promise.all(FILES.map(add));
  return files;
}
