//! The explanations of the page: the timeline of the last image, why images take long here, the keyboard shortcuts, and a sentence for each setting.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { fillForm, generate, openPanel, openSettings, screenshot, untilEngine } from './browser.mjs';
import { useBrowser } from './fixture.mjs';

const TIMEOUT_MILLIS = 300_000;
const SMALL = { prompt: 'a red circle on a blue background', seed: 7, num_inference_steps: 3, width: 64, height: 64 };
const AXE = createRequire(new URL('../../web/package.json', import.meta.url)).resolve('axe-core/axe.min.js');

const fixture = useBrowser();

const openPage = (address = '?device=wasm&lang=en') => fixture.openPage(address);

/** Fails where axe finds something, or the page is wider than the window, wide or as on a phone, light or dark. */
async function assertAccessible(page, name) {
  for (const [width, height, colorScheme] of [
    [1280, 800, 'light'],
    [390, 844, 'dark'],
  ]) {
    await page.setViewportSize({ width, height });
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    await page.evaluate(readFileSync(AXE, 'utf8'));
    const { violations } = await page.evaluate(() => globalThis.axe.run());
    assert.deepEqual(
      violations.map(({ id, nodes }) => `${id}: ${nodes[0].html}`),
      [],
    );
    const wide = await page.evaluate(() =>
      [document.documentElement, ...document.querySelectorAll('dialog[open]')].map((at) => at.scrollWidth - at.clientWidth),
    );
    assert.ok(
      wide.every((more) => more <= 0),
      `${name} at ${width} px: ${wide}`,
    );
    await screenshot(page, `explain-${name}-${width}`);
  }
  await page.setViewportSize({ width: 1280, height: 800 });
}

test('the_timeline_of_an_image_has_its_load_its_prompt_every_step_and_its_decoding', async () => {
  const page = await openPage();
  await fillForm(page, SMALL);
  assert.equal((await generate(page, TIMEOUT_MILLIS)).fault, undefined);
  await page.click('#show-timeline');
  const dialog = page.locator('#explain-timeline');
  await dialog.waitFor();
  const rows = await dialog.locator('tbody tr').evaluateAll((rows) => rows.map((row) => [...row.children].map((cell) => cell.textContent)));
  const names = rows.map(([name]) => name);
  for (const name of ['Load', 'Prompt', 'Step 1 of 3', 'Step 2 of 3', 'Step 3 of 3', 'Decode']) assert.ok(names.includes(name), `${names}`);
  assert.equal(names.filter((name) => name.startsWith('Step ')).length, 3);
  const [load] = rows;
  assert.match(load[3], /^\d+(\.\d)? MB$/, 'the bytes of the weights');
  assert.match(load[4], /^(opfs|indexeddb|memory) → CPU \(wasm\)$/);
  for (const [name, start, time] of rows) assert.match(`${start} ${time}`, /^\d+\.\d\d sec \d+\.\d\d sec$/, name);
  const { spans, total } = await page.evaluate(() => {
    const { image_timeline, image } = globalThis.pixart.state();
    return { spans: image_timeline.spans, total: image.millis.total };
  });
  const [first, last] = [spans[0], spans.at(-1)];
  assert.ok(spans.every(({ from_millis, to_millis }) => to_millis >= from_millis));
  assert.ok(last.to_millis - first.from_millis <= total + 1_000, 'no more than the image took');
  assert.equal(await dialog.locator('rect').count(), rows.length, 'the plot has every row of the table');
  await assertAccessible(page, 'timeline');
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'detached' });
  assert.equal(await page.evaluate(() => document.activeElement.id), 'show-timeline');
  await page.close();
});

test('a_page_without_a_gpu_says_why_and_what_to_do_in_this_browser', async () => {
  const page = await openPage();
  await openSettings(page);
  await page.click('#why-slow');
  const dialog = page.locator('#explain-slow');
  await dialog.waitFor();
  const text = await dialog.innerText();
  assert.match(text, /Images are generated on the CPU/);
  assert.match(text, /What to do in this browser \(Chrome, Edge · Linux\)/);
  assert.match(text, /Vulkan/);
  const found = Object.fromEntries(
    await dialog
      .locator('tr')
      .evaluateAll((rows) => rows.map((row) => [row.children[0].textContent, row.children[row.children.length - 1].textContent])),
  );
  assert.equal(found.Device, 'CPU (wasm)');
  assert.equal(found['WebGPU in this browser'], 'yes');
  assert.equal(found['Secure page (HTTPS or this computer)'], 'yes');
  assert.match(found['CPU cores'], /^\d+$/);
  await dialog.locator('summary').click();
  assert.deepEqual(await dialog.locator('dt').allInnerTexts(), [
    'Chrome, Edge · Windows',
    'Chrome, Edge · macOS',
    'Chrome, Edge · Android',
    'Firefox · Windows',
    'Firefox · macOS',
    'Firefox · Linux',
    'Firefox · Android',
    'Safari · macOS',
    'Safari · iOS',
  ]);
  await assertAccessible(page, 'slow');
  // By mouse.
  await dialog.getByRole('button', { name: 'Close' }).click();
  await dialog.waitFor({ state: 'detached' });
  await page.close();
});

