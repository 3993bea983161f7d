//! The error catalogue's rows of the page: every fault of web/src and of the wasm module is provoked, and its text is compared with
//! `tests/errors/catalogue.json`. `RECORD_ERRORS=1` replaces these rows. Modules without a document run in Node; the others, and the
//! worker, in the page.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { openBrowser, openSettings, servePage, untilEngine } from './browser.mjs';
import { provokeModuleFaults } from './errors-module.mjs';

const ROOT = new URL('../../', import.meta.url);
const CATALOGUE = new URL('tests/errors/catalogue.json', ROOT);
const ASSETS = fileURLToPath(new URL('web/dist/assets/', ROOT));
const fromWeb = createRequire(new URL('web/package.json', ROOT));
const TIMEOUT_MILLIS = 120_000;

const rows = [];
let vite;
let server;
let browser;
before(async () => {
  const { createServer } = await import(pathToFileURL(fromWeb.resolve('vite')).href);
  const quiet = { middlewareMode: true, ws: false, watch: null };
  const root = fileURLToPath(ROOT);
  vite = await createServer({
    configFile: false,
    root,
    logLevel: 'error',
    server: quiet,
    optimizeDeps: { noDiscovery: true },
    appType: 'custom',
  });
  server = await servePage();
  browser = await openBrowser();
});
after(async () => {
  await browser.close();
  server.close();
  await vite.close();
});

const load = (module) => vite.ssrLoadModule(`/web/src/${module}.ts`);

/** Adds the fault that `provoked` rejects with, or returns. */
async function add(site, provoked) {
  const fault = await Promise.resolve(provoked).then(
    (value) => value,
    (thrown) => thrown,
  );
  assert.equal(typeof fault?.what, 'string', `${site}: ${fault?.stack ?? JSON.stringify(fault)}`);
  const neutral = (text) => text.replaceAll(server.url, 'http://localhost:8080/').replace(/127\.0\.0\.1:\d+/g, 'localhost:8080');
  // The order of keys in which the native test writes them.
  rows.push({ code: fault.code, remedy: neutral(fault.remedy), site, what: neutral(fault.what) });
}

/** Runs `provoke` with a function in place of `fetch`. */
async function withFetch(answer, provoke) {
  const real = globalThis.fetch;
  globalThis.fetch = async (...call) => answer(...call);
  try {
    return await provoke();
  } finally {
    globalThis.fetch = real;
  }
}

const caught = async (run) => {
  try {
    return await run();
  } catch (thrown) {
    return thrown;
  }
};

test('faults_of_a_companion', async () => {
  const site = 'web/src/engine/companion.ts';
  const { encode, listModels } = await load('engine/companion');
  const { signal } = new AbortController();
  const address = { url: 'http://localhost:7860' };
  const ask = (answer, url = address.url) => caught(() => withFetch(answer, () => encode({ url }, { captions: ['a star'] }, signal)));
  await add(
    site,
    ask(() => new Response('{}')),
  );
  await add(
    site,
    ask(() => new Response('', { status: 502 })),
  );
  await add(
    site,
    ask(() => Promise.reject(new TypeError('Failed to fetch'))),
  );
  await add(
    site,
    ask(() => new Response('{}'), ''),
  );
  await add(
    site,
    ask(() => new Response('{}'), 'localhost 7860'),
  );
  await add(
    site,
    caught(() =>
      withFetch(
        () => new Response('<html>'),
        () => listModels(address.url, '', signal),
      ),
    ),
  );
});

