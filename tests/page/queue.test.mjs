//! The act on the page: the queue, several prompts from one text, the strip of images, and what is done with an image. All of it at the
//! sizes of a notebook and of a phone, where nothing moves by itself and the image, the prompt and Generate are visible together.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { echoConsole, fillForm, openPanel, screenshot, untilEngine, untilStep } from './browser.mjs';
import { assertNoShifts, observeShifts, useBrowser } from './fixture.mjs';

const TIMEOUT_MILLIS = 300_000;
const SMALL = { prompt: 'a red circle on a blue background', seed: 7, num_inference_steps: 2, width: 64, height: 64 };

const fixture = useBrowser();

async function openPage(size = { width: 1280, height: 800 }) {
  const page = await fixture.browser.context.newPage();
  echoConsole(page);
  await page.setViewportSize(size);
  await observeShifts(page);
  await page.goto(`${fixture.server.url}?device=wasm`);
  await untilEngine(page, TIMEOUT_MILLIS);
  return page;
}

const untilIdle = (page) =>
  page.waitForFunction(
    () => {
      const { phase, jobs } = globalThis.pixart.state();
      return phase === 'ready' && jobs.length === 0;
    },
    undefined,
    { timeout: TIMEOUT_MILLIS },
  );
const stripOf = (page) => page.locator('#history-list img').evaluateAll((images) => images.map(({ alt }) => alt));
const jobsOf = (page) => page.evaluate(() => globalThis.pixart.state().jobs.map(({ prompt, images }) => [prompt, images]));

test('generate_during_a_generation_adds_to_the_queue_and_a_waiting_job_can_be_removed', async () => {
  const page = await openPage();
  await fillForm(page, { ...SMALL, num_inference_steps: 300 });
  await page.click('#generate');
  await untilStep(page, 1);
  await fillForm(page, SMALL);
  for (const prompt of ['a blue square', 'a green star', 'a yellow house']) {
    await page.fill('#prompt', prompt);
    await page.click('#generate');
  }
  assert.deepEqual(await jobsOf(page), [
    [SMALL.prompt, 1],
    ['a blue square', 1],
    ['a green star', 1],
    ['a yellow house', 1],
  ]);
  await page.getByRole('button', { name: 'Remove from the queue: a green star' }).click();
  assert.equal(await page.locator('#queue li').count(), 2);
  await screenshot(page, 'queue');
  await page.click('#cancel');
  await untilIdle(page);
  assert.deepEqual(await stripOf(page), ['a yellow house', 'a blue square'], 'Cancel ends the running job alone');
  await page.close();
});

test('alternatives_and_lines_are_one_job_with_an_image_for_each_prompt', async () => {
  const page = await openPage();
  await fillForm(page, SMALL);
  await page.check('#each-line');
  await page.fill('#prompt', 'a {red|blue} star\n\na green cactus');
  assert.equal(await page.innerText('#prompt-count'), '3 prompts, with their own images');
  const seen = page.waitForFunction(() => {
    const bar = document.getElementById('progress');
    return /^Image 3 of 3\. /.test(document.getElementById('status').textContent) && bar.max === 1 && bar.value >= 2 / 3;
  });
  await page.click('#generate');
  await seen;
  await untilIdle(page);
  assert.deepEqual(await stripOf(page), ['a green cactus', 'a blue star', 'a red star']);
  await page.fill('#prompt', '{a|b}'.repeat(7));
  assert.equal(await page.innerText('#prompt-count'), '> 64 prompts, with their own images');
  await page.click('#generate');
  assert.equal(await page.innerText('#fault-what'), 'the prompt gives more than 64 prompts');
  await page.close();
});

