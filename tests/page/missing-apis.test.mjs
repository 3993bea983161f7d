//! Browsers without one of the optional APIs: each is removed in the page and in its worker, and the page still loads a checkpoint
//! and generates. By the published feature sets, Firefox has no shader-f16 on every adapter and no WebGPU in service workers;
//! Safari has no `read-only` access handles.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fillForm, generate, untilEngine } from './browser.mjs';
import { useBrowser } from './fixture.mjs';

const SMALL = { prompt: 'a red circle on a blue background', seed: 7, num_inference_steps: 2, width: 64, height: 64 };
const TIMEOUT_MILLIS = 120_000;

/** The script that removes an API in a page or a worker, and the backend or store that is then used. */
const REMOVED = {
  nothing: { script: '', device: 'auto' },
  webgpu: { script: `delete Object.getPrototypeOf(navigator).gpu;`, device: 'auto', backend: 'wasm' },
  'shader-f16': { script: withoutFeatures((name) => name === 'shader-f16'), device: 'webgpu', backend: 'webgpu' },
  'timestamp-query': { script: withoutFeatures((name) => name === 'timestamp-query'), device: 'webgpu', backend: 'webgpu' },
  'every optional feature': { script: withoutFeatures(() => true), device: 'webgpu', backend: 'webgpu' },
  // The first browsers with WebGPU had a fallback adapter's mark elsewhere, and no other description.
  'adapter info': {
    script: `if (self.GPUAdapter) {
      delete GPUAdapter.prototype.info;
      GPUAdapter.prototype.isFallbackAdapter = true;
    }`,
    device: 'webgpu',
    backend: 'webgpu',
    adapter: /^GPU \(webgpu\).*: as requested; the browser does not name it/,
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

/** Returns a script that hides the features of adapters that `isHidden` selects. A device cannot be asked for them, either. */
function withoutFeatures(isHidden) {
  return `if (self.GPUAdapter) {
    const isHidden = ${isHidden};
    const { get } = Object.getOwnPropertyDescriptor(GPUAdapter.prototype, 'features');
    const request = GPUAdapter.prototype.requestDevice;
    GPUAdapter.prototype.requestDevice = function (wanted = {}) {
      const hidden = [...(wanted.requiredFeatures ?? [])].find(isHidden);
      if (hidden !== undefined) throw new TypeError('there is no ' + hidden);
      return request.call(this, wanted);
    };
    const fewer = function () { return new Set([...get.call(this)].filter((name) => !isHidden(name))); };
    Object.defineProperty(GPUAdapter.prototype, 'features', { get: fewer });
  }`;
}

const fixture = useBrowser({ browserPerTest: true });
let whole;

for (const [name, { script, device, backend, store, adapter: shown }] of Object.entries(REMOVED)) {
  test(`without_${name.replaceAll(' ', '_')}_the_page_generates`, () =>
    fixture.withPage(async (page) => {
      await page.addInitScript(script);
      await page.route('**/worker-*.js', async (route) => {
        const reply = await route.fetch({ maxRetries: 3 });
        await route.fulfill({ response: reply, body: `${script}\n${await reply.text()}` });
      });
      await page.goto(`${fixture.server.url}?device=${device}`);
      await untilEngine(page, TIMEOUT_MILLIS);
      await fillForm(page, SMALL);
      const { fault, png } = await generate(page, TIMEOUT_MILLIS);
      assert.equal(fault, undefined);
      const { adapter, checkpoint } = await page.evaluate(() => globalThis.pixart.state());
      if (backend) assert.equal(adapter.backend, backend);
      if (shown) assert.match(await page.innerText('#adapter'), shown);
      if (store) assert.equal(checkpoint.storage, store);
      if (adapter.backend === 'wasm') {
        whole ??= png;
        // The metadata holds the device's name, not the reason for its selection.
        assert.deepEqual(png, whole);
      }
    }));
}
