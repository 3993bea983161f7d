//! The editor of the input image by mouse, keyboard, pen and touch: the masks and the images that are sent are compared as whole pixels.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { fillForm, generate, openPanel, pixels, screenshot } from './browser.mjs';
import { dropFiles } from './drag.mjs';
import { capsule, editorPoints, openEditor, openRecordedPage, sent, stroke, untilFrame } from './editor-page.mjs';
import { useBrowser } from './fixture.mjs';
import { png, rgbPng } from './image-files.mjs';

const TIMEOUT_MILLIS = 60_000;
const AXE = createRequire(new URL('../../web/package.json', import.meta.url)).resolve('axe-core/axe.min.js');
const SIZE = { width: 64, height: 64 };
const REQUEST = { prompt: 'a red circle', seed: 7, num_inference_steps: 2 };
const PHONE = { width: 390, height: 844 };
const under = rgbPng(SIZE.width, SIZE.height);
const OTHER = new URL('../../web/models/scenes/example.png', import.meta.url).pathname;

const fixture = useBrowser({ flags: [] });

/** Opens the page with an image in the editor, and a brush of 12 pixels. */
async function openWithImage(options) {
  const page = await openRecordedPage(fixture.browser, fixture.server.url, options);
  const uncaught = [];
  page.on('pageerror', (error) => uncaught.push(error.message));
  page.finish = async () => {
    await page.close();
    assert.deepEqual(uncaught, []);
  };
  await fillForm(page, REQUEST);
  if (options?.size === PHONE) await page.evaluate(() => document.getElementById('settings').close());
  await openEditor(page, under);
  await page.fill('#brush-size', '12');
  return page;
}

const reopen = (page) => openPanel(page, 'editor');
const masked = (values) => values.reduce((count, value) => count + (value === 255 ? 1 : 0), 0);

test('a_hard_brush_masks_the_pixels_whose_centres_it_covers_and_undo_and_redo_restore_each_byte', async () => {
  const page = await openWithImage();
  const at = await editorPoints(page, SIZE);
  await stroke(page, [at(10, 12), at(40, 30)]);
  const first = await sent(page);
  assert.deepEqual([first.mask.width, first.mask.height], [64, 64]);
  const expected = capsule(SIZE, [10, 12], [40, 30], 6);
  const apart = [...expected.keys()].filter((pixel) => expected[pixel] !== first.mask.values[pixel]);
  // Positions on the screen are rounded to parts of a pixel: centres within that of the edge may be on either side.
  assert.ok(apart.length <= 4, `${apart.length} pixels differ`);
  assert.deepEqual([...new Set(first.mask.values)].sort(), [0, 255], 'nothing between');
  assert.deepEqual(first.image.file, under, 'the file itself is sent');

  await reopen(page);
  await editorPoints(page, SIZE);
  await stroke(page, [at(50, 50), at(50, 60)]);
  const second = await sent(page);
  assert.ok(masked(second.mask.values) > masked(first.mask.values));
  await reopen(page);
  await page.focus('#editor-canvas');
  await page.keyboard.press('Control+z');
  assert.deepEqual((await sent(page)).mask.values, first.mask.values, 'as before the second stroke');
  await reopen(page);
  await page.click('#editor-undo');
  assert.equal((await sent(page)).mask, undefined, 'an empty mask is none');
  await reopen(page);
  await page.focus('#editor-canvas');
  await page.keyboard.press('Control+Shift+Z');
  await page.keyboard.press('Control+y');
  assert.deepEqual((await sent(page)).mask.values, second.mask.values, 'both strokes again');
  await page.finish();
});