test('an_image_of_the_strip_is_shown_generated_again_and_larger_and_used_as_input_image', async () => {
  const page = await openPage();
  await fillForm(page, SMALL);
  await page.click('#generate');
  await untilIdle(page);
  await fillForm(page, { ...SMALL, prompt: 'a blue square', seed: 9 });
  await page.click('#generate');
  await untilIdle(page);
  await page.locator('#history-list button').nth(1).click();
  assert.equal(await page.getAttribute('#image', 'alt'), SMALL.prompt);
  assert.match(await page.innerText('#caption'), /^a red circle on a blue background · seed 7 ·/);
  await page.click('#again');
  await page.waitForFunction(() => document.querySelectorAll('#history-list li').length === 3, undefined, { timeout: TIMEOUT_MILLIS });
  await untilIdle(page);
  const { image, image_prompt } = await page.evaluate(() => globalThis.pixart.state());
  assert.equal(image_prompt, SMALL.prompt);
  assert.notEqual(image.seed, 7);
  await page.click('#larger');
  await page.waitForFunction(() => globalThis.pixart.state().image.width === 128, undefined, { timeout: TIMEOUT_MILLIS });
  await untilIdle(page);
  assert.equal(await page.evaluate(() => globalThis.pixart.state().image.seed), image.seed, 'of the same image');
  // A favourite here is one in the gallery, and the other way round.
  await page.click('#favour');
  await page.waitForSelector('#favour[aria-pressed="true"]');
  await openPanel(page, 'gallery');
  await page.waitForFunction(() => document.querySelectorAll('#gallery-list li.is-favourite').length === 1);
  await page.locator('#gallery-list li').first().locator('.favourite').click();
  await page.waitForSelector('#favour[aria-pressed="false"]', { state: 'attached' });
  await page.click('#gallery [data-close]');
  await page.click('#edit-part');
  await page.waitForSelector('#editor[open] #editor-canvas');
  assert.deepEqual(await page.evaluate(() => document.getElementById('init-image').files.length), 1);
  await page.close();
});

for (const [name, size] of [
  ['notebook', { width: 1280, height: 800 }],
  ['phone', { width: 390, height: 844 }],
]) {
  test(`nothing_shifts_and_image_prompt_and_generate_are_visible_together_on_a_${name}`, async () => {
    const page = await openPage(size);
    // Keys, since what an input changes at once is no shift.
    await page.fill('#prompt', '');
    await page.locator('#prompt').pressSequentially('a {red|blue} star');
    await page.click('#generate');
    await page.waitForTimeout(600);
    await untilIdle(page);
    for (const part of ['#image', '#prompt', '#generate', '#image-actions']) {
      const { x, y, width, height } = await page.locator(part).boundingBox();
      assert.ok(x >= 0 && y >= 0 && x + width <= size.width && y + height <= size.height && height > 0, part);
    }
    const { height } = await page.locator('#image').boundingBox();
    assert.ok(height > size.height / 3, `the image is ${height} high`);
    await screenshot(page, `studio-${name}`);
    await assertNoShifts(page);
    await page.close();
  });
}

test('an_example_is_generated_by_one_click_with_its_prompt_and_seed', async () => {
  const page = await openPage();
  assert.equal(await page.locator('#welcome li button').count(), 8);
  assert.match(await page.innerText('#welcome'), /Runs on this computer\. Prompts and images are not sent anywhere\./);
  await page.waitForFunction(() => [...document.querySelectorAll('#welcome img')].every(({ naturalWidth }) => naturalWidth === 128));
  await screenshot(page, 'welcome');
  await page.getByRole('button', { name: 'an orange rocket at sunset' }).click();
  await page.waitForFunction(() => globalThis.pixart.state().image !== undefined, undefined, { timeout: TIMEOUT_MILLIS });
  const { image, image_prompt } = await page.evaluate(() => globalThis.pixart.state());
  assert.deepEqual([image_prompt, image.seed], ['an orange rocket at sunset', 7]);
  assert.equal(await page.inputValue('#prompt'), 'an orange rocket at sunset');
  assert.ok(await page.isHidden('#welcome'));
  await page.close();
});

