//! A browser that refuses to store images: full, without storage, with a gallery of a newer version. Images stay on the page, and the next
//! one is generated.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fillForm, generate, openBrowser, servePage, untilEngine } from './browser.mjs';

const TIMEOUT_MILLIS = 300_000;
const SMALL = { prompt: 'a red circle on a blue background', seed: 7, num_inference_steps: 2, width: 64, height: 64 };

let server;
before(async () => {
  server = await servePage();
});
after(() => server.close());

/** Ways in which a browser refuses the gallery, as scripts that run before the page's own, and the reason that the page gives. */
const REFUSALS = [
  [
    'a_full_storage',
    () => {
      IDBObjectStore.prototype.add = () => {
        throw new DOMException('The quota has been exceeded.', 'QuotaExceededError');
      };
    },
    /this browser's storage is full/,
  ],
  [
    'an_add_that_throws',
    () => {
      IDBObjectStore.prototype.add = () => {
        throw new TypeError('add is not what it was');
      };
    },
    /add is not what it was/,
  ],
  [
    'a_transaction_that_is_aborted',
    () => {
      const add = IDBObjectStore.prototype.add;
      IDBObjectStore.prototype.add = function (...values) {
        const request = add.apply(this, values);
        this.transaction.abort();
        return request;
      };
    },
    /not stored in the gallery: .+\. Download it/,
  ],
  [
    'a_window_without_databases',
    () => {
      const open = indexedDB.open.bind(indexedDB);
      IDBFactory.prototype.open = (name, ...rest) => {
        if (name === 'pixart-web gallery') throw new DOMException('denied', 'SecurityError');
        return open(name, ...rest);
      };
    },
    /this window has no storage/,
  ],
  [
    'a_gallery_that_refuses_every_write',
    () => {
      const transaction = IDBDatabase.prototype.transaction;
      IDBDatabase.prototype.transaction = function (stores, mode, ...rest) {
        if (this.name === 'pixart-web gallery' && mode === 'readwrite') throw new DOMException('closed', 'InvalidStateError');
        return transaction.call(this, stores, mode, ...rest);
      };
    },
    /the gallery was closed or deleted/,
  ],
  [
    'a_gallery_that_cannot_be_read',
    () => {
      IDBObjectStore.prototype.getAll = () => {
        throw new DOMException('broken', 'UnknownError');
      };
    },
    undefined,
  ],
];

for (const [name, script, reason] of REFUSALS) {
  test(`${name}_leaves_the_image_on_the_page_and_the_next_one_is_generated`, async () => {
    const browser = await openBrowser({ flags: [] });
    try {
      const page = await browser.context.newPage();
      const uncaught = [];
      page.on('pageerror', (error) => uncaught.push(error.message));
      await page.addInitScript(script);
      await page.goto(`${server.url}?device=wasm&storage=memory`);
      await untilEngine(page, TIMEOUT_MILLIS);
      for (const seed of [7, 8]) {
        await fillForm(page, { ...SMALL, seed });
        const { fault, png } = await generate(page, TIMEOUT_MILLIS);
        assert.equal(fault, undefined);
        assert.ok(png.length > 100, 'the image can be downloaded');
        assert.ok(await page.isVisible('#image'));
        if (reason !== undefined) {
          await page.waitForSelector('#notice:not([hidden])');
          assert.match(await page.innerText('#notice-text'), reason);
          assert.match(await page.innerText('#notice-text'), /^The image is on this page, and was not stored/);
        }
        assert.equal(await page.evaluate(() => globalThis.pixart.state().phase), 'ready');
      }
      await page.locator('#gallery').evaluate((fold) => (fold.open = true));
      await page.waitForTimeout(200);
      assert.equal(await page.evaluate(() => globalThis.pixart.state().phase), 'ready');
      assert.deepEqual(uncaught, []);
    } finally {
      await browser.close();
    }
  });
}

test('a_gallery_of_a_newer_version_is_left_alone', async () => {
  const browser = await openBrowser({ flags: [] });
  try {
    const page = await browser.context.newPage();
    await page.goto(`${server.url}models/scenes/README.md`);
    await page.evaluate(async () => {
      const opening = indexedDB.open('pixart-web gallery', 99);
      (await new Promise((resolve) => (opening.onsuccess = () => resolve(opening.result)))).close();
    });
    await page.goto(`${server.url}?device=wasm`);
    await untilEngine(page, TIMEOUT_MILLIS);
    await fillForm(page, SMALL);
    assert.equal((await generate(page, TIMEOUT_MILLIS)).fault, undefined);
    assert.match(await page.innerText('#notice-text'), /a newer version of this page wrote the gallery/);
    const version = await page.evaluate(
      async () => (await indexedDB.databases()).find(({ name }) => name === 'pixart-web gallery').version,
    );
    assert.equal(version, 99);
  } finally {
    await browser.close();
  }
});

test('a_gallery_that_is_deleted_meanwhile_is_named_and_generation_goes_on', async () => {
  const browser = await openBrowser({ flags: [] });
  try {
    const page = await browser.context.newPage();
    await page.goto(`${server.url}?device=wasm&storage=memory`);
    await untilEngine(page, TIMEOUT_MILLIS);
    await page.evaluate(() => new Promise((resolve) => (indexedDB.deleteDatabase('pixart-web gallery').onsuccess = resolve)));
    await fillForm(page, SMALL);
    assert.equal((await generate(page, TIMEOUT_MILLIS)).fault, undefined);
    assert.match(await page.innerText('#notice-text'), /the gallery was closed or deleted; reload the page/);
    await page.reload();
    await untilEngine(page, TIMEOUT_MILLIS);
    await fillForm(page, SMALL);
    assert.equal((await generate(page, TIMEOUT_MILLIS)).fault, undefined);
    assert.ok(await page.isHidden('#notice'));
  } finally {
    await browser.close();
  }
});
