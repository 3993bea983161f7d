//! Loads a full-size checkpoint in a headless Chromium; prints one JSON line per measurement.
//!
//!   node weights.mjs --packed DIR --source DIR --pixart PATH [--chrome PATH] [--skip-step]
//!
//! DIR `packed` is a q8 checkpoint that `pixart pack` made of `source`, an f32 folder that `pixart synth` wrote. Both are served
//! from this machine. Memory is that of Chromium's processes, by /proc (VmHWM); `heap` that of the wasm module alone.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { echoConsole, openBrowser, pixels, servePage } from '../page/browser.mjs';
import { startModelServer } from '../page/model-server.mjs';
import { children, processes } from './report.mjs';

const MIB = 1 << 20;
const LOAD_MILLIS = 900_000;
const STEP_MILLIS = 3_600_000;
const SIDE = 256;
const TOKENS = 120;
const CAPTION_CHANNELS = 4096;

const { values: options } = parseArgs({
  options: {
    packed: { type: 'string' },
    source: { type: 'string' },
    pixart: { type: 'string' },
    chrome: { type: 'string' },
    'skip-step': { type: 'boolean', default: false },
  },
});
if (!options.packed || !options.source || !options.pixart) {
  console.error('usage: weights.mjs --packed DIR --source DIR --pixart PATH [--chrome PATH] [--skip-step]');
  process.exit(2);
}
const manifest = JSON.parse(readFileSync(join(options.packed, 'manifest.json'), 'utf8'));
const shards = manifest.sections.filter(({ name }) => ['transformer', 'vae_decoder'].includes(name)).flatMap((section) => section.shards);
const server = await servePage();
const [packed, source] = [await startModelServer(options.packed), await startModelServer(options.source)];

try {
  for (const store of ['indexeddb', 'opfs']) await loadPacked(store);
  await convertFolder();
} finally {
  for (const closing of [server, packed, source]) closing.close();
}

/** Loads from the network into the store and onto the GPU; then from the store alone, and generates one step. */
async function loadPacked(store) {
  const session = await open();
  try {
    const { page } = session;
    const url = address(packed, { store });
    const first = await loaded(page, url);
    row('packed', { store, ...first, ...session.memory(), bytes: sum(shards), fetched_bytes: sent(packed) });
    packed.reset();
    const second = await loaded(page, url);
    const [raw, write_ms] = [await readRaw(page, store), await writeRaw(page)];
    if (raw.bytes !== sum(shards)) throw new Error(`${raw.bytes} bytes are in the store`);
    const ratios = { of_raw: raw.millis / second.upload_ms, of_raw_and_write: (raw.millis + write_ms) / second.upload_ms };
    row('again', { store, ...second, requests: packed.log.length, raw_ms: Math.round(raw.millis), write_ms, ...ratios });
    if (store === 'indexeddb' && !options['skip-step']) await step(page, first.estimate);
  } finally {
    await session.browser.close();
  }
}

/** Reads the same records one after the other in the same page, without uploading them. */
function readRaw(page, store) {
  return page.evaluate(
    async ([store, names]) => {
      const done = (request) => new Promise((resolve) => (request.onsuccess = () => resolve(request.result)));
      const database = await done(indexedDB.open('pixart-web'));
      const folder = store === 'opfs' && (await (await navigator.storage.getDirectory()).getDirectoryHandle('pixart-web'));
      const read = async (name) => {
        if (store === 'indexeddb') {
          const blob = await done(database.transaction('records').objectStore('records').get(name));
          return (await blob.arrayBuffer()).byteLength;
        }
        return (await (await (await folder.getFileHandle(name)).getFile()).arrayBuffer()).byteLength;
      };
      const began = performance.now();
      let bytes = 0;
      for (const name of names) bytes += await read(name);
      return { bytes, millis: performance.now() - began };
    },
    [store, shards.map(({ sha256 }) => sha256)],
  );
}

/** Writes as many bytes from memory to the GPU: the adapter's own share of the upload. */
function writeRaw(page) {
  return page.evaluate(async (bytes) => {
    const device = await (await navigator.gpu.requestAdapter()).requestDevice();
    const piece = new Uint8Array(4 << 20);
    const began = performance.now();
    for (let at = 0; at < bytes; at += piece.length) {
      const buffer = device.createBuffer({ size: piece.length, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.STORAGE });
      device.queue.writeBuffer(buffer, 0, piece);
      if ((at / piece.length) % 8 === 7) await device.queue.onSubmittedWorkDone();
    }
    await device.queue.onSubmittedWorkDone();
    const millis = performance.now() - began;
    device.destroy();
    return Math.round(millis);
  }, sum(shards));
}

