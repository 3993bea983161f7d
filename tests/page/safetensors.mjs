//! Damaged copies of a safetensors file, made by rewriting its header.

/** `file` with `change(header)` applied to its parsed header; the tensor bytes stay as they are. */
export function withHeader(file, change) {
  const header_bytes = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString('utf8', 8, 8 + header_bytes));
  change(header);
  const text = JSON.stringify(header);
  const padded = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  return Buffer.concat([length, padded, file.subarray(8 + header_bytes)]);
}