test('the_eraser_invert_fill_and_clear_change_the_mask_by_whole_pixels', async () => {
  const page = await openWithImage();
  await page.click('#fill-mask');
  assert.deepEqual(new Set((await sent(page)).mask.values), new Set([255]));
  await reopen(page);
  const at = await editorPoints(page, SIZE);
  await page.click('#tool-eraser');
  await stroke(page, [at(32, 20), at(32, 44)]);
  const erased = (await sent(page)).mask.values;
  const expected = capsule(SIZE, [32, 20], [32, 44], 6).map((value) => 255 - value);
  assert.ok([...expected.keys()].filter((pixel) => expected[pixel] !== erased[pixel]).length <= 4);
  await reopen(page);
  await page.click('#invert-mask');
  assert.deepEqual(
    (await sent(page)).mask.values,
    erased.map((value) => 255 - value),
  );
  await reopen(page);
  assert.match(await page.innerText('.editor-status'), /^64 × 64 px · mask: 9% of the image$/);
  await page.click('#clear-mask');
  assert.equal(await page.innerText('.editor-status'), '64 × 64 px · no mask: the whole image changes');
  assert.equal((await sent(page)).mask, undefined);
  await page.finish();
});

test('a_soft_brush_falls_from_its_core_to_its_edge_and_strokes_add_up', async () => {
  const page = await openWithImage();
  await page.fill('#brush-size', '32');
  await page.fill('#brush-softness', '1');
  const at = await editorPoints(page, SIZE);
  await stroke(page, [at(32.5, 32.5), at(32.5, 32.5)]);
  const once = (await sent(page)).mask.values;
  const row = [...once.slice(32 * 64 + 32, 33 * 64)];
  // 255 (1 - d/r)² (3 - 2 (1 - d/r)) at a distance of d pixels from the middle.
  const profile = row.map((_, distance) => {
    const rest = Math.max(1 - distance / 16, 0);
    return Math.round(255 * rest * rest * (3 - 2 * rest));
  });
  row.forEach((value, distance) => {
    assert.ok(Math.abs(value - profile[distance]) <= 4, `${value} at a distance of ${distance}, not ${profile[distance]}`);
  });
  await reopen(page);
  await editorPoints(page, SIZE);
  await stroke(page, [at(32.5, 32.5), at(32.5, 32.5)]);
  const twice = (await sent(page)).mask.values;
  assert.deepEqual(
    twice,
    once.map((value) => value + Math.round((value * (255 - value)) / 255)),
    'one over the other',
  );
  await page.finish();
});

test('strokes_land_on_the_pixels_under_the_pointer_after_zooming_and_moving', async () => {
  const page = await openWithImage();
  const box = await page.locator('#editor-canvas').boundingBox();
  const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
  const level = () => page.innerText('#zoom-level');
  const fitted = await level();
  await page.mouse.move(x, y);
  await page.mouse.wheel(0, -400);
  await page.waitForFunction((fitted) => document.getElementById('zoom-level').textContent !== fitted, fitted);
  await page.click('#zoom-actual');
  assert.equal(await level(), '100%');
  // A pixel of the image in a pixel of the page: the middle of the image is in the middle. It is moved by 20 and 10 pixels.
  await page.focus('#editor-canvas');
  await page.keyboard.down(' ');
  await stroke(page, [
    [x, y],
    [x + 20, y + 10],
  ]);
  await page.keyboard.up(' ');
  await page.mouse.move(x, y);
  await page.mouse.down({ button: 'middle' });
  await page.mouse.move(x - 4, y + 6);
  await page.mouse.up({ button: 'middle' });
  await stroke(page, [[x + 16, y + 16]]);
  const { mask } = await sent(page);
  const expected = capsule(SIZE, [32, 32], [32, 32], 6);
  const apart = [...expected.keys()].filter((pixel) => expected[pixel] !== mask.values[pixel]);
  assert.ok(apart.length <= 16 && masked(mask.values) > 90, `${apart.length} pixels differ`);

  await reopen(page);
  // The wheel keeps the pixel under the pointer: the same pixel is painted again.
  await page.click('#zoom-fit');
  const at = await editorPoints(page, SIZE);
  await page.click('#clear-mask');
  await page.mouse.move(...at(16, 48));
  await page.mouse.wheel(0, -300);
  await untilFrame(page);
  assert.notEqual(await level(), fitted);
  await page.fill('#brush-size', '1');
  await stroke(page, [at(16.5, 48.5)]);
  const painted = (await sent(page)).mask.values;
  assert.deepEqual(
    [...painted.keys()].filter((pixel) => painted[pixel] > 0),
    [48 * 64 + 16],
  );
  await page.finish();
});