test('without_a_model_the_canvas_leads_to_the_models_and_with_a_companion_it_says_what_is_sent', async () => {
  const page = await openPage();
  await page.goto(`${fixture.server.url}?device=wasm&checkpoint=&companion=http://127.0.0.1:9`);
  await page.getByRole('button', { name: 'Choose a model' }).click();
  assert.ok(await page.isVisible('#models'));
  assert.match(await page.innerText('#welcome'), /Prompts are sent to the companion at http:\/\/127\.0\.0\.1:9\./);
  await page.close();
});

test('a_file_of_prompts_and_a_list_of_words_give_the_prompts_of_the_images', async () => {
  const page = await openPage();
  await fillForm(page, SMALL);
  const text = (name, content) => ({ name, mimeType: 'text/plain', buffer: Buffer.from(content) });
  await page.setInputFiles('#prompts-file', text('prompts.txt', 'a red circle\n\na __Colour__ square\n'));
  await page.waitForFunction(() => document.getElementById('prompt').value.includes('square'));
  assert.ok(await page.isChecked('#each-line'));
  assert.equal(await page.innerText('#prompt-count'), '2 prompts, with their own images · No list: __Colour__');
  await page.waitForFunction(() => document.getElementById('wildcard-list').options.length === 1);
  await page.click('#wildcard-save');
  assert.equal(await page.innerText('#wildcard-status'), 'Enter a name of letters or digits first.');
  await page.fill('#wildcard-name', 'Colour');
  await page.fill('#wildcard-entries', 'green\nblue');
  await page.click('#wildcard-save');
  assert.equal(await page.innerText('#wildcard-status'), '__colour__ is stored in this browser.');
  assert.equal(await page.innerText('#prompt-count'), '2 prompts, with their own images');
  await page.click('#generate');
  await page.waitForFunction(() => document.querySelectorAll('#history-list li').length === 2, undefined, { timeout: TIMEOUT_MILLIS });
  await untilIdle(page);
  const [square, circle] = await stripOf(page);
  assert.equal(circle, 'a red circle');
  assert.match(square, /^a (green|blue) square$/);
  // Lists outlast the visit, and files become lists.
  await page.reload();
  await untilEngine(page, TIMEOUT_MILLIS);
  await fillForm(page, {});
  await page.waitForFunction(() => document.getElementById('wildcard-list').options.length === 2);
  await page.setInputFiles('#wildcard-file', text('Animals at home.txt', 'cat\ndog'));
  await page.waitForFunction(() => document.getElementById('wildcard-list').value === 'animals-at-home');
  assert.equal(await page.inputValue('#wildcard-entries'), 'cat\ndog');
  for (const list of ['animals-at-home', 'colour']) {
    await page.selectOption('#wildcard-list', list);
    await page.click('#wildcard-delete');
    assert.equal(await page.innerText('#wildcard-status'), `__${list}__ is deleted.`);
  }
  assert.equal(await page.evaluate(() => localStorage.getItem('wildcards')), '{}');
  await page.close();
});

test('after_a_reload_the_strip_shows_the_newest_images_of_the_gallery_and_opens_them_by_keyboard', async () => {
  const page = await openPage();
  const earlier = page.locator('#earlier-list button');
  const [older, newer] = ['a green boat', 'a pink tree'];
  for (const prompt of [older, newer]) {
    await fillForm(page, { ...SMALL, prompt });
    await page.click('#generate');
    await untilIdle(page);
  }
  assert.deepEqual(await stripOf(page), [newer, older]);
  await page.reload();
  await untilEngine(page, TIMEOUT_MILLIS);
  await earlier.nth(1).waitFor();
  assert.deepEqual(await stripOf(page), []);
  const first = earlier.first().locator('img');
  assert.equal(await first.getAttribute('alt'), newer);
  assert.ok(await first.evaluate(async (image) => (await image.decode(), image.naturalWidth > 0)));
  await assertNoShifts(page);
  await earlier.first().focus();
  await page.keyboard.press('Enter');
  await page.waitForFunction((prompt) => document.querySelector('#lightbox .prompt')?.textContent === prompt, newer);
  await page.keyboard.press('Delete');
  await page.waitForFunction((prompt) => document.querySelector('#lightbox .prompt')?.textContent === prompt, older);
  await page.keyboard.press('Escape');
  await page.waitForSelector('#lightbox', { state: 'detached' });
  await page.click('#open-gallery');
  await page.waitForFunction((prompt) => document.querySelector('#earlier-list img')?.alt === prompt, older);
  await page.close();
});

