//! The languages of the page: complete tables of texts, the language that a visitor gets, numbers by Intl, and pages that neither shift nor
//! overflow in any of them.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { test } from 'node:test';
import { echoConsole, fillForm, generate, openSettings, screenshot, untilEngine, untilStep } from './browser.mjs';
import { assertNoShifts, observeShifts, useBrowser } from './fixture.mjs';

const TIMEOUT_MILLIS = 300_000;
const APP = new URL('../../web/src/app/', import.meta.url);
const TEXTS = new URL('texts/', APP);
const AXE = createRequire(new URL('../../web/package.json', import.meta.url)).resolve('axe-core/axe.min.js');
const SMALL = { prompt: 'a red circle on a blue background', seed: 7, num_inference_steps: 2, width: 64, height: 64 };
/** The longest English text in letters that may be the same in another language: names, as of units and APIs. */
const NAME_MAX = 18;

/** The texts of each language, by its name. */
const TABLES = new Map(
  readdirSync(TEXTS, { recursive: true })
    .filter((name) => name.endsWith('.json'))
    .map((name) => [name.replace(/\.json$/, ''), JSON.parse(readFileSync(new URL(name, TEXTS), 'utf8'))]),
);
/** Where tables are: `texts/` and the folders in it, each with one of every language. */
const FOLDERS = [...new Set([...TABLES.keys()].map((name) => name.replace(/[^/]*$/, '')))];
const LANGUAGES = ['en', 'de', 'zh-Hans', 'ja', 'es'];

const placeholders = (text) => (text.match(/\{\w+\}/g) ?? []).sort();

const fixture = useBrowser();

async function openPage(address, languages) {
  const page = await fixture.browser.context.newPage();
  echoConsole(page);
  await page.addInitScript((languages) => {
    if (languages !== undefined) Object.defineProperty(navigator, 'languages', { get: () => languages });
  }, languages);
  await observeShifts(page);
  await page.goto(`${fixture.server.url}${address}`);
  await untilShown(page);
  return page;
}

/** Waits until the page has a model, or shows that it has none. */
async function untilShown(page) {
  await page.waitForFunction(() => document.getElementById('status').textContent !== '');
  if (!page.url().includes('checkpoint=')) await untilEngine(page, TIMEOUT_MILLIS);
}

const languageOf = (page) => page.getAttribute('html', 'lang');

test('every_language_has_every_text_with_the_same_placeholders', () => {
  for (const folder of FOLDERS) {
    const tables = [...TABLES].filter(([name]) => name.replace(/[^/]*$/, '') === folder);
    assert.deepEqual(tables.map(([name]) => name.slice(folder.length)).sort(), [...LANGUAGES].sort(), folder);
    const english = TABLES.get(`${folder}en`);
    for (const [name, texts] of tables) {
      assert.deepEqual(Object.keys(texts), Object.keys(english), `the keys of ${name}, in the order of English`);
      for (const [key, text] of Object.entries(texts)) {
        assert.equal(typeof text, 'string', `${name} ${key}`);
        assert.notEqual(text.trim(), '', `${name} ${key} is empty`);
        assert.deepEqual(placeholders(text), placeholders(english[key]), `${name} ${key}`);
        if (name !== `${folder}en` && english[key].length > NAME_MAX)
          assert.notEqual(text, english[key], `${name} ${key} is not translated`);
      }
    }
  }
});

test('chinese_and_japanese_texts_are_written_in_their_scripts', () => {
  for (const [language, script] of [
    ['zh-Hans', /\p{Script=Han}/u],
    ['ja', /[\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Han}]/u],
  ])
    for (const folder of FOLDERS) {
      const texts = Object.entries(TABLES.get(folder + language));
      // Names, formats of values and numbers have none.
      const foreign = texts.filter(([, text]) => /[A-Za-z]{3}/.test(text.replace(/\{\w+\}/g, '')) && !script.test(text));
      const names = ['component_transformer', 'component_vae', 'loras', 'stored_lora', 'deviceGpu', 'deviceCpu'];
      assert.deepEqual(
        foreign.map(([key]) => key).filter((key) => !names.includes(key)),
        [],
        language,
      );
    }
});

