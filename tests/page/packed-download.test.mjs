//! Packed checkpoints in a real browser while the server, the browser or the user interrupts or corrupts the download. In each
//! case nothing that arrived is lost, and the checkpoint is loaded in the end.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { children } from '../bench/report.mjs';
import { openBrowser } from './browser.mjs';
import { faultOf, MIB, SCENES, untilLoaded, useModelServer, waitUntil } from './fixture.mjs';
import { startModelServer } from './model-server.mjs';

const scratch = mkdtempSync(join(tmpdir(), 'pixart-weights-'));
const PACKED = join(scratch, 'packed');
/** The sections that a generation needs, with a companion as text encoder. */
const SECTIONS = ['transformer', 'vae_decoder'];

let shards;
before(() => {
  assert.ok(process.env.PIXART, 'PIXART must hold the path of the pixart binary');
  execFileSync(process.env.PIXART, ['pack', '--from', SCENES, '--to', PACKED, '--dtype', 'f32', '--shard-mib', '1']);
  const manifest = JSON.parse(readFileSync(join(PACKED, 'manifest.json'), 'utf8'));
  shards = manifest.sections.filter(({ name }) => SECTIONS.includes(name)).flatMap((section) => section.shards);
  assert.ok(shards.length > 10, `${shards.length} shards`);
});
after(() => rmSync(scratch, { recursive: true }));

const size = () => shards.reduce((sum, { bytes }) => sum + bytes, 0);
const isShard = (path) => path.endsWith('.bin');

