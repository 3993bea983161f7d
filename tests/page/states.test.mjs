//! The page in its states, at four sizes, light and dark: compared by pixels with tests/page/states, where each state is a sheet of its
//! screenshots at a height of 200 px, light above dark. With RECORD_STATES=1 the sheets are written, and docs/screenshots;
//! the screenshots are saved in the folder that SHOTS names.
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { fillForm, generate, openPanel, untilEngine, untilStep } from './browser.mjs';
import { useBrowser } from './fixture.mjs';
import { openGallery, pngFile } from './gallery-images.mjs';

const TIMEOUT_MILLIS = 300_000;
const SHEETS = fileURLToPath(new URL('states/', import.meta.url));
const SCREENSHOTS = fileURLToPath(new URL('../../docs/screenshots/', import.meta.url));
const SIZES = [
  { width: 1280, height: 800 },
  { width: 1920, height: 1080 },
  { width: 390, height: 844 },
  { width: 820, height: 1180 },
];
const SCHEMES = ['light', 'dark'];
const CELL_HEIGHT = 200;
/** States that docs/screenshots shows, and the position of their screenshot: the sizes in order, light before dark. */
const DOCUMENTED = {
  welcome: 0,
  image: 1,
  'image-settings': 0,
  editor: 4,
  gallery: 5,
  models: 0,
  shortcuts: 1,
  settings: 6,
};
/** A pixel differs where a channel does by more than this, of 255; and the largest share of pixels that may. */
const PIXEL_TOLERANCE = 48;
const SHARE_MAX = 0.01;
const SMALL = { prompt: 'a red circle on a blue background', seed: 7, num_inference_steps: 8, width: 128, height: 128 };
const FILES = ['a red star', 'a green fish', 'a blue house', 'a white mushroom', 'an orange pumpkin'].map((prompt, at) =>
  pngFile({ prompt, seed: at + 1, guidance_scale: at + 2 }, { colour: [40 * at, 200 - 30 * at, 90] }),
);

const fixture = useBrowser({ browserPerTest: true });

const openPage = (address = '?device=wasm&lang=en') => fixture.openPage(address);

/** Opens one panel, or none, and closes the others. */
const panel = (name) => (page) =>
  page.evaluate((name) => {
    for (const panel of ['settings', 'models', 'gallery']) document.getElementById(panel)[panel === name ? 'show' : 'close']();
  }, name);

const nextFrames = (page) => page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));

/** Takes screenshots of a state: `arrange` opens what a change of the size closed, `varying` lists what differs between runs. */
async function assertState(page, name, { arrange = panel(), varying = [] } = {}) {
  const shots = [];
  for (const size of SIZES) {
    await page.setViewportSize(size);
    // The page closes panels when it becomes narrow, which it notices with the next frame.
    await nextFrames(page);
    await arrange(page);
    for (const colorScheme of SCHEMES) {
      await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      await page.evaluate(() => Promise.all([...document.images].map((image) => image.decode().catch(() => {}))));
      await nextFrames(page);
      const mask = (await visible(page, varying)).map((selector) => page.locator(selector));
      const png = await page.screenshot({ animations: 'disabled', caret: 'hide', mask, maskColor: '#808080' });
      if (process.env.SHOTS) writeFileSync(join(process.env.SHOTS, `state-${name}-${size.width}x${size.height}-${colorScheme}.png`), png);
      // Without masks, for readers.
      if (process.env.RECORD_STATES && shots.length === DOCUMENTED[name]) {
        mkdirSync(SCREENSHOTS, { recursive: true });
        writeFileSync(join(SCREENSHOTS, `${name}.webp`), await webpOf(await page.screenshot({ animations: 'disabled', caret: 'hide' })));
      }
      shots.push(png);
    }
  }
  await page.setViewportSize(SIZES[0]);
  const file = join(SHEETS, `${name}.webp`);
  const recorded = existsSync(file) && !process.env.RECORD_STATES ? readFileSync(file) : undefined;
  const { sheet, shares } = await compareSheet(shots, recorded);
  if (process.env.RECORD_STATES) {
    mkdirSync(SHEETS, { recursive: true });
    writeFileSync(file, sheet);
    return;
  }
  if (process.env.SHOTS) writeFileSync(join(process.env.SHOTS, `states-${name}.webp`), sheet);
  assert.ok(recorded, `${file} is missing; record it with RECORD_STATES=1`);
  const cells = SIZES.flatMap(({ width, height }) => SCHEMES.map((scheme) => `${width}×${height} ${scheme}`));
  const differing = cells.map((cell, at) => [cell, shares[at]]).filter(([, share]) => !(share <= SHARE_MAX));
  assert.deepEqual(differing, [], `${name}: shares of pixels that differ`);
}

