//! The gallery's grid and lightbox, by mouse, keyboard and touch; galleries of earlier versions.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { screenshot } from './browser.mjs';
import { useBrowser } from './fixture.mjs';
import { fillGallery, generatedPng, openGallery, pngFile } from './gallery-images.mjs';

const AXE = new URL('../../web/node_modules/axe-core/axe.min.js', import.meta.url);
const COLOURS = [
  [200, 30, 30],
  [30, 160, 60],
  [40, 80, 210],
];
/** Three images; the gallery lists the last one first. */
const FILES = ['a red star', 'a green fish', 'a blue house'].map((prompt, at) =>
  pngFile({ prompt, seed: at + 1 }, { colour: COLOURS[at] }),
);

const fixture = useBrowser({ browserPerTest: true, flags: [] });
const { withPage } = fixture;

const captions = (page) => page.locator('#gallery-list li p').allInnerTexts();
const focusedTile = (page) => page.evaluate(() => document.activeElement?.getAttribute('aria-label'));
const untilShown = (page, count) => page.waitForFunction((count) => document.querySelectorAll('#gallery-list li').length === count, count);
const lit = (page) => page.locator('#lightbox .prompt').innerText();
const untilLit = (page, prompt) =>
  page.waitForFunction((text) => document.querySelector('#lightbox .prompt')?.textContent === text, prompt);

test('a_gallery_of_2000_images_renders_the_rows_on_the_screen_and_revokes_the_rest', () =>
  withPage(
    async (page) => {
      await openGallery(page, fixture.server.url);
      await fillGallery(page, 2000);
      await openGallery(page, fixture.server.url);
      await page.waitForFunction(() => document.getElementById('gallery-count')?.textContent === '2000 of 2000');
      await page.hover('#gallery-list li:first-child');
      for (let screen = 0; screen < 60; screen += 1) {
        await page.mouse.wheel(0, 1500);
        await page.waitForFunction(() => [...document.querySelectorAll('#gallery-list li')].every((tile) => tile.querySelector('img')));
      }
      const { tiles, live, created } = await page.evaluate(() => ({
        tiles: document.querySelectorAll('#gallery-list li').length,
        live: globalThis.liveUrls.size,
        created: globalThis.createdUrls,
      }));
      assert.ok(tiles < 120, `${tiles} tiles are rendered`);
      assert.ok(created > 900, `${created} URLs were created`);
      assert.ok(live < 450, `${live} URLs are live`);
      await page.locator('#gallery-list .tile').first().focus();
      await page.keyboard.press('End');
      assert.equal(await focusedTile(page), 'a star of many in a field at night, number 1 · 1');
      await page.keyboard.press('Home');
      assert.equal(await focusedTile(page), 'a fish of many in a field at night, number 2000 · 2000');
    },
    (page) =>
      page.addInitScript(() => {
        globalThis.liveUrls = new Set();
        globalThis.createdUrls = 0;
        const { createObjectURL, revokeObjectURL } = URL;
        URL.createObjectURL = (blob) => {
          const url = createObjectURL.call(URL, blob);
          globalThis.liveUrls.add(url);
          globalThis.createdUrls += 1;
          return url;
        };
        URL.revokeObjectURL = (url) => {
          globalThis.liveUrls.delete(url);
          revokeObjectURL.call(URL, url);
        };
      }),
  ));

