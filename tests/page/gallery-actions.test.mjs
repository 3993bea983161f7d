//! What is done with images of the gallery: selection, Undo, filters, comparison, import, export, clipboard, links and sharing.
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { chooseAction, fillForm, generate, openPanel, pixels, screenshot, serveFolder, untilEngine } from './browser.mjs';
import { dropFiles } from './drag.mjs';
import { SCENES, untilLoaded, useBrowser } from './fixture.mjs';
import { generatedPng, openGallery, pngFile } from './gallery-images.mjs';

const TIMEOUT_MILLIS = 300_000;
const RED = [200, 30, 30];
const GREEN = [30, 160, 60];
const BLUE = [40, 80, 210];
/** Two seeds by two guidance scales; the gallery lists the last one first. */
const FILES = [
  [{ prompt: 'a red star', seed: 1, guidance_scale: 2 }, RED],
  [{ prompt: 'a red star', seed: 2, guidance_scale: 2 }, GREEN],
  [{ prompt: 'a red star', seed: 1, guidance_scale: 7 }, BLUE],
  [{ prompt: 'a red star', seed: 2, guidance_scale: 7 }, RED],
].map(([request, colour]) => pngFile(request, { colour }));
const scratch = mkdtempSync(join(tmpdir(), 'pixart-gallery-'));

const fixture = useBrowser({ browserPerTest: true, flags: [] });
const { withPage } = fixture;
after(() => rmSync(scratch, { recursive: true }));

const captions = (page) => page.locator('#gallery-list li p').allInnerTexts();
const untilShown = (page, count) => page.waitForFunction((count) => document.querySelectorAll('#gallery-list li').length === count, count);
const untilSelected = (page, count) =>
  page.waitForFunction((count) => document.querySelectorAll('#gallery-list li.selected').length === count, count);
const tile = (page, at) => page.locator('#gallery-list li').nth(at).locator('.tile');
const toolbar = (page, name) => page.getByRole('toolbar').getByRole('button', { name, exact: true });
const untilToast = (page, text) =>
  page.waitForFunction((text) => document.querySelector('.gallery-toast [role="status"]')?.textContent.includes(text), text);

/** Clicks what starts a download, and returns its bytes. */
async function downloaded(page, button) {
  const [download] = await Promise.all([page.waitForEvent('download'), button.click()]);
  return { name: download.suggestedFilename(), bytes: readFileSync(await download.path()) };
}

/** Returns every row of the gallery's database, with the bytes of the files. */
const rows = (page) =>
  page.evaluate(async () => {
    const opening = indexedDB.open('pixart-web gallery');
    const database = await new Promise((resolve) => (opening.onsuccess = () => resolve(opening.result)));
    const all = {};
    for (const name of ['images', 'entries', 'thumbnails']) {
      const getting = database.transaction(name).objectStore(name).getAll();
      all[name] = await new Promise((resolve) => (getting.onsuccess = () => resolve(getting.result)));
    }
    database.close();
    const bytesOf = async (png) => [...new Uint8Array(png instanceof Blob ? await png.arrayBuffer() : png)];
    all.images = await Promise.all(all.images.map(async ({ id, png }) => ({ id, png: await bytesOf(png) })));
    all.thumbnails = all.thumbnails.map((bytes) => [...bytes]);
    return all;
  });

test('control_and_shift_select_images_and_undo_restores_all_of_them_as_they_were', () =>
  withPage(async (page) => {
    await openGallery(page, fixture.server.url, FILES);
    await tile(page, 0).click({ modifiers: ['Control'] });
    await tile(page, 2).click({ modifiers: ['Shift'] });
    await untilSelected(page, 3);
    await tile(page, 1).click({ modifiers: ['Control'] });
    await untilSelected(page, 2);
    await toolbar(page, 'Favourite').click();
    await page.waitForFunction(() => document.querySelectorAll('#gallery-list li.is-favourite').length === 2);
    const earlier = await rows(page);
    await toolbar(page, 'Delete').click();
    await untilShown(page, 2);
    await untilToast(page, '2 deleted.');
    assert.deepEqual(await captions(page), ['a red star · 1', 'a red star · 1']);
    await page.getByRole('button', { name: 'Undo' }).click();
    await untilShown(page, 4);
    assert.deepEqual(await rows(page), earlier);
  }));