test('the_keyboard_alone_opens_paints_erases_inverts_and_leaves_the_editor', async () => {
  const page = await openWithImage();
  await page.click('#editor [data-close]');
  await page.focus('#open-editor');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.activeElement.id === 'editor-canvas');
  for (const key of [']', ']', '[']) await page.keyboard.press(key);
  assert.equal(await page.inputValue('#brush-size'), '14');
  await page.keyboard.press('Enter');
  assert.match(await page.innerText('.editor-status'), /the brush is down$/);
  for (let step = 0; step < 4; step += 1) await page.keyboard.press('ArrowRight');
  await page.keyboard.press('Shift+ArrowDown');
  await page.keyboard.press('Enter');
  const drawn = (await sent(page)).mask.values;
  // From the middle by four steps of a quarter of the brush, and a pixel down.
  const along = capsule(SIZE, [32, 32], [48, 32], 7);
  const end = capsule(SIZE, [48, 32], [48, 33], 7);
  assert.deepEqual(
    drawn,
    along.map((value, pixel) => Math.max(value, end[pixel])),
  );

  await page.focus('#open-editor');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.activeElement.id === 'editor-canvas');
  await page.keyboard.press('i');
  await page.keyboard.press('e');
  assert.equal(await page.getAttribute('#tool-eraser', 'aria-pressed'), 'true');
  await page.keyboard.press('Enter');
  await page.keyboard.press('Enter');
  await page.keyboard.press('b');
  assert.equal(await page.getAttribute('#tool-brush', 'aria-pressed'), 'true');
  const at = capsule(SIZE, [48, 33], [48, 33], 7);
  assert.deepEqual(
    (await sent(page)).mask.values,
    drawn.map((value, pixel) => (at[pixel] === 255 ? 0 : 255 - value)),
  );

  await page.focus('#open-editor');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.activeElement.id === 'editor-canvas');
  await page.keyboard.press('x');
  await page.keyboard.press('Escape');
  assert.equal(await page.getAttribute('#tool-brush', 'aria-pressed'), 'true', 'Escape leaves the tool first');
  await page.keyboard.press('Escape');
  assert.equal(await page.evaluate(() => document.getElementById('editor').open), false);
  assert.equal(await page.evaluate(() => document.activeElement.id), 'open-editor', 'the focus returns');
  // Letters in the prompt stay letters.
  await page.click('#open-editor');
  await page.fill('#prompt', '');
  await page.locator('#prompt').pressSequentially('bexi');
  assert.equal(await page.inputValue('#prompt'), 'bexi');
  await page.finish();
});

test('a_finger_paints_and_two_fingers_move_and_scale_the_image_without_a_trace', async () => {
  const page = await openWithImage({ size: PHONE });
  const at = await editorPoints(page, SIZE);
  const touch = await page.context().newCDPSession(page);
  const send = (type, points) => touch.send('Input.dispatchTouchEvent', { type, touchPoints: points.map(([x, y], id) => ({ x, y, id })) });
  const before = await page.innerText('#zoom-level');
  // The first finger has begun a stroke when the second one comes.
  await send('touchStart', [at(20, 20)]);
  await send('touchMove', [at(22, 22)]);
  await send('touchStart', [at(22, 22), at(44, 44)]);
  for (const spread of [1, 2, 4, 6]) await send('touchMove', [at(22 - spread, 22 - spread), at(44 + spread, 44 + spread)]);
  await send('touchEnd', []);
  await untilFrame(page);
  const after = await page.innerText('#zoom-level');
  assert.ok(Number.parseInt(after, 10) > Number.parseInt(before, 10) * 1.3, `${before}, then ${after}`);
  assert.match(await page.innerText('.editor-status'), /no mask/);
  await page.click('#zoom-fit');
  await untilFrame(page);
  await send('touchStart', [at(32, 10)]);
  await send('touchMove', [at(32, 30)]);
  await send('touchEnd', []);
  const { mask } = await sent(page);
  const expected = capsule(SIZE, [32, 10], [32, 30], 6);
  const apart = [...expected.keys()].filter((pixel) => expected[pixel] !== mask.values[pixel]);
  assert.ok(apart.length <= 8, `${apart.length} pixels differ`);
  await page.finish();
});

