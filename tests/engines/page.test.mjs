//! The built page in the engines beside Chromium: it generates, restores, is operated and fits as in Chromium, to the byte where
//! bytes are compared. Needs web/dist.
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { dropPng, fillForm, generate, openBrowser, untilEngine } from '../page/browser.mjs';
import { brief, generateImage, inEachEngine, openPage, SMALL, servePage, TIMEOUT_MILLIS, untilReady } from './fixture.mjs';

const PHONE_WIDTH = 360;

/** The file that Chromium generates on the CPU from `SMALL`. */
let chromium;
before(async () => {
  const [server, browser] = [await servePage(), await openBrowser({ flags: [] })];
  try {
    const page = await browser.context.newPage();
    await page.goto(`${server.url}?device=wasm`);
    await untilEngine(page, TIMEOUT_MILLIS);
    await fillForm(page, SMALL);
    chromium = await generate(page, TIMEOUT_MILLIS);
    assert.equal(chromium.fault, undefined);
  } finally {
    await browser.close();
    await server.close();
  }
});

inEachEngine((context) => {
  test('the_cpu_generates_the_file_that_chromium_generates', async () => {
    const { page } = context;
    await openPage(context);
    const { fault, png } = await generateImage(page);
    assert.equal(fault, undefined);
    assert.deepEqual(png, chromium.png);
    const link = await page.evaluate(async () => {
      const { href, download } = document.getElementById('download');
      return { download, bytes: new Uint8Array(await (await fetch(href)).arrayBuffer()) };
    });
    assert.deepEqual(link, { download: 'a-red-circle-on-a-blue-background-7.png', bytes: png });
    assert.match(await page.innerText('#adapter'), /^CPU \(wasm\)/);
  });

  test('cancel_ends_a_generation_and_does_not_change_the_next_image', async () => {
    const { page } = context;
    await openPage(context);
    for (let time = 0; time < 3; time += 1) {
      await fillForm(page, { ...SMALL, num_inference_steps: 900 });
      await page.click('#generate');
      await page.waitForFunction(() => globalThis.pixart.state().progress?.step > 0, undefined, { timeout: TIMEOUT_MILLIS });
      await page.click('#cancel');
      await page.waitForFunction(() => globalThis.pixart.state().phase === 'ready', undefined, { timeout: TIMEOUT_MILLIS });
      assert.notEqual((await brief(page)).image?.num_inference_steps, 900);
      assert.deepEqual((await generateImage(page)).png, chromium.png);
    }
  });

  test('a_reloaded_page_resumes_its_generation_with_the_same_result', async () => {
    const { page } = context;
    await openPage(context);
    const whole = await generateImage(page, { num_inference_steps: 150 });
    assert.equal(whole.fault, undefined);
    await page.click('#generate');
    await page.waitForFunction(() => globalThis.pixart.state().progress?.step >= 40, undefined, { timeout: TIMEOUT_MILLIS });
    await page.reload();
    await untilReady(page);
    await page.waitForFunction(() => !document.getElementById('unfinished').hidden);
    assert.match(await page.innerText('#unfinished-text'), /after step [1-9]\d*\.$/);
    await page.click('#resume');
    await page.waitForFunction(() => globalThis.pixart.state().image !== undefined, undefined, { timeout: TIMEOUT_MILLIS });
    assert.deepEqual(await page.evaluate(() => globalThis.pixart.state().image.png), whole.png);
  });

  test('a_dropped_png_restores_the_request_that_reproduces_it', async () => {
    const { page } = context;
    await openPage(context);
    const request = { prompt: 'ein grüner Kaktus, 日本', negative_prompt: 'blur', seed: 11, guidance_scale: 3 };
    const first = await generateImage(page, request);
    assert.equal(first.fault, undefined);
    await page.reload();
    await untilReady(page);
    await dropPng(page, first.png);
    await page.waitForFunction(() => document.getElementById('seed').value === '11');
    for (const [field, value] of [
      ['#prompt', request.prompt],
      ['#negative-prompt', request.negative_prompt],
      ['#guidance-scale', '3'],
      ['#width', '64'],
    ]) {
      assert.equal(await page.inputValue(field), value);
    }
    await page.click('#generate');
    await page.waitForFunction(() => globalThis.pixart.state().image !== undefined, undefined, { timeout: TIMEOUT_MILLIS });
    assert.deepEqual(await page.evaluate(() => globalThis.pixart.state().image.png), first.png);
  });

  test('the_gallery_keeps_images_over_a_reload_and_exports_and_deletes_them', async () => {
    const { page } = context;
    await openPage(context);
    for (const seed of [101, 102]) assert.equal((await generateImage(page, { prompt: 'a star for the gallery', seed })).fault, undefined);
    await page.reload();
    await untilReady(page);
    await page.click('#open-gallery');
    // The gallery is downloaded when it is first opened.
    await page.waitForFunction(() => document.getElementById('gallery-search') !== null);
    await page.fill('#gallery-search', 'Star for');
    const listed = () => page.evaluate(() => [...document.querySelectorAll('#gallery-list li p')].map((line) => line.textContent));
    const untilListed = (count) => page.waitForFunction((count) => document.querySelectorAll('#gallery-list li').length === count, count);
    await untilListed(2);
    assert.deepEqual(await listed(), ['a star for the gallery · 102', 'a star for the gallery · 101']);
    await page.waitForFunction(() => [...document.querySelectorAll('#gallery-list img')].every((image) => image.naturalWidth === 64));
    const press = async (card, text) => {
      await page.evaluate((card) => document.querySelectorAll('#gallery-list li')[card].querySelector('.menu').click(), card);
      await page.waitForFunction(() => document.querySelector('[role="menu"]') !== null);
      await page.evaluate(
        (text) => [...document.querySelectorAll('[role="menu"] button')].find((button) => button.textContent.includes(text)).click(),
        text,
      );
    };
    await press(0, 'Favourite');
    await page.click('#favourites-only');
    await untilListed(1);
    await page.click('#favourites-only');
    await untilListed(2);
    // The link of a download is clicked without being in the document.
    await page.evaluate(() => {
      HTMLAnchorElement.prototype.click = function () {
        window.exported = fetch(this.href).then((file) => file.arrayBuffer());
      };
    });
    await page.click('#gallery-export');
    await page.waitForFunction(() => window.exported !== undefined);
    const zip = await page.evaluate(async () => new Uint8Array(await window.exported));
    assert.equal(zip.readUInt32LE(0), 0x04034b50, 'it is a zip file');
    assert.equal(zip.toString('latin1').match(/a-star-for-the-gallery-10\d-\d+\.png/g).length, 4, 'each name twice: file and list');
    await press(1, 'Reuse settings');
    await page.waitForFunction(() => document.getElementById('seed').value === '101');
    await press(1, 'Delete');
    await untilListed(1);
    await page.reload();
    await untilReady(page);
    await page.click('#open-gallery');
    await page.waitForFunction(() => document.getElementById('gallery-search') !== null);
    await page.fill('#gallery-search', 'Star for');
    await untilListed(1);
    assert.deepEqual(await listed(), ['a star for the gallery · 102']);
  });

  test('the_keyboard_alone_generates_cancels_and_downloads', async () => {
    const { page } = context;
    await openPage(context);
    await fillForm(page, { ...SMALL, num_inference_steps: 900 });
    await page.evaluate(() => document.getElementById('prompt').focus());
    await page.press('Control+Enter');
    await page.waitForFunction(() => globalThis.pixart.state().progress?.step > 0, undefined, { timeout: TIMEOUT_MILLIS });
    await tabTo(page, 'cancel');
    await page.press('Enter');
    await page.waitForFunction(() => globalThis.pixart.state().phase === 'ready');
    await fillForm(page, SMALL);
    await page.evaluate(() => document.getElementById('prompt').focus());
    await page.press('Control+Enter');
    await page.waitForFunction(() => globalThis.pixart.state().image !== undefined, undefined, { timeout: TIMEOUT_MILLIS });
    await tabTo(page, 'download', 'Shift+Tab');
    await page.evaluate(() => {
      document.getElementById('download').addEventListener('click', (event) => {
        event.preventDefault();
        window.downloaded = true;
      });
    });
    await page.press('Enter');
    await page.waitForFunction(() => window.downloaded === true);
  });

  test('a_drop_that_cannot_be_used_is_answered_with_a_sentence_and_changes_nothing', async () => {
    const { page } = context;
    await openPage(context);
    for (const [names, sentence] of [
      [['weights.safetensors'], /^weights\.safetensors holds neither a LoRA nor a component that this page knows\./],
      [['notes.txt'], /^notes\.txt is no image\./],
      [['one.png', 'two.png'], /^2 files were dropped\./],
    ]) {
      await page.evaluate((names) => {
        document.getElementById('notice-text').textContent = '';
        const dataTransfer = new DataTransfer();
        for (const name of names) dataTransfer.items.add(new File(['words'], name));
        document.body.dispatchEvent(new DragEvent('drop', { dataTransfer, bubbles: true, cancelable: true }));
      }, names);
      await page.waitForFunction(() => document.getElementById('notice-text').textContent !== '');
      assert.match(await page.innerText('#notice-text'), sentence);
      assert.equal((await brief(page)).phase, 'ready');
    }
    assert.deepEqual((await generateImage(page)).png, chromium.png);
  });

  test('an_image_that_the_gallery_refuses_stays_on_the_page_and_the_next_one_is_generated', async () => {
    const { page } = context;
    // The service worker of the other tests' origin has cached the scripts.
    const server = await servePage();
    server.script = `if (self.IDBObjectStore) IDBObjectStore.prototype.add = () => {
      throw new DOMException('the quota is exceeded', 'QuotaExceededError');
    };`;
    await page.goto(`${server.url}?device=wasm`);
    await untilReady(page);
    for (const seed of [7, 8]) {
      const { fault, png } = await generateImage(page, { seed });
      assert.equal(fault, undefined);
      if (seed === 7) assert.deepEqual(png, chromium.png);
      assert.ok(await page.isVisible('#image'));
      await page.waitForFunction(() => !document.getElementById('notice').hidden);
      assert.match(await page.innerText('#notice-text'), /this browser's storage is full/);
    }
    await page.goto('about:blank');
    await server.close();
  });

  test('an_image_file_is_decoded_as_in_chromium', async () => {
    const { page } = context;
    await openPage(context);
    await page.setInputFiles('#init-image', [fileURLToPath(new URL('../../web/models/scenes/example.png', import.meta.url))]);
    const changed = await generateImage(page, { num_inference_steps: 4 });
    assert.equal(changed.fault, undefined);
    assert.notDeepEqual(changed.png, chromium.png);
    const [server, browser] = [await servePage(), await openBrowser({ flags: [] })];
    try {
      const other = await browser.context.newPage();
      await other.goto(`${server.url}?device=wasm`);
      await untilEngine(other, TIMEOUT_MILLIS);
      await other.setInputFiles('#init-image', fileURLToPath(new URL('../../web/models/scenes/example.png', import.meta.url)));
      await fillForm(other, { ...SMALL, num_inference_steps: 4 });
      assert.deepEqual(changed.png, (await generate(other, TIMEOUT_MILLIS)).png);
    } finally {
      await browser.close();
      await server.close();
    }
  });

  test('without_a_choice_of_device_the_page_generates', async () => {
    const { page } = context;
    await openPage(context, '');
    assert.equal((await generateImage(page)).fault, undefined);
    const { adapter } = await brief(page);
    assert.equal(adapter.backend, 'wasm');
    assert.equal(adapter.reason, 'this browser offers no WebGPU');
  });

  test('nothing_overflows_at_the_width_of_a_phone', async () => {
    const { page, server } = context;
    // The window of a browser has a least width; a frame has none.
    await page.goto(server.url);
    await page.evaluate((width) => {
      const frame = document.createElement('iframe');
      Object.assign(frame, { id: 'phone', src: '?device=wasm', width, height: 740, frameBorder: 0 });
      document.body.replaceChildren(frame);
    }, PHONE_WIDTH);
    await page.enterFrame('#phone');
    await untilReady(page);
    // Firefox's driver clicks beside what lies in a frame.
    const submit = () => page.on('#request', (form) => form.requestSubmit());
    assert.equal((await generateImage(page, {}, submit)).fault, undefined);
    await page.evaluate(() => {
      document.getElementById('gallery').open = true;
    });
    await page.waitForFunction(() => document.querySelectorAll('#gallery-list li').length > 0);
    const [inner, wide] = await page.evaluate(() => [innerWidth, document.documentElement.scrollWidth]);
    assert.equal(inner, PHONE_WIDTH);
    assert.ok(wide <= PHONE_WIDTH, `the page is ${wide} wide`);
  });
});

/** Presses a key, Tab or Shift+Tab to what lies before, until the element with this id has the focus. */
async function tabTo(page, id, key = 'Tab') {
  for (let presses = 0; presses < 80; presses += 1) {
    if ((await page.evaluate(() => document.activeElement?.id)) === id) return;
    await page.press(key);
  }
  assert.fail(`${key} does not reach #${id}`);
}
