//! Checkpoints on bad roads: every way in which a server, a browser or a reader may interrupt or spoil a download, in a real
//! browser. Each ends with nothing lost, and with the checkpoint on the device.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { after, before, beforeEach, afterEach, describe, test } from 'node:test';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { children } from '../bench/report.mjs';
import { openBrowser, servePage, untilEngine } from './browser.mjs';
import { openHub } from './hub.mjs';
import { split } from './safetensors.mjs';

const SCENES = fileURLToPath(new URL('../../web/models/scenes/', import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), 'pixart-weights-'));
const PACKED = join(scratch, 'packed');
const MIB = 1 << 20;
/** Of which only the first are needed to draw. */
const DRAW = ['transformer', 'vae_decoder'];
const OPEN_MILLIS = 60_000;

let server;
let hub;
let folder;
let shards;
before(async () => {
  assert.ok(process.env.PIXART, 'PIXART must hold the path of the pixart binary');
  execFileSync(process.env.PIXART, ['pack', '--from', SCENES, '--to', PACKED, '--dtype', 'f32', '--shard-mib', '1']);
  const manifest = JSON.parse(readFileSync(join(PACKED, 'manifest.json'), 'utf8'));
  shards = manifest.sections.filter(({ name }) => DRAW.includes(name)).flatMap((section) => section.shards);
  assert.ok(shards.length > 10, `${shards.length} shards`);
  server = await servePage();
});
after(() => {
  server.close();
  rmSync(scratch, { recursive: true });
});

/** Serves a folder to the tests of a group, each of which has a browser of its own. */
function served(what) {
  before(async () => {
    folder = what();
    hub = await openHub(folder);
  });
  after(() => hub.close());
  beforeEach(async (context) => {
    hub.reset();
    context.browser = await openBrowser({ flags: [] });
  });
  afterEach((context) => context.browser?.close());
}

/** The page with the hub's checkpoint, computing on the processor. */
async function openPage({ browser }, options = {}) {
  const page = await browser.context.newPage();
  await page.goto(address(options));
  return page;
}

function address({ store = 'auto' } = {}) {
  // The companion reads prompts, so that the text encoder is not fetched.
  return `${server.url}?device=wasm&store=${store}&companion=&checkpoint=${encodeURIComponent(hub.url)}`;
}

async function opened(page) {
  await untilEngine(page, OPEN_MILLIS);
  const { phase, fault, checkpoint } = await page.evaluate(() => globalThis.pixart.state());
  assert.equal(fault, undefined, `${fault?.what}`);
  assert.equal(phase, 'ready');
  return checkpoint;
}

async function faultOf(page) {
  await untilEngine(page, OPEN_MILLIS);
  const fault = await page.evaluate(() => globalThis.pixart.state().fault);
  assert.ok(fault, 'the page opened what it cannot have');
  return fault;
}

/** Starts the engine again, and waits until the checkpoint is on the device. */
async function again(page) {
  hub.reset();
  await page.click('#restart');
  return opened(page);
}

/** Requests of shards, and the bytes sent for them. */
const asked = () => hub.log.filter(({ path }) => path.endsWith('.bin'));
const sent = () => asked().reduce((sum, entry) => sum + entry.sent, 0);
const size = () => shards.reduce((sum, { bytes }) => sum + bytes, 0);
const isShard = (path) => path.endsWith('.bin');
const until = async (condition, what) => {
  for (const end = Date.now() + OPEN_MILLIS; !condition(); await new Promise((resolve) => setTimeout(resolve, 2))) {
    assert.ok(Date.now() < end, `never: ${what}`);
  }
};