test('the_pressure_of_a_pen_is_the_size_of_the_brush_and_afterwards_fingers_move_the_image', async () => {
  const page = await openWithImage();
  const at = await editorPoints(page, SIZE);
  const client = await page.context().newCDPSession(page);
  const pen = (type, [x, y], force) =>
    client.send('Input.dispatchMouseEvent', {
      type,
      x,
      y,
      button: 'left',
      buttons: type === 'mouseReleased' ? 0 : 1,
      clickCount: 1,
      pointerType: 'pen',
      force,
    });
  const press = async (point, force) => {
    await pen('mousePressed', point, force);
    await pen('mouseReleased', point, 0);
  };
  await press(at(16, 32), 1);
  await press(at(48, 32), 0.5);
  const touch = (type, points) =>
    client.send('Input.dispatchTouchEvent', { type, touchPoints: points.map(([x, y], id) => ({ x, y, id })) });
  await touch('touchStart', [at(32, 8)]);
  await touch('touchMove', [at(32, 16)]);
  await touch('touchEnd', []);
  const { mask } = await sent(page);
  const [whole, half] = [capsule(SIZE, [16, 32], [16, 32], 6), capsule(SIZE, [48, 32], [48, 32], 3)];
  const expected = whole.map((value, pixel) => Math.max(value, half[pixel]));
  const apart = [...expected.keys()].filter((pixel) => expected[pixel] !== mask.values[pixel]);
  assert.ok(apart.length <= 8, `${apart.length} pixels differ`);
  await page.finish();
});

