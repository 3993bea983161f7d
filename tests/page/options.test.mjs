//! The user's options before a generation: model download with its estimate, presets, painted masks, embeddings files, several
//! tabs, and repair of stored models.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { dropPng, fillForm, generate, largestDifference, openPanel, openSettings, pixels, screenshot, untilEngine } from './browser.mjs';
import { editorPoints } from './editor-page.mjs';
import { SCENES, untilLoaded, useModelServer } from './fixture.mjs';
import { png } from './image-files.mjs';

const TIMEOUT_MILLIS = 300_000;
const SMALL = { prompt: 'a red circle on a blue background', seed: 7, num_inference_steps: 4, width: 64, height: 64 };
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

for (const [kind, folder] of [
  ['packed', () => PACKED],
  ['safetensors', () => SCENES],
]) {
  describe(`a checkpoint of ${kind}`, () => {
    const fixture = useModelServer(folder);
    const openEstimate = async ({ browser }) => {
      const page = await browser.context.newPage();
      await page.goto(`${fixture.pageUrl}?device=wasm&companion=&checkpoint=&ask=0`);
      await page.locator('#models').evaluate((fold) => (fold.open = true));
      await page.fill('#model-url', fixture.server.url);
      await page.click('#open-model');
      await page.waitForSelector('#estimate:not([hidden])');
      return page;
    };

    test('shows_its_estimate_and_is_downloaded_once_confirmed', async (context) => {
      const page = await openEstimate(context);
      const { download_bytes, bytes_per_second, generation_cost: cost } = await page.evaluate(() => globalThis.pixart.state().estimate);
      if (kind === 'packed') assert.equal(download_bytes, bytes);
      assert.ok(fixture.server.log.reduce((sum, { sent }) => sum + sent, 0) < download_bytes, 'only a sample was downloaded');
      assert.ok(bytes_per_second > 0 && cost.seconds > 0, JSON.stringify({ bytes_per_second, cost }));
      assert.deepEqual({ size: cost.size, num_inference_steps: cost.num_inference_steps }, { size: 128, num_inference_steps: 20 });
      assert.ok(cost.memory_bytes > download_bytes, `${cost.memory_bytes} bytes of memory`);
      const lines = await page.innerText('#estimate-lines');
      await screenshot(page, 'estimate');
      assert.match(
        lines,
        new RegExp(
          `^Download: ${(download_bytes / 1e6).toFixed(1)} MB, about [\\d.]+ sec at [\\d.]+ MB/s; [\\d.]+ [MG]B of storage available`,
        ),
      );
      assert.match(lines, /about [\d.]+ (sec|min) for 128 × 128 px in 20 steps/);
      assert.match(lines, /Runs without a GPU/);
      await page.click('#accept-download');
      await untilLoaded(page);
      assert.ok(await page.isHidden('#estimate'));
      // A stored model needs no confirmation.
      await page.click('#open-model');
      await untilLoaded(page);
    });

    test('is_not_downloaded_when_declined_and_the_previous_model_is_opened_again', async (context) => {
      const page = await openEstimate(context);
      await page.click('#decline-download');
      await page.waitForFunction(() => document.getElementById('estimate').hidden);
      assert.deepEqual(await page.evaluate(() => globalThis.pixart.storage({ kind: 'list' })), []);
      assert.equal(await page.innerText('#status'), 'No model loaded');
    });
  });
}

