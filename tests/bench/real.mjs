//! Generates with a full-size PixArt, T5-XXL included, in a headless Chromium: from its name in the page's list of models, with nothing
//! but the page. Prints one JSON line per measurement.
//!
//!   node real.mjs --hub DIR --model TITLE --text-encoder NAME --embeds FILE [--chrome PATH]
//!
//! DIR holds the repositories of the catalogue's model TITLE and text encoder NAME, FILE the embeddings that `pixart encode` wrote of the
//! prompt with the same files. Rows:
//!   open       from the click in the list to the loaded model: download, conversion and upload
//!   image      256 px and 512 px, one step; the first one reads the text encoder
//!   seed       another seed of the same prompt, 256 px
//!   visit      the page loaded again, 256 px
//!   streaming  the text encoder streamed, beside reading its files alone and computing alone
//!   cpu        the same on the CPU path, one thread
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { echoConsole, openBrowser, serveFolder, untilEngine } from '../page/browser.mjs';
import { startHub } from '../page/hub.mjs';

const { values: options } = parseArgs({
  options: {
    hub: { type: 'string' },
    model: { type: 'string' },
    'text-encoder': { type: 'string' },
    embeds: { type: 'string' },
    chrome: { type: 'string' },
  },
});
if (!options.hub || !options.model || !options['text-encoder'] || !options.embeds) {
  console.error('usage: real.mjs --hub DIR --model TITLE --text-encoder NAME --embeds FILE [--chrome PATH]');
  process.exit(2);
}
if (options.chrome) process.env.CHROME = options.chrome;
const MIB = 1 << 20;
const REPLY_MILLIS = 7_200_000;
/** Memory that is assumed where the whole text encoder is to stay on the device. */
const AMPLE_BYTES = 16 * 2 ** 30;
const DIST = fileURLToPath(new URL('../../web/dist/', import.meta.url));
const WORKER = readdirSync(`${DIST}assets`).find((name) => name.startsWith('worker-') && name.endsWith('.js'));
const PROMPT = 'a red circle on a blue background';
/** Without resolution binning, by which an image of any size takes as long as one of the size that the model was trained at. */
const REQUEST = {
  negative_prompt: '',
  num_inference_steps: 1,
  guidance_scale: 1,
  width: 256,
  height: 256,
  use_resolution_binning: false,
  text_encoder: { kind: 'tab' },
};
/** Floating-point operations of T5-XXL over the tokens of a prompt that fills the encoder: products of matrices, and attention. */
const TOKENS = 120;
const LONG_PROMPT = `${PROMPT}, `.repeat(20);
const T5_FLOPS = 24 * (2 * TOKENS * (4 * 4096 * 4096 + 3 * 4096 * 10_240) + 4 * TOKENS * TOKENS * 4096);

/** Begins the worker: counts its device memory and its layers until the text is encoded, and answers with the counts. */
function probe() {
  const post = globalThis.postMessage.bind(globalThis);
  let before = 0;
  let begun = performance.now();
  let counts = {};
  const begin = () => {
    counter.reset();
    before = counter.read().live_buffer_bytes;
    begun = performance.now();
    counts = { layers: 0 };
  };
  globalThis.postMessage = (message, ...rest) => {
    if (message?.kind === 'planned') begin();
    if (message?.kind === 'text_encoder_layer') {
      if (counts.layers === 0) counts.first_layer_ms = performance.now() - begun;
      counts.layers += 1;
      counts.text_ms = performance.now() - begun;
      counts.is_streamed = message.is_streamed;
      counts.text_device_bytes = counter.read().peak_buffer_bytes - before;
    }
    return post(message, ...rest);
  };
  const channel = new BroadcastChannel('probe');
  channel.onmessage = ({ data }) => data === 'ask' && channel.postMessage(counts);
}

/** Asks the probe in the page's worker. */
function askProbe() {
  const channel = new BroadcastChannel('probe');
  return new Promise((resolve) => {
    channel.onmessage = ({ data }) => data !== 'ask' && resolve(data);
    channel.postMessage('ask');
  }).finally(() => channel.close());
}