test('every_text_is_used', () => {
  const files = readdirSync(APP, { recursive: true }).filter((name) => /\.tsx?$/.test(name));
  const sources = [new URL('../../index.html', import.meta.url), ...files.map((name) => new URL(name, APP))]
    .map((url) => readFileSync(url, 'utf8'))
    .join('\n');
  const prefixes = [...sources.matchAll(/`(\w+_)\$\{/g)].map(([, prefix]) => prefix);
  const isUsed = (key) => sources.includes(`'${key}'`) || sources.includes(`"${key}"`) || prefixes.some((prefix) => key.startsWith(prefix));
  const unused = FOLDERS.flatMap((folder) => Object.keys(TABLES.get(`${folder}en`)).filter((key) => !isUsed(key)));
  assert.deepEqual(unused, []);
});

test('a_visitor_gets_the_first_of_the_browser_s_languages_that_has_texts', async () => {
  for (const [languages, expected] of [
    [['fr-FR', 'es-MX', 'en-US'], 'es'],
    [['zh-CN'], 'zh-Hans'],
    [['pt', 'fr'], 'en'],
    [['en-GB', 'de'], 'en'],
  ]) {
    const page = await openPage('?device=wasm&checkpoint=', languages);
    assert.equal(await languageOf(page), expected, `${languages}`);
    assert.equal(await page.innerText('#generate span'), TABLES.get(expected).generate);
    await page.close();
  }
});

test('the_selected_language_is_remembered_and_comes_before_the_browser_s', async () => {
  const page = await openPage('?device=wasm&checkpoint=', ['de-AT']);
  await openSettings(page);
  assert.deepEqual(await page.locator('#language option').allInnerTexts(), ['English', 'Deutsch', 'Español', '日本語', '简体中文']);
  // By keyboard: the next option.
  await page.focus('#language');
  await page.keyboard.press('ArrowDown');
  await page.waitForFunction(() => document.documentElement.lang === 'es');
  assert.equal(await page.innerText('#status'), TABLES.get('es').noModel);
  await page.reload();
  await untilShown(page);
  assert.equal(await languageOf(page), 'es');
  assert.equal(await page.inputValue('#language'), 'es');
  await page.evaluate(() => localStorage.removeItem('language'));
  await page.close();
});

test('a_language_that_cannot_be_loaded_leaves_the_one_before_and_says_so', async () => {
  const page = await openPage('?device=wasm&checkpoint=&lang=en');
  await openSettings(page);
  await page.route('**/assets/ja-*.js', (route) => route.abort());
  await page.selectOption('#language', 'ja');
  await page.waitForSelector('#notice:not([hidden])');
  assert.match(await page.innerText('#notice-text'), /^The texts in 日本語 could not be downloaded\. Check the network/);
  assert.deepEqual([await languageOf(page), await page.inputValue('#language')], ['en', 'en']);
  await page.close();
});

test('a_first_visit_loads_the_texts_of_its_language_only', async () => {
  for (const language of ['en', 'ja']) {
    const page = await openPage(`?device=wasm&checkpoint=&lang=${language}`);
    const loaded = await page.evaluate(() => performance.getEntriesByType('resource').map(({ name }) => name.split('/').at(-1)));
    const texts = LANGUAGES.filter((other) => loaded.some((file) => file.startsWith(`${other}-`)));
    assert.deepEqual(texts, language === 'en' ? [] : [language]);
    await page.close();
  }
});

for (const [language, { left, took, size }] of Object.entries({
  en: { left: /, \d+\.\d sec left$/, took: /took \d+\.\d sec$/, size: /^\d+(\.\d)? [kMGT]B stored/ },
  de: { left: /, noch \d+,\d Sek\.$/, took: /dauerte \d+,\d Sek\.$/, size: /^\d+(,\d)? [kMGT]B gespeichert/ },
  'zh-Hans': { left: /，剩余 \d+\.\d秒$/, took: /用时 \d+\.\d秒$/, size: /^已用 \d+(\.\d)? [kMGT]B/ },
  ja: { left: /、残り \d+\.\d 秒$/, took: /\d+\.\d 秒 でした$/, size: /^使用中 \d+(\.\d)? [kMGT]B/i },
  es: { left: /, quedan \d+,\d s$/, took: /tardó \d+,\d s$/, size: /^\d+(,\d)? [kMGT]B guardados/ },
}))
  test(`the_page_in_${language}_neither_shifts_nor_overflows_and_formats_by_intl`, async () => {
    const page = await openPage(`?device=wasm&lang=${language}`);
    assert.equal(await languageOf(page), language);
    await assertNoShifts(page);
    const texts = TABLES.get(language);
    const wrong = await page.evaluate(
      (texts) =>
        [...document.querySelectorAll('[data-i18n], [data-i18n-label], [data-i18n-placeholder]')]
          .flatMap((at) => [
            [at.dataset.i18n, at.textContent],
            [at.dataset.i18nLabel, at.ariaLabel],
            [at.dataset.i18nPlaceholder, at.placeholder],
          ])
          .filter(([key, shown]) => key !== undefined && texts[key] !== shown),
      texts,
    );
    assert.deepEqual(wrong, []);
    await fillForm(page, { ...SMALL, num_inference_steps: 200 });
    await page.click('#generate');
    await untilStep(page, 3);
    assert.match(await page.innerText('#status'), left);
    await page.click('#cancel');
    await fillForm(page, SMALL);
    assert.equal((await generate(page, TIMEOUT_MILLIS)).fault, undefined);
    assert.match(await page.innerText('#status'), took);

    await page.setViewportSize({ width: 390, height: 844 });
    await page.emulateMedia({ reducedMotion: 'reduce' });
    await page.evaluate(() => {
      for (const fold of document.querySelectorAll('#settings details')) fold.open = true;
    });
    for (const panel of [undefined, 'models', 'gallery', 'settings']) {
      if (panel !== undefined) await page.click(`#open-${panel}`);
      if (panel === 'gallery') await page.waitForSelector('#gallery-list li');
      if (panel === 'models') {
        await page.waitForFunction(() => document.getElementById('storage-usage').textContent !== '');
        assert.match(await page.innerText('#storage-usage'), size);
      }
      const beyond = await page.evaluate(() => {
        const clips = (at) => at !== null && (getComputedStyle(at).overflowX !== 'visible' || clips(at.parentElement));
        return [...document.querySelectorAll('body *')]
          .filter((at) => at.checkVisibility({ visibilityProperty: true }) && at.getBoundingClientRect().width > 1)
          .filter((at) => at.getBoundingClientRect().right > innerWidth + 0.5 && !clips(at.parentElement))
          .map((at) => `${at.id || at.nodeName} ${at.textContent.slice(0, 40)}`);
      });
      assert.deepEqual(beyond, [], `beyond the window beside ${panel}`);
      const scrolls = await page.evaluate(() =>
        [...document.querySelectorAll('.panel[open], #prompt-bar, header, html')]
          .filter((at) => at.scrollWidth > at.clientWidth)
          .map((at) => `${at.id || at.nodeName} ${at.scrollWidth} ${at.clientWidth}`),
      );
      assert.deepEqual(scrolls, [], `wider than its frame beside ${panel}`);
      await screenshot(page, `${language}-${panel ?? 'image'}`);
      await page.evaluate(readFileSync(AXE, 'utf8'));
      const { violations } = await page.evaluate(() => globalThis.axe.run());
      assert.deepEqual(
        violations.map(({ id, nodes }) => `${panel}: ${id}: ${nodes[0].html}`),
        [],
      );
      if (panel !== undefined) await page.locator(`#${panel} [data-close]`).first().click();
    }
    await page.close();
  });
