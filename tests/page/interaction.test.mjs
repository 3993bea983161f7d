//! The user's interactions with the page: previews, reloading, metadata, the gallery, the X/Y grid, models, keyboard, languages,
//! accessibility, small screens.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import {
  chooseAction,
  dropPng,
  fillForm,
  generate,
  openBrowser,
  openPanel,
  openSettings,
  screenshot,
  untilEngine,
  untilStep,
} from './browser.mjs';
import { useBrowser } from './fixture.mjs';

const TIMEOUT_MILLIS = 300_000;
const SMALL = { prompt: 'a red circle on a blue background', seed: 7, num_inference_steps: 4, width: 64, height: 64 };
/** A request as it was stored before its fields had diffusers' names. */
const OLD_REQUEST = { prompt: '', negative_prompt: '', seed: 7, steps: 6, guidance: 3.5, width: 64, height: 64, text: { kind: 'tab' } };
const AXE = createRequire(new URL('../../web/package.json', import.meta.url)).resolve('axe-core/axe.min.js');

const fixture = useBrowser();

const { openPage } = fixture;

const state = (page, field) => page.evaluate((field) => globalThis.pixart.state()[field], field);

test('a_preview_and_the_remaining_time_are_shown_during_a_generation', async () => {
  const page = await openPage();
  const errors = [];
  page.on('console', (message) => message.type() === 'error' && errors.push(message.text()));
  await page.reload();
  await untilEngine(page, TIMEOUT_MILLIS);
  await fillForm(page, { ...SMALL, num_inference_steps: 200 });
  await page.click('#generate');
  await untilStep(page, 3);
  const seen = await page.evaluate(() => {
    const canvas = document.getElementById('preview');
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    return { hidden: canvas.hidden, width: canvas.width, colours: new Set(data).size, phase: globalThis.pixart.state().phase };
  });
  assert.deepEqual({ ...seen, colours: 0 }, { hidden: false, width: 8, colours: 0, phase: 'generating' });
  assert.ok(seen.colours > 8, 'the preview is not flat');
  assert.match(await page.innerText('#status'), /step \d+ of 200, \d+\.\d sec left/);
  await screenshot(page, 'generating');
  await page.click('#cancel');
  await page.waitForFunction(() => globalThis.pixart.state().phase === 'ready');
  assert.ok(await page.isHidden('#preview'));
  assert.deepEqual(errors, [], 'the console has no errors');
  await page.close();
});

test('the_last_preview_is_close_to_the_image', async () => {
  const page = await openPage();
  await fillForm(page, { ...SMALL, width: 128, height: 128, num_inference_steps: 10 });
  await page.evaluate(() => {
    const look = () => {
      globalThis.seen = globalThis.pixart.state().progress?.preview ?? globalThis.seen;
      requestAnimationFrame(look);
    };
    look();
  });
  await page.click('#generate');
  await page.waitForFunction(() => globalThis.pixart.state().phase === 'ready', undefined, { timeout: TIMEOUT_MILLIS });
  const apart = await page.evaluate(async () => {
    const { width, height, rgb } = globalThis.seen;
    const image = await createImageBitmap(new Blob([globalThis.pixart.state().image.png]), {
      resizeWidth: width,
      resizeHeight: height,
      resizeQuality: 'high',
    });
    const canvas = new OffscreenCanvas(width, height).getContext('2d');
    canvas.drawImage(image, 0, 0);
    const { data } = canvas.getImageData(0, 0, width, height);
    return rgb.reduce((sum, byte, at) => sum + Math.abs(byte - data[Math.floor(at / 3) * 4 + (at % 3)]), 0) / rgb.length;
  });
  console.log(`# the last preview is ${apart.toFixed(1)} of 255 from the image`);
  assert.ok(apart < 25, `${apart}`);
  await page.close();
});