describe('a page with a checkpoint', () => {
  const fixture = useModelServer(() => SCENES);
  const openPage = async ({ browser }) => {
    const page = await browser.context.newPage();
    await page.goto(`${fixture.pageUrl}?device=wasm`);
    await untilEngine(page, TIMEOUT_MILLIS);
    return page;
  };
  const generateImage = async (page) => {
    const { png, fault } = await generate(page, TIMEOUT_MILLIS);
    assert.equal(fault, undefined);
    return png;
  };

  test('a_preset_sets_its_fields_and_is_restored_from_the_metadata_of_an_image', async (context) => {
    const page = await openPage(context);
    await fillForm(page, SMALL);
    await page.selectOption('#preset', 'alpha-dmd');
    const fieldValues = () =>
      page.evaluate(() => ['preset', 'steps', 'guidance-scale', 'scheduler'].map((id) => document.getElementById(id).value));
    assert.deepEqual(await fieldValues(), ['alpha-dmd', '1', '1', 'ddpm']);
    const one = await generateImage(page);
    assert.equal(await page.evaluate(() => globalThis.pixart.state().image.num_inference_steps), 1);
    await page.selectOption('#preset', 'alpha');
    assert.deepEqual(await fieldValues(), ['alpha', '20', '4.5', '']);
    await fillForm(page, { num_inference_steps: 4 });
    const other = await generateImage(page);
    assert.ok(largestDifference(await pixels(page, one), await pixels(page, other)) > 8, 'another preset gives another image');
    await dropPng(page, one);
    await page.waitForFunction(() => document.getElementById('preset').value === 'alpha-dmd');
    assert.deepEqual(await generateImage(page), one);
  });

  test('a_painted_mask_gives_the_same_image_as_the_same_mask_file', async (context) => {
    const page = await openPage(context);
    await fillForm(page, SMALL);
    const under = await generateImage(page);
    await openSettings(page);
    await page.setInputFiles('#init-image', { name: 'under.png', mimeType: 'image/png', buffer: under });
    await page.click('#edit-init-image');
    const at = await editorPoints(page, { width: 64, height: 64 });
    // The left half, in one stroke as wide as it is.
    await page.fill('#brush-size', '32');
    await page.mouse.move(...at(16, 0.5));
    await page.mouse.down();
    await page.mouse.move(...at(16, 63.5), { steps: 4 });
    await page.mouse.up();
    await fillForm(page, { prompt: 'a green square', seed: 9, num_inference_steps: 6 });
    await page.fill('#strength', '1');
    const painted = await generateImage(page);
    await screenshot(page, 'mask');
    const before = await pixels(page, under);
    const apart = (after, side) => {
      const columns = (at) => (side === 'left' ? at % 64 < 24 : at % 64 >= 40);
      const differences = after.map((value, at) => (columns(at >> 2) ? Math.abs(value - before[at]) : 0));
      return differences.reduce((sum, value) => sum + value, 0) / (24 * 64 * 3);
    };
    const after = Int16Array.from(await pixels(page, painted));
    const [left, right] = [apart(after, 'left'), apart(after, 'right')];
    console.log(`# mean difference of 255: ${left.toFixed(1)} where painted, ${right.toFixed(1)} elsewhere`);
    assert.ok(left > 3 * right && left > 10, `${left} where it was painted over, ${right} where it was not`);

    const mask = png(64, 64, 2, (x) => (x < 32 ? [255, 255, 255] : [0, 0, 0]));
    await openPanel(page, 'editor');
    await page.click('#clear-mask');
    assert.ok(largestDifference(await pixels(page, await generateImage(page)), await pixels(page, painted)) > 8, 'the mask is empty');
    await page.setInputFiles('#mask-image', { name: 'mask.png', mimeType: 'image/png', buffer: mask });
    assert.deepEqual(await pixels(page, await generateImage(page)), await pixels(page, painted));
  });

  test('a_recording_can_be_used_as_an_embeddings_file', async (context) => {
    const page = await openPage(context);
    await fillForm(page, { ...SMALL, record: true });
    const first = await generateImage(page);
    const recording = await page.evaluate(() => [...globalThis.pixart.state().image.recording]);
    await page.uncheck('#record');
    await page.check('#text-file');
    await page.setInputFiles('#embeddings-file', {
      name: 'recording.safetensors',
      mimeType: 'application/octet-stream',
      buffer: Buffer.from(recording),
    });
    await fillForm(page, { prompt: 'an ignored prompt' });
    assert.deepEqual(await pixels(page, await generateImage(page)), await pixels(page, first));
  });

  test('two_tabs_generate_at_once_and_share_the_gallery_but_not_their_unfinished_generation', async (context) => {
    const [one, two] = [await openPage(context), await openPage(context)];
    for (const [page, prompt] of [
      [one, 'a red circle'],
      [two, 'a blue square'],
    ])
      await fillForm(page, { ...SMALL, prompt, num_inference_steps: 30 });
    const images = await Promise.all([one, two].map(generateImage));
    assert.ok(largestDifference(await pixels(one, images[0]), await pixels(one, images[1])) > 8, 'each tab generates its own image');
    for (const page of [one, two]) {
      await page.locator('#gallery').evaluate((fold) => (fold.open = true));
      await page.waitForFunction(() => document.querySelectorAll('#gallery-list li').length === 2);
    }
    await fillForm(one, { num_inference_steps: 400 });
    await one.click('#generate');
    await one.waitForFunction(() => globalThis.pixart.state().progress?.step > 60, undefined, { timeout: TIMEOUT_MILLIS });
    await two.reload();
    await untilEngine(two, TIMEOUT_MILLIS);
    assert.ok(await two.isHidden('#unfinished'), 'the unfinished generation of another tab is not offered');
    await one.reload();
    await untilEngine(one, TIMEOUT_MILLIS);
    await one.waitForSelector('#unfinished:not([hidden])');
    await one.click('#discard');
  });

  test('a_damaged_checkpoint_is_found_and_repaired_from_the_model_list', async ({ browser }) => {
    const page = await browser.context.newPage();
    await page.goto(fixture.url({ store: 'opfs' }));
    await untilLoaded(page);
    const damaged = await page.evaluate(async () => {
      const root = await (await navigator.storage.getDirectory()).getDirectoryHandle('pixart-web');
      for await (const [name, handle] of root) {
        const file = await handle.createWritable({ keepExistingData: true });
        await file.write({ type: 'write', position: 100, data: new Uint8Array([1, 2, 3]) });
        await file.close();
        return name;
      }
    });
    assert.ok(damaged, 'a file is stored');
    await page.locator('#models').evaluate((fold) => (fold.open = true));
    await page.click('#model-list button:has-text("Verify")');
    await page.waitForSelector('#model-list button:has-text("Repair")');
    await page.click('#model-list button:has-text("Repair")');
    await untilLoaded(page);
    await page.waitForSelector('#model-list button:has-text("Repair")', { state: 'detached' });
    const [stored] = await page.evaluate((checkpoint) => globalThis.pixart.storage({ kind: 'verify', checkpoint }), fixture.server.url);
    assert.deepEqual([stored.checkpoint, stored.missing], [fixture.server.url, 0]);
  });
});
