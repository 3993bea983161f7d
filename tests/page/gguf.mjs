//! A GGUF file of a safetensors file's text encoder, with llama.cpp's names of T5: the same bytes of each tensor.
import { readFileSync, writeFileSync } from 'node:fs';

/** Names of transformers, and of llama.cpp in their place. */
const NAMES = [
  ['layer.0.SelfAttention.relative_attention_bias', 'attn_rel_b'],
  ['layer.0.SelfAttention.', 'attn_'],
  ['layer.0.layer_norm', 'attn_norm'],
  ['layer.1.layer_norm', 'ffn_norm'],
  ['layer.1.DenseReluDense.wi_0', 'ffn_gate'],
  ['layer.1.DenseReluDense.wi_1', 'ffn_up'],
  ['layer.1.DenseReluDense.wo', 'ffn_down'],
  ['encoder.block.', 'enc.blk.'],
  ['encoder.final_layer_norm', 'enc.output_norm'],
  ['shared', 'token_embd'],
];
const TYPES = { F32: 0, F16: 1, BF16: 30 };
const ALIGNMENT = 32;

/** Writes the tensors of the file at `from` to `to`. */
export function writeGguf(from, to) {
  const file = readFileSync(from);
  const header_bytes = Number(file.readBigUInt64LE());
  const header = JSON.parse(file.subarray(8, 8 + header_bytes).toString());
  const data = file.subarray(8 + header_bytes);
  const tensors = Object.entries(header).filter(([name]) => name !== '__metadata__' && name !== 'encoder.embed_tokens.weight');
  const u32 = (value) => Buffer.from(Uint32Array.of(value).buffer);
  const u64 = (value) => Buffer.from(BigUint64Array.of(BigInt(value)).buffer);
  const text = (value) => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);
  const padded = (bytes) => Buffer.concat([bytes, Buffer.alloc(-bytes.length & (ALIGNMENT - 1))]);
  let offset = 0;
  const infos = tensors.map(([name, { dtype, shape, data_offsets }]) => {
    const theirs = NAMES.reduce((renamed, [ours, other]) => renamed.replace(ours, other), name);
    const info = [text(theirs), u32(shape.length), ...shape.toReversed().map(u64), u32(TYPES[dtype]), u64(offset)];
    offset += padded(Buffer.alloc(data_offsets[1] - data_offsets[0])).length;
    return Buffer.concat(info);
  });
  const kv = Buffer.concat([text('general.architecture'), u32(8), text('t5encoder')]);
  const head = Buffer.concat([Buffer.from('GGUF'), u32(3), u64(tensors.length), u64(1), kv, ...infos]);
  const bytes = tensors.map(([, { data_offsets }]) => padded(data.subarray(...data_offsets)));
  writeFileSync(to, Buffer.concat([padded(head), ...bytes]));
}