test('a_gallery_of_version_3_opens_and_gets_thumbnails_sizes_and_models', () =>
  withPage(async (page) => {
    await page.goto(`${fixture.server.url}models/scenes/README.md`);
    await page.evaluate(
      async (files) => {
        const opening = indexedDB.open('pixart-web gallery', 3);
        opening.onupgradeneeded = () => {
          opening.result.createObjectStore('images', { keyPath: 'id', autoIncrement: true });
          opening.result.createObjectStore('unfinished', { keyPath: 'tab' });
          opening.result.createObjectStore('model_outputs');
        };
        const database = await new Promise((resolve) => (opening.onsuccess = () => resolve(opening.result)));
        const transaction = database.transaction('images', 'readwrite');
        for (const [at, bytes] of files.entries()) {
          const png = at === 1 ? new Uint8Array(bytes) : new Blob([new Uint8Array(bytes)]);
          const row = { prompt: `an old star ${at}`, seed: at, favourite: at === 0, created_at_millis: Date.UTC(2026, 0, 2 + at), png };
          transaction.objectStore('images').add(row);
        }
        await new Promise((resolve) => (transaction.oncomplete = resolve));
        database.close();
      },
      [...COLOURS.map((colour) => [...generatedPng({}, { colour })]), [137, 80, 78, 71]],
    );
    await openGallery(page, fixture.server.url);
    await untilShown(page, 4);
    assert.deepEqual(await captions(page), ['an old star 3 · 3', 'an old star 2 · 2', 'an old star 1 · 1', 'an old star 0 · 0']);
    assert.deepEqual(await page.locator('#gallery-list li.is-favourite p').allInnerTexts(), ['an old star 0 · 0']);
    await page.waitForFunction(() => document.getElementById('gallery-model').options.length === 2);
    assert.equal(await page.locator('#gallery-model option').last().innerText(), 'scenes');
    await page.selectOption('#gallery-model', 'scenes');
    await untilShown(page, 3);
    const { rows, thumbnails } = await page.evaluate(async () => {
      const opening = indexedDB.open('pixart-web gallery');
      const database = await new Promise((resolve) => (opening.onsuccess = () => resolve(opening.result)));
      const read = (store, method) =>
        new Promise(
          (resolve) => (database.transaction(store).objectStore(store)[method]().onsuccess = ({ target }) => resolve(target.result)),
        );
      const all = { rows: await read('entries', 'getAll'), thumbnails: await read('thumbnails', 'getAllKeys') };
      database.close();
      return all;
    });
    assert.deepEqual(
      rows.map(({ id, width, height, model }) => [id, width, height, model]),
      [
        [1, 64, 64, 'scenes'],
        [2, 64, 64, 'scenes'],
        [3, 64, 64, 'scenes'],
        [4, 0, 0, ''],
      ],
    );
    assert.deepEqual(thumbnails, [1, 2, 3]);
  }));

test('the_keyboard_alone_opens_moves_favours_deletes_and_restores', () =>
  withPage(async (page) => {
    await openGallery(page, fixture.server.url, FILES);
    await page.locator('#gallery-files').evaluate(() => document.getElementById('gallery-import').focus());
    await page.keyboard.press('Tab');
    assert.equal(await focusedTile(page), 'a blue house · 3');
    await page.keyboard.press('ArrowRight');
    assert.equal(await focusedTile(page), 'a green fish · 2');
    await page.keyboard.press('Enter');
    await untilLit(page, 'a green fish');
    await page.keyboard.press('ArrowRight');
    await untilLit(page, 'a red star');
    await page.keyboard.press('ArrowRight');
    assert.equal(await lit(page), 'a red star', 'the last image stays');
    await page.keyboard.press('Home');
    await untilLit(page, 'a blue house');
    await page.keyboard.press('f');
    await page.waitForSelector('#lightbox [aria-label="Favourite"][aria-pressed="true"]');
    await page.keyboard.press('Delete');
    await untilLit(page, 'a green fish');
    assert.equal(await page.locator('#lightbox .gallery-toast [role="status"]').innerText(), '1 deleted.');
    await page.keyboard.press('Control+z');
    await page.waitForFunction(() => document.querySelector('#lightbox .head p').textContent === '1 of 3');
    await page.keyboard.press('Escape');
    await page.waitForSelector('#lightbox', { state: 'detached' });
    assert.deepEqual(await captions(page), ['a blue house · 3', 'a green fish · 2', 'a red star · 1']);
    await page.waitForFunction(() => document.activeElement?.getAttribute('aria-label') === 'a blue house · 3');
    assert.equal(await page.locator('#gallery-list li.is-favourite').count(), 1, 'the restored image is still a favourite');
  }));

test('the_menu_of_an_image_is_reached_and_left_by_keyboard', () =>
  withPage(async (page) => {
    await openGallery(page, fixture.server.url, FILES);
    await page.locator('#gallery-list .tile').first().focus();
    await page.keyboard.press('Tab');
    await page.keyboard.press('Tab');
    await page.keyboard.press('Enter');
    await page.waitForSelector('[role="menu"]');
    assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Open');
    await page.keyboard.press('ArrowUp');
    assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Delete');
    await page.keyboard.press('Escape');
    await page.waitForSelector('[role="menu"]', { state: 'detached' });
    assert.equal(await focusedTile(page), 'Actions: a blue house');
  }));

test('the_mouse_opens_a_menu_on_hover_and_by_its_right_button', () =>
  withPage(async (page) => {
    await openGallery(page, fixture.server.url, FILES);
    const tile = page.locator('#gallery-list li').nth(1);
    await tile.hover();
    await tile.locator('.favourite').click();
    await page.waitForSelector('#gallery-list li.is-favourite');
    await tile.locator('.menu').click();
    await page.getByRole('menuitem', { name: 'Favourite ✓' }).click();
    await page.waitForSelector('#gallery-list li.is-favourite', { state: 'detached' });
    await tile.click({ button: 'right' });
    await page.getByRole('menuitem', { name: 'Open' }).click();
    await untilLit(page, 'a green fish');
    await page.click('#lightbox [aria-label="Next image"]');
    await untilLit(page, 'a red star');
    await page.click('#lightbox [aria-label="Close"]');
    await page.waitForSelector('#lightbox', { state: 'detached' });
  }));

