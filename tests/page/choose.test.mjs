//! What a reader chooses before a picture: a checkpoint, knowing what it will take; what the checkpoint is asked for; where a
//! picture is drawn over; and in which of several tabs.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { draw, drop, fillForm, largestDifference, openSettings, pixels, shot, untilEngine } from './browser.mjs';
import { opened, SCENES, served } from './fixture.mjs';

const MILLIS = 300_000;
const SMALL = { prompt: 'a red circle on a blue background', seed: 7, steps: 4, width: 64, height: 64 };
const scratch = mkdtempSync(join(tmpdir(), 'pixart-choose-'));
const PACKED = join(scratch, 'packed');

let bytes;
before(() => {
  assert.ok(process.env.PIXART, 'PIXART must hold the path of the pixart binary');
  execFileSync(process.env.PIXART, ['pack', '--from', SCENES, '--to', PACKED, '--dtype', 'q8', '--shard-mib', '1']);
  const { sections } = JSON.parse(readFileSync(join(PACKED, 'manifest.json'), 'utf8'));
  const shards = sections.filter(({ name }) => ['transformer', 'vae_decoder'].includes(name)).flatMap((section) => section.shards);
  bytes = shards.reduce((sum, shard) => sum + shard.bytes, 0);
});
after(() => rmSync(scratch, { recursive: true }));

for (const [kind, folder] of [['packed', () => PACKED], ['safetensors', () => SCENES]]) {
  describe(`a checkpoint of ${kind}`, () => {
    const road = served(folder);
    const asks = async ({ browser }) => {
      const page = await browser.context.newPage();
      await page.goto(`${road.page}?device=wasm&companion=&checkpoint=&ask=0`);
      await page.locator('#models').evaluate((fold) => (fold.open = true));
      await page.fill('#model-url', road.hub.url);
      await page.click('#open-model');
      await page.waitForSelector('#estimate:not([hidden])');
      return page;
    };

    test('tells_what_it_takes_before_it_is_fetched_and_is_fetched_once_that_is_agreed_to', async (context) => {
      const page = await asks(context);
      const { fetch_bytes, bytes_per_second, drawing } = await page.evaluate(() => globalThis.pixart.state().estimate);
      if (kind === 'packed') assert.equal(fetch_bytes, bytes);
      assert.ok(road.hub.log.reduce((sum, { sent }) => sum + sent, 0) < fetch_bytes, 'no more than a sample was fetched');
      assert.ok(bytes_per_second > 0 && drawing.seconds > 0, JSON.stringify({ bytes_per_second, drawing }));
      assert.deepEqual({ size: drawing.size, steps: drawing.steps }, { size: 128, steps: 20 });
      assert.ok(drawing.memory_bytes > fetch_bytes, `${drawing.memory_bytes} bytes of memory`);
      const told = await page.innerText('#estimate-lines');
      await shot(page, 'estimate');
      assert.match(told, new RegExp(`^Download: ${(fetch_bytes / 1e6).toFixed(1)} MB, about [\\d.]+ s at [\\d.]+ MB/s; \\d+ MB of storage available`));
      assert.match(told, /about [\d.]+ (s|min) for 128 × 128 px in 20 steps/);
      assert.match(told, /Runs without a GPU/);
      await page.click('#accept-download');
      await opened(page);
      assert.ok(await page.isHidden('#estimate'));
      // What is kept is not asked about.
      await page.click('#open-model');
      await opened(page);
    });

    test('is_not_fetched_where_that_is_not_agreed_to_and_the_one_before_is_open_again', async (context) => {
      const page = await asks(context);
      await page.click('#decline-download');
      await page.waitForFunction(() => document.getElementById('estimate').hidden);
      assert.deepEqual(await page.evaluate(() => globalThis.pixart.storage({ kind: 'list' })), []);
      assert.equal(await page.innerText('#status'), 'No model loaded');
    });
  });
}