/** Compares one full-size denoising step in the page with a native one of the same shards and prompt embeddings. */
async function step(page, estimate) {
  const folder = mkdtempSync(join(tmpdir(), 'pixart-step-'));
  try {
    const shape = [1, TOKENS, CAPTION_CHANNELS];
    const embeds = Array.from({ length: TOKENS * CAPTION_CHANNELS }, (_, at) => Math.fround(Math.sin(at * 12.9898) * 0.3));
    const mask = Array.from({ length: TOKENS }, (_, at) => (at < 20 ? 1 : 0));
    await page.route('**/v1/encode', (route) => route.fulfill({ body: JSON.stringify({ shape, embeds, mask }) }));
    const request = {
      prompt: 'one step',
      seed: 1,
      num_inference_steps: 1,
      guidance_scale: 1,
      width: SIDE,
      height: SIDE,
      max_sequence_length: TOKENS,
    };
    page.setDefaultTimeout(STEP_MILLIS);
    const image = await page.evaluate(async (request) => {
      const picture = { ...request, text_encoder: { kind: 'companion', url: location.origin } };
      const { png, millis } = await globalThis.pixart.generate(picture).catch((fault) => Promise.reject(new Error(fault.what)));
      return { png: [...png], millis };
    }, request);
    const [file, out] = [join(folder, 'embeds.safetensors'), join(folder, 'native.png')];
    writeFileSync(file, safetensors({ prompt_embeds: [shape, embeds], prompt_attention_mask: [shape.slice(0, 2), mask] }));
    execFileSync(options.pixart, [
      ...['generate', '--checkpoint', options.packed, '--embeds', file, '--seed', '1', '--steps', '1', '--guidance-scale', '1'],
      ...['--width', String(SIDE), '--height', String(SIDE), '--max-sequence-length', String(TOKENS), '--out', out],
    ]);
    const [ours, theirs] = [await pixels(page, Buffer.from(image.png)), await pixels(page, readFileSync(out))];
    const off = Float64Array.from(ours, (value, at) => value - theirs[at]);
    const mean = off.reduce((sum, value) => sum + value * value, 0) / off.length;
    row('step', {
      same_size: ours.length === theirs.length,
      levels: new Set(ours).size,
      largest: off.reduce((most, value) => Math.max(most, Math.abs(value)), 0),
      psnr_db: 10 * Math.log10(255 ** 2 / mean),
      denoise_ms: Math.round(image.millis.denoise),
      decode_ms: Math.round(image.millis.decode),
    });
    // The estimate before the download: a guided image, two forward passes a step.
    const { num_inference_steps: steps, seconds } = estimate.generation_cost;
    const measured = (2 * steps * image.millis.denoise + image.millis.decode) / 1e3;
    row('estimate', {
      steps,
      seconds,
      measured_seconds: measured,
      of_measured: seconds / measured,
      download_bytes: estimate.download_bytes,
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Converts an f32 folder into a q8 store; the tab is closed once on the way. */
async function convertFolder() {
  const session = await open();
  try {
    const url = address(source, { store: 'auto', convert: 'q8' });
    const early = await session.browser.context.newPage();
    await early.goto(url);
    const total = statSync(join(options.source, 'transformer/diffusion_pytorch_model.safetensors')).size;
    const until = Date.now() + LOAD_MILLIS;
    while (sent(source) < total / 2 && Date.now() < until) await new Promise((resolve) => setTimeout(resolve, 50));
    const before = sent(source);
    await early.close();
    const result = await loaded(session.page, url);
    row('convert', {
      ...result,
      ...session.memory(),
      source_bytes: total,
      sent_bytes: sent(source),
      sent_before_the_tab_was_closed: before,
    });
  } finally {
    await session.browser.close();
  }
}

async function open() {
  const earlier = children(process.pid);
  const browser = await openBrowser(options.chrome ? { chrome: options.chrome } : {});
  const [chrome] = children(process.pid).filter((pid) => !earlier.includes(pid));
  const page = await browser.context.newPage();
  echoConsole(page);
  const peak = (type) => Math.max(...processes(chrome, type).map(peakOf));
  const memory = () => ({ tab_mib: peak('renderer'), gpu_process_mib: peak('gpu-process'), browser_mib: peakOf(chrome) });
  return { browser, page, memory };
}

/** MiB. */
function peakOf(pid) {
  const line = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Math.round(Number(line?.[1] ?? 0) / 1024);
}

async function loaded(page, url) {
  await page.goto(url);
  const settled = () => globalThis.pixart?.state().phase !== 'opening' || globalThis.pixart.state().estimate !== undefined;
  await page.waitForFunction(settled, undefined, { timeout: LOAD_MILLIS });
  const estimate = await page.evaluate(() => globalThis.pixart.state().estimate);
  if (estimate) await page.click('#accept-download');
  await page.waitForFunction(() => globalThis.pixart.state().phase !== 'opening', undefined, { timeout: LOAD_MILLIS });
  const { fault, checkpoint, adapter } = await page.evaluate(() => globalThis.pixart.state());
  if (fault) throw new Error(fault.what);
  const { load_millis, upload_millis, heap_bytes } = checkpoint;
  return {
    adapter: adapter.name,
    load_ms: Math.round(load_millis),
    upload_ms: Math.round(upload_millis),
    heap_mib: heap_bytes / MIB,
    estimate,
  };
}

function address(hub, { store, convert = 'auto' }) {
  // A folder is converted without asking, since its tab is closed on the way.
  const ask = convert === 'auto' ? '100' : 'Infinity';
  const query = new URLSearchParams({ device: 'webgpu', companion: '', store, convert, ask, checkpoint: hub.url });
  return `${server.url}?${query}`;
}

function safetensors(tensors) {
  const header = {};
  let end = 0;
  for (const [name, [shape, values]] of Object.entries(tensors)) {
    header[name] = { dtype: 'F32', shape, data_offsets: [end, (end += values.length * 4)] };
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, ...Object.values(tensors).map(([, values]) => Buffer.from(Float32Array.from(values).buffer))]);
}

function sum(list) {
  return list.reduce((bytes, shard) => bytes + shard.bytes, 0);
}

function sent({ log }) {
  return log.reduce((bytes, entry) => bytes + entry.sent, 0);
}

function row(what, measured) {
  console.log(JSON.stringify({ what, ...measured }));
}
