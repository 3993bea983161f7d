//! Runs one workload in this project's module: `ours.html?variant=workgroup|registers|burn-reference|cpu&workload=NAME`, with the same `bench`
//! as ort.mjs. A fault is a plain object and becomes an error here.
import init, { Bench } from '/pkg/pixart_browser.js';
import { distance, fetchTensors } from './tensors.mjs';

const query = new URLSearchParams(location.search);
const variant = query.get('variant');
const workload = query.get('workload');

let bench;
let expected;
let result;

globalThis.bench = {
  async load() {
    await init();
    const io = `${workload}.io.safetensors`;
    const { tensors, metadata } = await fetchTensors(`/models/${io}`);
    expected = tensors.output.data;
    const files = new Map();
    for (const file of [io, metadata.weights]) {
      const response = await fetch(`/models/${file}`);
      if (!response.ok) throw new Error(`${file}: status ${response.status}`);
      files.set(file, new Uint8Array(await response.arrayBuffer()));
    }
    bench = await Bench.open(workload, variant, files).catch(raise);
  },

  /** From the inputs on the device to the output in the page's memory, in milliseconds. */
  async run() {
    const start = performance.now();
    result = await bench.run().catch(raise);
    return performance.now() - start;
  },

  check: () => distance(result, expected),
};

function raise({ code, what }) {
  throw new Error(`${code}: ${what}`);
}