describe('a page with a checkpoint', () => {
  const road = served(() => SCENES);
  const openPage = async ({ browser }) => {
    const page = await browser.context.newPage();
    await page.goto(`${road.page}?device=wasm`);
    await untilEngine(page, MILLIS);
    return page;
  };
  const drawn = async (page) => {
    const { png, fault } = await draw(page, MILLIS);
    assert.equal(fault, undefined);
    return png;
  };

  test('a_preset_sets_what_its_kind_of_checkpoint_is_asked_for_and_a_picture_brings_it_back', async (context) => {
    const page = await openPage(context);
    await fillForm(page, SMALL);
    await page.selectOption('#preset', 'alpha-dmd');
    const held = () => page.evaluate(() => ['preset', 'steps', 'guidance-scale', 'scheduler'].map((id) => document.getElementById(id).value));
    assert.deepEqual(await held(), ['alpha-dmd', '1', '1', 'ddpm']);
    const one = await drawn(page);
    assert.equal(await page.evaluate(() => globalThis.pixart.state().image.steps), 1);
    await page.selectOption('#preset', 'alpha');
    assert.deepEqual(await held(), ['alpha', '20', '4.5', '']);
    await fillForm(page, { steps: 4 });
    const other = await drawn(page);
    assert.ok(largestDifference(await pixels(page, one), await pixels(page, other)) > 8, 'another preset is another picture');
    await drop(page, one);
    await page.waitForFunction(() => document.getElementById('preset').value === 'alpha-dmd');
    assert.deepEqual(await drawn(page), one);
  });

  test('a_mask_that_is_painted_is_the_one_that_a_file_would_be', async (context) => {
    const page = await openPage(context);
    await fillForm(page, SMALL);
    const under = await drawn(page);
    await openSettings(page);
    await page.setInputFiles('#init-image', { name: 'under.png', mimeType: 'image/png', buffer: under });
    await page.waitForSelector('#mask-editor:not([hidden])');
    await page.locator('#mask-canvas').scrollIntoViewIfNeeded();
    const box = await page.locator('#mask-canvas').boundingBox();
    // The left half, in one stroke as wide as it is.
    await page.locator('#brush-size').evaluate((brush, width) => Object.assign(brush, { max: width, value: width }), Math.floor(box.width / 2));
    await page.mouse.move(box.x + box.width / 4, box.y + 1);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width / 4, box.y + box.height - 1, { steps: 4 });
    await page.mouse.up();
    await fillForm(page, { prompt: 'a green square', seed: 9, steps: 6 });
    await page.fill('#strength', '1');
    const painted = await drawn(page);
    await shot(page, 'mask');
    const before = await pixels(page, under);
    const apart = (after, side) => {
      const columns = (at) => (side === 'left' ? at % 64 < 24 : at % 64 >= 40);
      const differences = after.map((value, at) => (columns(at >> 2) ? Math.abs(value - before[at]) : 0));
      return differences.reduce((sum, value) => sum + value, 0) / (24 * 64 * 3);
    };
    const after = Int16Array.from(await pixels(page, painted));
    const [left, right] = [apart(after, 'left'), apart(after, 'right')];
    console.log(`# painted over ${left.toFixed(1)}, kept ${right.toFixed(1)} of 255`);
    assert.ok(left > 3 * right && left > 10, `${left} where it was painted over, ${right} where it was not`);

    const mask = await page.evaluate(async () => {
      const canvas = new OffscreenCanvas(64, 64);
      const context = canvas.getContext('2d');
      context.fillRect(0, 0, 64, 64);
      context.drawImage(document.getElementById('mask-canvas'), 0, 0);
      return [...new Uint8Array(await (await canvas.convertToBlob()).arrayBuffer())];
    });
    await page.click('#clear-mask');
    assert.ok(largestDifference(await pixels(page, await drawn(page)), await pixels(page, painted)) > 8, 'nothing is painted any more');
    await page.setInputFiles('#mask-image', { name: 'mask.png', mimeType: 'image/png', buffer: Buffer.from(mask) });
    assert.deepEqual(await pixels(page, await drawn(page)), await pixels(page, painted));
  });

  test('a_recording_is_a_file_of_embeddings', async (context) => {
    const page = await openPage(context);
    await fillForm(page, { ...SMALL, record: true });
    const first = await drawn(page);
    const recording = await page.evaluate(() => [...globalThis.pixart.state().image.recording]);
    await page.uncheck('#record');
    await page.check('#text-file');
    await page.setInputFiles('#embeddings-file', { name: 'recording.safetensors', mimeType: 'application/octet-stream', buffer: Buffer.from(recording) });
    await fillForm(page, { prompt: 'words that nobody reads' });
    assert.deepEqual(await pixels(page, await drawn(page)), await pixels(page, first));
  });

  test('two_tabs_draw_at_once_and_share_a_gallery_but_not_what_they_are_at', async (context) => {
    const [one, two] = [await openPage(context), await openPage(context)];
    for (const [page, prompt] of [[one, 'a red circle'], [two, 'a blue square']]) await fillForm(page, { ...SMALL, prompt, steps: 30 });
    const pictures = await Promise.all([one, two].map(drawn));
    assert.ok(largestDifference(await pixels(one, pictures[0]), await pixels(one, pictures[1])) > 8, 'each draws its own');
    for (const page of [one, two]) {
      await page.locator('#gallery').evaluate((fold) => (fold.open = true));
      await page.waitForFunction(() => document.querySelectorAll('#gallery-list li').length === 2);
    }
    await fillForm(one, { steps: 400 });
    await one.click('#generate');
    await one.waitForFunction(() => globalThis.pixart.state().progress?.step > 60, undefined, { timeout: MILLIS });
    await two.reload();
    await untilEngine(two, MILLIS);
    assert.ok(await two.isHidden('#unfinished'), 'what another tab is at is no concern of this one');
    await one.reload();
    await untilEngine(one, MILLIS);
    await one.waitForSelector('#unfinished:not([hidden])');
    await one.click('#discard');
  });

  test('a_damaged_checkpoint_is_found_and_repaired_from_the_list', async ({ browser }) => {
    const page = await browser.context.newPage();
    await page.goto(road.address({ store: 'opfs' }));
    await opened(page);
    const damaged = await page.evaluate(async () => {
      const root = await (await navigator.storage.getDirectory()).getDirectoryHandle('pixart-web');
      for await (const [name, handle] of root) {
        const file = await handle.createWritable({ keepExistingData: true });
        await file.write({ type: 'write', position: 100, data: new Uint8Array([1, 2, 3]) });
        await file.close();
        return name;
      }
    });
    assert.ok(damaged, 'something is kept');
    await page.locator('#models').evaluate((fold) => (fold.open = true));
    await page.click('#model-list button:has-text("Verify")');
    await page.waitForSelector('#model-list button:has-text("Repair")');
    await page.click('#model-list button:has-text("Repair")');
    await opened(page);
    await page.waitForSelector('#model-list button:has-text("Repair")', { state: 'detached' });
    const [kept] = await page.evaluate((checkpoint) => globalThis.pixart.storage({ kind: 'verify', checkpoint }), road.hub.url);
    assert.deepEqual([kept.checkpoint, kept.missing], [road.hub.url, 0]);
  });
});