test('a_notification_tells_that_the_queue_is_done_where_it_was_asked_for_and_the_page_is_hidden', async () => {
  const page = await fixture.browser.context.newPage();
  await page.addInitScript(() => {
    globalThis.shown = [];
    globalThis.answer = 'denied';
    globalThis.Notification = class extends EventTarget {
      static permission = 'default';
      static async requestPermission() {
        globalThis.Notification.permission = globalThis.answer;
        return globalThis.answer;
      }
      constructor(title, { body }) {
        super();
        globalThis.shown.push([title, body]);
      }
    };
    Object.defineProperty(document, 'hidden', { get: () => globalThis.isHidden === true });
  });
  await page.goto(`${fixture.server.url}?device=wasm`);
  await untilEngine(page, TIMEOUT_MILLIS);
  await fillForm(page, SMALL);
  await page.click('#notify');
  await page.waitForSelector('#notice:not([hidden])');
  assert.match(await page.innerText('#notice-text'), /^This browser shows no notifications of this page\./);
  assert.ok(!(await page.isChecked('#notify')));
  await page.evaluate(() => (globalThis.answer = 'granted'));
  await page.check('#notify');
  await page.click('#generate');
  await untilIdle(page);
  assert.deepEqual(await page.evaluate(() => globalThis.shown), [], 'not while the page is looked at');
  await page.evaluate(() => (globalThis.isHidden = true));
  await page.fill('#num-images', '2');
  await page.click('#generate');
  await page.waitForFunction(() => globalThis.shown.length > 0, undefined, { timeout: TIMEOUT_MILLIS });
  await untilIdle(page);
  assert.deepEqual(await page.evaluate(() => globalThis.shown), [['All images are done', SMALL.prompt]], 'once');
  await page.close();
});

test('a_button_with_an_icon_alone_is_named_by_the_mouse_and_by_a_long_press_that_does_nothing_else', async () => {
  const page = await openPage({ width: 390, height: 844 });
  const touch = await page.context().newCDPSession(page);
  const bubble = page.locator('#tooltip');
  const { x, y, width, height } = await page.locator('#open-gallery').boundingBox();
  const points = [{ x: x + width / 2, y: y + height / 2 }];
  await touch.send('Input.dispatchTouchEvent', { type: 'touchStart', touchPoints: points });
  await bubble.waitFor();
  assert.equal(await bubble.innerText(), 'Gallery');
  await touch.send('Input.dispatchTouchEvent', { type: 'touchEnd', touchPoints: [] });
  await bubble.waitFor({ state: 'hidden' });
  assert.equal(await page.getAttribute('#open-gallery', 'aria-expanded'), 'false', 'it is not pressed');
  // A short press is one.
  await touch.send('Input.dispatchTouchEvent', { type: 'touchStart', touchPoints: points });
  await touch.send('Input.dispatchTouchEvent', { type: 'touchEnd', touchPoints: [] });
  await page.waitForSelector('#open-gallery[aria-expanded="true"]');
  await page.hover('#open-settings');
  assert.equal(await page.getAttribute('#open-settings', 'title'), 'Settings');
  await page.setViewportSize({ width: 1280, height: 800 });
  await page.hover('#generate');
  await page.hover('#open-settings');
  assert.equal(await page.getAttribute('#open-settings', 'title'), '', 'a text that is visible needs none');
  await page.close();
});