/** Opens a stored model in a worker of its own, as `open` says, and generates one image. */
async function session({ url, open, request }) {
  const worker = new Worker(url, { type: 'module' });
  const layers = [];
  let begun;
  const run = (message) =>
    new Promise((resolve, reject) => {
      worker.onerror = (event) => reject(new Error(event.message));
      worker.onmessage = ({ data }) => {
        if (data.kind === 'planned') begun = performance.now();
        if (data.kind === 'text_encoder_layer') layers.push({ millis: performance.now() - begun, is_streamed: data.is_streamed });
        if (data.kind === 'fault') reject(new Error(`${data.fault.what}; ${data.fault.remedy}`));
        if (data.kind === 'ready' || data.kind === 'image') resolve(data);
      };
      worker.postMessage(message);
    });
  const { heap_bytes } = await run({ kind: 'open', load_text_encoder: true, storage: 'auto', dtype: 'auto', ...open });
  const { memory, millis } = await run({ kind: 'generate', id: 1, ...request });
  worker.terminate();
  return { heap_bytes: Math.max(heap_bytes, memory.heap_bytes), millis, layers };
}

/** Reads every stored file of more than `least_bytes`; returns the bytes and the seconds. */
async function readStore(least_bytes) {
  const begun = performance.now();
  let bytes = 0;
  const visit = async (folder) => {
    for await (const entry of folder.values()) {
      if (entry.kind === 'directory') await visit(entry);
      else {
        const file = await entry.getFile();
        if (file.size < least_bytes) continue;
        for (let at = 0; at < file.size; at += 1 << 25) bytes += (await file.slice(at, at + (1 << 25)).arrayBuffer()).byteLength;
      }
    }
  };
  await visit(await navigator.storage.getDirectory());
  return { bytes, seconds: (performance.now() - begun) / 1e3 };
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
    const difference = Math.abs(ours.embeds.values[at] - native.embeds.values[at]);
    if (Number.isNaN(difference)) return Number.NaN;
    distance = Math.max(distance, difference);
    peak = Math.max(peak, Math.abs(native.embeds.values[at]));
  }
  return distance / peak;
}

const embedsOf = (file) => ({ embeds: tensor(file, 'prompt_embeds'), mask: tensor(file, 'prompt_attention_mask') });
const row = (what, fields) => console.log(JSON.stringify({ what, ...fields }));
const seconds = (millis) => millis / 1e3;
const state = (page) => page.evaluate(() => globalThis.pixart.state());

async function untilReady(page) {
  await page.waitForFunction(() => ['ready', 'stopped'].includes(globalThis.pixart?.state().phase), undefined, { timeout: REPLY_MILLIS });
  const { fault, checkpoint } = await state(page);
  if (fault) throw new Error(`${fault.what}; ${fault.remedy}`);
  return checkpoint;
}

/** Generates by the page's own function, and returns the row of the image and its recording. */
async function generateInPage(page, request) {
  const { recording, ...image } = await page.evaluate(
    async (request) => {
      const image = await globalThis.pixart.generate(request).catch(({ what, remedy }) => {
        throw new Error(`${what}; ${remedy}`);
      });
      const { width, millis, memory, recording } = image;
      const base64 = recording && btoa(Array.from(recording, (byte) => String.fromCharCode(byte)).join(''));
      return { width, millis, memory, recording: base64 };
    },
    { ...REQUEST, ...request, record: true },
  );
  const counts = await page.evaluate(askProbe);
  const fields = {
    px: image.width,
    layers: counts.layers,
    text_s: seconds(image.millis.text),
    denoise_s: seconds(image.millis.denoise),
    decode_s: seconds(image.millis.decode),
    total_s: seconds(image.millis.total),
    heap_mib: image.memory.heap_bytes / MIB,
    device_mib: image.memory.device_bytes / MIB,
    ...(counts.layers > 0 && { text_device_mib: counts.text_device_bytes / MIB }),
  };
  return { fields, counts, recording: recording && Buffer.from(recording, 'base64') };
}