test('a_reloaded_page_resumes_its_generation_with_the_same_result', async () => {
  const page = await openPage();
  const request = { ...SMALL, num_inference_steps: 150 };
  await fillForm(page, request);
  const whole = await generate(page, TIMEOUT_MILLIS);
  await page.click('#generate');
  await untilStep(page, 80);
  await page.reload();
  await untilEngine(page, TIMEOUT_MILLIS);
  await page.waitForSelector('#unfinished:not([hidden])');
  const after = Number(/after step (\d+)/.exec(await page.innerText('#unfinished-text'))[1]);
  assert.ok(after > 0 && after < 150, `${after}`);
  await screenshot(page, 'unfinished');
  await page.click('#resume');
  await page.waitForFunction(() => globalThis.pixart.state().image !== undefined, undefined, { timeout: TIMEOUT_MILLIS });
  const png = Buffer.from(await page.evaluate(() => [...globalThis.pixart.state().image.png]));
  assert.deepEqual(png, whole.png);
  await page.reload();
  await untilEngine(page, TIMEOUT_MILLIS);
  assert.ok(await page.isHidden('#unfinished'), 'a finished generation is not offered again');
  await page.close();
});

test('a_dropped_png_restores_the_request_that_reproduces_it', async () => {
  const page = await openPage();
  await fillForm(page, { ...SMALL, prompt: 'ein grüner Kaktus, 日本', negative_prompt: 'blur', seed: 11, guidance_scale: 3 });
  await page.selectOption('#scheduler', 'euler-a');
  const first = await generate(page, TIMEOUT_MILLIS);
  assert.equal(first.fault, undefined);
  await page.reload();
  await untilEngine(page, TIMEOUT_MILLIS);
  await dropPng(page, first.png);
  await page.waitForFunction(() => document.getElementById('seed').value === '11');
  assert.equal(await page.inputValue('#negative-prompt'), 'blur');
  assert.deepEqual((await generate(page, TIMEOUT_MILLIS)).png, first.png);

  await dropPng(page, readFileSync(new URL('../../docs/schedulers.png', import.meta.url)));
  await page.waitForSelector('#use-image:not([hidden])');
  assert.match(await page.innerText('#notice-text'), /^a\.png holds no generation settings/);
  assert.ok(await page.isHidden('#fault'));
  await screenshot(page, 'notice');
  await page.close();
});

test('a_png_with_the_former_field_names_restores_its_request', async () => {
  const page = await openPage();
  await fillForm(page, SMALL);
  const { png } = await generate(page, TIMEOUT_MILLIS);
  const former = {
    prompt: 'an old request',
    negative_prompt: 'blur',
    seed: 13,
    steps: 9,
    guidance: 2.5,
    width: 64,
    height: 64,
    scheduler: 'euler-a',
  };
  await dropPng(page, withMetadata(png, JSON.stringify({ version: 1, request: former })));
  await page.waitForFunction(() => document.getElementById('prompt').value === 'an old request');
  const values = await page.evaluate(() =>
    ['negative-prompt', 'seed', 'steps', 'guidance-scale', 'scheduler'].map((id) => document.getElementById(id).value),
  );
  assert.deepEqual(values, ['blur', '13', '9', '2.5', 'euler-a']);
  assert.equal((await generate(page, TIMEOUT_MILLIS)).fault, undefined);
  await page.close();
});

test('the_gallery_stores_searches_compares_exports_and_deletes', async () => {
  const page = await openPage();
  for (const seed of [101, 102]) {
    await fillForm(page, { ...SMALL, prompt: `a star for the gallery`, seed, num_inference_steps: 2 });
    assert.equal((await generate(page, TIMEOUT_MILLIS)).fault, undefined);
  }
  await page.reload();
  await untilEngine(page, TIMEOUT_MILLIS);
  await openPanel(page, 'gallery');
  await page.fill('#gallery-search', 'Star for');
  await page.waitForFunction(() => document.querySelectorAll('#gallery-list li').length === 2);
  const cards = page.locator('#gallery-list li');
  await chooseAction(page, 0, 'Compare');
  await cards.nth(1).locator('.tile').click();
  await page.waitForSelector('#comparison');
  assert.equal(await page.locator('#comparison img').count(), 2);
  await page.keyboard.press('Escape');
  await chooseAction(page, 0, 'Favourite');
  await page.check('#favourites-only');
  await page.waitForFunction(() => document.querySelectorAll('#gallery-list li').length === 1);
  assert.match(await cards.nth(0).innerText(), /102/);
  await screenshot(page, 'gallery');
  await page.uncheck('#favourites-only');
  const [zip] = await Promise.all([page.waitForEvent('download'), page.click('#gallery-export')]);
  const bytes = readFileSync(await zip.path());
  assert.equal(bytes.readUInt32LE(0), 0x04034b50, 'it is a zip file');
  assert.equal(bytes.toString('latin1').match(/a-star-for-the-gallery-10\d-\d+\.png/g).length, 4, 'each name twice: file and list');
  await chooseAction(page, 1, 'Reuse settings');
  await page.waitForFunction(() => document.getElementById('seed').value === '101');
  await chooseAction(page, 1, 'Delete');
  await page.waitForFunction(() => document.querySelectorAll('#gallery-list li').length === 1);
  await page.close();
});