test('faults_of_the_client_and_the_engine', async () => {
  const { connect } = await load('engine/client');
  const workers = [];
  globalThis.Worker = class {
    constructor() {
      workers.push(this);
    }
    postMessage(message) {
      this.answer?.(message);
    }
    terminate() {}
  };
  const worker = () => workers.at(-1);
  const site = 'web/src/engine/client.ts';
  const failing = connect('wasm', 'memory', () => {});
  const pending = failing.generate({ prompt: 'a star' });
  worker().onerror({ message: undefined });
  await add(site, pending);
  const closing = connect('wasm', 'memory', () => {});
  const closed = closing.generate({ prompt: 'a star' });
  closing.close();
  await add(site, closed);
  const confused = connect('wasm', 'memory', () => {});
  worker().answer = ({ id }) => worker().onmessage({ data: { kind: 'checked', id, rows: [] } });
  await add(site, confused.generate({ prompt: 'a star' }));

  const { startEngine } = await load('engine/engine');
  const options = { device: 'wasm', storage: 'memory', onEvent: () => {} };
  const checkpoint = { checkpoint: 'https://example.org/model/', load_text_encoder: true, dtype: 'auto' };
  const declined = startEngine({ ...options, checkpoint, confirmDownload: { measure_above_bytes: 0, confirm: async () => false } });
  worker().answer = ({ id, kind }) =>
    kind === 'estimate' && worker().onmessage({ data: { kind: 'estimated', id, download_bytes: 9, generation_cost: {} } });
  worker().answer({ id: 1, kind: 'estimate' });
  await add('web/src/engine/engine.ts', declined.ready);
  const engine = startEngine({ ...options, checkpoint: undefined });
  engine.close();
  await add('web/src/engine/engine.ts', engine.generate({ prompt: 'a star' }));

  globalThis.document = { baseURI: 'https://example.org/' };
  const { createEngine } = await load('engine/index');
  await add('web/src/engine/index.ts', createEngine({ model: 'models/scenes', signal: AbortSignal.abort() }));
  const { PixartStudio } = await load('studio/studio');
  await add('web/src/studio/studio.ts', Object.assign(new PixartStudio(), { getAttribute: () => null }).load());
  const { faultOf } = await load('engine/fault');
  await add('web/src/engine/fault.ts', faultOf(new Error('the connection to the database was closed')));
  const { messageFault } = await load('engine/validate');
  for (const message of [
    { kind: 'draw' },
    { kind: 'check', id: -1 },
    { kind: 'check', id: 1, variant: 'golden/alpha/', device: 'cuda' },
    { kind: 'resume', request: {}, model_outputs: [] },
    { kind: 'storage', id: 1, task: {}, storage: 'auto' },
  ])
    await add('web/src/engine/validate.ts', messageFault(message));
});

const AT = 'https://example.org/model/';
const page_of = { headers: { 'content-type': 'text/html' } };

test('faults_of_servers', async () => {
  const { HttpSource } = await load('checkpoints/source');
  const { networkFault, requestFile } = await load('checkpoints/http');
  const missing = (answer) =>
    withFetch(answer, async () => {
      const source = new HttpSource(AT);
      await source.info('vae/config.json');
      return source.missing('vae/config.json');
    });
  const request = (answer, begin = 0) => caught(() => withFetch(answer, () => requestFile(AT, begin, begin + 8)));
  const http = 'web/src/checkpoints/http.ts';
  for (const status of [401, 403, 410])
    await add(
      http,
      missing(() => new Response('', { status })),
    );
  await add(
    http,
    request(() => new Response('', { status: 400 })),
  );
  await add(
    http,
    request(() => new Response('', { status: 429, headers: { 'retry-after': '3600' } })),
  );
  await add(
    http,
    request(() => new Response('later', { status: 206, headers: { 'content-range': 'bytes 64-71/72' } })),
  );
  await add(http, networkFault(AT, new TypeError('Failed to fetch')));
  const site = 'web/src/checkpoints/source.ts';
  await add(
    site,
    missing(() => new Response('', { status: 404 })),
  );
  await add(
    site,
    missing(() => new Response('<!doctype html>', page_of)),
  );
  const backwards = async () => {
    const source = new HttpSource(AT);
    await source.info('vae/a.safetensors');
    await source.read('vae/a.safetensors', 8, 16);
    return source.read('vae/a.safetensors', 0, 8);
  };
  const whole = () => new Response(new Uint8Array(32), { headers: { 'content-length': '32' } });
  await add(
    site,
    caught(() => withFetch(whole, backwards)),
  );
  await add(
    site,
    caught(() => withFetch(whole, () => new HttpSource(AT).info('text_encoder/t5-q4.gguf'))),
  );
});