/** Returns a PNG file as a WebP file. */
async function webpOf(png) {
  const page = await fixture.browser.context.newPage();
  const base64 = await page.evaluate(async (base64) => {
    const bitmap = await createImageBitmap(await (await fetch(`data:image/png;base64,${base64}`)).blob());
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    canvas.getContext('2d').drawImage(bitmap, 0, 0);
    const bytes = new Uint8Array(await (await canvas.convertToBlob({ type: 'image/webp', quality: 0.9 })).arrayBuffer());
    return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
  }, png.toString('base64'));
  await page.close();
  return Buffer.from(base64, 'base64');
}

/** Returns the selectors of what nothing covers. */
function visible(page, selectors) {
  return page.evaluate(
    (selectors) =>
      selectors.filter((selector) =>
        [...document.querySelectorAll(selector)].some((element) => {
          const { x, y, width, height } = element.getBoundingClientRect();
          const top = document.elementFromPoint(x + width / 2, Math.min(y + height / 2, innerHeight - 1));
          return top !== null && (element.contains(top) || top.contains(element));
        }),
      ),
    selectors,
  );
}

/** Draws the screenshots on a sheet, and returns it with the share of pixels that differ in each cell, where a sheet was recorded. A
    sheet of another size differs everywhere. */
async function compareSheet(shots, recorded) {
  const page = await fixture.browser.context.newPage();
  const { sheet, shares } = await page.evaluate(
    async ({ shots, recorded, rows, cellHeight, tolerance }) => {
      const decode = async (base64, type) => createImageBitmap(await (await fetch(`data:image/${type};base64,${base64}`)).blob());
      const images = await Promise.all(shots.map((shot) => decode(shot, 'png')));
      const widths = images.map(({ width, height }) => Math.round((width * cellHeight) / height));
      const cells = [];
      const ends = Array(rows).fill(0);
      for (const [at, width] of widths.entries()) {
        cells.push({ x: ends[at % rows], y: (at % rows) * cellHeight, width });
        ends[at % rows] += width;
      }
      const contextOf = (width, height) => new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
      const context = contextOf(Math.max(...ends), rows * cellHeight);
      context.imageSmoothingQuality = 'high';
      for (const [at, { x, y, width }] of cells.entries()) context.drawImage(images[at], x, y, width, cellHeight);
      const blob = await context.canvas.convertToBlob({ type: 'image/webp', quality: 0.9 });
      const bytes = Array.from(new Uint8Array(await blob.arrayBuffer()), (byte) => String.fromCharCode(byte)).join('');
      let shares;
      if (recorded !== null) {
        const expected = await decode(recorded, 'webp');
        const { width, height } = context.canvas;
        const other = contextOf(width, height);
        other.drawImage(expected, 0, 0);
        const isSameSize = expected.width === width && expected.height === height;
        shares = cells.map(({ x, y, width }) => {
          if (!isSameSize) return 1;
          const [ours, theirs] = [context, other].map((context) => context.getImageData(x, y, width, cellHeight).data);
          let differing = 0;
          for (let at = 0; at < ours.length; at += 4) {
            const difference = Math.max(...[0, 1, 2].map((channel) => Math.abs(ours[at + channel] - theirs[at + channel])));
            if (difference > tolerance) differing += 1;
          }
          return differing / (ours.length / 4);
        });
      }
      return { sheet: btoa(bytes), shares };
    },
    {
      shots: shots.map((shot) => shot.toString('base64')),
      recorded: recorded?.toString('base64') ?? null,
      rows: SCHEMES.length,
      cellHeight: CELL_HEIGHT,
      tolerance: PIXEL_TOLERANCE,
    },
  );
  await page.close();
  return { sheet: Buffer.from(sheet, 'base64'), shares };
}

test('a_part_that_moved_or_changed_its_colour_differs', async () => {
  const page = await fixture.browser.context.newPage();
  await page.setViewportSize(SIZES[0]);
  const shot = async (left, colour) => {
    await page.setContent(`<button style="position:absolute;left:${left}px;top:300px;width:160px;height:80px;background:${colour}">`);
    return page.screenshot();
  };
  const first = await shot(100, 'navy');
  const { sheet, shares } = await compareSheet([first], undefined);
  assert.equal(shares, undefined);
  for (const [left, colour, differs] of [
    [100, 'navy', false],
    [180, 'navy', true],
    [100, 'white', true],
  ]) {
    const [share] = (await compareSheet([await shot(left, colour)], sheet)).shares;
    assert.equal(share > SHARE_MAX / 2, differs, `${left} ${colour}: ${share}`);
  }
  assert.deepEqual((await compareSheet([first, first, first], sheet)).shares, [1, 1, 1], 'a sheet of another size');
  await page.close();
});

/** Sizes and rates of this computer. */
const VARYING = ['#status', '#caption', '#storage-usage', '#model-list'];