test('the_gallery_lists_the_newest_image_first', async () => {
  const other = await openBrowser();
  try {
    const page = await other.context.newPage();
    await page.setViewportSize({ width: 1180, height: 900 });
    await page.goto(`${fixture.server.url}?device=wasm`);
    await untilEngine(page, TIMEOUT_MILLIS);
    const requests = [
      ['a blue fish on a white background', 4],
      ['a yellow star in the night sky', 9],
      ['a purple house in the snow', 5],
      ['an orange pumpkin in the desert', 2],
      ['a red mushroom in a green field', 7],
    ];
    for (const [prompt, seed] of requests) {
      await fillForm(page, { prompt, seed, num_inference_steps: 20 });
      assert.equal((await generate(page, TIMEOUT_MILLIS)).fault, undefined);
    }
    await openPanel(page, 'gallery');
    await page.waitForFunction(() => document.querySelectorAll('#gallery-list li').length === 5);
    const listed = await page.locator('#gallery-list li p').allInnerTexts();
    assert.deepEqual(listed, requests.map(([prompt, seed]) => `${prompt} · ${seed}`).reverse());
    await page.locator('#gallery-list img').last().scrollIntoViewIfNeeded();
    await screenshot(page, 'page');
  } finally {
    await other.close();
  }
});

test('a_gallery_and_an_unfinished_generation_of_version_2_are_carried_over', async () => {
  const other = await openBrowser();
  try {
    const page = await other.context.newPage();
    await page.goto(`${fixture.server.url}models/scenes/README.md`);
    await page.evaluate(
      async (request) => {
        const opening = indexedDB.open('pixart-web gallery', 2);
        opening.onupgradeneeded = () => {
          opening.result.createObjectStore('drawn', { keyPath: 'id', autoIncrement: true });
          opening.result.createObjectStore('unfinished', { keyPath: 'tab' });
          opening.result.createObjectStore('said');
        };
        const database = await new Promise((resolve) => (opening.onsuccess = () => resolve(opening.result)));
        const stores = ['drawn', 'unfinished', 'said'];
        const transaction = database.transaction(stores, 'readwrite');
        const [drawn, unfinished, said] = stores.map((name) => transaction.objectStore(name));
        const png = new Blob([new Uint8Array([137, 80, 78, 71])], { type: 'image/png' });
        drawn.put({ prompt: 'an old star', seed: 5, favourite: true, drawn_at: Date.UTC(2026, 0, 2), png });
        sessionStorage.setItem('tab', 'this tab');
        const checkpoint = new URL('/models/scenes/', location.href).href;
        unfinished.put({ tab: 'this tab', checkpoint, picture: request, begun_at: Date.now() });
        for (const step of [0, 1, 2]) said.put(new Uint8Array(4 * 8 * 8 * 4), ['this tab', step]);
        await new Promise((resolve) => (transaction.oncomplete = resolve));
        database.close();
      },
      { ...OLD_REQUEST, prompt: 'an old circle' },
    );
    await page.goto(`${fixture.server.url}?device=wasm`);
    await untilEngine(page, TIMEOUT_MILLIS);
    await page.waitForSelector('#unfinished:not([hidden])');
    assert.equal(await page.innerText('#unfinished-text'), '“an old circle” was interrupted after step 3.');
    await page.click('#resume');
    await page.waitForFunction(() => globalThis.pixart.state().image !== undefined, undefined, { timeout: TIMEOUT_MILLIS });
    assert.equal(await page.inputValue('#steps'), '6');
    assert.equal(await page.inputValue('#guidance-scale'), '3.5');
    await openPanel(page, 'gallery');
    await page.waitForFunction(() => document.querySelectorAll('#gallery-list li').length === 2);
    const [fresh, old] = await page.locator('#gallery-list li p').allInnerTexts();
    assert.deepEqual([fresh, old], ['an old circle · 7', 'an old star · 5']);
    await page.check('#favourites-only');
    await page.waitForFunction(() => document.querySelectorAll('#gallery-list li').length === 1);
    const [zip] = await Promise.all([page.waitForEvent('download'), page.click('#gallery-export')]);
    const bytes = readFileSync(await zip.path());
    assert.match(bytes.toString('latin1'), /an-old-star-5-1\.png/);
    const days = bytes.readUInt16LE(12);
    assert.deepEqual([1980 + (days >> 9), (days >> 5) & 15], [2026, 1], 'the file has the time of its generation');
  } finally {
    await other.close();
  }
});