test('faults_of_files_and_storage', async () => {
  const { FilesSource } = await load('checkpoints/source');
  const { FileChangedError } = await load('checkpoints/http');
  const { bytesOf } = await load('checkpoints/identity');
  const { describe } = await load('checkpoints/describe');
  const { Store } = await load('checkpoints/store');
  const { guarded, OpfsBlobStore, quotaFault } = await load('checkpoints/blob-store');
  const folder = (files) =>
    new FilesSource('folder:model/', new Map(Object.entries(files).map(([path, text]) => [path, new File([text], path)])));
  await add('web/src/checkpoints/source.ts', folder({}).missing('transformer/config.json'));
  const moved = { arrayBuffer: () => Promise.reject(new DOMException('The file could not be read.', 'NotReadableError')) };
  await add(
    'web/src/checkpoints/identity.ts',
    caught(() => bytesOf('vae/config.json', moved)),
  );
  const names = ['transformer/config.json', 'vae/config.json', 'scheduler/scheduler_config.json', 'model_index.json'];
  const configs = Object.fromEntries(names.map((path) => [path, '{}']));
  const index = 'transformer/diffusion_pytorch_model.safetensors.index.json';
  const encoders = { 'tokenizer/spiece.model': 'text', 'text_encoder/t5-q4.gguf': 'GGUF', 'text_encoder/t5-q8.gguf': 'GGUF' };
  await add(
    'web/src/checkpoints/describe.ts',
    caught(() => describe(folder(encoders), ['text_encoder'])),
  );
  await add(
    'web/src/checkpoints/describe.ts',
    caught(() => describe(folder({ ...configs, [index]: '{}' }), ['transformer'])),
  );

  const access = { getSize: () => 8, read: () => 0, close: () => {} };
  const failing = { createSyncAccessHandle: () => Promise.reject(new Error('the disk failed')) };
  const handles = async (...call) => (call[1]?.create ? failing : { createSyncAccessHandle: async () => access });
  const removeEntry = () => Promise.reject(new DOMException('it is open', 'NoModificationAllowedError'));
  const root = { getDirectoryHandle: async () => ({ getFileHandle: handles, removeEntry }) };
  Object.defineProperty(globalThis, 'navigator', { value: { storage: { getDirectory: async () => root } }, configurable: true });
  const { Engine } = await vite.ssrLoadModule('/web/pkg/pixart_browser.js');
  const { Conversion } = await load('checkpoints/convert');
  const { Checkpoints } = await load('checkpoints/checkpoint');
  const device = { conversion_dtype: () => 'q8' };
  const weights = 'transformer/diffusion_pytorch_model.safetensors';
  const vae = 'vae/diffusion_pytorch_model.safetensors';
  const changing = folder({ ...configs, [weights]: '{}', [vae]: '{}' });
  Engine.convert = (_conversion, _files, read) => read(weights, 0, 1);
  const read = changing.read.bind(changing);
  changing.read = (path, ...range) => (path === weights ? Promise.reject(new FileChangedError(path)) : read(path, ...range));
  const store = await Store.open('memory');
  const conversion = new Conversion(store, device, 'auto', () => {});
  await add(
    'web/src/checkpoints/convert.ts',
    caught(() => conversion.run(changing, 'denoiser', () => {})),
  );

  Engine.validate_manifest = () => {};
  const shard = { file: 'transformer-00000-0a.bin', bytes: 8, sha256: '0a' };
  const section = (name, shards) => ({ name, dir: name, shard_bytes: 8, shards, tensors: [] });
  const manifest = { sections: [section('transformer', [shard]), section('vae_decoder', [])] };
  const packed = folder({ 'manifest.json': JSON.stringify(manifest) });
  const checkpoints = new Checkpoints(store, device, 'auto', () => {});
  await add(
    'web/src/checkpoints/checkpoint.ts',
    caught(() => checkpoints.check({ denoiser: packed, text_encoder: packed, vae_encoder: packed }, ['text_encoder'])),
  );
  const { ComponentSource } = await load('checkpoints/component-source');
  const composed = new ComponentSource(packed, new Map([['vae', { source: folder({}), file: undefined }]]));
  await add(
    'web/src/checkpoints/component-source.ts',
    caught(() => checkpoints.check({ denoiser: composed, text_encoder: packed, vae_encoder: composed }, ['denoiser'])),
  );
  const { provideLoras } = await load('checkpoints/loras');
  const lora = { source: 'folder:watercolour/', name: 'watercolour', scale: 1 };
  await add(
    'web/src/checkpoints/loras.ts',
    caught(() => provideLoras(store, [lora], new Map([[lora.source, new Map()]]), () => {})),
  );
  await add(
    'web/src/checkpoints/checkpoint.ts',
    caught(() => checkpoints.provide(packed, 'denoiser')),
  );
  const short = folder({ 'manifest.json': JSON.stringify(manifest), [shard.file]: 'half' });
  await add(
    'web/src/checkpoints/checkpoint.ts',
    caught(() => checkpoints.provide(short, 'denoiser')),
  );
  const { HttpSource } = await load('checkpoints/source');
  const manifestAlone = (url) =>
    String(url).endsWith('manifest.json') ? new Response(JSON.stringify(manifest)) : new Response('', { status: 404 });
  await add(
    'web/src/checkpoints/checkpoint.ts',
    caught(() => withFetch(manifestAlone, () => checkpoints.provide(new HttpSource(AT), 'denoiser'))),
  );
  const stored = store.reader([manifest], () => {});
  await add(
    'web/src/checkpoints/store.ts',
    caught(() => stored('vae-00000.bin', 0, 8)),
  );
  await add(
    'web/src/checkpoints/store.ts',
    caught(() => stored(shard.file, 0, 8)),
  );

  globalThis.indexedDB = {
    open() {
      throw new DOMException('A mutation operation was attempted on a database that did not allow mutations.', 'InvalidStateError');
    },
  };
  await add(
    'web/src/checkpoints/store.ts',
    caught(() => Store.open('indexeddb')),
  );

  const site = 'web/src/checkpoints/blob-store.ts';
  await add(
    site,
    caught(() => guarded(() => Promise.reject(new DOMException('full', 'QuotaExceededError')))),
  );
  await add(
    site,
    caught(() => guarded(() => Promise.reject(new DOMException('The database was closed.', 'InvalidStateError')))),
  );
  await add(site, quotaFault(600e6, 200e6));
  await add(site, quotaFault(600e6, undefined));
  const opfs = await OpfsBlobStore.open();
  await add(
    site,
    caught(async () => (await opfs.open('0a')).read(0, 8)),
  );
  await add(
    site,
    caught(() => opfs.write('0a', new Uint8Array(8))),
  );
  await add(
    site,
    caught(() => opfs.remove(['0a'])),
  );
});

