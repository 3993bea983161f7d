//! Packed checkpoints on bad roads: every way in which a server, a browser or a reader may interrupt or spoil a download, in a
//! real browser. Each ends with nothing lost, and with the checkpoint on the device.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { children } from '../bench/report.mjs';
import { openBrowser } from './browser.mjs';
import { openHub } from './model-server.mjs';
import { faultOf, MIB, opened, SCENES, served, until } from './fixture.mjs';

const scratch = mkdtempSync(join(tmpdir(), 'pixart-weights-'));
const PACKED = join(scratch, 'packed');
/** The sections that are needed to draw. */
const DRAW = ['transformer', 'vae_decoder'];

let shards;
before(() => {
  assert.ok(process.env.PIXART, 'PIXART must hold the path of the pixart binary');
  execFileSync(process.env.PIXART, ['pack', '--from', SCENES, '--to', PACKED, '--dtype', 'f32', '--shard-mib', '1']);
  const manifest = JSON.parse(readFileSync(join(PACKED, 'manifest.json'), 'utf8'));
  shards = manifest.sections.filter(({ name }) => DRAW.includes(name)).flatMap((section) => section.shards);
  assert.ok(shards.length > 10, `${shards.length} shards`);
});
after(() => rmSync(scratch, { recursive: true }));

const size = () => shards.reduce((sum, { bytes }) => sum + bytes, 0);
const isShard = (path) => path.endsWith('.bin');