describe('a packed checkpoint', () => {
  served(() => PACKED);

  for (const store of ['indexeddb', 'opfs']) {
    test(`is_fetched_once_into_${store}_and_opened_again_without_a_request`, async (context) => {
      const page = await openPage(context, { store });
      assert.equal((await opened(page)).store, store);
      assert.deepEqual(asked().map(({ path }) => path).sort(), shards.map(({ file }) => file).sort());
      assert.equal(sent(), size());
      hub.reset();
      await page.reload();
      await opened(page);
      assert.deepEqual(hub.log, []);
    });
  }

  test('a_connection_that_is_cut_at_every_record_boundary_and_inside_every_record_loses_nothing', async (context) => {
    hub.rule = ({ path, count }) => {
      if (!isShard(path) || count > 1) return undefined;
      return { cut: count === 0 ? 0 : 600_000 };
    };
    const page = await openPage(context);
    await opened(page);
    for (const { file, bytes } of shards) {
      const requests = asked().filter(({ path }) => path === file);
      assert.deepEqual(requests.map(({ begin }) => begin).slice(0, 2), [0, 0]);
      if (bytes > 600_000) assert.ok(requests[2].begin > 0, `${file} is resumed inside`);
    }
    assert.ok(sent() < size() * 1.3, `${sent()} of ${size()} bytes`);
  });

  for (const done of [1, 4, 9]) {
    test(`a_tab_that_is_closed_after_${done}_records_keeps_them`, async (context) => {
      const page = await openPage(context);
      await until(() => asked().filter(({ sent }) => sent > 0).length > done + 4, `${done} records`);
      await page.close();
      const before = asked().length;
      hub.reset();
      await opened(await openPage(context));
      assert.ok(asked().length <= shards.length - done, `${asked().length} after ${before} of ${shards.length}`);
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
      await page.goto(`${server.url}?device=wasm&companion=&checkpoint=${encodeURIComponent(other.url)}`);
      await until(() => stalled && other.log.some(({ path, begin }) => path.startsWith('transformer') && begin > 0), 'a resumed record');
      process.kill(chrome, 'SIGKILL');
      other.reset();
      context.browser = await openBrowser({ flags: [], profile });
      const anew = await context.browser.context.newPage();
      await anew.goto(`${server.url}?device=wasm&companion=&checkpoint=${encodeURIComponent(other.url)}`);
      await opened(anew);
      const [first] = other.log.filter(({ path }) => path.startsWith('transformer'));
      assert.ok(first === undefined || first.begin >= 4 * MIB, `it begins at ${first?.begin}`);
    } finally {
      other.close();
    }
  });

  test('wrong_bytes_are_fetched_again_alone', async (context) => {
    const bad = shards[3].file;
    hub.rule = ({ path, count }) => (path === bad && count === 0 ? { flip: 1000 } : undefined);
    await opened(await openPage(context));
    assert.equal(asked().filter(({ path }) => path === bad).length, 2);
    assert.equal(asked().length, shards.length + 1);
  });

  for (const [name, rule, says] of [
    ['wrong_bytes', { flip: 1000 }, 'its SHA-256 is'],
    ['too_few_bytes', { length: 1000 }, 'it has 1000 bytes'],
    ['too_many_bytes', { length: 2 * MIB }, `it has ${2 * MIB} bytes`],
    ['a_missing_shard', { status: 404 }, 'which is not there'],
  ]) {
    test(`${name}_that_stay_are_named_and_the_rest_is_kept`, async (context) => {
      const bad = shards[5].file;
      hub.rule = ({ path }) => (path === bad ? rule : undefined);
      const page = await openPage(context);
      const fault = await faultOf(page);
      assert.equal(fault.code, 'bad_weights');
      assert.ok(fault.what.includes(bad) && fault.what.includes(says), fault.what);
      const kept = new Set(asked().filter(({ path, sent }) => path !== bad && sent > 0).map(({ path }) => path));
      await again(page);
      const repeated = asked().filter(({ path }) => kept.has(path));
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
      hub.rule = ({ path, count }) => {
        if (path !== bad) return undefined;
        if (count === 0) first = Date.now();
        else second ??= Date.now();
        return count === 0 ? rule : undefined;
      };
      await opened(await openPage(context));
      assert.ok(second - first >= least_millis, `asked again after ${second - first} ms`);
      assert.equal(asked().length, shards.length + 1);
    });
  }

  test('a_file_that_changes_half_way_begins_anew', async (context) => {
    const bad = shards[1].file;
    hub.rule = ({ path, count }) => {
      if (path !== bad) return undefined;
      return count === 0 ? { cut: 500_000 } : { etag: '"two"' };
    };
    await opened(await openPage(context));
    const requests = asked().filter(({ path }) => path === bad);
    assert.deepEqual(requests.map(({ begin }) => begin > 0), [false, true, false]);
  });

  test('a_server_without_ranges_sends_a_record_again_from_its_beginning', async (context) => {
    hub.rule = ({ path, count }) => ({ ranges: false, ...(isShard(path) && count === 0 && { cut: 700_000 }) });
    await opened(await openPage(context));
    const cut = shards.filter(({ bytes }) => bytes > 700_000).length;
    assert.ok(asked().every(({ path, sent }) => sent > 0) && asked().length >= shards.length + cut);
  });

  test('too_little_room_is_told_before_the_first_byte_with_both_numbers', async (context) => {
    // Chromium tells every page of ten gigabytes of room, whatever there is; other browsers tell what there is.
    const page = await context.browser.context.newPage();
    page.once('worker', (worker) =>
      worker.evaluate((quota) => (StorageManager.prototype.estimate = async () => ({ quota, usage: 0 })), 3 * MIB),
    );
    await page.goto(address());
    const fault = await faultOf(page);
    assert.equal(fault.code, 'storage');
    assert.match(fault.what, new RegExp(`needs ${(size() / 1e6).toFixed(0)} MB and this browser offers \\d MB`));
    assert.deepEqual(asked(), []);
    await again(page);
  });

  test('room_that_runs_out_half_way_is_told_and_what_arrived_stays', async (context) => {
    const page = await context.browser.context.newPage();
    const session = await context.browser.context.newCDPSession(page);
    const origin = new URL(server.url).origin;
    let filling;
    hub.rule = async ({ path }) => {
      if (!isShard(path) || asked().length <= 4) return undefined;
      await (filling ??= session.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: MIB }));
      return undefined;
    };
    await page.goto(address({ store: 'opfs' }));
    const fault = await faultOf(page);
    assert.equal(fault.code, 'storage');
    await session.send('Storage.overrideQuotaForOrigin', { origin });
    await again(page);
    assert.ok(asked().length < shards.length, `${asked().length} of ${shards.length} are fetched again`);
  });

  test('two_tabs_at_once_fetch_it_once', async (context) => {
    const pages = await Promise.all([openPage(context), openPage(context)]);
    await Promise.all(pages.map(opened));
    assert.equal(asked().length, shards.length);
  });

  test('a_store_of_an_older_schema_is_taken_over', async (context) => {
    const page = await context.browser.context.newPage();
    await page.goto(`${server.url}models/scenes/README.md`);
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
    await page.goto(address({ store: 'indexeddb' }));
    await opened(page);
    assert.equal(asked().length, shards.length - old.length);
  });

  test('a_manifest_that_contradicts_itself_is_refused', async (context) => {
    const page = await context.browser.context.newPage();
    const manifest = JSON.parse(readFileSync(join(PACKED, 'manifest.json'), 'utf8'));
    manifest.sections[0].shards[0].file = '../../elsewhere.bin';
    await page.route('**/manifest.json', (route) => route.fulfill({ body: JSON.stringify(manifest), headers: { 'access-control-allow-origin': '*' } }));
    await page.goto(address());
    const fault = await faultOf(page);
    assert.equal(fault.code, 'bad_weights');
    assert.match(fault.what, /a shard is called `..\/..\/elsewhere.bin`/);
    assert.deepEqual(asked(), []);
  });

  test('a_kept_checkpoint_is_listed_verified_repaired_and_deleted', async (context) => {
    const page = await openPage(context, { store: 'indexeddb' });
    await opened(page);
    const keep = (task) => page.evaluate((task) => globalThis.pixart.keep(task), task);
    const [kept] = await keep({ kind: 'list' });
    assert.deepEqual({ ...kept, saved_at: 0 }, { checkpoint: hub.url, store: 'indexeddb', bytes: size(), missing: 0, saved_at: 0 });
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
    assert.equal((await keep({ kind: 'verify', checkpoint: hub.url }))[0].missing, 1);
    hub.reset();
    await page.reload();
    await opened(page);
    assert.deepEqual(asked().map(({ path }) => path), [shards[4].file]);
    assert.equal((await keep({ kind: 'list' }))[0].missing, 0);
    assert.deepEqual(await keep({ kind: 'delete', checkpoint: hub.url }), []);
    const left = await page.evaluate(async () => {
      const opening = indexedDB.open('pixart-web');
      const database = await new Promise((resolve) => (opening.onsuccess = () => resolve(opening.result)));
      const counting = database.transaction('records').objectStore('records').count();
      return new Promise((resolve) => (counting.onsuccess = () => resolve(counting.result)));
    });
    assert.equal(left, 0);
  });
});