const COUNTER = readFileSync(new URL('counter.js', import.meta.url), 'utf8');
const server = await serveFolder(DIST, {
  headers: { 'Content-Security-Policy': readFileSync(new URL('../../web/csp.txt', import.meta.url), 'utf8').trim() },
  transform: (path, bytes) => (path.endsWith(WORKER) ? `${COUNTER}\n(${probe})();\n${bytes}` : bytes),
});
const hub = await startHub(options.hub);
const browser = await openBrowser();
try {
  const page = await browser.context.newPage();
  echoConsole(page);
  page.setDefaultTimeout(REPLY_MILLIS);
  const address = `${server.url}?device=webgpu&checkpoint=&hub=${encodeURIComponent(hub.endpoint)}`;
  await page.goto(address);
  await page.locator('#models').evaluate((fold) => (fold.open = true));
  await page.selectOption('#catalogue-encoder', options['text-encoder']);
  const entry = page.locator('#model-list > li').filter({ has: page.locator(`button[aria-label$="${options.model}"]`) });
  await entry.getByRole('button', { name: /^Open/ }).click();
  await page.waitForFunction(() => globalThis.pixart.state().estimate ?? globalThis.pixart.state().fault);
  const { fault } = await state(page);
  if (fault) throw new Error(`${fault.what}; ${fault.remedy}`);
  console.error(await page.innerText('#estimate-lines'));
  const begun = performance.now();
  await page.click('#accept-download');
  await page.waitForFunction(() => globalThis.pixart.state().phase === 'opening');
  const opened = await untilReady(page);
  row('open', { open_s: seconds(performance.now() - begun), load_s: seconds(opened.load_millis), heap_mib: opened.heap_bytes / MIB });

  const first = await generateInPage(page, { prompt: PROMPT, seed: 1 });
  row('image', { ...first.fields, distance: distanceOf(embedsOf(first.recording), embedsOf(readFileSync(options.embeds))) });
  row('seed', (await generateInPage(page, { prompt: PROMPT, seed: 2 })).fields);

  const settled = hub.log.length;
  await page.goto(page.url());
  await untilEngine(page, REPLY_MILLIS);
  const again = await untilReady(page);
  const visit = await generateInPage(page, { prompt: PROMPT, seed: 3 });
  row('visit', { requests: hub.log.length - settled, load_s: seconds(again.load_millis), ...visit.fields });
  const opened_page = page.url();
  const stored = (await state(page)).stored.find(({ composition }) => composition !== null && composition !== undefined);

  // A page of its own: the worker has the device, and the store, to itself.
  await page.goto(`${server.url}?device=wasm&checkpoint=`);
  const url = `${server.url}assets/${WORKER}`;
  const open = { checkpoint: stored.composition.checkpoint, components: stored.composition.components };
  const request = { seed: 1, ...REQUEST };
  const run = (device, memory_limit_bytes, prompt) =>
    page.evaluate(session, { url, open: { ...open, device, memory_limit_bytes }, request: { ...request, prompt } });
  const resident = await run('webgpu', AMPLE_BYTES, `${PROMPT} again`);
  const store = await page.evaluate(readStore, MIB);
  const encoder_bytes = (await page.evaluate(() => globalThis.pixart.state().stored)).reduce(
    (sum, { kind, bytes }) => sum + (kind === 'text_encoder' ? bytes : 0),
    0,
  );
  row('streaming', {
    streamed_s: seconds(first.counts.text_ms),
    compute_s: seconds(resident.layers.at(-1).millis),
    is_resident: resident.layers.every(({ is_streamed }) => !is_streamed),
    read_s: (store.seconds * encoder_bytes) / store.bytes,
  });
  const cpu = await run('wasm', null, LONG_PROMPT);
  row('cpu', {
    text_s: seconds(cpu.millis.text),
    gflops: T5_FLOPS / cpu.layers.at(-1).millis / 1e6,
    layers: cpu.layers.length,
    heap_mib: cpu.heap_bytes / MIB,
  });

  // Last, since a step of 512 px takes half an hour on a fallback adapter.
  await page.goto(opened_page);
  await untilEngine(page, REPLY_MILLIS);
  await untilReady(page);
  row('image', (await generateInPage(page, { prompt: PROMPT, seed: 1, width: 512, height: 512 })).fields);
} finally {
  await browser.close();
  server.close();
  hub.close();
}