test('before_the_first_image', async () => {
  const page = await openPage();
  await page.waitForFunction(() => [...document.querySelectorAll('#welcome img')].every(({ naturalWidth }) => naturalWidth > 0));
  await assertState(page, 'welcome', { varying: VARYING });
  await assertState(page, 'settings', { arrange: panel('settings'), varying: VARYING });
  await page.click('#show-help');
  await page.waitForSelector('.setting-help', { state: 'attached' });
  await assertState(page, 'settings-explained', { arrange: panel('settings'), varying: VARYING });
  await page.click('#show-help');
  await page.fill('#prompt', 'a red circle on a blue background, '.repeat(20));
  await page.waitForFunction(() => !document.getElementById('truncated-prompt').hidden);
  await assertState(page, 'long-prompt', { varying: VARYING });
  await assertState(page, 'models', { arrange: panel('models'), varying: VARYING });
  await panel()(page);
  await page.click('#open-shortcuts');
  await page.waitForSelector('#explain-shortcuts');
  await assertState(page, 'shortcuts', { varying: VARYING });
  await page.keyboard.press('Escape');
  await page.evaluate(() => {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File(['words'], 'notes.txt'));
    document.body.dispatchEvent(new DragEvent('drop', { dataTransfer, bubbles: true, cancelable: true }));
  });
  await page.waitForSelector('#notice:not([hidden])');
  await assertState(page, 'notice', { varying: VARYING });
  await page.close();
});

test('while_images_are_generated_and_after', async () => {
  const page = await openPage();
  await fillForm(page, { ...SMALL, num_inference_steps: 900 });
  await page.click('#generate');
  await untilStep(page, 1);
  await page.fill('#prompt', 'a green square');
  await page.click('#generate');
  await assertState(page, 'generating', { varying: [...VARYING, '#preview', '#progress', '#history img', '#history canvas'] });
  for (let job = 0; job < 2; job += 1) {
    await page.click('#cancel');
    await page.waitForTimeout(300);
  }
  await page.waitForFunction(() => globalThis.pixart.state().phase === 'ready');
  await page.reload();
  await untilEngine(page, TIMEOUT_MILLIS);
  await fillForm(page, SMALL);
  assert.equal((await generate(page, TIMEOUT_MILLIS)).fault, undefined);
  await assertState(page, 'image', { varying: VARYING });
  await assertState(page, 'image-settings', { arrange: panel('settings'), varying: VARYING });
  await panel()(page);
  await page.click('#show-timeline');
  await page.waitForSelector('#explain-timeline');
  await assertState(page, 'timeline', { varying: [...VARYING, '#explain-timeline svg', '#explain-timeline tbody'] });
  await page.keyboard.press('Escape');
  await openPanel(page, 'settings');
  await page.click('#why-slow');
  await page.waitForSelector('#explain-slow');
  await assertState(page, 'slow', { varying: [...VARYING, '#explain-slow td'] });
  await page.keyboard.press('Escape');
  await panel()(page);
  await page.click('#edit-part');
  await page.waitForSelector('#editor[open] #editor-canvas');
  await assertState(page, 'editor', { arrange: async () => {}, varying: VARYING });
  await page.close();
});

test('the_gallery', async () => {
  const page = await fixture.browser.context.newPage();
  await page.setViewportSize(SIZES[0]);
  const gallery = { arrange: panel('gallery'), varying: ['#gallery-root .storage', '#lightbox .foot p'] };
  await openGallery(page, fixture.server.url);
  await assertState(page, 'gallery-empty', gallery);
  await openGallery(page, fixture.server.url, FILES);
  await page.waitForSelector('.gallery-toast', { state: 'hidden' });
  await assertState(page, 'gallery', gallery);
  const tile = (at) => page.locator('#gallery-list .tile').nth(at);
  await tile(0).click();
  await page.waitForSelector('#lightbox');
  await assertState(page, 'lightbox', gallery);
  await page.keyboard.press('Escape');
  for (const at of [0, 3]) await tile(at).click({ modifiers: ['Control'] });
  await assertState(page, 'gallery-selection', gallery);
  await page.locator('#gallery-root [role="toolbar"] button', { hasText: 'Compare' }).click();
  await page.waitForSelector('#comparison table');
  await assertState(page, 'comparison', gallery);
  await page.close();
});

test('without_a_model_and_with_a_fault', async () => {
  const page = await fixture.browser.context.newPage();
  await page.goto(`${fixture.server.url}?device=wasm&lang=en&checkpoint=`);
  await page.waitForSelector('#welcome *');
  await assertState(page, 'no-model', { varying: VARYING });
  await page.goto(`${fixture.server.url}?device=wasm&lang=en&checkpoint=${encodeURIComponent(`${fixture.server.url}missing`)}`);
  await page.waitForSelector('#fault:not([hidden])');
  await assertState(page, 'fault', { varying: [...VARYING, '#fault-what'] });
  await page.goto(`${fixture.server.url}?device=wasm&lang=de`);
  await untilEngine(page, TIMEOUT_MILLIS);
  await assertState(page, 'german', { varying: VARYING });
  await page.close();
});