test('faults_of_the_wasm_module_in_other_orders', async () => {
  await provokeModuleFaults(await import(new URL('web/pkg/pixart_browser.js', ROOT).href), add);
});

test('faults_of_the_worker_and_the_wasm_module', async () => {
  const worker = readdirSync(ASSETS).find((name) => name.startsWith('worker-') && name.endsWith('.js'));
  const page = await browser.context.newPage();
  await page.goto(`${server.url}?device=wasm&checkpoint=`);
  const faults = await page.evaluate(
    async ({ url, checkpoint }) => {
      const worker = new Worker(url, { type: 'module' });
      const waiting = new Map();
      worker.onmessage = ({ data }) => {
        const id = data.id ?? null;
        if (!['fault', 'ready', 'image', 'cancelled'].includes(data.kind)) return;
        waiting.get(id)?.(data.fault ?? data);
        waiting.delete(id);
      };
      const send = (message, id) =>
        new Promise((resolve) => {
          waiting.set(id, resolve);
          worker.postMessage(message);
        });
      const small = { prompt: 'a star', width: 64, height: 64, num_inference_steps: 1 };
      const closed = await send({ kind: 'generate', id: 1, ...small }, 1);
      const open = {
        kind: 'open',
        checkpoint,
        device: 'wasm',
        load_text_encoder: true,
        storage: 'memory',
        dtype: 'auto',
        memory_limit_bytes: null,
      };
      await send(open, null);
      const faults = { closed };
      faults.type = await send({ kind: 'generate', id: 2, ...small, prompt: 7 }, 2);
      faults.several = await send({ kind: 'generate', id: 3, ...small, num_images_per_prompt: 2 }, 3);
      faults.replay = await send({ kind: 'resume', request: { id: 4, ...small }, model_outputs: [new Uint8Array(3)] }, 4);
      const layer = { id: 6, layer: 1, layers: 2, is_streamed: true, hidden_state: new Uint8Array(3) };
      faults.layer = await send({ kind: 'resume', request: { id: 6, ...small }, model_outputs: [], text_encoder_layer: layer }, 6);
      const first = send({ kind: 'generate', id: 5, ...small }, 5);
      worker.postMessage({ kind: 'generate', id: 5, ...small });
      faults.twice = await first;
      return faults;
    },
    { url: `${server.url}assets/${worker}`, checkpoint: `${server.url}models/scenes/` },
  );
  await add('web/src/engine/worker.ts', faults.closed);
  await add('web/src/engine/worker.ts', faults.twice);
  await add('crates/browser/src/interop.rs from_js', faults.type);
  await add('crates/browser/src/engine.rs try_prepare', faults.several);
  await add('crates/browser/src/generate.rs replay_step', faults.replay);
  await add('crates/browser/src/encode.rs resume_encoding', faults.layer);
  await page.close();
});

