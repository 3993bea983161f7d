//! Checkpoints in the engines beside Chromium: each store, interrupted downloads, storage that runs out, and the page without a
//! network. Needs web/dist and, in PIXART, the path of the `pixart` binary.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import { untilEngine } from '../page/browser.mjs';
import { SCENES, waitUntil } from '../page/fixture.mjs';
import { startModelServer } from '../page/model-server.mjs';
import { openWebkit, SAFARI_FEATURES } from './engines.mjs';
import { brief, generateImage, inEachEngine, openPage, TIMEOUT_MILLIS, untilReady } from './fixture.mjs';

/** The stores of each engine. Where it has two, the page takes the faster one by itself. */
const STORES = { firefox: ['indexeddb', 'opfs'], webkit: ['auto'] };
/** The sections that a generation needs, with a companion as text encoder. */
const SECTIONS = ['transformer', 'vae_decoder'];

const scratch = mkdtempSync(join(tmpdir(), 'pixart-engines-'));
let models;
let shards;
before(async () => {
  assert.ok(process.env.PIXART, 'PIXART must hold the path of the pixart binary');
  execFileSync(process.env.PIXART, ['pack', '--from', SCENES, '--to', scratch, '--dtype', 'f32', '--shard-mib', '1']);
  const manifest = JSON.parse(readFileSync(join(scratch, 'manifest.json'), 'utf8'));
  shards = manifest.sections.filter(({ name }) => SECTIONS.includes(name)).flatMap((section) => section.shards);
  assert.ok(shards.length > 10, `${shards.length} shards`);
  models = await startModelServer(scratch);
});
after(() => {
  models?.close();
  rmSync(scratch, { recursive: true });
});

const isShard = (path) => path.endsWith('.bin');
const shardRequests = () => models.log.filter(({ path }) => isShard(path));
/** The page's address with the packed checkpoint. With a companion to encode prompts, it loads no text encoder. */
const packed = ({ server }, store) => `${server.url}?device=wasm&companion=&store=${store}&checkpoint=${encodeURIComponent(models.url)}`;

inEachEngine(
  (context, name) => {
    beforeEach(() => models.reset());

    for (const store of STORES[name]) {
      test(`a_packed_checkpoint_is_downloaded_once_into_the_store_${store}_and_opened_again_without_downloading_a_shard`, async () => {
        const { page } = context;
        await page.goto(packed(context, store));
        await untilReady(page);
        assert.equal((await brief(page)).checkpoint.storage, store === 'auto' ? 'indexeddb' : store);
        const requested = shardRequests().map(({ path }) => path);
        assert.deepEqual(requested.sort(), shards.map(({ file }) => file).sort());
        models.reset();
        await page.reload();
        await untilReady(page);
        assert.deepEqual(shardRequests(), []);
      });
    }

    test('a_page_reloaded_during_a_download_downloads_no_finished_shard_again', async () => {
      const { page } = context;
      const done = 5;
      models.rule = async ({ path }) => {
        if (isShard(path) && shardRequests().length > done + 4) await new Promise((resolve) => setTimeout(resolve, 3_000));
      };
      await page.goto(packed(context, 'auto'));
      await waitUntil(() => shardRequests().length > done + 4, `${done} shards`);
      await page.reload();
      models.reset();
      await untilReady(page);
      assert.ok(shardRequests().length <= shards.length - done, `${shardRequests().length} of ${shards.length} after the reload`);
    });

    test('a_connection_cut_inside_shards_is_resumed_inside_them', async () => {
      const { page } = context;
      models.rule = ({ path, count }) => (isShard(path) && count === 0 ? { cut: 600_000 } : undefined);
      await page.goto(packed(context, 'auto'));
      await untilReady(page);
      const large = shards.filter(({ bytes }) => bytes > 600_000);
      const resumed = large.filter(({ file }) => shardRequests().some(({ path, begin }) => path === file && begin > 0));
      // A busy browser may drop bytes it has not delivered, and then restarts such a shard.
      assert.ok(resumed.length >= large.length - 2, `${resumed.length} of ${large.length} shards are resumed inside`);
    });

    test('storage_that_runs_out_is_reported_and_finished_shards_stay_stored', async () => {
      const { page, server } = context;
      server.script = fullAfter(5);
      await page.goto(packed(context, 'auto'));
      await untilEngine(page, TIMEOUT_MILLIS);
      const { fault } = await brief(page);
      assert.equal(fault?.code, 'storage', fault?.what);
      assert.match(fault.what, /this browser has no storage for \d+ MB more/);
      server.script = '';
      models.reset();
      await page.reload();
      await untilReady(page);
      const repeated = shardRequests().length;
      assert.ok(repeated > 0 && repeated < shards.length, `${repeated} of ${shards.length} are downloaded again`);
    });

    test('a_generation_loads_the_text_encoder_from_the_packed_checkpoint', async () => {
      const { page } = context;
      await page.goto(packed(context, 'auto').replace('companion=&', ''));
      await untilReady(page);
      const { fault, png } = await generateImage(page);
      assert.equal(fault, undefined);
      assert.equal(png.toString('latin1', 1, 4), 'PNG');
    });

    test('after_one_visit_the_page_generates_without_a_network', async () => {
      const { page, server } = context;
      await openPage(context);
      await page.waitForFunction(() => navigator.serviceWorker.ready.then(({ active }) => active.state === 'activated'));
      // Firefox's driver reloads past a service worker, a navigation does not.
      await page.goto(`${server.url}?device=wasm`);
      await untilReady(page);
      await server.close();
      await page.goto(`${server.url}?device=wasm`);
      await untilReady(page);
      assert.equal((await generateImage(page)).fault, undefined);
      assert.equal(
        await page.evaluate(() =>
          fetch('nowhere').then(
            () => 'answered',
            () => 'failed',
          ),
        ),
        'failed',
      );
    });
  },
  { originPerTest: true },
);

inEachEngine(
  (context) => {
    test('a_private_window_that_refuses_its_file_system_stores_in_indexeddb', async () => {
      const { page } = context;
      models.reset();
      await page.goto(packed(context, 'opfs'));
      await untilEngine(page, TIMEOUT_MILLIS);
      assert.match((await brief(page)).fault?.what, /^opfs cannot be opened/);
      await page.goto(packed(context, 'auto'));
      await untilReady(page);
      assert.equal((await brief(page)).checkpoint.storage, 'indexeddb');
    });
  },
  // WebKitGTK has Safari's private file system, and does not switch it on. A session under automation is a private window.
  { engines: { 'webkit with the features of Safari': () => openWebkit(SAFARI_FEATURES) } },
);

/** A script after which the browser's storage is full once `records` records were written. */
function fullAfter(records) {
  return `{
    let written = 0;
    const full = () => new DOMException('the quota is exceeded', 'QuotaExceededError');
    if (self.IDBObjectStore) {
      const put = IDBObjectStore.prototype.put;
      IDBObjectStore.prototype.put = function (...given) {
        if (this.name === 'records' && ++written > ${records}) throw full();
        return put.apply(this, given);
      };
    }
    if (self.FileSystemSyncAccessHandle) {
      const write = FileSystemSyncAccessHandle.prototype.write;
      FileSystemSyncAccessHandle.prototype.write = function (...given) {
        if (++written > ${records}) throw full();
        return write.apply(this, given);
      };
    }
  }`;
}