test('dragging_an_edge_extends_the_image_with_its_colours_and_masks_the_new_area_alone', async () => {
  const page = await openWithImage();
  await page.click('#tool-extend');
  await untilFrame(page);
  const handle = await page.locator('#extend-right').boundingBox();
  const [left, right] = await Promise.all(['#extend-left', '#extend-right'].map(async (id) => (await page.locator(id).boundingBox()).x));
  const scale = (right - left) / SIZE.width;
  const [x, y] = [handle.x + handle.width / 2, handle.y + handle.height / 2];
  // Rounded to whole patches of 16 pixels.
  await stroke(page, [
    [x, y],
    [x + 20 * scale, y],
    [x + 30 * scale, y],
  ]);
  await page.waitForFunction(() => document.querySelector('.editor-status')?.textContent.startsWith('96 × 64 px · mask: 33%'));
  assert.deepEqual([await page.inputValue('#width'), await page.inputValue('#height')], ['96', '64']);
  const extended = await sent(page);
  assert.deepEqual([extended.request.width, extended.request.height], [96, 64]);
  assert.deepEqual([extended.image.width, extended.image.height, extended.mask.width, extended.mask.height], [96, 64, 96, 64]);
  const original = await pixels(page, under);
  for (let row = 0; row < 64; row += 1) {
    const kept = extended.image.rgba.subarray(row * 96 * 4, (row * 96 + 64) * 4);
    assert.deepEqual(kept, original.subarray(row * 64 * 4, (row + 1) * 64 * 4), `row ${row} is kept`);
  }
  assert.deepEqual(
    extended.mask.values,
    Uint8Array.from({ length: 96 * 64 }, (_, pixel) => (pixel % 96 < 64 ? 0 : 255)),
  );
  const added = [...extended.image.rgba].filter((_, byte) => byte % 4 < 3 && (byte >> 2) % 96 >= 64);
  assert.ok(new Set(added).size > 40, 'it has colours and noise');
  assert.ok(extended.image.rgba.every((value, byte) => byte % 4 < 3 || value === 255));

  // By keyboard at the top, and back.
  await reopen(page);
  await page.focus('#editor-canvas');
  await page.keyboard.press('x');
  await page.focus('#extend-top');
  await page.keyboard.press('ArrowUp');
  await page.keyboard.press('ArrowUp');
  await page.keyboard.press('ArrowDown');
  assert.equal(await page.getAttribute('#extend-top', 'aria-valuenow'), '16');
  await screenshot(page, 'editor-extend');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.querySelector('.editor-status')?.textContent.startsWith('96 × 80 px'));
  const taller = await sent(page);
  assert.deepEqual([taller.request.width, taller.request.height], [96, 80]);
  assert.deepEqual(taller.mask.values.subarray(16 * 96), extended.mask.values);
  assert.deepEqual(new Set(taller.mask.values.subarray(0, 16 * 96)), new Set([255]));
  assert.deepEqual(taller.image.rgba.subarray(16 * 96 * 4), extended.image.rgba);
  await reopen(page);
  await page.click('#editor-undo');
  await page.click('#editor-undo');
  assert.deepEqual([await page.inputValue('#width'), await page.inputValue('#height')], ['64', '64']);
  const back = await sent(page);
  assert.equal(back.mask, undefined);
  assert.deepEqual(back.image.file, under, 'the file itself again');
  await page.finish();
});

test('the_new_area_of_an_extension_has_the_colour_of_the_edge_beside_it', async () => {
  const page = await openRecordedPage(fixture.browser, fixture.server.url);
  await fillForm(page, REQUEST);
  // Red above, blue below.
  await openEditor(
    page,
    png(64, 64, 2, (_, y) => (y < 32 ? [200, 40, 40] : [40, 40, 200])),
  );
  await page.click('#tool-extend');
  await page.focus('#extend-left');
  await page.keyboard.press('ArrowLeft');
  await page.keyboard.press('Enter');
  const { image } = await sent(page);
  const mean = (rows, channel) => {
    const values = rows.flatMap((row) => Array.from({ length: 16 }, (_, x) => image.rgba[(row * 80 + x) * 4 + channel]));
    return values.reduce((sum, value) => sum + value, 0) / values.length;
  };
  const [above, below] = [
    [2, 4, 6, 8],
    [54, 56, 58, 60],
  ].map((rows) => [0, 1, 2].map((channel) => mean(rows, channel)));
  for (const [found, expected] of [
    [above, [200, 40, 40]],
    [below, [40, 40, 200]],
  ])
    found.forEach((value, channel) => {
      assert.ok(Math.abs(value - expected[channel]) < 30, `${found} is not near ${expected}`);
    });
  await page.close();
});