test('deleted_images_are_gone_after_a_minute_and_undo_is_possible_until_then', () =>
  withPage(async (page) => {
    await openGallery(page, fixture.server.url, FILES.slice(0, 2));
    await chooseAction(page, 0, 'Delete');
    await untilShown(page, 1);
    assert.equal((await rows(page)).images.length, 2, 'the file is kept for Undo');
    await page.evaluate(async () => {
      const opening = indexedDB.open('pixart-web gallery');
      const database = await new Promise((resolve) => (opening.onsuccess = () => resolve(opening.result)));
      const entries = database.transaction('entries', 'readwrite').objectStore('entries');
      const getting = entries.getAll();
      const all = await new Promise((resolve) => (getting.onsuccess = () => resolve(getting.result)));
      for (const entry of all) if (entry.deleted_at_millis) entries.put({ ...entry, deleted_at_millis: entry.deleted_at_millis - 70_000 });
      await new Promise((resolve) => (entries.transaction.oncomplete = resolve));
      database.close();
    });
    await openGallery(page, fixture.server.url);
    await untilShown(page, 1);
    const { images, entries, thumbnails } = await rows(page);
    assert.deepEqual([images.length, entries.length, thumbnails.length], [1, 1, 1]);
  }));

test('the_select_button_makes_a_click_select_and_done_ends_it', () =>
  withPage(async (page) => {
    await openGallery(page, fixture.server.url, FILES);
    await page.click('#gallery-select');
    await tile(page, 1).click();
    await untilSelected(page, 1);
    await toolbar(page, 'Select all').click();
    await untilSelected(page, 4);
    await toolbar(page, 'Done').click();
    await untilSelected(page, 0);
    await tile(page, 1).focus();
    await page.keyboard.press(' ');
    await page.keyboard.press('Shift+ArrowRight');
    await untilSelected(page, 2);
    await page.keyboard.press('Escape');
    await untilSelected(page, 0);
    assert.ok(await page.isVisible('#gallery'), 'Escape ends the selection, and the gallery stays');
  }));

test('filters_by_prompt_model_date_and_favourite_are_combined', () =>
  withPage(async (page) => {
    await openGallery(page, fixture.server.url, [
      pngFile({ prompt: 'a red star', seed: 1 }, { colour: RED }),
      pngFile({ prompt: 'a green fish', seed: 2 }, { colour: GREEN, model: 'PixArt-Sigma' }),
      pngFile({ prompt: 'a Green star', seed: 3 }, { colour: BLUE, model: 'PixArt-Sigma' }),
    ]);
    const shown = async (count, expected) => {
      await untilShown(page, count);
      assert.deepEqual(await captions(page), expected);
    };
    await page.fill('#gallery-search', 'green');
    await shown(2, ['a Green star · 3', 'a green fish · 2']);
    await page.fill('#gallery-search', 'star');
    await shown(2, ['a Green star · 3', 'a red star · 1']);
    await page.selectOption('#gallery-model', 'PixArt-Sigma');
    await shown(1, ['a Green star · 3']);
    await page.check('#favourites-only');
    await page.waitForSelector('text=No image matches the filters.');
    await page.click('#gallery-root .empty button');
    await untilShown(page, 3);
    const day = (shift) => new Date(Date.now() + shift * 86_400_000 - new Date().getTimezoneOffset() * 60_000).toISOString().slice(0, 10);
    await page.fill('#gallery-from', day(1));
    await page.waitForSelector('text=No image matches the filters.');
    await page.fill('#gallery-from', day(-1));
    await page.fill('#gallery-until', day(0));
    await untilShown(page, 3);
    await page.fill('#gallery-until', day(-1));
    await page.waitForSelector('text=No image matches the filters.');
  }));

test('two_images_are_compared_by_a_slider_and_by_their_settings', () =>
  withPage(async (page) => {
    await openGallery(page, fixture.server.url, FILES);
    for (const at of [0, 3]) await tile(page, at).click({ modifiers: ['Control'] });
    await toolbar(page, 'Compare').click();
    await page.waitForSelector('#comparison table');
    const table = () =>
      page.locator('#comparison tr').evaluateAll((rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent)));
    assert.deepEqual(await table(), [
      ['Setting', 'Left', 'Right'],
      ['seed', '1', '2'],
      ['guidance_scale', '2', '7'],
    ]);
    const share = () => page.locator('#comparison .slider').evaluate((slider) => slider.style.getPropertyValue('--share'));
    assert.equal(await share(), '50%');
    const { x, y, width, height } = await page.locator('#comparison .slider').boundingBox();
    await page.mouse.click(x + width * 0.25, y + height / 2);
    assert.ok(Math.abs(Number.parseFloat(await share()) - 25) <= 2, 'the slider is under the pointer');
    await page.keyboard.press('Home');
    assert.equal(await share(), '0%');
    await page.check('#comparison input[type="checkbox"]');
    assert.ok((await table()).some(([name, left, right]) => name === 'prompt' && left === 'a red star' && right === 'a red star'));
    await screenshot(page, 'comparison');
    await page.keyboard.press('Escape');
    await page.waitForSelector('#comparison', { state: 'detached' });
    assert.ok(await page.isVisible('#gallery'), 'Escape closes the comparison alone');
  }));