test('several_images_have_consecutive_seeds_and_cancel_stops_them_all', async () => {
  const page = await openPage();
  await fillForm(page, { ...SMALL, num_inference_steps: 2 });
  await page.fill('#num-images', '3');
  await page.click('#generate');
  await page.waitForFunction(() => globalThis.pixart.state().image?.seed === 9 && globalThis.pixart.state().phase === 'ready', undefined, {
    timeout: TIMEOUT_MILLIS,
  });
  await fillForm(page, { num_inference_steps: 500 });
  await page.click('#generate');
  await untilStep(page, 1);
  await page.click('#cancel');
  await page.waitForFunction(() => globalThis.pixart.state().phase === 'ready');
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.equal(await state(page, 'phase'), 'ready', 'the queued images are not generated');
  await page.close();
});

test('the_grid_shows_an_image_for_each_pair_of_values', async () => {
  const page = await openPage();
  await fillForm(page, { ...SMALL, num_inference_steps: 2 });
  for (const [field, text] of [
    ['#x-axis-values', '1, 2, 3'],
    ['#y-axis-values', '7,8'],
  ])
    await page.fill(field, text);
  await page.selectOption('#x-axis', 'num_inference_steps');
  await page.selectOption('#y-axis', 'seed');
  await page.click('#generate');
  await page.waitForFunction(() => document.querySelectorAll('#grid img').length === 6, undefined, { timeout: TIMEOUT_MILLIS });
  assert.deepEqual(await page.locator('#grid th').allInnerTexts(), ['Steps 1', 'Steps 2', 'Steps 3', 'Seed 7', 'Seed 8']);
  const shown = await page.evaluate(() =>
    Promise.all([...document.querySelectorAll('#grid img')].map(async ({ src }) => (await (await fetch(src)).arrayBuffer()).byteLength)),
  );
  assert.equal(new Set(shown).size, 6, 'six different images');
  await page.waitForFunction(() => globalThis.pixart.state().phase === 'ready');
  await screenshot(page, 'grid');
  for (const [values, what] of [
    ['1, two', 'num_inference_steps is `two` in the X/Y grid'],
    ['1, 2.5', 'num_inference_steps is `2.5` in the X/Y grid'],
    ['1,,2', 'num_inference_steps is `` in the X/Y grid'],
    ['1, "2', 'the values of num_inference_steps in the X/Y grid have a quotation mark that is not closed, or text beside it'],
  ]) {
    await page.fill('#x-axis-values', values);
    await page.click('#generate');
    assert.equal(await page.innerText('#fault-what'), what);
  }
  await page.close();
});