test('a_finger_opens_swipes_closes_and_selects_by_a_long_press', () =>
  withPage(
    async (page) => {
      const touch = await page.context().newCDPSession(page);
      const swipe = async (from, to) => {
        await touch.send('Input.dispatchTouchEvent', { type: 'touchStart', touchPoints: [from] });
        for (const part of [0.3, 0.6, 1]) {
          const point = { x: from.x + (to.x - from.x) * part, y: from.y + (to.y - from.y) * part };
          await touch.send('Input.dispatchTouchEvent', { type: 'touchMove', touchPoints: [point] });
        }
        // A finger that leaves the screen while it moves would throw the page, and the next tap would stop it.
        await page.waitForTimeout(200);
        await touch.send('Input.dispatchTouchEvent', { type: 'touchEnd', touchPoints: [] });
      };
      await touch.send('Emulation.setTouchEmulationEnabled', { enabled: true });
      await openGallery(page, fixture.server.url, FILES);
      const tap = async (selector) => {
        await page.locator(selector).scrollIntoViewIfNeeded();
        const { x, y, width, height } = await page.locator(selector).boundingBox();
        const point = { x: x + width / 2, y: y + height / 2 };
        await touch.send('Input.dispatchTouchEvent', { type: 'touchStart', touchPoints: [point] });
        await touch.send('Input.dispatchTouchEvent', { type: 'touchEnd', touchPoints: [] });
        return point;
      };
      await tap('#gallery-list li:first-child .tile');
      await untilLit(page, 'a blue house');
      await swipe({ x: 320, y: 400 }, { x: 60, y: 410 });
      await untilLit(page, 'a green fish');
      await swipe({ x: 60, y: 400 }, { x: 320, y: 410 });
      await untilLit(page, 'a blue house');
      await screenshot(page, 'lightbox-phone');
      await swipe({ x: 200, y: 300 }, { x: 210, y: 600 });
      await page.waitForSelector('#lightbox', { state: 'detached' });
      const tile = page.locator('#gallery-list li:first-child .tile');
      await tile.evaluate((tile) => {
        tile.dispatchEvent(new PointerEvent('contextmenu', { pointerType: 'touch', bubbles: true, cancelable: true }));
      });
      await page.waitForFunction(() => document.getElementById('gallery-selected')?.textContent === '1 selected');
      await tap('#gallery-list li:nth-child(2) .tile');
      await page.waitForFunction(() => document.getElementById('gallery-selected')?.textContent === '2 selected');
    },
    (page) => page.setViewportSize({ width: 390, height: 844 }),
  ));

for (const [name, size, scheme] of [
  ['wide', { width: 1280, height: 800 }, 'light'],
  ['phone', { width: 390, height: 844 }, 'dark'],
]) {
  test(`axe_finds_nothing_in_the_gallery_on_a_${name}_page`, () =>
    withPage(async (page) => {
      await page.setViewportSize(size);
      await page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' });
      await openGallery(page, fixture.server.url, FILES);
      await page.evaluate(readFileSync(AXE, 'utf8'));
      const look = async (state, within) => {
        await screenshot(page, `gallery-${state}-${name}`);
        const { violations, passes } = await page.evaluate((within) => globalThis.axe.run(within), within);
        assert.deepEqual(
          violations.map(({ id, nodes }) => `${state}: ${id}: ${nodes[0].html}`),
          [],
        );
        assert.ok(passes.length > 5, `axe looked at ${state}`);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(wide <= size.width, `${state} is ${wide} wide`);
      };
      await page.locator('#gallery-list .tile').first().focus();
      await look('grid', '#gallery');
      await page.click('#gallery-list li:first-child .menu');
      await page.waitForSelector('[role="menu"]');
      await look('menu', '#gallery');
      await page.getByRole('menuitem', { name: 'Open' }).click();
      await untilLit(page, 'a blue house');
      await look('lightbox', '#lightbox');
      await page.keyboard.press('Escape');
      for (const tile of [1, 2]) await page.click(`#gallery-list li:nth-child(${tile}) .tile`, { modifiers: ['Control'] });
      await look('selection', '#gallery');
      await page.getByRole('toolbar').getByText('Compare').click();
      await page.waitForSelector('#comparison table');
      await look('comparison', '#comparison');
    }));
}
