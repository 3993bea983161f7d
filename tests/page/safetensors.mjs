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

/** A file cut in two: `files`, each a name and its bytes, and the `weight_map` that says where each tensor is. */
export function split(file) {
  const length = Number(file.readBigUInt64LE(0));
  const { __metadata__: _, ...tensors } = JSON.parse(file.subarray(8, 8 + length));
  const names = Object.keys(tensors);
  const halves = [names.slice(0, names.length / 2), names.slice(names.length / 2)];
  const weight_map = {};
  const files = halves.map((half, index) => {
    const name = `part-${index + 1}.safetensors`;
    const header = {};
    const pieces = [];
    let end = 0;
    for (const tensor of half) {
      const { data_offsets, ...rest } = tensors[tensor];
      const bytes = file.subarray(8 + length + data_offsets[0], 8 + length + data_offsets[1]);
      pieces.push(bytes);
      header[tensor] = { ...rest, data_offsets: [end, (end += bytes.length)] };
      weight_map[tensor] = name;
    }
    const text = Buffer.from(JSON.stringify(header));
    const prefix = Buffer.alloc(8);
    prefix.writeBigUInt64LE(BigInt(text.length));
    return [name, Buffer.concat([prefix, text, ...pieces])];
  });
  return { files, weight_map };
}

/** The tensors of a file of F16 and F32, by name: `{ shape, values }`. */
export function readTensors(file) {
  const header_bytes = Number(file.readBigUInt64LE(0));
  const { __metadata__: _, ...header } = JSON.parse(file.toString('utf8', 8, 8 + header_bytes));
  const valueAt = { F16: [2, halfAt], F32: [4, (bytes, at) => bytes.readFloatLE(at)] };
  return new Map(
    Object.entries(header).map(([name, { dtype, shape, data_offsets }]) => {
      const [size, read] = valueAt[dtype];
      const bytes = file.subarray(...data_offsets.map((offset) => 8 + header_bytes + offset));
      return [name, { shape, values: Float32Array.from({ length: bytes.length / size }, (_, index) => read(bytes, index * size)) }];
    }),
  );
}

/** A file of F32 tensors. */
export function writeTensors(tensors) {
  const header = {};
  let end = 0;
  for (const [name, { shape, values }] of tensors) header[name] = { dtype: 'F32', shape, data_offsets: [end, (end += 4 * values.length)] };
  const text = JSON.stringify(header);
  const padded = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  return Buffer.concat([length, padded, ...[...tensors.values()].map(({ values }) => Buffer.from(Float32Array.from(values).buffer))]);
}

function halfAt(bytes, at) {
  const bits = bytes.readUInt16LE(at);
  const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
}
