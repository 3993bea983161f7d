//! Files, folders, links and text dragged onto the page with real drags: what can be used is used, and all else is answered with a
//! sentence while everything stays as it is.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fillForm, generate, openSettings, untilEngine } from './browser.mjs';
import { drag, dropFiles } from './drag.mjs';
import { SCENES, useBrowser } from './fixture.mjs';
import { pngWithTexts, rgbPng } from './image-files.mjs';

const TIMEOUT_MILLIS = 300_000;
const SMALL = { prompt: 'a red circle on a blue background', seed: 7, num_inference_steps: 2, width: 64, height: 64 };
const folder = mkdtempSync(join(tmpdir(), 'pixart-drop-'));
const file = (name, bytes) => {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
};
const JPEG = Buffer.from('ffd8ffe000104a46494600010100000100010000ffd9', 'hex');
const foreign = file('foreign.png', rgbPng(2, 2));
const photo = file('photo.jpg', JPEG);
const notes = file('notes.txt', 'some text');
const weights = file('weights.safetensors', Buffer.alloc(64));
const disguised = file('disguised.png', 'this is no image');
mkdirSync(join(folder, 'holiday'));
writeFileSync(join(folder, 'holiday', 'photo.jpg'), JPEG);
mkdirSync(join(folder, 'empty'));

const fixture = useBrowser();
after(() => rmSync(folder, { recursive: true }));

const { openPage } = fixture;

/** The state that a drop must not change. */
const snapshot = (page) =>
  page.evaluate(() => ({
    phase: globalThis.pixart.state().phase,
    fault: globalThis.pixart.state().fault?.what,
    cancel: document.getElementById('cancel').hidden,
    address: location.href,
    fields: [...document.querySelectorAll('#request input, #request textarea, #request select')].map((field) => field.value),
  }));

const noticeOf = async (page) => {
  await page.waitForSelector('#notice:not([hidden])');
  return page.innerText('#notice-text');
};

const REFUSED = [
  ['two_images', { files: [foreign, photo] }, /^2 files were dropped\. Drop one image/],
  [
    'a_weights_file',
    { files: [weights] },
    /^weights\.safetensors holds neither a LoRA nor a component that this page knows\. Drop one image, the folder of a model, or a file of/,
  ],
  ['a_text_file', { files: [notes] }, /^notes\.txt is no image\./],
  ['a_text_file_named_as_an_image', { files: [disguised] }, /^disguised\.png is no PNG, JPEG/],
  ['a_folder_without_a_checkpoint', { files: [join(folder, 'holiday')] }, /^The folder holiday holds no model/],
  ['an_empty_folder', { files: [join(folder, 'empty')] }, /^The folder empty holds no model/],
  ['a_folder_and_a_file', { files: [join(folder, 'holiday'), foreign] }, /^2 files were dropped\./],
  ['a_link', { items: [{ mimeType: 'text/uri-list', data: 'https://example.org/' }] }, /^A link was dropped\./],
  ['a_text_selection', { items: [{ mimeType: 'text/plain', data: 'a word' }] }, /^Text was dropped outside of a text field\./],
  ['nothing', {}, /^Nothing was dropped\./],
  ['an_image_without_settings', { files: [foreign] }, /^foreign\.png holds no generation settings\. It can be the input image/],
  ['a_photograph', { files: [photo] }, /^photo\.jpg holds no generation settings\./],
];

test('a_drop_that_cannot_be_used_is_answered_with_a_sentence_and_changes_nothing', async () => {
  const page = await openPage();
  const before = await snapshot(page);
  for (const [name, dragged, sentence] of REFUSED) {
    await page.evaluate(() => (document.getElementById('notice-text').textContent = ''));
    await drag(page, 'h1', dragged);
    await page.waitForFunction(() => document.getElementById('notice-text').textContent !== '');
    assert.match(await noticeOf(page), sentence, name);
    assert.deepEqual(await snapshot(page), before, name);
  }
  await fillForm(page, SMALL);
  assert.equal((await generate(page, TIMEOUT_MILLIS)).fault, undefined);
  assert.ok(await page.isHidden('#notice'), 'the sentence is gone with the next request');
  await page.close();
});

test('a_drop_during_a_generation_leaves_it_running_with_cancel_visible', async () => {
  const page = await openPage();
  await fillForm(page, { ...SMALL, num_inference_steps: 900 });
  await page.click('#generate');
  await page.waitForFunction(() => globalThis.pixart.state().progress?.step > 0, undefined, { timeout: TIMEOUT_MILLIS });
  const before = await snapshot(page);
  assert.deepEqual([before.phase, before.cancel], ['generating', false]);
  for (const [name, dragged, sentence] of [
    ...REFUSED,
    ['a_checkpoint', { files: [SCENES.replace(/\/$/, '')] }, /^An image is being generated\. Cancel it or wait, then drop scenes again\.$/],
  ]) {
    await page.evaluate(() => (document.getElementById('notice-text').textContent = ''));
    await drag(page, 'h1', dragged);
    await page.waitForFunction(() => document.getElementById('notice-text').textContent !== '');
    assert.match(await noticeOf(page), sentence, name);
    assert.deepEqual(await snapshot(page), before, name);
  }
  const step = await page.evaluate(() => globalThis.pixart.state().progress.step);
  await page.waitForFunction((step) => globalThis.pixart.state().progress?.step > step, step, { timeout: TIMEOUT_MILLIS });
  await page.click('#cancel');
  await page.waitForFunction(() => globalThis.pixart.state().phase === 'ready');
  await page.close();
});

