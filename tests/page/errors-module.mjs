//! Faults of the wasm module's public calls in orders in which the worker never makes them. The module runs in Node, on the CPU.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

const ROOT = new URL('../../', import.meta.url);
const SCENES = new URL('web/models/scenes/', ROOT);
const PATHS = [
  'scheduler/scheduler_config.json',
  'text_encoder/config.json',
  'text_encoder/model.safetensors',
  'tokenizer/spiece.model',
  'transformer/config.json',
  'transformer/diffusion_pytorch_model.safetensors',
  'vae/config.json',
  'vae/diffusion_pytorch_model.safetensors',
];
const ID = 1;

const caught = async (run) => {
  try {
    return await run();
  } catch (thrown) {
    return thrown;
  }
};

/** Provokes the faults; `add` receives the site and the fault of each. */
export async function provokeModuleFaults(module, add) {
  const { Engine, initSync } = module;
  initSync({ module: readFileSync(new URL('web/pkg/pixart_browser_bg.wasm', ROOT)) });
  const engine = await Engine.open(() => {}, 'wasm', undefined);
  const request = { id: ID, prompt: 'a star', width: 64, height: 64, num_inference_steps: 2 };
  await add('crates/browser/src/engine.rs not_loaded', await caught(() => engine.prepare(request)));
  await add('crates/browser/src/encode.rs not_prepared', await caught(() => engine.encode(ID, [], undefined)));

  const files = new Map(PATHS.map((path) => [path, new Uint8Array(readFileSync(new URL(path, SCENES)))]));
  const shards = new Map();
  const put = async (section, index, bytes) => {
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    shards.set(`${section}-${String(index).padStart(5, '0')}-${sha256.slice(0, 8)}.bin`, bytes.slice());
    return sha256;
  };
  const conversion = {
    networks: ['text_encoder', 'transformer', 'vae'],
    weight_format: 'f32',
    shard_bytes: 1_000_000,
    source: 'scenes',
    in_file_order: false,
    finished_shards: {},
  };
  const convert = (files, read) => Engine.convert(conversion, files, read, async () => {}, put);
  const unreadable = new Map([...files, [PATHS[5], files.get(PATHS[5]).length]]);
  const failing = () => Promise.reject(new DOMException('The file could not be read.', 'NotReadableError'));
  await add('crates/browser/src/folder.rs await_promise', await caught(() => convert(unreadable, failing)));

  const manifest = await convert(files, failing);
  const read = async (file, begin, end) => shards.get(file).subarray(begin, end);
  await engine.load(manifest, read, 'memory', manifest, 0, []);
  engine.prepare(request);
  await engine.encode(ID, [], undefined);
  const generated = engine.generate(ID, undefined, []);
  await add('crates/browser/src/loras.rs own_pipeline', await caught(() => engine.set_loras(2, manifest, read, [])));
  await generated;
  // The remedy works: the checkpoint is still there.
  await engine.set_loras(3, manifest, read, []);
  engine.free();
}
