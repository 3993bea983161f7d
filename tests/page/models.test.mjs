//! The list of models: downloads that are paused and resumed, also after the tab was closed; verification, repair and deletion, by mouse and
//! keyboard.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { screenshot } from './browser.mjs';
import { SCENES, untilLoaded, useModelServer } from './fixture.mjs';

const AXE = createRequire(new URL('../../web/package.json', import.meta.url)).resolve('axe-core/axe.min.js');
const scratch = mkdtempSync(join(tmpdir(), 'pixart-models-'));
const PACKED = join(scratch, 'packed');
/** Shards that are sent before the server waits. */
const SENT_FIRST = 4;

before(() => {
  assert.ok(process.env.PIXART, 'PIXART must hold the path of the pixart binary');
  execFileSync(process.env.PIXART, ['pack', '--from', SCENES, '--to', PACKED, '--dtype', 'f32', '--shard-mib', '1']);
});
after(() => rmSync(scratch, { recursive: true }));

const openModels = (page) => page.evaluate(() => document.getElementById('models').open || document.getElementById('open-models').click());
const remark = (page, pattern) =>
  page.waitForFunction((source) => new RegExp(source).test(document.getElementById('notice-text').textContent), pattern.source);

const VAE = 'vae/diffusion_pytorch_model.safetensors';
const header_bytes = 8 + Number(readFileSync(`${SCENES}${VAE}`).readBigUInt64LE());
/** Downloads that stop in the middle: what is sent of each, and what is stored of it once it is discarded. */
const INTERRUPTED = {
  // The tensors of the VAE are held: those of other networks arrive, and fill no shard yet. A text encoder serves other models, and stays.
  of_a_folder_that_is_converted: {
    folder: () => SCENES,
    isHeld: ({ path, begin }) => path === VAE && begin >= header_bytes,
    isPartStored: false,
    isGone: ({ listed }) => listed.every(({ kind }) => kind !== 'model'),
  },
  of_a_packed_checkpoint: {
    folder: () => PACKED,
    isHeld: ({ path }, shards) => path.endsWith('.bin') && shards > SENT_FIRST,
    isPartStored: true,
    isGone: ({ listed, blobs }) => listed.length === 0 && blobs === 0,
  },
};

for (const [name, { folder, isHeld, isPartStored, isGone }] of Object.entries(INTERRUPTED))
  describe(`a paused download ${name}`, () => {
    const fixture = useModelServer(folder);

    test(`${name}_is_discarded_with_what_is_stored_of_it`, async ({ browser }) => {
      const page = await browser.context.newPage();
      let release = () => {};
      const held = new Promise((resolve) => (release = resolve));
      fixture.server.rule = async (request) => {
        if (isHeld(request, new Set(fixture.shardRequests().map(({ path }) => path)).size)) await held;
        return undefined;
      };
      await page.goto(`${fixture.pageUrl}?device=wasm&storage=indexeddb&checkpoint=&ask=0&lang=en`);
      await openModels(page);
      await page.fill('#model-url', fixture.server.url);
      await page.click('#open-model');
      await page.click('#accept-download', { timeout: 60_000 });
      await openModels(page);
      const pause = page.getByRole('button', { name: /^Pause / });
      await pause.waitFor({ timeout: 60_000 });
      await page.waitForFunction(() => (globalThis.pixart.state().loading?.loaded_bytes ?? 0) > 2e6, undefined, { timeout: 60_000 });
      await pause.click();
      await openModels(page);
      const discard = page.getByRole('button', { name: /^Discard / });
      await discard.waitFor();
      assert.equal((await storedOf(page)).blobs > 0, isPartStored);
      await discard.focus();
      await page.keyboard.press('Enter');
      await discard.waitFor({ state: 'detached' });
      release();
      for (const end = Date.now() + 30_000; !isGone(await storedOf(page)); ) assert.ok(Date.now() < end, 'it stays stored');
      assert.equal(await page.evaluate(() => localStorage.getItem('paused download')), null);
      await page.reload();
      await openModels(page);
      await page.waitForFunction(() => document.querySelectorAll('#model-list > li').length > 5);
      assert.equal(await page.getByRole('button', { name: /^(Resume download|Discard) / }).count(), 0);
    });
  });

/** Returns what is listed as stored, and the number of stored shards and pieces of them. */
const storedOf = (page) =>
  page.evaluate(async () => {
    const listed = await globalThis.pixart.storage({ kind: 'list' });
    const opening = indexedDB.open('pixart-web');
    const database = await new Promise((resolve) => (opening.onsuccess = () => resolve(opening.result)));
    const counting = database.transaction('records').objectStore('records').count();
    const blobs = await new Promise((resolve) => (counting.onsuccess = () => resolve(counting.result)));
    database.close();
    return { listed, blobs };
  });

