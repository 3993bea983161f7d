//! What a local file or folder is a component of, by the names of its tensors or by its configuration. Reads the beginning of a file.

import { bytesOf } from './identity';
import type { Component } from './place';

/** Bytes of a file's beginning, in which the header of every network names some tensors. */
const HEADER_BYTES = 8 << 20;
/** Names of tensors, in the order in which they are looked for: a LoRA names those of the transformer, too. */
const TENSORS: readonly (readonly [Component | 'lora', RegExp])[] = [
  ['lora', /lora_(a|b|up|down|magnitude_vector)\b|lora_(a|b)\.|\.lora\.(up|down)|\b(hada|lokr)_w[12]|\bdora_scale/i],
  ['text_encoder', /\b(encoder\.block\.\d|enc\.blk\.\d)/],
  ['vae', /\bdecoder\.(conv_in|mid_block|up_blocks|mid|up)\b/],
  ['transformer', /\b(adaln_single|transformer_blocks|t_block|scale_shift_table|x_embedder)\b/],
];
/** Classes in the configuration of a component's own folder. */
const CLASSES: readonly (readonly [Component, RegExp])[] = [
  ['text_encoder', /T5EncoderModel|"model_type"\s*:\s*"t5"/],
  ['vae', /Autoencoder/],
  ['transformer', /Transformer2DModel/],
];

/** Returns the component that a `.safetensors` or `.gguf` file holds, or `lora`; `undefined` for any other. */
export async function classifyFile(file: File): Promise<Component | 'lora' | undefined> {
  if (!/\.(safetensors|gguf)$/i.test(file.name)) return undefined;
  const start = await bytesOf(file.name, file.slice(0, HEADER_BYTES));
  const length =
    /\.safetensors$/i.test(file.name) && start.length >= 8 ? Number(new DataView(start.buffer).getBigUint64(0, true)) + 8 : undefined;
  // What follows the header is no text.
  const text = new TextDecoder('latin1').decode(start.subarray(0, length));
  return TENSORS.find(([, names]) => names.test(text))?.[0];
}

/** Returns the component that a folder without a transformer's configuration holds, or `lora`. */
export async function classifyFolder(files: ReadonlyMap<string, File>): Promise<Component | 'lora' | undefined> {
  if (files.has('adapter_config.json') || files.has('adapter_model.safetensors') || files.has('pytorch_lora_weights.safetensors'))
    return 'lora';
  if (files.has('scheduler_config.json')) return 'scheduler';
  const config = files.get('config.json');
  const text = config === undefined ? '' : new TextDecoder().decode(await bytesOf('config.json', config));
  const named = CLASSES.find(([, names]) => names.test(text))?.[0];
  if (named !== undefined) return named;
  const nested = (['text_encoder', 'vae', 'transformer'] as const).find((component) =>
    [...files.keys()].some((path) => path.startsWith(`${component}/`) && /\.(safetensors|gguf)$/.test(path)),
  );
  if (nested !== undefined) return nested;
  return files.has('spiece.model') || files.has('tokenizer.json') ? 'tokenizer' : undefined;
}