test('selected_images_become_a_zip_a_contact_sheet_and_a_labelled_grid', () =>
  withPage(async (page) => {
    await openGallery(page, fixture.server.url, FILES);
    await tile(page, 0).focus();
    await page.keyboard.press('Control+a');
    await untilSelected(page, 4);
    const zip = await downloaded(page, toolbar(page, 'Download as ZIP'));
    assert.equal(zip.bytes.readUInt32LE(0), 0x04034b50, 'it is a zip file');
    assert.equal(zip.bytes.toString('latin1').match(/a-red-star-\d-\d+\.png/g).length, 8, 'each name twice: file and list');
    const sheet = await downloaded(page, toolbar(page, 'Contact sheet'));
    assert.deepEqual([sheet.name, sheet.bytes.readUInt32BE(16), sheet.bytes.readUInt32BE(20)], ['contact-sheet.png', 536, 580]);
    const grid = await downloaded(page, toolbar(page, 'X/Y grid as PNG'));
    const [width, height] = [grid.bytes.readUInt32BE(16), grid.bytes.readUInt32BE(20)];
    assert.deepEqual([grid.name, width, height], ['xy-grid.png', 664, 566]);
    if (process.env.SHOTS) for (const { name, bytes } of [sheet, grid]) writeFileSync(join(process.env.SHOTS, name), bytes);
    const all = await pixels(page, grid.bytes);
    const colourAt = (x, y) => [...all.subarray((y * width + x) * 4, (y * width + x) * 4 + 3)];
    // Seeds are columns, guidance scales are rows.
    const middles = [426, 162].flatMap((y) => [264, 528].map((x) => colourAt(x, y)));
    assert.deepEqual(middles, [BLUE, RED, RED, GREEN]);
  }));

test('a_grid_of_images_that_differ_in_more_than_two_settings_is_refused_with_their_names', () =>
  withPage(async (page) => {
    await openGallery(page, fixture.server.url, [...FILES.slice(0, 2), pngFile({ prompt: 'a fish', seed: 3, guidance_scale: 9 })]);
    await tile(page, 0).focus();
    await page.keyboard.press('Control+a');
    await toolbar(page, 'X/Y grid as PNG').click();
    await untilToast(page, 'The selected images differ in 3 settings (prompt, seed, guidance_scale).');
  }));

test('several_files_are_imported_by_the_button_and_by_a_drop_and_others_are_named', () =>
  withPage(async (page) => {
    await openGallery(page, fixture.server.url);
    await page.waitForSelector('text=Generated images are stored here');
    const text = { name: 'notes.png', mimeType: 'image/png', buffer: Buffer.from('a text') };
    await page.setInputFiles('#gallery-files', [...FILES.slice(0, 2), text]);
    await untilShown(page, 2);
    await untilToast(page, '2 imported. Not imported: notes.png.');
    const paths = [0, 1].map((at) => join(scratch, `dropped-${at}.png`));
    for (const [at, path] of paths.entries()) writeFileSync(path, generatedPng({ prompt: 'a dropped one', seed: at }));
    await dropFiles(page, '#gallery-root', paths);
    await untilShown(page, 4);
    await untilToast(page, '2 imported.');
    assert.equal((await captions(page)).filter((text) => text.startsWith('a dropped one')).length, 2);
    const { images } = await rows(page);
    assert.deepEqual(Buffer.from(images[0].png), FILES[0].buffer, 'the file is stored as it is');
    assert.match(await page.innerText('.storage'), /of .+ used by this page/);
  }));