describe('the list of models', () => {
  const fixture = useModelServer(() => PACKED);

  test('pauses_a_download_keeps_it_over_a_reload_and_resumes_it_without_loss', async ({ browser }) => {
    const page = await browser.context.newPage();
    let release = () => {};
    const held = new Promise((resolve) => (release = resolve));
    fixture.server.rule = async ({ path }) => {
      const isShard = path.endsWith('.bin');
      if (isShard && new Set(fixture.shardRequests().map(({ path }) => path)).size > SENT_FIRST) await held;
      return undefined;
    };
    await page.goto(`${fixture.pageUrl}?device=wasm&checkpoint=&ask=0&lang=en`);
    await openModels(page);
    await page.fill('#model-url', fixture.server.url);
    await page.click('#open-model');
    await page.waitForSelector('#estimate:not([hidden])', { timeout: 60_000 });
    await page.click('#accept-download');
    await openModels(page);
    const pause = page.getByRole('button', { name: /^Pause / });
    await pause.waitFor({ timeout: 60_000 });
    await page.waitForFunction(() => (globalThis.pixart.state().loading?.loaded_bytes ?? 0) > 2e6, undefined, { timeout: 60_000 });
    await screenshot(page, 'models-downloading');
    await pause.click();
    await openModels(page);
    const resume = page.getByRole('button', { name: /^Resume download / });
    await resume.waitFor();
    assert.match(await page.innerText('#model-list'), /\d+(\.\d)? MB \/ \d+(\.\d)? MB, paused/);
    assert.equal(await page.isHidden('#fault'), true);
    await screenshot(page, 'models-paused');
    const whole = fixture.shardRequests().filter(({ sent, begin }) => begin === 0 && sent > 0);

    await page.reload();
    release();
    fixture.server.rule = () => undefined;
    await openModels(page);
    await resume.waitFor();
    fixture.server.log = [];
    // By keyboard, and without another question.
    await resume.focus();
    await page.keyboard.press('Enter');
    await untilLoaded(page);
    const again = fixture.shardRequests().filter(({ path, begin }) => begin === 0 && whole.some((sent) => sent.path === path));
    assert.ok(whole.length >= SENT_FIRST - 1, `${whole.length} shards had arrived`);
    assert.ok(again.length <= 2, `${again.map(({ path }) => path)} were downloaded again`);
    await openModels(page);
    await page.waitForFunction(() => document.querySelector('#model-list .badge') !== null);
    assert.equal(await page.getByRole('button', { name: /^(Resume download|Pause) / }).count(), 0);
  });

  test('verifies_repairs_and_deletes_a_stored_model_and_says_what_it_found', async ({ browser }) => {
    const page = await browser.context.newPage();
    // An open model may hold some of its files, which nobody can then write.
    const closeModel = async () => {
      await page.goto(`${fixture.pageUrl}?device=wasm&store=opfs&lang=en&companion=&checkpoint=`);
      await page.waitForFunction(() => document.getElementById('status').textContent !== '');
      await openModels(page);
    };
    await page.goto(fixture.url({ store: 'opfs' }));
    await untilLoaded(page);
    await closeModel();
    const verify = page.getByRole('button', { name: /^Verify / });
    await verify.click();
    await remark(page, /is complete and undamaged\.$/);
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
    await verify.focus();
    await page.keyboard.press('Enter');
    await remark(page, /^Missing or damaged shards of .+: 1\. Repair downloads them again\.$/);
    for (const [width, colorScheme] of [
      [1280, 'light'],
      [390, 'dark'],
    ]) {
      await page.setViewportSize({ width, height: 844 });
      await page.emulateMedia({ colorScheme });
      await openModels(page);
      await page.waitForFunction(() => document.querySelectorAll('#model-list > li').length > 5);
      await page.evaluate(readFileSync(AXE, 'utf8'));
      const { violations } = await page.evaluate(() => globalThis.axe.run());
      assert.deepEqual(
        violations.map(({ id, nodes }) => `${id}: ${nodes[0].html}`),
        [],
      );
      assert.ok(await page.evaluate(() => document.getElementById('models').scrollWidth <= document.getElementById('models').clientWidth));
      await screenshot(page, `models-cards-${width}`);
    }
    await page.setViewportSize({ width: 1280, height: 844 });
    await openModels(page);
    fixture.server.log = [];
    await page.getByRole('button', { name: /^Repair / }).click();
    await untilLoaded(page);
    assert.equal(new Set(fixture.shardRequests().map(({ path }) => path)).size, 1, 'only what was damaged is downloaded');
    // The model is open, and has just read its files.
    await openModels(page);
    await page.getByRole('button', { name: /^Delete / }).click();
    await page.waitForFunction(() => document.querySelector('#model-list button[aria-label^="Delete "]') === null);
    assert.deepEqual(await page.evaluate(() => globalThis.pixart.storage({ kind: 'list' })), []);
  });
});
