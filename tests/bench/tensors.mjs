//! Recorded tensors, and the distance of one tensor from another.

/** Reads a safetensors file of f32 tensors: `{ tensors: { name: { shape, data } }, metadata }`. */
export async function fetchTensors(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url}: status ${response.status}`);
  const file = await response.arrayBuffer();
  const header_bytes = Number(new DataView(file).getBigUint64(0, true));
  const { __metadata__: metadata, ...header } = JSON.parse(new TextDecoder().decode(new Uint8Array(file, 8, header_bytes)));
  const tensors = Object.entries(header).map(
    ([
      name,
      {
        dtype,
        shape,
        data_offsets: [begin, end],
      },
    ]) => {
      if (dtype !== 'F32') throw new Error(`${url}: ${name} is ${dtype}, not F32`);
      return [name, { shape, data: new Float32Array(file, 8 + header_bytes + begin, (end - begin) / 4) }];
    },
  );
  return { tensors: Object.fromEntries(tensors), metadata };
}

/** The largest difference, and the norm of the difference over the norm of `expected`, in f64. NaN stays NaN. */
export function distance(result, expected) {
  if (result.length !== expected.length) throw new Error(`the result has ${result.length} numbers, not ${expected.length}`);
  let max_abs = 0;
  let difference_squared = 0;
  let expected_squared = 0;
  expected.forEach((value, at) => {
    const difference = Math.abs(result[at] - value);
    max_abs = Math.max(max_abs, difference);
    difference_squared += difference ** 2;
    expected_squared += value ** 2;
  });
  return { max_abs, rel_l2: Math.sqrt(difference_squared / expected_squared) };
}
