//! Browsers whose storage fails, at once or late: a fault with a remedy, and an engine that goes on.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { fillForm, generate, untilEngine } from './browser.mjs';
import { SCENES, untilLoaded, useModelServer } from './fixture.mjs';

const SMALL = { prompt: 'a red circle on a blue background', seed: 7, num_inference_steps: 2, width: 64, height: 64 };
const QUOTA = 'delete stored models, or free some disk space; what was downloaded stays stored';
const RELOAD = 'reload the page; if it fails again, free some disk space, or add ?storage=memory to the address';

describe('a storage', () => {
  const fixture = useModelServer(() => SCENES);

  /** Opens a page of the same origin that does nothing. */
  async function blankPage({ browser }) {
    const page = await browser.context.newPage();
    await page.goto(`${fixture.pageUrl}models/scenes/README.md`);
    return page;
  }

  const database = (version) =>
    new Promise((resolve) => {
      const opening = indexedDB.open('pixart-web', version);
      opening.onsuccess = () => resolve((globalThis.held = opening.result).version);
    });

  test('of_a_newer_version_is_left_alone_and_memory_is_used', async (context) => {
    await (await blankPage(context)).evaluate(database, 99);
    const page = await fixture.openPage(context);
    assert.equal((await untilLoaded(page)).storage, 'memory');
  });

  test('that_another_tab_holds_open_is_left_alone_and_memory_is_used', async (context) => {
    await (await blankPage(context)).evaluate(database, 1);
    const page = await fixture.openPage(context);
    assert.equal((await untilLoaded(page)).storage, 'memory');
  });

  test('that_another_tab_holds_open_is_named_where_it_was_chosen', async (context) => {
    await (await blankPage(context)).evaluate(database, 1);
    const page = await fixture.openPage(context, { store: 'indexeddb' });
    await untilEngine(page);
    assert.deepEqual(await page.evaluate(() => globalThis.pixart.state().fault), {
      code: 'storage',
      what: 'indexeddb cannot be opened: another tab holds it open; close the other tabs of this page',
      remedy: 'leave out storage in the address: the page then uses one that works',
    });
  });

  test('whose_file_another_tab_reads_deletes_it_once_that_tab_is_closed', async (context) => {
    const page = await fixture.openPage(context, { store: 'opfs' });
    await untilLoaded(page);
    const other = await fixture.openPage(context, { checkpoint: '' });
    await untilEngine(other);
    const files = await other.workers()[0].evaluate(async () => {
      const root = await (await navigator.storage.getDirectory()).getDirectoryHandle('pixart-web');
      globalThis.held = [];
      for await (const handle of root.values()) globalThis.held.push(await handle.createSyncAccessHandle({ mode: 'read-only' }));
      return globalThis.held.length;
    });
    assert.ok(files > 1, `${files} files are stored`);
    const run = (task) => page.evaluate((task) => globalThis.pixart.storage(task).catch((fault) => fault), task);
    const [{ checkpoint }] = await run({ kind: 'list' });
    const { what, remedy } = await run({ kind: 'delete', checkpoint });
    assert.match(what, /^another tab reads the stored file [0-9a-f]{64}$/);
    assert.equal(remedy, 'close the other tabs of this page, then delete it again');
    await other.close();
    assert.deepEqual(await run({ kind: 'delete', checkpoint }), []);
  });

  for (const [name, script, what, remedy] of [
    [
      'has_no_room_left',
      `IDBObjectStore.prototype.put = () => { throw new DOMException('full', 'QuotaExceededError'); }`,
      /^this browser has no storage for \d+ MB more$/,
      QUOTA,
    ],
    [
      'was_closed',
      `IDBDatabase.prototype.transaction = () => { throw new DOMException('the connection is closing', 'InvalidStateError'); }`,
      /^this browser's storage failed: the connection is closing$/,
      RELOAD,
    ],
    [
      'throws',
      `IDBObjectStore.prototype.put = () => { throw new Error('no'); }`,
      /^[0-9a-f]{64} could not be stored: no$/,
      'free some disk space, then try again',
    ],
    [
      'aborts_every_transaction',
      `const { transaction } = IDBDatabase.prototype; IDBDatabase.prototype.transaction = function (...options) {
        const begun = transaction.apply(this, options);
        setTimeout(() => { try { begun.abort(); } catch {} });
        queueMicrotask(() => { try { begun.abort(); } catch {} });
        return begun;
      }`,
      /^this browser's storage failed: /,
      RELOAD,
    ],
  ]) {
    test(`that_${name}_late_is_one_fault_and_the_next_generation_works`, async (context) => {
      // The text encoder is stored when the first prompt is encoded here.
      const page = await fixture.openPage(context, { store: 'indexeddb' });
      await untilLoaded(page);
      const [worker] = page.workers();
      const restore = 'restored.forEach(([owner, key, value]) => (owner[key] = value))';
      await worker.evaluate(`globalThis.restored = [[IDBObjectStore.prototype, 'put', IDBObjectStore.prototype.put],
        [IDBDatabase.prototype, 'transaction', IDBDatabase.prototype.transaction]]; ${script}`);
      await fillForm(page, { ...SMALL, text_encoder: { kind: 'tab' } });
      const { fault } = await generate(page, 60_000);
      assert.deepEqual({ ...fault, what: '' }, { code: 'storage', what: '', remedy });
      assert.match(fault.what, what);
      assert.equal(await page.evaluate(() => globalThis.pixart.state().phase), 'ready');
      await worker.evaluate(restore);
      const { png, fault: another } = await generate(page, 60_000);
      assert.equal(another, undefined);
      assert.equal(png.subarray(1, 4).toString(), 'PNG');
    });
  }
});