test('a_fallback_adapter_is_named_as_the_reason', async () => {
  const page = await fixture.browser.context.newPage();
  await page.goto(`${fixture.server.url}?device=webgpu&lang=en`);
  await page.waitForFunction(() => globalThis.pixart?.state().adapter !== undefined, undefined, { timeout: TIMEOUT_MILLIS });
  assert.equal(await page.evaluate(() => globalThis.pixart.state().adapter.is_fallback_adapter), true);
  await openSettings(page);
  await page.click('#why-slow');
  assert.match(await page.innerText('#explain-slow'), /It emulates one on the CPU/);
  await page.close();
});

test('question_mark_lists_the_shortcuts_outside_of_text_fields', async () => {
  const page = await openPage();
  await page.focus('#prompt');
  await page.keyboard.type('?');
  assert.match(await page.inputValue('#prompt'), /^\?/);
  assert.equal(await page.locator('#explain-shortcuts').count(), 0, 'a question mark in the prompt is text');
  await page.focus('#generate');
  await page.keyboard.press('?');
  const dialog = page.locator('#explain-shortcuts');
  await dialog.waitFor();
  const captions = await dialog.locator('caption').allInnerTexts();
  assert.deepEqual(captions, ['On the page', 'On an image of the gallery', 'In the large view of an image', 'In the editor']);
  assert.match((await dialog.locator('tr').first().innerText()).replace(/\s+/g, ' '), /^Generate Ctrl ?Enter$/);
  await assertAccessible(page, 'shortcuts');
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'detached' });
  await page.click('#open-shortcuts');
  await dialog.waitFor();
  // A press outside.
  await page.mouse.click(5, 5);
  await dialog.waitFor({ state: 'detached' });
  await page.close();
});

test('every_setting_has_a_sentence_and_its_default', async () => {
  const page = await openPage();
  await openSettings(page);
  assert.equal(await page.locator('.setting-help').count(), 0);
  await page.focus('#show-help');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.setting-help');
  const settings = await page.evaluate(() =>
    [...document.querySelectorAll('#settings :is(input, select, textarea)')].map(({ id, ariaDescribedByElements }) => [
      id,
      (ariaDescribedByElements ?? []).map(({ textContent }) => textContent).join(),
    ]),
  );
  // Fields of a setting that is explained, and what the editor of a mask shows.
  const parts = ['companion-url', 'companion-token', 'embeddings-file', 'brush-size'];
  for (const [id, help] of settings) if (!parts.includes(id)) assert.match(help, /^[A-Z].+\. Default: .+\.$/, id);
  const help = Object.fromEntries(settings);
  assert.match(help.steps, /Default: 20\.$/);
  assert.match(help.width, /Default: 128 × 128\.$/);
  assert.match(help['prompt-weighting'], /Default: on\.$/);
  assert.match(help.device, /Default: Automatic \(fastest\)\.$/);
  await assertAccessible(page, 'help');
  await page.reload();
  await untilEngine(page, TIMEOUT_MILLIS);
  await page.waitForSelector('.setting-help', { state: 'attached' });
  await openSettings(page);
  await page.selectOption('#language', 'de');
  await page.waitForFunction(() => document.getElementById('help-steps').textContent.endsWith('Standard: 20.'));
  await page.selectOption('#language', 'en');
  await page.click('#show-help');
  await page.waitForFunction(() => document.querySelector('.setting-help') === null);
  await page.close();
});

test('explanations_are_downloaded_when_the_first_is_opened', async () => {
  const page = await openPage();
  const loaded = () => page.evaluate(() => performance.getEntriesByType('resource').filter(({ name }) => /explain/.test(name)).length);
  assert.equal(await loaded(), 0);
  await page.route('**/assets/explain-*.js', (route) => route.abort());
  await page.click('#open-shortcuts');
  await page.waitForSelector('#notice:not([hidden])');
  assert.match(
    await page.innerText('#notice-text'),
    /the page's explanations could not be downloaded: check the network, then reload the page/,
  );
  await page.close();
});

test('shortcuts_of_the_list_do_what_it_says', async () => {
  const page = await openPage();
  await fillForm(page, { ...SMALL, num_inference_steps: 1 });
  await page.fill('#num-images', '2');
  await page.focus('#prompt');
  await page.keyboard.press('Control+Enter');
  await page.waitForFunction(() => globalThis.pixart.state().image?.seed === 8, undefined, { timeout: TIMEOUT_MILLIS });
  await openPanel(page, 'gallery');
  const tile = page.locator('#gallery-list .tile').first();
  await tile.focus();
  await page.keyboard.press('f');
  await page.waitForSelector('#gallery-list li.is-favourite');
  await page.keyboard.press('Space');
  await page.waitForSelector('#gallery-list li.selected');
  await page.keyboard.press('Escape');
  await page.waitForFunction(() => document.querySelector('#gallery-list li.selected') === null);
  await tile.focus();
  const before = await page.locator('#gallery-list li').count();
  await page.keyboard.press('Delete');
  await page.waitForFunction((before) => document.querySelectorAll('#gallery-list li').length === before - 1, before);
  await page.keyboard.press('Control+z');
  await page.waitForFunction((before) => document.querySelectorAll('#gallery-list li').length === before, before);
  await page.close();
});