describe('a folder of safetensors', () => {
  served(() => SCENES);
  const weights = () => hub.log.filter(({ path }) => path.endsWith('.safetensors'));
  const total = () => weights().reduce((sum, entry) => sum + entry.sent, 0);
  const files = ['transformer', 'vae'].map((dir) => join(SCENES, dir, 'diffusion_pytorch_model.safetensors'));
  const bytes = files.reduce((sum, file) => sum + statSync(file).size, 0);

  test('is_converted_once_and_opened_again_without_a_request', async (context) => {
    const page = await openPage(context);
    await opened(page);
    assert.ok(total() < bytes * 1.02, `${total()} of ${bytes} bytes`);
    hub.reset();
    await page.reload();
    await opened(page);
    assert.deepEqual(hub.log, []);
  });

  test('a_server_without_ranges_is_read_in_order', async (context) => {
    hub.rule = ({ path, count }) => ({ ranges: false, ...(path.endsWith('.safetensors') && count === 1 && { cut: MIB }) });
    await opened(await openPage(context));
  });

  test('connections_that_are_cut_are_asked_for_the_rest', async (context) => {
    let cuts = 0;
    hub.rule = ({ path, begin }) => {
      if (!path.endsWith('.safetensors') || begin === 0 || cuts > 8) return undefined;
      cuts += 1;
      return { cut: 100_000 };
    };
    await opened(await openPage(context));
    assert.equal(cuts, 9);
  });

  test('a_file_that_changes_between_two_visits_is_converted_anew', async (context) => {
    let stop = false;
    hub.rule = ({ path }) => (stop && path.startsWith('vae/diffusion') ? { status: 403 } : undefined);
    stop = true;
    const page = await openPage(context);
    const fault = await faultOf(page);
    assert.equal(fault.code, 'network');
    assert.match(fault.what, /answered 403/);
    hub.log = [];
    hub.rule = () => ({ etag: '"two"' });
    await page.click('#restart');
    await opened(page);
    assert.ok(total() >= bytes, 'all of it is fetched again');
  });

  test('a_repository_of_a_hub_is_found_by_its_name_and_revision_behind_redirects', async (context) => {
    const prefix = 'owner/name/resolve/v2/';
    hub.rule = ({ path }) => {
      if (path.startsWith('blobs/')) return { from: path.slice('blobs/'.length) };
      if (!path.startsWith(prefix)) return { status: 404 };
      const file = path.slice(prefix.length);
      return file.endsWith('.safetensors') ? { status: 302, headers: { location: `/blobs/${file}` } } : { from: file };
    };
    const page = await context.browser.context.newPage();
    await page.goto(`${server.url}?device=wasm&companion=&hub=${encodeURIComponent(hub.url)}&checkpoint=owner/name@v2`);
    await opened(page);
    assert.ok(hub.log.some(({ path, begin }) => path.startsWith('blobs/') && begin > 0));
  });

  test('weights_in_shards_are_found_through_their_index', async (context) => {
    const stem = 'transformer/diffusion_pytorch_model';
    const parts = split(readFileSync(join(SCENES, `${stem}.safetensors`)));
    const files = {
      [`${stem}.safetensors.index.json`]: Buffer.from(JSON.stringify({ weight_map: parts.weight_map })),
      ...Object.fromEntries(parts.files.map(([name, bytes]) => [`transformer/${name}`, bytes])),
    };
    const page = await context.browser.context.newPage();
    await page.route('**/transformer/*.safetensors*', (route) => {
      const body = files[new URL(route.request().url()).pathname.slice(1)];
      const headers = { 'access-control-allow-origin': '*', ...(body && { 'content-length': `${body.length}` }) };
      return route.fulfill(body ? { body, headers } : { status: 404, headers });
    });
    await page.goto(address());
    await opened(page);
  });

  test('progress_is_told_in_order_and_ends_where_it_said', async (context) => {
    const page = await context.browser.context.newPage();
    await page.goto(`${server.url}?checkpoint=`);
    const told = await page.evaluate(async (url) => {
      const frame = document.createElement('iframe');
      frame.src = url;
      document.body.append(frame);
      const seen = new Map();
      for (const end = Date.now() + 60_000; Date.now() < end; await new Promise((resolve) => setTimeout(resolve, 1))) {
        const state = frame.contentWindow?.pixart?.state();
        if (state?.loading) seen.set(JSON.stringify(state.loading), state.loading);
        if (state && state.phase !== 'opening') break;
      }
      return [...seen.values()];
    }, address());
    const stages = [...new Set(told.map(({ stage }) => stage))];
    assert.deepEqual(stages, ['convert', 'upload']);
    for (const stage of stages) {
      const rows = told.filter((row) => row.stage === stage);
      rows.reduce((before, { loaded_bytes }) => (assert.ok(loaded_bytes >= before), loaded_bytes), 0);
      for (const { loaded_bytes, total_bytes, bytes_per_second, seconds_left } of rows) {
        assert.ok(loaded_bytes <= total_bytes && bytes_per_second >= 0 && (seconds_left === null || seconds_left >= 0));
      }
    }
  });

  test('the_folder_is_chosen_on_this_computer', async (context) => {
    const page = await context.browser.context.newPage();
    await page.goto(`${server.url}?device=wasm&companion=&checkpoint=&store=memory`);
    await page.locator('#kept').evaluate((fold) => (fold.open = true));
    await page.setInputFiles('#folder', SCENES);
    await page.waitForFunction(() => ['ready', 'stopped'].includes(globalThis.pixart.state().phase));
    await opened(page);
    assert.deepEqual(hub.log, []);
  });
});

test('the_hub_serves_as_badly_as_it_is_told_to', async () => {
  const own = await openHub(SCENES);
  try {
    const url = `${own.url}README.md`;
    const whole = readFileSync(join(SCENES, 'README.md'));
    const part = await fetch(url, { headers: { range: 'bytes=10-19' } });
    assert.deepEqual([part.status, Buffer.from(await part.arrayBuffer())], [206, whole.subarray(10, 20)]);
    own.rule = () => ({ cut: 5 });
    await assert.rejects(fetch(url).then((reply) => reply.arrayBuffer()));
    own.rule = () => ({ flip: 3, ranges: false });
    const flipped = await fetch(url, { headers: { range: 'bytes=10-19' } });
    const bytes = Buffer.from(await flipped.arrayBuffer());
    assert.deepEqual([flipped.status, bytes.length, bytes[3] ^ whole[3]], [200, whole.length, 1]);
    assert.ok(readdirSync(SCENES).length > 0 && own.log.length === 3);
  } finally {
    own.close();
  }
});