describe('a packed checkpoint', () => {
  const fixture = useModelServer(() => PACKED);

  for (const store of ['indexeddb', 'opfs']) {
    test(`is_downloaded_once_into_${store}_and_opened_again_after_a_request_for_its_manifest`, async (context) => {
      const page = await fixture.openPage(context, { store });
      assert.equal((await untilLoaded(page)).storage, store);
      assert.deepEqual(
        fixture
          .shardRequests()
          .map(({ path }) => path)
          .sort(),
        shards.map(({ file }) => file).sort(),
      );
      assert.equal(fixture.shardBytes(), size());
      fixture.server.reset();
      await page.reload();
      await untilLoaded(page);
      assert.deepEqual(new Set(fixture.server.log.map(({ path }) => path)), new Set(['manifest.json']));
    });
  }

  test('a_connection_cut_before_and_inside_every_shard_is_resumed_inside_the_shards', async (context) => {
    fixture.server.rule = ({ path, count }) => {
      if (!isShard(path) || count > 1) return undefined;
      return { cut: count === 0 ? 0 : 600_000 };
    };
    const page = await fixture.openPage(context);
    await untilLoaded(page);
    const large = shards.filter(({ bytes }) => bytes > 600_000);
    const resumed = large.filter(({ file }) => fixture.shardRequests().some(({ path, begin }) => path === file && begin > 0));
    // A busy browser may drop bytes it has not delivered, and then restarts such a shard.
    assert.ok(resumed.length >= large.length - 2, `${resumed.length} of ${large.length} shards are resumed inside`);
    assert.ok(fixture.shardBytes() < size() * 1.5, `${fixture.shardBytes()} of ${size()} bytes`);
  });

  for (const done of [1, 4, 9]) {
    test(`a_tab_closed_after_${done}_shards_does_not_download_them_again`, async (context) => {
      const page = await fixture.openPage(context);
      await waitUntil(() => fixture.shardRequests().filter(({ sent }) => sent > 0).length > done + 4, `${done} shards`);
      await page.close();
      const before = fixture.shardRequests().length;
      fixture.server.reset();
      await untilLoaded(await fixture.openPage(context));
      assert.ok(
        fixture.shardRequests().length <= shards.length - done,
        `${fixture.shardRequests().length} after ${before} of ${shards.length}`,
      );
    });
  }

  test('a_browser_killed_inside_a_shard_resumes_inside_it', async (context) => {
    context.browser.close();
    const big = join(scratch, 'big');
    execFileSync(process.env.PIXART, ['pack', '--from', SCENES, '--to', big, '--dtype', 'f32', '--shard-mib', '32']);
    const other = await startModelServer(big);
    const earlier = children(process.pid);
    context.browser = await openBrowser({ flags: [] });
    const [chrome] = children(process.pid).filter((pid) => !earlier.includes(pid));
    const { profile } = context.browser;
    try {
      // The connection is cut after 9 MiB; the browser is killed once it has resumed.
      let stalled = false;
      other.rule = async ({ path, count }) => {
        if (!path.startsWith('transformer') || count > 0) return undefined;
        stalled = true;
        return { cut: 9 * MIB, headers: {} };
      };
      const page = await context.browser.context.newPage();
      await page.goto(`${fixture.pageUrl}?device=wasm&companion=&checkpoint=${encodeURIComponent(other.url)}`);
      await waitUntil(() => stalled && other.log.some(({ path, begin }) => path.startsWith('transformer') && begin > 0), 'a resumed shard');
      process.kill(chrome, 'SIGKILL');
      other.reset();
      context.browser = await openBrowser({ flags: [], profile });
      const reopened = await context.browser.context.newPage();
      await reopened.goto(`${fixture.pageUrl}?device=wasm&companion=&checkpoint=${encodeURIComponent(other.url)}`);
      await untilLoaded(reopened);
      const [first] = other.log.filter(({ path }) => path.startsWith('transformer'));
      assert.ok(first === undefined || first.begin >= 4 * MIB, `it starts at ${first?.begin}`);
    } finally {
      other.close();
    }
  });

  test('only_a_shard_with_wrong_bytes_is_downloaded_again', async (context) => {
    const bad = shards[3].file;
    fixture.server.rule = ({ path, count }) => (path === bad && count === 0 ? { flip: 1000 } : undefined);
    await untilLoaded(await fixture.openPage(context));
    assert.equal(fixture.shardRequests().filter(({ path }) => path === bad).length, 2);
    assert.equal(fixture.shardRequests().length, shards.length + 1);
  });

  for (const [name, rule, says] of [
    ['wrong_bytes', { flip: 1000 }, 'its SHA-256 is'],
    ['too_few_bytes', { length: 1000 }, 'it has 1000 bytes'],
    ['too_many_bytes', { length: 2 * MIB }, `it has ${2 * MIB} bytes`],
    ['a_missing_shard', { status: 404 }, 'which is not there'],
  ]) {
    test(`${name}_that_persist_are_named_in_the_fault_and_the_other_shards_stay_cached`, async (context) => {
      const bad = shards[5].file;
      fixture.server.rule = ({ path }) => (path === bad ? rule : undefined);
      const page = await fixture.openPage(context);
      const fault = await faultOf(page);
      assert.equal(fault.code, 'bad_weights');
      assert.ok(fault.what.includes(bad) && fault.what.includes(says), fault.what);
      const finished = new Set(
        fixture
          .shardRequests()
          .filter(({ path, sent }) => path !== bad && sent > 0)
          .map(({ path }) => path),
      );
      await fixture.restart(page);
      const repeated = fixture.shardRequests().filter(({ path }) => finished.has(path));
      assert.deepEqual(repeated, [], 'finished shards are not downloaded again');
    });
  }

  for (const [name, rule, least_millis] of [
    ['too_many_requests', { status: 429, headers: { 'retry-after': '1' } }, 1000],
    ['a_server_that_is_busy', { status: 503 }, 0],
    ['a_range_that_is_refused', { status: 416 }, 0],
  ]) {
    test(`${name}_is_retried`, async (context) => {
      const bad = shards[2].file;
      let first;
      let second;
      fixture.server.rule = ({ path, count }) => {
        if (path !== bad) return undefined;
        if (count === 0) first = Date.now();
        else second ??= Date.now();
        return count === 0 ? rule : undefined;
      };
      await untilLoaded(await fixture.openPage(context));
      assert.ok(second - first >= least_millis, `retried after ${second - first} ms`);
      assert.equal(fixture.shardRequests().length, shards.length + 1);
    });
  }

  test('a_shard_that_changes_during_the_download_is_restarted', async (context) => {
    const bad = shards[1].file;
    fixture.server.rule = ({ path, count }) => {
      if (path !== bad) return undefined;
      return count === 0 ? { cut: 500_000 } : { etag: '"two"' };
    };
    await untilLoaded(await fixture.openPage(context));
    const requests = fixture.shardRequests().filter(({ path }) => path === bad);
    assert.deepEqual(
      requests.map(({ begin }) => begin > 0),
      [false, true, false],
    );
  });

  test('without_range_requests_a_cut_shard_is_downloaded_from_its_beginning', async (context) => {
    fixture.server.rule = ({ path, count }) => ({ ranges: false, ...(isShard(path) && count === 0 && { cut: 700_000 }) });
    await untilLoaded(await fixture.openPage(context));
    const cut = shards.filter(({ bytes }) => bytes > 700_000).length;
    assert.ok(fixture.shardRequests().every(({ sent }) => sent > 0) && fixture.shardRequests().length >= shards.length + cut);
  });

  test('too_little_storage_is_reported_with_both_sizes_before_the_first_byte', async (context) => {
    // Chromium reports ten gigabytes of storage whatever is free, other browsers what is free.
    const page = await context.browser.context.newPage();
    page.once('worker', (worker) =>
      worker.evaluate((quota) => (StorageManager.prototype.estimate = async () => ({ quota, usage: 0 })), 3 * MIB),
    );
    await page.goto(fixture.url());
    const fault = await faultOf(page);
    assert.equal(fault.code, 'storage');
    assert.match(fault.what, new RegExp(`needs ${(size() / 1e6).toFixed(0)} MB and this browser has \\d MB of free storage`));
    assert.deepEqual(fixture.shardRequests(), []);
    await fixture.restart(page);
  });

  test('storage_that_runs_out_is_reported_and_finished_shards_stay_cached', async (context) => {
    const page = await context.browser.context.newPage();
    const session = await context.browser.context.newCDPSession(page);
    const origin = new URL(fixture.pageUrl).origin;
    let filling;
    fixture.server.rule = async ({ path }) => {
      if (!isShard(path) || fixture.shardRequests().length <= 4) return undefined;
      await (filling ??= session.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: MIB }));
      return undefined;
    };
    await page.goto(fixture.url({ store: 'opfs' }));
    const fault = await faultOf(page);
    assert.equal(fault.code, 'storage');
    await session.send('Storage.overrideQuotaForOrigin', { origin });
    await fixture.restart(page);
    assert.ok(fixture.shardRequests().length < shards.length, `${fixture.shardRequests().length} of ${shards.length} are downloaded again`);
  });

  test('two_tabs_at_once_download_it_once', async (context) => {
    const pages = await Promise.all([fixture.openPage(context), fixture.openPage(context)]);
    await Promise.all(pages.map(untilLoaded));
    assert.equal(fixture.shardRequests().length, shards.length);
  });

  test('a_store_of_schema_version_1_is_carried_over', async (context) => {
    const page = await context.browser.context.newPage();
    await page.goto(`${fixture.pageUrl}models/scenes/README.md`);
    const old = shards.slice(0, 6).map(({ file, sha256 }) => [sha256, readFileSync(join(PACKED, file)).toString('base64')]);
    await page.evaluate(async (records) => {
      const opening = indexedDB.open('pixart-web', 1);
      opening.onupgradeneeded = () => {
        opening.result.createObjectStore('rows', { keyPath: 'key' });
        opening.result.createObjectStore('records');
      };
      const database = await new Promise((resolve) => (opening.onsuccess = () => resolve(opening.result)));
      const transaction = database.transaction('records', 'readwrite');
      for (const [name, base64] of records) {
        transaction.objectStore('records').put(
          Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)),
          name,
        );
      }
      await new Promise((resolve) => (transaction.oncomplete = resolve));
      database.close();
    }, old);
    await page.goto(fixture.url({ store: 'indexeddb' }));
    await untilLoaded(page);
    assert.equal(fixture.shardRequests().length, shards.length - old.length);
  });

  test('a_manifest_with_a_path_outside_its_folder_is_refused', async (context) => {
    const page = await context.browser.context.newPage();
    const manifest = JSON.parse(readFileSync(join(PACKED, 'manifest.json'), 'utf8'));
    manifest.sections[0].shards[0].file = '../../elsewhere.bin';
    await page.route('**/manifest.json', (route) =>
      route.fulfill({ body: JSON.stringify(manifest), headers: { 'access-control-allow-origin': '*' } }),
    );
    await page.goto(fixture.url());
    const fault = await faultOf(page);
    assert.equal(fault.code, 'bad_weights');
    assert.match(fault.what, /the shard `..\/..\/elsewhere.bin`/);
    assert.deepEqual(fixture.shardRequests(), []);
  });

  test('a_stored_checkpoint_is_listed_verified_repaired_and_deleted', async (context) => {
    const page = await fixture.openPage(context, { store: 'indexeddb' });
    await untilLoaded(page);
    const storage = (task) => page.evaluate((task) => globalThis.pixart.storage(task), task);
    const [stored] = await storage({ kind: 'list' });
    assert.deepEqual(
      { ...stored, saved_at: 0 },
      { checkpoint: fixture.server.url, kind: 'model', storage: 'indexeddb', bytes: size(), missing: 0, changed: false, saved_at: 0 },
    );
    await page.evaluate(async (name) => {
      const opening = indexedDB.open('pixart-web');
      const database = await new Promise((resolve) => (opening.onsuccess = () => resolve(opening.result)));
      const store = () => database.transaction('records', 'readwrite').objectStore('records');
      const reading = store().get(name);
      const blob = await new Promise((resolve) => (reading.onsuccess = () => resolve(reading.result)));
      const shard = new Uint8Array(await blob.arrayBuffer());
      shard[5000] ^= 1;
      const writing = store().put(shard, name);
      await new Promise((resolve) => (writing.onsuccess = resolve));
      database.close();
    }, shards[4].sha256);
    assert.equal((await storage({ kind: 'verify', checkpoint: fixture.server.url }))[0].missing, 1);
    fixture.server.reset();
    await page.reload();
    await untilLoaded(page);
    assert.deepEqual(
      fixture.shardRequests().map(({ path }) => path),
      [shards[4].file],
    );
    assert.equal((await storage({ kind: 'list' }))[0].missing, 0);
    const changed = async () => (await storage({ kind: 'verify', checkpoint: fixture.server.url }))[0].changed;
    assert.equal(await changed(), false);
    fixture.server.rule = () => ({ etag: '"two"' });
    assert.equal(await changed(), true);
    fixture.server.rule = () => ({ status: 404 });
    assert.equal(await changed(), false, 'a missing model has not changed');
    fixture.server.reset();
    assert.deepEqual(await storage({ kind: 'delete', checkpoint: fixture.server.url }), []);
    const left = await page.evaluate(async () => {
      const opening = indexedDB.open('pixart-web');
      const database = await new Promise((resolve) => (opening.onsuccess = () => resolve(opening.result)));
      const counting = database.transaction('records').objectStore('records').count();
      return new Promise((resolve) => (counting.onsuccess = () => resolve(counting.result)));
    });
    assert.equal(left, 0);
  });
});
