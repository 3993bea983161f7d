//! Generates with a full-size PixArt, T5-XXL included, in a headless Chromium on WebGPU; prints one JSON line per measurement.
//!
//!   node real.mjs --packed DIR --embeds FILE [--chrome PATH]
//!
//! DIR is a q8 checkpoint with its text encoder, FILE the embeddings that `pixart encode` wrote of the same prompt.
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { openBrowser, servePage } from '../page/browser.mjs';
import { startModelServer } from '../page/model-server.mjs';

const { values: options } = parseArgs({ options: { packed: { type: 'string' }, embeds: { type: 'string' }, chrome: { type: 'string' } } });
if (!options.packed || !options.embeds) {
  console.error('usage: real.mjs --packed DIR --embeds FILE [--chrome PATH]');
  process.exit(2);
}
if (options.chrome) process.env.CHROME = options.chrome;
const MIB = 1 << 20;
const REPLY_MILLIS = 7_200_000;
const ASSETS = fileURLToPath(new URL('../../web/dist/assets/', import.meta.url));
const WORKER = readdirSync(ASSETS).find((name) => name.startsWith('worker-') && name.endsWith('.js'));
const REQUEST = {
  prompt: 'a red circle on a blue background',
  num_inference_steps: 1,
  guidance_scale: 1,
  width: 256,
  height: 256,
};

/** Opens the checkpoint in a worker of its own and generates images of these requests, in the page. */
async function session({ url, checkpoint, requests }) {
  const worker = new Worker(url, { type: 'module' });
  const run = (message) =>
    new Promise((resolve, reject) => {
      const layers = [];
      const started = performance.now();
      worker.onmessage = ({ data }) => {
        if (data.kind === 'text_encoder_layer') layers.push(performance.now() - started);
        if (data.kind === 'fault') reject(new Error(JSON.stringify(data.fault)));
        if (data.kind === 'ready') resolve({ heap_bytes: data.heap_bytes, load_millis: data.load_millis });
        if (data.kind !== 'image') return;
        const { memory, millis, recording } = data;
        resolve({
          memory,
          millis,
          layers,
          recording: recording && btoa(Array.from(recording, (byte) => String.fromCharCode(byte)).join('')),
        });
      };
      worker.postMessage(message);
    });
  const open = { kind: 'open', checkpoint, device: 'webgpu', load_text_encoder: true, storage: 'opfs', dtype: 'auto' };
  const opened = await run({ ...open, memory_limit_bytes: null });
  const images = [];
  for (const request of requests) images.push(await run({ kind: 'generate', ...request }));
  worker.terminate();
  return { opened, images };
}

/** Reads a tensor of a safetensors file as f32. */
function tensor(file, name) {
  const header_bytes = Number(file.readBigUInt64LE());
  const { shape, data_offsets } = JSON.parse(file.subarray(8, 8 + header_bytes).toString())[name];
  const [begin, end] = data_offsets.map((offset) => 8 + header_bytes + offset);
  return { shape, values: new Float32Array(file.buffer.slice(file.byteOffset + begin, file.byteOffset + end)) };
}

/** Returns the largest distance of the rows that are no padding, of their largest magnitude. */
function distanceOf(ours, native) {
  const [, tokens, channels] = ours.embeds.shape;
  let [distance, peak] = [0, 0];
  for (let at = 0; at < tokens * channels; at += 1) {
    if (native.mask.values[Math.floor(at / channels)] === 0) continue;
    distance = Math.max(distance, Math.abs(ours.embeds.values[at] - native.embeds.values[at]));
    peak = Math.max(peak, Math.abs(native.embeds.values[at]));
  }
  return distance / peak;
}

const embedsOf = (file) => ({ embeds: tensor(file, 'prompt_embeds'), mask: tensor(file, 'prompt_attention_mask') });
const row = (what, fields) => console.log(JSON.stringify({ what, ...fields }));
const server = await servePage();
const models = await startModelServer(options.packed);
const browser = await openBrowser();
try {
  const page = await browser.context.newPage();
  page.setDefaultTimeout(REPLY_MILLIS);
  await page.goto(`${server.url}?device=wasm&checkpoint=`);
  const visit = (requests) => page.evaluate(session, { url: `${server.url}assets/${WORKER}`, checkpoint: models.url, requests });
  const { opened, images } = await visit([
    { id: 1, seed: 1, record: true, ...REQUEST },
    { id: 2, seed: 2, ...REQUEST },
  ]);
  const [first, seed] = images;
  const ours = embedsOf(Buffer.from(first.recording, 'base64'));
  row('first', {
    layers: first.layers.length,
    seconds_a_layer: first.layers.at(-1) / first.layers.length / 1e3,
    text_s: first.millis.text / 1e3,
    heap_mib: Math.max(opened.heap_bytes, first.memory.heap_bytes) / MIB,
    device_mib: first.memory.device_bytes / MIB,
    load_s: opened.load_millis / 1e3,
    distance: distanceOf(ours, embedsOf(readFileSync(options.embeds))),
  });
  row('seed', { layers: seed.layers.length, text_s: seed.millis.text / 1e3, total_s: seed.millis.total / 1e3 });
  const before = models.log.filter(({ path }) => path.endsWith('.bin')).length;
  const again = await visit([{ id: 1, seed: 3, ...REQUEST }]);
  const requests = models.log.filter(({ path }) => path.endsWith('.bin')).length - before;
  row('visit', { layers: again.images[0].layers.length, requests, load_s: again.opened.load_millis / 1e3 });
} finally {
  await browser.close();
  server.close();
  models.close();
}