/** Runs before the worker's own code: fails in the way that a `provoke` message names. */
const PROVOKE = `
  const request = GPUAdapter.prototype.requestDevice;
  let device;
  GPUAdapter.prototype.requestDevice = async function (...all) { return (device = await request.apply(this, all)); };
  const raise = (error) => device.dispatchEvent(new GPUUncapturedErrorEvent('uncapturederror', { error }));
  const ways = {
    memory: () => raise(new GPUOutOfMemoryError('a buffer of 4 GB could not be created')),
    command: () => raise(new GPUValidationError('the buffer was destroyed')),
    lost: () => device.destroy(),
    crash: () => setTimeout(() => { throw new Error('the worker falls over'); }),
  };
  addEventListener('message', (event) => {
    if (event.data.kind !== 'provoke') return;
    event.stopImmediatePropagation();
    ways[event.data.how]();
  });
`;

test('faults_of_a_gpu_and_of_a_worker_that_fail', async () => {
  const worker = readdirSync(ASSETS).find((name) => name.startsWith('worker-') && name.endsWith('.js'));
  const page = await browser.context.newPage();
  await page.route('**/worker-*.js', async (route) => {
    const reply = await route.fetch({ maxRetries: 3 });
    await route.fulfill({ response: reply, body: PROVOKE + (await reply.text()) });
  });
  await page.goto(`${server.url}?device=wasm&checkpoint=`);
  const faults = await page.evaluate(
    async ({ url, missing }) => {
      const worker = new Worker(url, { type: 'module' });
      let answer;
      worker.onmessage = ({ data }) => ['fault', 'checked'].includes(data.kind) && answer(data);
      const send = (message) =>
        new Promise((resolve) => {
          answer = ({ fault }) => resolve(fault);
          worker.postMessage(message);
        });
      // It opens the device, and finds nothing to compare.
      await send({ kind: 'check', id: 1, variant: missing, device: 'webgpu' });
      const faults = [];
      for (const how of ['memory', 'command', 'lost', 'crash']) faults.push(await send({ kind: 'provoke', how }));
      worker.terminate();
      return faults;
    },
    { url: `${server.url}assets/${worker}`, missing: `${server.url}golden/none/` },
  );
  const [memory, command, lost, crash] = faults;
  await add('crates/browser/src/device.rs fault_of', memory);
  await add('crates/browser/src/device.rs fault_of', command);
  await add('crates/browser/src/device.rs report_errors', lost);
  await add('web/src/engine/worker.ts', crash);
  await page.close();
});

/** Opens the page with a script before those of page and worker, and returns the fault it stops with. */
async function faultWith(script, device = 'webgpu') {
  const page = await browser.context.newPage();
  await page.route('**/worker-*.js', async (route) => {
    const reply = await route.fetch({ maxRetries: 3 });
    await route.fulfill({ response: reply, body: `${script}\n${await reply.text()}` });
  });
  await page.goto(`${server.url}?device=${device}&storage=memory`);
  await untilEngine(page, TIMEOUT_MILLIS);
  const fault = await page.evaluate(() => globalThis.pixart.state().fault);
  await page.close();
  return fault;
}