test('a_crop_has_a_shape_of_the_model_and_keeps_the_mask_on_its_pixels', async () => {
  const page = await openWithImage();
  const at = await editorPoints(page, SIZE);
  await stroke(page, [at(32, 32), at(32, 32)]);
  await page.click('#tool-crop');
  assert.deepEqual(await page.locator('#crop-shape option').allInnerTexts(), [
    '1:1 · 128 × 128',
    '4:3 · 144 × 112',
    '3:4 · 112 × 144',
    '3:2 · 160 × 112',
    '2:3 · 112 × 160',
    '16:9 · 176 × 96',
    '9:16 · 96 × 176',
  ]);
  await page.selectOption('#crop-shape', '2:3');
  await page.focus('#crop-frame');
  // 45 × 64 pixels in the middle: to the left, then one pixel to the right.
  for (let step = 0; step < 12; step += 1) await page.keyboard.press('ArrowLeft');
  await page.keyboard.press('Shift+ArrowRight');
  await screenshot(page, 'editor-crop');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.querySelector('.editor-status')?.textContent.startsWith('45 × 64 px'));
  const { request, image, mask } = await sent(page);
  assert.deepEqual([request.width, request.height], [112, 160], 'the size of the shape');
  assert.deepEqual([image.width, image.height, mask.width, mask.height], [45, 64, 45, 64]);
  const original = await pixels(page, under);
  const whole = capsule(SIZE, [32, 32], [32, 32], 6);
  for (let row = 0; row < 64; row += 1) {
    const from = row * 64 + 1;
    assert.deepEqual(image.rgba.subarray(row * 45 * 4, (row + 1) * 45 * 4), original.subarray(from * 4, (from + 45) * 4), `row ${row}`);
  }
  const expected = Uint8Array.from({ length: 45 * 64 }, (_, pixel) => whole[Math.floor(pixel / 45) * 64 + 1 + (pixel % 45)]);
  assert.ok([...expected.keys()].filter((pixel) => expected[pixel] !== mask.values[pixel]).length <= 4);

  // By mouse: a smaller frame, moved.
  await reopen(page);
  await page.click('#editor-undo');
  await page.click('#tool-crop');
  const corner = await page.locator('#crop-frame .corner').boundingBox();
  const [x, y] = [corner.x + corner.width / 2, corner.y + corner.height / 2];
  const wide = (await page.locator('#crop-frame').boundingBox()).width;
  await stroke(page, [
    [x, y],
    [x - wide / 4, y],
    [x - wide / 2, y],
  ]);
  const frame = await page.locator('#crop-frame').boundingBox();
  assert.ok(Math.abs(frame.width - wide / 2) < wide / 20 && Math.abs(frame.width - frame.height) < 2, JSON.stringify(frame));
  await stroke(page, [
    [frame.x + 20, frame.y + 20],
    [frame.x + 20 + wide, frame.y + 20],
  ]);
  await page.click('#crop-apply');
  await page.waitForFunction(() => document.querySelector('.editor-status')?.textContent.startsWith('32 × 32 px'));
  const { image: smaller } = await sent(page);
  for (let row = 0; row < 32; row += 1) {
    const from = row * 64 + 32;
    assert.deepEqual(smaller.rgba.subarray(row * 32 * 4, (row + 1) * 32 * 4), original.subarray(from * 4, (from + 32) * 4), `row ${row}`);
  }
  await page.finish();
});

test('images_are_dropped_and_pasted_into_the_editor_and_a_mask_file_becomes_its_mask', async () => {
  const page = await openWithImage();
  await dropFiles(page, '#editor-canvas', [OTHER]);
  await page.waitForFunction(() => document.querySelector('.editor-status')?.textContent.startsWith('128 × 128 px'));
  assert.equal(await page.evaluate(() => document.getElementById('init-image').files[0].name), 'example.png');
  assert.ok(await page.isHidden('#notice'), 'it is no image to restore');
  const paste = (bytes) =>
    page.evaluate(
      (bytes) => {
        const clipboardData = new DataTransfer();
        clipboardData.items.add(new File([new Uint8Array(bytes)], 'pasted.png', { type: 'image/png' }));
        document.body.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }));
      },
      [...bytes],
    );
  await paste(under);
  await page.waitForFunction(() => document.querySelector('.editor-status')?.textContent.startsWith('64 × 64 px'));
  await page.setInputFiles('#mask-image', {
    name: 'mask.png',
    mimeType: 'image/png',
    buffer: png(64, 64, 2, (x) => (x < 16 ? [255, 255, 255] : [0, 0, 0])),
  });
  await page.waitForFunction(() => document.querySelector('.editor-status')?.textContent.endsWith('mask: 25% of the image'));
  assert.equal(await page.evaluate(() => document.getElementById('mask-image').files.length), 0);
  const { mask } = await sent(page);
  assert.deepEqual(
    mask.values,
    Uint8Array.from({ length: 64 * 64 }, (_, pixel) => (pixel % 64 < 16 ? 255 : 0)),
  );
  await reopen(page);
  await page.click('#remove-input-image');
  assert.equal(await page.evaluate(() => document.getElementById('init-image').files.length), 0);
  assert.ok(await page.isVisible('.editor-empty'));
  const { request, image } = await sent(page);
  assert.deepEqual([image, request.strength], [undefined, undefined]);
  // Without the editor a pasted image is one like a dropped image.
  await paste(under);
  await page.waitForSelector('#use-image:not([hidden])');
  await page.finish();
});