test('values_of_the_grid_may_hold_commas_and_quotation_marks', async () => {
  const page = await openPage();
  await fillForm(page, { ...SMALL, num_inference_steps: 1 });
  await page.selectOption('#x-axis', 'prompt');
  await page.fill('#x-axis-values', ' "a cat, sitting" , a "red" dog,"say ""hi"", loudly", a cat --ar 1:1');
  await page.selectOption('#y-axis', 'style');
  await page.fill('#y-axis-values', 'ink, ');
  await page.click('#generate');
  await page.waitForFunction(() => document.querySelectorAll('#grid img').length === 8, undefined, { timeout: TIMEOUT_MILLIS });
  assert.deepEqual(await page.locator('#grid th').allInnerTexts(), [
    'Prompt a cat, sitting',
    'Prompt a "red" dog',
    'Prompt say "hi", loudly',
    'Prompt a cat --ar 1:1',
    'Style ink',
    'Style',
  ]);
  await page.waitForFunction(() => globalThis.pixart.state().phase === 'ready');
  assert.equal(await state(page, 'fault'), undefined);
  await page.close();
});

test('a_checkpoint_is_opened_by_its_url_and_from_the_model_list', async () => {
  const page = await fixture.browser.context.newPage();
  await page.goto(`${fixture.server.url}?device=wasm&checkpoint=`);
  assert.ok(await page.isDisabled('#generate'));
  await openPanel(page, 'models');
  await page.fill('#model-url', 'models/nothing/');
  await page.click('#open-model');
  await page.waitForSelector('#fault:not([hidden])');
  assert.equal(await page.innerText('#fault-code'), 'network');
  await page.fill('#model-url', 'models/scenes/');
  await page.click('#open-model');
  await page.waitForFunction(() => globalThis.pixart.state().phase === 'ready', undefined, { timeout: TIMEOUT_MILLIS });
  await page.evaluate(() => globalThis.pixart.storage({ kind: 'list' }));
  await page.waitForFunction(() => /\d [MGT]B available/.test(document.getElementById('storage-usage').textContent));
  await page.goto(`${fixture.server.url}?device=wasm&checkpoint=`);
  await openPanel(page, 'models');
  await page.locator('#model-list li', { hasText: 'models/scenes' }).getByRole('button', { name: 'Open' }).click();
  await page.waitForFunction(() => globalThis.pixart.state().phase === 'ready', undefined, { timeout: TIMEOUT_MILLIS });
  await page.close();
});

test('aspect_ratio_buttons_give_sizes_within_the_limits_of_the_checkpoint', async () => {
  const page = await openPage();
  const { size_min, size_max, size_multiple } = (await state(page, 'checkpoint')).limits;
  const buttons = page.locator('#aspect-ratios button');
  assert.equal(await buttons.count(), 7);
  for (const button of await buttons.all()) {
    await button.click();
    assert.equal(await button.getAttribute('aria-pressed'), 'true');
    for (const side of ['#width', '#height']) {
      const pixels = Number(await page.inputValue(side));
      assert.ok(pixels >= size_min && pixels <= size_max && pixels % size_multiple === 0, `${pixels}`);
    }
  }
  await page.close();
});

test('the_keyboard_alone_generates_cancels_and_downloads', async () => {
  const page = await openPage();
  await fillForm(page, { ...SMALL, num_inference_steps: 300 });
  await page.focus('#prompt');
  await page.keyboard.press('Control+Enter');
  await untilStep(page, 1);
  await tabTo(page, 'cancel');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => globalThis.pixart.state().phase === 'ready');
  await fillForm(page, { num_inference_steps: 2 });
  await page.focus('#prompt');
  await page.keyboard.press('Control+Enter');
  await page.waitForFunction(() => globalThis.pixart.state().image !== undefined, undefined, { timeout: TIMEOUT_MILLIS });
  await tabTo(page, 'download');
  const [download] = await Promise.all([page.waitForEvent('download'), page.keyboard.press('Enter')]);
  assert.match(download.suggestedFilename(), /-7\.png$/);
  await page.close();
});

