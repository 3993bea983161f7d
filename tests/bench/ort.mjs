//! Runs one workload in onnxruntime-web: `ort.html?provider=webgpu|wasm&workload=NAME`. Offers the `bench` that
//! drive.mjs asks of every implementation's page. The wasm provider has one thread, and SIMD always.
import { distance, fetchTensors } from './tensors.mjs';

const query = new URLSearchParams(location.search);
const provider = query.get('provider');
const workload = query.get('workload');

let ort;
let session;
let inputs;
let expected;
let result;

globalThis.bench = {
  /** Opens the model, with the recorded inputs beside it. */
  async load() {
    ort = await import(`/ort/ort.${provider}.bundle.min.mjs`);
    ort.env.wasm.wasmPaths = '/ort/';
    ort.env.wasm.numThreads = 1;
    const { tensors, metadata } = await fetchTensors(`/models/${workload}.io.safetensors`);
    const { output, ...given } = tensors;
    expected = output.data;
    const feeds = Object.entries(given).map(([name, { shape, data }]) => [name, new ort.Tensor('float32', data, shape)]);
    inputs = Object.fromEntries(feeds);
    session = await ort.InferenceSession.create(`/models/${workload}.onnx`, {
      executionProviders: [provider],
      externalData: [{ path: metadata.weights, data: `/models/${metadata.weights}` }],
    });
  },

  /** From the inputs in the page's memory to the output there, in milliseconds. */
  async run() {
    const start = performance.now();
    const { output } = await session.run(inputs);
    result = await output.getData();
    return performance.now() - start;
  },

  /** How far the last run's output is from the recorded one. */
  check: () => distance(result, expected),
};