test('a_slider_compares_the_image_with_what_it_was_made_from', async () => {
  const page = await openWithImage();
  assert.equal((await generate(page, TIMEOUT_MILLIS)).fault, undefined);
  const slider = page.getByRole('slider', { name: 'Share of the input image' });
  await page.focus('#compare-input');
  await page.keyboard.press('Enter');
  await slider.waitFor();
  assert.equal(await page.getAttribute('#compare-input', 'aria-pressed'), 'true');
  assert.ok(await slider.evaluate((element) => element === document.activeElement), 'the arrow keys move it');
  await page.keyboard.press('ArrowLeft');
  assert.equal(await slider.inputValue(), '49');
  const [over, image] = await Promise.all(['#before-after', '#image'].map((id) => page.locator(id).boundingBox()));
  // As large as the image in its frame, which is square.
  const side = Math.min(image.width, image.height);
  assert.ok(Math.abs(over.width - side) < 1 && Math.abs(over.height - side) < 1, JSON.stringify({ over, image }));
  await page.mouse.click(over.x + over.width / 4, over.y + over.height / 2);
  assert.equal(await slider.inputValue(), '25');
  await page.waitForFunction(() => document.querySelector('#before-after img').naturalWidth === 64);
  await screenshot(page, 'before-after');
  // Another image has its own.
  await page.evaluate(() => document.getElementById('init-image').dispatchEvent(new Event('change')));
  await page.setInputFiles('#init-image', []);
  assert.equal((await generate(page, TIMEOUT_MILLIS)).fault, undefined);
  assert.equal(await page.locator('#before-after').count(), 0);
  assert.ok(await page.isHidden('#compare-input'));
  await page.finish();
});

for (const [name, size, scheme] of [
  ['notebook', { width: 1280, height: 800 }, 'dark'],
  ['phone', PHONE, 'light'],
]) {
  test(`axe_finds_nothing_in_the_editor_and_everything_is_in_reach_on_a_${name}`, async () => {
    const page = await openRecordedPage(fixture.browser, fixture.server.url, { size });
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' });
    await openPanel(page, 'editor');
    await page.waitForSelector('.editor-empty');
    await page.evaluate(readFileSync(AXE, 'utf8'));
    const check = async (state) => {
      const { violations, passes } = await page.evaluate(() => globalThis.axe.run());
      assert.deepEqual(
        violations.map(({ id, nodes }) => `${state}: ${id}: ${nodes[0].html}`),
        [],
      );
      assert.ok(passes.length > 10, 'axe looked');
      await screenshot(page, `editor-${state}-${name}`);
    };
    await check('empty');
    await openEditor(page, under);
    for (const tool of ['brush', 'eraser', 'hand', 'crop', 'extend']) {
      await page.click(`#tool-${tool}`);
      await check(tool);
      for (const part of ['#editor-canvas', '#prompt', '#generate', '.editor-status', '#zoom-actual', '#editor-strength']) {
        const { x, y, width, height } = await page.locator(part).boundingBox();
        assert.ok(x >= 0 && y >= 0 && x + width <= size.width && y + height <= size.height, `${part} with the tool ${tool}`);
      }
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), size.width);
    }
    await page.close();
  });
}