describe('a packed checkpoint', () => {
  const road = served(() => PACKED);

  for (const store of ['indexeddb', 'opfs']) {
    test(`is_fetched_once_into_${store}_and_opened_again_without_a_request`, async (context) => {
      const page = await road.openPage(context, { store });
      assert.equal((await opened(page)).store, store);
      assert.deepEqual(road.asked().map(({ path }) => path).sort(), shards.map(({ file }) => file).sort());
      assert.equal(road.sent(), size());
      road.hub.reset();
      await page.reload();
      await opened(page);
      assert.deepEqual(road.hub.log, []);
    });
  }

  test('a_connection_that_is_cut_at_every_record_boundary_and_inside_every_record_loses_nothing', async (context) => {
    road.hub.rule = ({ path, count }) => {
      if (!isShard(path) || count > 1) return undefined;
      return { cut: count === 0 ? 0 : 600_000 };
    };
    const page = await road.openPage(context);
    await opened(page);
    const large = shards.filter(({ bytes }) => bytes > 600_000);
    const resumed = large.filter(({ file }) => road.asked().some(({ path, begin }) => path === file && begin > 0));
    // A browser that is busy may drop what it had not handed over, and then begins such a record anew.
    assert.ok(resumed.length >= large.length - 2, `${resumed.length} of ${large.length} records are resumed inside`);
    assert.ok(road.sent() < size() * 1.5, `${road.sent()} of ${size()} bytes`);
  });

  for (const done of [1, 4, 9]) {
    test(`a_tab_that_is_closed_after_${done}_records_keeps_them`, async (context) => {
      const page = await road.openPage(context);
      await until(() => road.asked().filter(({ sent }) => sent > 0).length > done + 4, `${done} records`);
      await page.close();
      const before = road.asked().length;
      road.hub.reset();
      await opened(await road.openPage(context));
      assert.ok(road.asked().length <= shards.length - done, `${road.asked().length} after ${before} of ${shards.length}`);
    });
  }

  test('a_browser_that_is_killed_in_the_middle_of_a_record_goes_on_inside_it', async (context) => {
    context.browser.close();
    const big = join(scratch, 'big');
    execFileSync(process.env.PIXART, ['pack', '--from', SCENES, '--to', big, '--dtype', 'f32', '--shard-mib', '32']);
    const other = await openHub(big);
    const earlier = children(process.pid);
    context.browser = await openBrowser({ flags: [] });
    const [chrome] = children(process.pid).filter((pid) => !earlier.includes(pid));
    const { profile } = context.browser;
    try {
      // The connection stays open and silent after the first piece has arrived.
      let stalled = false;
      other.rule = async ({ path, begin, count }) => {
        if (!path.startsWith('transformer') || count > 0) return undefined;
        stalled = true;
        return { cut: 9 * MIB, headers: {} };
      };
      const page = await context.browser.context.newPage();
      await page.goto(`${road.page}?device=wasm&companion=&checkpoint=${encodeURIComponent(other.url)}`);
      await until(() => stalled && other.log.some(({ path, begin }) => path.startsWith('transformer') && begin > 0), 'a resumed record');
      process.kill(chrome, 'SIGKILL');
      other.reset();
      context.browser = await openBrowser({ flags: [], profile });
      const anew = await context.browser.context.newPage();
      await anew.goto(`${road.page}?device=wasm&companion=&checkpoint=${encodeURIComponent(other.url)}`);
      await opened(anew);
      const [first] = other.log.filter(({ path }) => path.startsWith('transformer'));
      assert.ok(first === undefined || first.begin >= 4 * MIB, `it begins at ${first?.begin}`);
    } finally {
      other.close();
    }
  });

  test('wrong_bytes_are_fetched_again_alone', async (context) => {
    const bad = shards[3].file;
    road.hub.rule = ({ path, count }) => (path === bad && count === 0 ? { flip: 1000 } : undefined);
    await opened(await road.openPage(context));
    assert.equal(road.asked().filter(({ path }) => path === bad).length, 2);
    assert.equal(road.asked().length, shards.length + 1);
  });

  for (const [name, rule, says] of [
    ['wrong_bytes', { flip: 1000 }, 'its SHA-256 is'],
    ['too_few_bytes', { length: 1000 }, 'it has 1000 bytes'],
    ['too_many_bytes', { length: 2 * MIB }, `it has ${2 * MIB} bytes`],
    ['a_missing_shard', { status: 404 }, 'which is not there'],
  ]) {
    test(`${name}_that_stay_are_named_and_the_rest_is_kept`, async (context) => {
      const bad = shards[5].file;
      road.hub.rule = ({ path }) => (path === bad ? rule : undefined);
      const page = await road.openPage(context);
      const fault = await faultOf(page);
      assert.equal(fault.code, 'bad_weights');
      assert.ok(fault.what.includes(bad) && fault.what.includes(says), fault.what);
      const kept = new Set(road.asked().filter(({ path, sent }) => path !== bad && sent > 0).map(({ path }) => path));
      await road.again(page);
      const repeated = road.asked().filter(({ path }) => kept.has(path));
      assert.deepEqual(repeated, [], 'what was right is not fetched again');
    });
  }

  for (const [name, rule, least_millis] of [
    ['too_many_requests', { status: 429, headers: { 'retry-after': '1' } }, 1000],
    ['a_server_that_is_busy', { status: 503 }, 0],
    ['a_range_that_is_refused', { status: 416 }, 0],
  ]) {
    test(`${name}_pass_by_themselves`, async (context) => {
      const bad = shards[2].file;
      let first;
      let second;
      road.hub.rule = ({ path, count }) => {
        if (path !== bad) return undefined;
        if (count === 0) first = Date.now();
        else second ??= Date.now();
        return count === 0 ? rule : undefined;
      };
      await opened(await road.openPage(context));
      assert.ok(second - first >= least_millis, `asked again after ${second - first} ms`);
      assert.equal(road.asked().length, shards.length + 1);
    });
  }

  test('a_file_that_changes_half_way_begins_anew', async (context) => {
    const bad = shards[1].file;
    road.hub.rule = ({ path, count }) => {
      if (path !== bad) return undefined;
      return count === 0 ? { cut: 500_000 } : { etag: '"two"' };
    };
    await opened(await road.openPage(context));
    const requests = road.asked().filter(({ path }) => path === bad);
    assert.deepEqual(requests.map(({ begin }) => begin > 0), [false, true, false]);
  });

  test('a_server_without_ranges_sends_a_record_again_from_its_beginning', async (context) => {
    road.hub.rule = ({ path, count }) => ({ ranges: false, ...(isShard(path) && count === 0 && { cut: 700_000 }) });
    await opened(await road.openPage(context));
    const cut = shards.filter(({ bytes }) => bytes > 700_000).length;
    assert.ok(road.asked().every(({ path, sent }) => sent > 0) && road.asked().length >= shards.length + cut);
  });

  test('too_little_room_is_told_before_the_first_byte_with_both_numbers', async (context) => {
    // Chromium tells every page of ten gigabytes of room, whatever there is; other browsers tell what there is.
    const page = await context.browser.context.newPage();
    page.once('worker', (worker) =>
      worker.evaluate((quota) => (StorageManager.prototype.estimate = async () => ({ quota, usage: 0 })), 3 * MIB),
    );
    await page.goto(road.address());
    const fault = await faultOf(page);
    assert.equal(fault.code, 'storage');
    assert.match(fault.what, new RegExp(`needs ${(size() / 1e6).toFixed(0)} MB and this browser offers \\d MB`));
    assert.deepEqual(road.asked(), []);
    await road.again(page);
  });

  test('room_that_runs_out_half_way_is_told_and_what_arrived_stays', async (context) => {
    const page = await context.browser.context.newPage();
    const session = await context.browser.context.newCDPSession(page);
    const origin = new URL(road.page).origin;
    let filling;
    road.hub.rule = async ({ path }) => {
      if (!isShard(path) || road.asked().length <= 4) return undefined;
      await (filling ??= session.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: MIB }));
      return undefined;
    };
    await page.goto(road.address({ store: 'opfs' }));
    const fault = await faultOf(page);
    assert.equal(fault.code, 'storage');
    await session.send('Storage.overrideQuotaForOrigin', { origin });
    await road.again(page);
    assert.ok(road.asked().length < shards.length, `${road.asked().length} of ${shards.length} are fetched again`);
  });

  test('two_tabs_at_once_fetch_it_once', async (context) => {
    const pages = await Promise.all([road.openPage(context), road.openPage(context)]);
    await Promise.all(pages.map(opened));
    assert.equal(road.asked().length, shards.length);
  });

  test('a_store_of_an_older_schema_is_taken_over', async (context) => {
    const page = await context.browser.context.newPage();
    await page.goto(`${road.page}models/scenes/README.md`);
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
        transaction.objectStore('records').put(Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)), name);
      }
      await new Promise((resolve) => (transaction.oncomplete = resolve));
      database.close();
    }, old);
    await page.goto(road.address({ store: 'indexeddb' }));
    await opened(page);
    assert.equal(road.asked().length, shards.length - old.length);
  });

  test('a_manifest_that_contradicts_itself_is_refused', async (context) => {
    const page = await context.browser.context.newPage();
    const manifest = JSON.parse(readFileSync(join(PACKED, 'manifest.json'), 'utf8'));
    manifest.sections[0].shards[0].file = '../../elsewhere.bin';
    await page.route('**/manifest.json', (route) => route.fulfill({ body: JSON.stringify(manifest), headers: { 'access-control-allow-origin': '*' } }));
    await page.goto(road.address());
    const fault = await faultOf(page);
    assert.equal(fault.code, 'bad_weights');
    assert.match(fault.what, /a shard is called `..\/..\/elsewhere.bin`/);
    assert.deepEqual(road.asked(), []);
  });

  test('a_kept_checkpoint_is_listed_verified_repaired_and_deleted', async (context) => {
    const page = await road.openPage(context, { store: 'indexeddb' });
    await opened(page);
    const keep = (task) => page.evaluate((task) => globalThis.pixart.storage(task), task);
    const [kept] = await keep({ kind: 'list' });
    assert.deepEqual({ ...kept, saved_at: 0 }, { checkpoint: road.hub.url, store: 'indexeddb', bytes: size(), missing: 0, changed: false, saved_at: 0 });
    await page.evaluate(async (name) => {
      const opening = indexedDB.open('pixart-web');
      const database = await new Promise((resolve) => (opening.onsuccess = () => resolve(opening.result)));
      const store = () => database.transaction('records', 'readwrite').objectStore('records');
      const reading = store().get(name);
      const blob = await new Promise((resolve) => (reading.onsuccess = () => resolve(reading.result)));
      const record = new Uint8Array(await blob.arrayBuffer());
      record[5000] ^= 1;
      const writing = store().put(record, name);
      await new Promise((resolve) => (writing.onsuccess = resolve));
      database.close();
    }, shards[4].sha256);
    assert.equal((await keep({ kind: 'verify', checkpoint: road.hub.url }))[0].missing, 1);
    road.hub.reset();
    await page.reload();
    await opened(page);
    assert.deepEqual(road.asked().map(({ path }) => path), [shards[4].file]);
    assert.equal((await keep({ kind: 'list' }))[0].missing, 0);
    const changed = async () => (await keep({ kind: 'verify', checkpoint: road.hub.url }))[0].changed;
    assert.equal(await changed(), false);
    road.hub.rule = () => ({ etag: '"two"' });
    assert.equal(await changed(), true);
    road.hub.rule = () => ({ status: 404 });
    assert.equal(await changed(), false, 'what is gone has not changed');
    road.hub.reset();
    assert.deepEqual(await keep({ kind: 'delete', checkpoint: road.hub.url }), []);
    const left = await page.evaluate(async () => {
      const opening = indexedDB.open('pixart-web');
      const database = await new Promise((resolve) => (opening.onsuccess = () => resolve(opening.result)));
      const counting = database.transaction('records').objectStore('records').count();
      return new Promise((resolve) => (counting.onsuccess = () => resolve(counting.result)));
    });
    assert.equal(left, 0);
  });
});