test('faults_of_a_browser_without_a_usable_gpu', async () => {
  const site = 'crates/browser/src/device.rs describe';
  await add(site, faultWith('delete Object.getPrototypeOf(navigator).gpu;'));
  await add(site, faultWith('GPU.prototype.requestAdapter = async () => null;'));
  await add(site, faultWith(`GPU.prototype.requestAdapter = async () => { throw new TypeError('no'); };`));
  const refuse = `GPUAdapter.prototype.requestDevice = async () => { throw new DOMException('The device was refused.', 'OperationError'); };`;
  await add('crates/browser/src/device.rs gpu', faultWith(refuse));
});

test('faults_of_the_form', async () => {
  const page = await browser.context.newPage();
  await page.goto(`${server.url}?device=wasm&storage=memory`);
  await untilEngine(page, TIMEOUT_MILLIS);
  await openSettings(page);
  const submit = async () => {
    // The form stays as it is: only what is requested changes.
    await page.evaluate(() => {
      const { fault } = globalThis.pixart.state();
      if (fault) fault.seen = true;
    });
    await page.click('#generate');
    await page.waitForFunction(() => globalThis.pixart.state().fault && !globalThis.pixart.state().fault.seen, undefined, {
      timeout: TIMEOUT_MILLIS,
    });
    return page.evaluate(() => globalThis.pixart.state().fault);
  };
  await page.fill('#seed', '-1');
  await add('web/src/app/fields.ts', await submit());
  await page.fill('#seed', '7');
  const typed = await page.inputValue('#prompt');
  await page.fill('#prompt', '{a|b}'.repeat(7));
  await add('web/src/app/form.ts', await submit());
  await page.fill('#prompt', typed);
  const png = { name: 'mask.png', mimeType: 'image/png', buffer: Buffer.from('iVBORw0KGgo=', 'base64') };
  await page.setInputFiles('#mask-image', png);
  await page.route('**/assets/read-image-*.js', (route) => route.abort());
  await add('web/src/app/load-part.ts', await submit());
  await page.unroute('**/assets/read-image-*.js');
  await add('web/src/app/input-image.ts', await submit());
  await page.setInputFiles('#mask-image', []);
  await page.setInputFiles('#init-image', { name: 'notes.jpg', mimeType: 'image/jpeg', buffer: Buffer.from('a text') });
  await add('web/src/gallery/read-image.ts', await submit());
  const huge = Buffer.alloc(33);
  huge.write('89504e470d0a1a0a0000000d49484452', 'hex');
  huge.writeUInt32BE(100_000, 16);
  huge.writeUInt32BE(100_000, 20);
  await page.setInputFiles('#init-image', { name: 'huge.png', mimeType: 'image/png', buffer: huge });
  await add('web/src/gallery/read-image.ts', await submit());
  await page.setInputFiles('#init-image', []);
  await page.locator('#text-file').evaluate((radio) => radio.click());
  await add('web/src/app/text-source.ts', await submit());
  await page.locator('#text-tab').evaluate((radio) => radio.click());
  await page.selectOption('#x-axis', 'seed');
  await page.fill('#x-axis-values', Array.from({ length: 101 }, (_, seed) => seed).join());
  await add('web/src/app/grid.ts', await submit());
  await page.fill('#x-axis-values', '1, two');
  await add('web/src/app/grid.ts', await submit());
  await page.fill('#x-axis-values', '1, "2');
  await add('web/src/app/grid.ts', await submit());
  await page.close();
});

test('the_texts_of_the_page_are_those_of_the_catalogue', () => {
  const catalogue = JSON.parse(readFileSync(CATALOGUE, 'utf8'));
  const isOurs = ({ site }) => site.startsWith('web/') || site.startsWith('crates/browser/');
  if (process.env.RECORD_ERRORS === '1') {
    const all = [...catalogue.filter((row) => !isOurs(row)), ...rows];
    writeFileSync(CATALOGUE, `[\n${all.map((row) => `  ${JSON.stringify(row)}`).join(',\n')}\n]\n`);
    return;
  }
  assert.deepEqual(rows, catalogue.filter(isOurs), 'record the texts with RECORD_ERRORS=1 and `cargo xtask errors`, and read them');
});