test('a_drop_on_a_field_is_the_browsers_own', async () => {
  const page = await openPage();
  await openSettings(page);
  for (const field of ['#init-image', '#mask-image']) {
    await dropFiles(page, field, [foreign]);
    await page.waitForFunction((field) => document.querySelector(field).files.length === 1, field);
  }
  assert.ok(await page.isHidden('#notice'));
  await page.fill('#prompt', '');
  await drag(page, '#prompt', { items: [{ mimeType: 'text/plain', data: 'a word' }] });
  await page.waitForFunction(() => document.getElementById('prompt').value === 'a word');
  await page.fill('#negative-prompt', '');
  await drag(page, '#negative-prompt', { items: [{ mimeType: 'text/plain', data: 'one\ntwo' }] });
  await page.waitForFunction(() => document.getElementById('negative-prompt').value === 'one\ntwo');
  assert.ok(await page.isHidden('#notice'));
  const address = page.url();
  // The browser would open a file that is dropped on a text field, or on a field that is disabled.
  for (const field of ['#prompt', '#embeddings-file']) {
    await page.evaluate(() => (document.getElementById('notice-text').textContent = ''));
    await dropFiles(page, field, [notes]);
    await page.waitForFunction(() => document.getElementById('notice-text').textContent !== '');
    assert.match(await noticeOf(page), /^notes\.txt is no image/, field);
    assert.equal(page.url(), address);
  }
  assert.equal(await page.inputValue('#prompt'), 'a word');
  await page.close();
});

test('a_dropped_image_goes_where_it_can_be_of_use', async () => {
  const page = await openPage();
  await fillForm(page, { ...SMALL, seed: 12 });
  const { png } = await generate(page, TIMEOUT_MILLIS);
  await fillForm(page, { seed: 1 });
  await dropFiles(page, 'h1', [file('generated.png', png)]);
  await page.waitForFunction(() => document.getElementById('seed').value === '12');
  assert.equal(await noticeOf(page), 'The settings of generated.png are in the form.');
  assert.ok(await page.isHidden('#use-image'));

  await dropFiles(page, 'h1', [foreign]);
  await page.click('#use-image');
  assert.ok(await page.isHidden('#notice'));
  assert.deepEqual(await page.evaluate(() => [...document.getElementById('init-image').files].map(({ name }) => name)), ['foreign.png']);
  await page.waitForSelector('#init-image-preview:not([hidden])');
  await page.close();
});

test('a_dropped_checkpoint_is_opened', async () => {
  const page = await openPage();
  await dropFiles(page, 'h1', [SCENES.replace(/\/$/, '')]);
  await page.waitForFunction(() => globalThis.pixart.state().phase === 'opening');
  await untilEngine(page, TIMEOUT_MILLIS);
  assert.equal(await page.evaluate(() => globalThis.pixart.state().fault), undefined);
  await page.close();
});

test('a_drop_while_the_model_is_loading_does_not_stop_it', async () => {
  const page = await fixture.browser.context.newPage();
  let release;
  const held = new Promise((resolve) => (release = resolve));
  await page.route('**/model_index.json', async (route) => {
    await held;
    await route.continue();
  });
  await page.goto(`${fixture.server.url}?device=wasm&storage=memory`);
  await dropFiles(page, 'h1', [notes]);
  assert.match(await noticeOf(page), /^notes\.txt is no image/);
  assert.equal(await page.evaluate(() => globalThis.pixart.state().phase), 'opening');
  release();
  await untilEngine(page, TIMEOUT_MILLIS);
  assert.equal(await page.evaluate(() => globalThis.pixart.state().phase), 'ready');
  assert.match(await noticeOf(page), /^notes\.txt is no image/);
  await page.close();
});

test('a_png_whose_text_chunks_are_damaged_is_answered_with_a_sentence', async () => {
  const page = await openPage();
  const damaged = pngWithTexts(rgbPng(2, 2), [
    ['zTXt', 'parameters', Buffer.from([0, 1, 2, 3])],
    ['iTXt', 'pixart', Buffer.from('\0\0\0\0{"request": ')],
    ['tEXt', 'prompt', Buffer.from('[1, 2]')],
  ]);
  await dropFiles(page, 'h1', [file('damaged.png', damaged)]);
  assert.match(await noticeOf(page), /damaged\.png/);
  assert.equal(await page.evaluate(() => globalThis.pixart.state().phase), 'ready');
  await page.close();
});