test('an_image_is_copied_shared_and_downloaded_from_the_lightbox', () =>
  withPage(
    async (page) => {
      await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
      await openGallery(page, fixture.server.url, FILES.slice(0, 1));
      await tile(page, 0).click();
      await page.waitForSelector('#lightbox');
      await page.click('#lightbox [aria-label="Copy image"]');
      await untilToast(page, 'The image is on the clipboard.');
      const copied = await page.evaluate(async () => {
        const [item] = await navigator.clipboard.read();
        return [...new Uint8Array(await (await item.getType('image/png')).arrayBuffer())];
      });
      assert.deepEqual(await pixels(page, Buffer.from(copied)), await pixels(page, FILES[0].buffer));
      await page.click('#lightbox [aria-label="Share"]');
      await page.waitForFunction(() => globalThis.shared !== undefined);
      assert.deepEqual(await page.evaluate(() => globalThis.shared), { title: 'a red star', names: ['a-red-star-1.png'] });
      const { name, bytes } = await downloaded(page, page.locator('#lightbox [aria-label="Download PNG"]'));
      assert.equal(name, 'a-red-star-1.png');
      assert.deepEqual(bytes, FILES[0].buffer);
    },
    (page) =>
      page.addInitScript(() => {
        navigator.canShare = ({ files }) => files.length === 1;
        navigator.share = async ({ title, files }) => {
          globalThis.shared = { title, names: files.map(({ name }) => name) };
        };
      }),
  ));

test('a_link_to_an_image_restores_its_settings_opens_its_model_and_gives_the_same_bytes', () =>
  withPage(async (page) => {
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
    await page.goto(`${fixture.server.url}?device=wasm&lang=en`);
    await untilEngine(page, TIMEOUT_MILLIS);
    const request = {
      prompt: 'Über dem Haus: ein roter Kreis, 50 % größer',
      seed: 4_000_000_001,
      num_inference_steps: 3,
      guidance_scale: 3.25,
    };
    await fillForm(page, { ...request, negative_prompt: 'blur & noise', width: 64, height: 64 });
    const first = await generate(page, TIMEOUT_MILLIS);
    assert.equal(first.fault, undefined);
    await openPanel(page, 'gallery');
    await page.waitForSelector('#gallery-list li');
    await chooseAction(page, 0, 'Copy link to settings');
    await untilToast(page, 'The link is on the clipboard.');
    const link = await page.evaluate(() => navigator.clipboard.readText());
    assert.match(link, /#request=[\w-]+$/);

    const other = await page.context().newPage();
    await other.goto(link);
    await untilEngine(other, TIMEOUT_MILLIS);
    await other.waitForSelector('#notice:not([hidden])');
    assert.equal(await other.innerText('#notice-text'), 'The settings of the link are in the form.');
    assert.equal(await other.inputValue('#prompt'), request.prompt);
    assert.deepEqual((await generate(other, TIMEOUT_MILLIS)).png, first.png);

    await other.goto(`${link.slice(0, -40)}`);
    await other.waitForFunction(() => document.getElementById('notice-text').textContent.includes('part of the link is missing'));
    await other.goto(link);
    await other.waitForFunction(() => document.getElementById('notice-text').textContent.startsWith('The settings of the link'));
    await other.close();

    // On a page with another model, that of the link is offered.
    const folder = join(scratch, 'other');
    cpSync(SCENES, folder, { recursive: true });
    const weights = join(folder, 'transformer', 'diffusion_pytorch_model.safetensors');
    const bytes = readFileSync(weights);
    bytes.writeFloatLE(0.25, bytes.length - 4);
    writeFileSync(weights, bytes);
    const models = await serveFolder(scratch, { headers: { 'access-control-allow-origin': '*' } });
    try {
      const third = await page.context().newPage();
      const address = new URL(link);
      address.search = new URLSearchParams({ device: 'wasm', lang: 'en', checkpoint: `${models.url}other/` });
      await third.goto(address.href);
      assert.equal((await untilLoaded(third)).model, 'other');
      const open = third.getByRole('button', { name: 'Open scenes' });
      await open.waitFor();
      assert.match(await third.innerText('#notice-text'), /It was generated by the model scenes; other is open\.$/);
      await open.focus();
      await third.keyboard.press('Enter');
      await third.waitForFunction(() => globalThis.pixart.state().checkpoint?.model === 'scenes', undefined, { timeout: TIMEOUT_MILLIS });
      await third.waitForFunction(() => document.getElementById('notice-text').textContent === 'The settings of the link are in the form.');
      assert.equal(await open.isVisible(), false);
      assert.deepEqual((await generate(third, TIMEOUT_MILLIS)).png, first.png);
    } finally {
      await models.close();
    }
  }));