test('the_page_is_translated_and_stores_the_selected_language', async () => {
  const page = await openPage('?device=wasm&lang=de');
  const textsOf = `(root) => Object.fromEntries([...root.querySelectorAll('[data-i18n], [data-i18n-label], [data-i18n-placeholder]')].flatMap((at) =>
    [[at.dataset.i18n, at.textContent], [at.dataset.i18nLabel, at.ariaLabel], [at.dataset.i18nPlaceholder, at.placeholder]].filter(([name]) => name)))`;
  const texts = () => page.evaluate(`(${textsOf})(document)`);
  const german = await texts();
  assert.equal(await page.getAttribute('html', 'lang'), 'de');
  assert.equal(await page.innerText('#status'), 'Bereit');
  await page.selectOption('#language', 'en');
  const english = await texts();
  assert.equal(await page.innerText('#status'), 'Ready');
  const written = await page.evaluate(`fetch('./').then((reply) => reply.text())
    .then((text) => (${textsOf})(new DOMParser().parseFromString(text, 'text/html')))`);
  assert.deepEqual(english, written, 'index.html has the English texts');
  const same = Object.keys(german).filter((name) => german[name] === english[name]);
  const terms = ['component_transformer', 'component_vae', 'component_tokenizer', 'component_scheduler'];
  const expected = ['prompt', 'seed', 'scheduler', 'loras', 'deviceGpu', 'deviceCpu', ...terms];
  assert.deepEqual(same, expected, 'texts that are the same in both languages');
  await page.reload();
  await untilEngine(page, TIMEOUT_MILLIS);
  assert.equal(await page.getAttribute('html', 'lang'), 'de', 'the address comes first');
  await page.goto(`${fixture.server.url}?device=wasm`);
  await untilEngine(page, TIMEOUT_MILLIS);
  assert.equal(await page.getAttribute('html', 'lang'), 'en');
  await page.close();
});

for (const [name, size, scheme] of [
  ['wide', { width: 1280, height: 900 }, 'light'],
  ['phone', { width: 360, height: 740 }, 'dark'],
]) {
  test(`axe_finds_nothing_and_nothing_overflows_on_a_${name}_page`, async () => {
    const page = await openPage();
    await page.setViewportSize(size);
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' });
    await fillForm(page, SMALL);
    assert.equal((await generate(page, TIMEOUT_MILLIS)).fault, undefined);
    await openSettings(page);
    for (const panel of ['settings', 'models', 'gallery', undefined]) {
      for (const other of ['settings', 'models', 'gallery'].filter((other) => other !== panel))
        await page.evaluate((other) => document.getElementById(other).close(), other);
      if (panel !== undefined) await page.evaluate((panel) => document.getElementById(panel).show(), panel);
      if (panel === 'gallery') await page.waitForSelector('#gallery-list li');
      await screenshot(page, panel === undefined ? name : `${name}-${panel}`);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(wide <= size.width, `the page is ${wide} wide`);
      await page.evaluate(readFileSync(AXE, 'utf8'));
      const { violations, passes } = await page.evaluate(() => globalThis.axe.run());
      assert.deepEqual(
        violations.map(({ id, nodes }) => `${panel}: ${id}: ${nodes[0].html}`),
        [],
      );
      assert.ok(passes.length > 10, 'axe looked');
    }
    await page.close();
  });
}

/** Returns `png` with `text` in place of its metadata of the keyword `pixart`. */
function withMetadata(png, text) {
  const chunks = [];
  for (let at = 8; at < png.length; at += png.readUInt32BE(at) + 12) chunks.push(png.subarray(at, at + png.readUInt32BE(at) + 12));
  const isOurs = (chunk) => chunk.toString('latin1', 4, 15) === 'iTXtpixart\0';
  assert.equal(chunks.filter(isOurs).length, 1);
  return Buffer.concat([png.subarray(0, 8), ...chunks.map((chunk) => (isOurs(chunk) ? metadataChunk(text) : chunk))]);
}

/** Returns an uncompressed iTXt chunk of the keyword `pixart`. */
function metadataChunk(text) {
  const body = Buffer.from(`iTXtpixart\0\0\0\0\0${text}`);
  const chunk = Buffer.alloc(body.length + 8);
  chunk.writeUInt32BE(body.length - 4);
  body.copy(chunk, 4);
  chunk.writeUInt32BE(crc32(body), body.length + 4);
  return chunk;
}

/** Presses Tab until the element with this id has the focus. */
async function tabTo(page, id) {
  for (let presses = 0; presses < 160; presses += 1) {
    if ((await page.evaluate(() => document.activeElement?.id)) === id) return;
    await page.keyboard.press('Tab');
  }
  assert.fail(`Tab does not reach #${id}`);
}
