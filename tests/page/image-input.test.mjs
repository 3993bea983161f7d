//! Input images on the page and with `pixart`: alpha, orientation, colour types and formats give the same image on both.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fillForm, generate, largestDifference, openSettings, pixels } from './browser.mjs';
import { SCENES, useBrowser } from './fixture.mjs';
import { exif, jpegWithExif, png, pngChunk, rgbPng } from './image-files.mjs';

const TIMEOUT_MILLIS = 300_000;
const FIXTURES = new URL('../../crates/model/src/image/fixtures/', import.meta.url);
const REQUEST = { prompt: 'a red circle', seed: 7, num_inference_steps: 4, width: 64, height: 64 };
const fixture = (name) => readFileSync(new URL(name, FIXTURES));
const scratch = mkdtempSync(join(tmpdir(), 'pixart-input-'));

const { openPage } = useBrowser({ flags: [] });
let page;
before(async () => {
  assert.ok(process.env.PIXART, 'PIXART must hold the path of the pixart binary');
  page = await openPage();
});
after(() => rmSync(scratch, { recursive: true }));

/** Half of the pixels are transparent, and have colours of their own. */
const transparent = png(16, 16, 6, (x, y) => [x * 16, y * 16, 90, x < 8 ? 0 : 255]);
const opaque = png(16, 16, 2, (x, y) => [x * 16, y * 16, 90]);
const oriented = (orientation) => rgbPng(24, 16, [pngChunk('eXIf', exif({ orientation }))]);
const mask = png(64, 64, 6, (x) => (x < 32 ? [255, 255, 255, 0] : [0, 0, 0, 255]));

/** Sizes that are alike compare pixel by pixel; codecs of JPEG and lossy WebP differ by some levels. */
const CASES = [
  ['opaque.png', opaque, 1],
  ['transparent.png', transparent, 1],
  ['oriented-3.png', oriented(3), 1],
  ['oriented-6.png', oriented(6), 1],
  ['grey-alpha.png', fixture('grey-alpha.png'), 1],
  ['palette.png', fixture('palette.png'), 1],
  ['transparent.webp', fixture('transparent.webp'), 1],
  ['turned.webp', fixture('turned.webp'), 1],
  ['turned.jpg', fixture('turned.jpg'), 6],
  ['oriented-8.jpg', jpegWithExif(fixture('grey.jpg'), exif({ orientation: 8, little: true })), 6],
  ['cmyk.jpg', fixture('cmyk.jpg'), 8],
];
const TYPES = { png: 'image/png', webp: 'image/webp', jpg: 'image/jpeg' };

async function onPage(name, bytes, maskBytes) {
  await fillForm(page, REQUEST);
  await openSettings(page);
  await page.fill('#strength', '0.5');
  const file = (name, buffer) => ({ name, mimeType: TYPES[name.split('.').at(-1)], buffer });
  await page.setInputFiles('#init-image', file(name, bytes));
  await page.setInputFiles('#mask-image', maskBytes === undefined ? [] : file('mask.png', maskBytes));
  const result = await generate(page, TIMEOUT_MILLIS);
  assert.equal(result.fault, undefined, `${name}: ${result.fault?.what}`);
  return pixels(page, result.png);
}

async function withPixart(name, bytes, maskBytes) {
  const [image, out] = [join(scratch, name), join(scratch, 'out.png')];
  writeFileSync(image, bytes);
  const args = ['generate', '--checkpoint', SCENES, '--prompt', REQUEST.prompt, '--seed', '7', '--steps', '4', '--width', '64'];
  args.push('--height', '64', '--image', image, '--strength', '0.5', '--out', out);
  if (maskBytes !== undefined) {
    writeFileSync(join(scratch, 'mask.png'), maskBytes);
    args.push('--mask-image', join(scratch, 'mask.png'));
  }
  execFileSync(process.env.PIXART, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  return pixels(page, readFileSync(out));
}

test('an_input_image_gives_the_same_image_on_the_page_and_with_pixart', async () => {
  const images = new Map();
  for (const [name, bytes, bound] of CASES) {
    const here = await onPage(name, bytes);
    const apart = largestDifference(here, await withPixart(name, bytes));
    console.log(`# ${name}: ${apart} of 255 apart`);
    assert.ok(apart <= bound, `${name}: ${apart} of 255 apart`);
    images.set(name, here);
  }
  assert.deepEqual(images.get('transparent.png'), images.get('opaque.png'), 'the colours of transparent pixels count');
  assert.ok(largestDifference(images.get('oriented-3.png'), images.get('oriented-6.png')) > 8, 'the orientation counts');
});

test('a_mask_with_alpha_gives_the_same_image_on_the_page_and_with_pixart', async () => {
  const [here, there] = [await onPage('opaque.png', opaque, mask), await withPixart('opaque.png', opaque, mask)];
  assert.ok(largestDifference(here, there) <= 1, `${largestDifference(here, there)} of 255 apart`);
});

test('an_image_that_is_too_large_or_none_is_refused_by_its_name_before_it_is_decoded', async () => {
  const large = Buffer.from(fixture('turned.jpg'));
  large.fill(0xff, large.indexOf(Buffer.from([0xff, 0xc0])) + 5, large.indexOf(Buffer.from([0xff, 0xc0])) + 9);
  const header = Buffer.from(opaque);
  header.writeUInt32BE(60_000, 16);
  header.writeUInt32BE(60_000, 20);
  for (const [name, bytes, what] of [
    ['large.jpg', large, 'large.jpg has 65535 × 65535 pixels'],
    ['large.png', header, 'large.png has 60000 × 60000 pixels'],
    ['text.png', Buffer.from('some text'), 'text.png is not an image this browser can decode'],
    ['cut.png', opaque.subarray(0, 60), undefined],
  ]) {
    await fillForm(page, REQUEST);
    await page.setInputFiles('#init-image', { name, mimeType: 'image/png', buffer: bytes });
    await page.setInputFiles('#mask-image', []);
    const { fault } = await generate(page, TIMEOUT_MILLIS);
    assert.equal(fault.code, 'bad_request');
    if (what !== undefined) assert.equal(fault.what, what);
    assert.match(fault.remedy, /PNG/);
    assert.equal(await page.evaluate(() => globalThis.pixart.state().phase), 'ready');
  }
});
