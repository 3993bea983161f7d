//! Browsers without one of the optional APIs: each is removed in the page and in its worker, and the page still loads a checkpoint
//! and generates. By the published feature sets, Firefox has no shader-f16 on every adapter and no WebGPU in service workers;
//! Safari has no `read-only` access handles.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fillForm, generate, openBrowser, servePage, untilEngine } from './browser.mjs';

const SMALL = { prompt: 'a red circle on a blue background', seed: 7, num_inference_steps: 2, width: 64, height: 64 };
const TIMEOUT_MILLIS = 120_000;

/** The script that removes an API in a page or a worker, and the backend or store that is then used. */
const REMOVED = {
  nothing: { script: '', device: 'auto' },
  webgpu: { script: `delete Object.getPrototypeOf(navigator).gpu;`, device: 'auto', backend: 'wasm' },
  'shader-f16': {
    script: `if (self.GPUAdapter) {
      const request = GPUAdapter.prototype.requestDevice;
      GPUAdapter.prototype.requestDevice = function (wanted = {}) {
        if ([...(wanted.requiredFeatures ?? [])].includes('shader-f16')) throw new TypeError('there is no shader-f16');
        return request.call(this, wanted);
      };
      const { get } = Object.getOwnPropertyDescriptor(GPUAdapter.prototype, 'features');
      const fewer = function () { return new Set([...get.call(this)].filter((feature) => feature !== 'shader-f16')); };
      Object.defineProperty(GPUAdapter.prototype, 'features', { get: fewer });
    }`,
    device: 'webgpu',
    backend: 'webgpu',
  },
  // burn requires it: the CPU is used instead.
  'timestamp queries': {
    script: `if (self.GPUAdapter) Object.defineProperty(GPUAdapter.prototype, 'features', { get: () => new Set() });`,
    device: 'webgpu',
    refused: /no timestamp-query/,
  },
  'adapter info': {
    script: `if (self.GPUAdapter) delete GPUAdapter.prototype.info;`,
    device: 'webgpu',
    refused: /does not describe its WebGPU adapter/,
  },
  'web locks': { script: `delete Object.getPrototypeOf(navigator).locks;`, device: 'wasm' },
  opfs: { script: `delete StorageManager.prototype.getDirectory;`, device: 'wasm', store: 'indexeddb' },
  'access handles for several readers': {
    script: `if (self.FileSystemFileHandle?.prototype.createSyncAccessHandle) {
      const create = FileSystemFileHandle.prototype.createSyncAccessHandle;
      FileSystemFileHandle.prototype.createSyncAccessHandle = function (options) {
        return options?.mode ? Promise.reject(new TypeError('no such mode')) : create.call(this);
      };
    }`,
    device: 'wasm',
  },
  'storage estimates and persistence': {
    script: `delete StorageManager.prototype.estimate; delete StorageManager.prototype.persist;`,
    device: 'wasm',
  },
  indexeddb: { script: `Object.defineProperty(self, 'indexedDB', { get: () => undefined });`, device: 'wasm', store: 'memory' },
  'session storage': {
    script: `if (self.Storage) Object.defineProperty(self, 'sessionStorage', { get: () => { throw new DOMException('denied', 'SecurityError'); } });`,
    device: 'wasm',
  },
  'service workers': { script: `delete Object.getPrototypeOf(navigator).serviceWorker;`, device: 'wasm' },
};

let server;
let browser;
let whole;
before(async () => {
  server = await servePage();
});
after(() => server.close());

for (const [name, { script, device, backend, store, refused }] of Object.entries(REMOVED)) {
  test(`without_${name.replaceAll(' ', '_')}_the_page_generates`, async () => {
    browser = await openBrowser();
    try {
      const page = await browser.context.newPage();
      await page.addInitScript(script);
      await page.route('**/worker-*.js', async (route) => {
        const reply = await route.fetch();
        await route.fulfill({ response: reply, body: `${script}\n${await reply.text()}` });
      });
      const errors = [];
      page.on('pageerror', (error) => errors.push(error.message));
      await page.goto(`${server.url}?device=${device}`);
      await untilEngine(page, TIMEOUT_MILLIS);
      if (refused) {
        const { code, what } = await page.evaluate(() => globalThis.pixart.state().fault);
        assert.equal(code, 'no_webgpu');
        assert.match(what, refused);
        await page.goto(`${server.url}?device=auto`);
        await untilEngine(page, TIMEOUT_MILLIS);
        assert.match(await page.innerText('#adapter'), refused);
      }
      await fillForm(page, SMALL);
      const { fault, png } = await generate(page, TIMEOUT_MILLIS);
      assert.equal(fault, undefined);
      assert.deepEqual(errors, []);
      const { adapter, checkpoint } = await page.evaluate(() => globalThis.pixart.state());
      if (backend) assert.equal(adapter.backend, backend);
      if (store) assert.equal(checkpoint.storage, store);
      if (adapter.backend === 'wasm') {
        whole ??= png;
        // The metadata holds the device's name, not the reason for its selection.
        assert.deepEqual(png, whole);
      }
    } finally {
      await browser.close();
    }
  });
}
