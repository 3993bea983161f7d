//! The page's flows from start to end, three times: by mouse and by keyboard alone on a notebook, by touch on a phone. Nearly every
//! element is found by the role and the name that a screen reader announces.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { untilEngine, untilStep } from './browser.mjs';
import { useBrowser } from './fixture.mjs';
import { openGallery, pngFile } from './gallery-images.mjs';

const TIMEOUT_MILLIS = 300_000;
const NOTEBOOK = { width: 1280, height: 800 };
const PHONE = { width: 390, height: 844 };
/** More than the elements of the page that take the focus. */
const TABS_MAX = 250;

const fixture = useBrowser({ browserPerTest: true, hasTouch: true });

/** Presses Tab until the element has the focus. */
async function reach(page, locator) {
  await locator.waitFor();
  const isReached = () => locator.evaluate((element) => element === document.activeElement);
  for (let tabs = 0; tabs < TABS_MAX; tabs += 1) {
    if (await isReached()) return;
    await page.keyboard.press('Tab');
  }
  assert.fail(`Tab does not reach ${locator}`);
}

/** Ways to press an element, to write into a field and to choose from a list. */
const HANDS = {
  mouse: {
    size: NOTEBOOK,
    press: (_page, locator) => locator.click(),
    async write(page, locator, text) {
      await locator.click();
      await page.keyboard.press('Control+a');
      await page.keyboard.type(text);
    },
    choose: (_page, locator, label) => locator.selectOption({ label }),
  },
  keyboard: {
    size: NOTEBOOK,
    async press(page, locator) {
      await reach(page, locator);
      await page.keyboard.press('Enter');
    },
    async write(page, locator, text) {
      await reach(page, locator);
      await page.keyboard.press('Control+a');
      await page.keyboard.type(text);
    },
    async choose(page, locator, label) {
      await reach(page, locator);
      await page.keyboard.type(label);
    },
  },
  touch: {
    size: PHONE,
    press: (_page, locator) => locator.tap(),
    async write(page, locator, text) {
      await locator.tap();
      await locator.selectText();
      await page.keyboard.insertText(text);
    },
    choose: (_page, locator, label) => locator.selectOption({ label }),
  },
};

const named = (page, role, name) => page.getByRole(role, { name, exact: true });
const until = (page, condition, value) => page.waitForFunction(condition, value, { timeout: TIMEOUT_MILLIS });
const untilIdle = (page) =>
  until(page, () => {
    const { phase, jobs } = globalThis.pixart.state();
    return phase === 'ready' && jobs.length === 0;
  });

async function start(page) {
  await page.goto(`${fixture.server.url}?device=wasm&lang=en`);
  await untilEngine(page, TIMEOUT_MILLIS);
}

/** Opens the settings, which are a column of a notebook's page and a sheet on a phone. */
async function openSettings(page, hand) {
  const button = named(page, 'button', 'Settings');
  if ((await button.getAttribute('aria-expanded')) === 'false') await hand.press(page, button);
}

async function writeSettings(page, hand, fields) {
  await openSettings(page, hand);
  for (const [name, value] of Object.entries(fields)) await hand.write(page, named(page, 'spinbutton', name), String(value));
}

const generate = (page, hand) => hand.press(page, named(page, 'button', 'Generate'));

const FLOWS = {
  async generates_varies_and_downloads_an_image(page, hand) {
    await start(page);
    await hand.write(page, named(page, 'textbox', 'Prompt'), 'a blue fish');
    await writeSettings(page, hand, { Width: 64, Height: 64, Steps: 2 });
    await generate(page, hand);
    await untilIdle(page);
    await hand.press(page, named(page, 'button', 'Vary a little'));
    await untilIdle(page);
    const images = named(page, 'list', 'History').getByRole('button', { name: 'a blue fish', exact: true });
    assert.equal(await images.count(), 2);
    await hand.press(page, images.nth(1));
    assert.deepEqual(await images.evaluateAll((all) => all.map((image) => image.ariaPressed)), ['false', 'true']);
    const favourite = named(page, 'button', 'Favourite');
    await hand.press(page, favourite);
    await until(page, () => document.getElementById('favour').ariaPressed === 'true');
    const [download] = await Promise.all([page.waitForEvent('download'), hand.press(page, named(page, 'link', 'Download PNG'))]);
    assert.match(download.suggestedFilename(), /^a-blue-fish-\d+\.png$/);
    await hand.press(page, named(page, 'button', 'Timeline'));
    const timeline = named(page, 'dialog', 'Timeline of the last image');
    await hand.press(page, timeline.getByRole('button', { name: 'Close' }));
    await timeline.waitFor({ state: 'detached' });
  },

  async adds_to_the_queue_and_cancels(page, hand) {
    await start(page);
    await writeSettings(page, hand, { Width: 64, Height: 64, Steps: 500 });
    await generate(page, hand);
    await untilStep(page, 1);
    await hand.write(page, named(page, 'textbox', 'Prompt'), 'a green star');
    await generate(page, hand);
    await hand.press(page, named(page, 'button', 'Remove from the queue: a green star'));
    await until(page, () => globalThis.pixart.state().jobs.length === 1);
    await hand.press(page, named(page, 'button', 'Cancel'));
    await untilIdle(page);
  },

  async fills_a_grid_and_changes_the_language(page, hand) {
    await start(page);
    await writeSettings(page, hand, { Width: 64, Height: 64, Steps: 2 });
    await hand.press(page, page.getByText('X/Y grid', { exact: true }).locator('xpath=ancestor-or-self::summary'));
    await hand.choose(page, named(page, 'combobox', 'X axis'), 'Seed');
    await hand.write(page, named(page, 'textbox', 'Values').first(), '1, 2');
    await generate(page, hand);
    await until(page, () => document.querySelectorAll('#grid img').length === 2);
    await untilIdle(page);
    await openSettings(page, hand);
    await hand.choose(page, named(page, 'combobox', 'Language'), 'Deutsch');
    await until(page, () => document.documentElement.lang === 'de');
    await named(page, 'button', 'Generieren').waitFor();
  },

  async chooses_a_style_and_an_earlier_prompt(page, hand) {
    await start(page);
    await hand.write(page, named(page, 'textbox', 'Prompt'), 'a blue fish');
    await writeSettings(page, hand, { Width: 64, Height: 64, Steps: 2 });
    await hand.press(page, named(page, 'group', 'Style').getByRole('button', { name: 'ink', exact: true }));
    await generate(page, hand);
    await untilIdle(page);
    assert.equal(await page.locator('#styles [aria-pressed="true"]').innerText(), 'ink');
    await hand.write(page, named(page, 'textbox', 'Prompt'), 'a red star');
    await hand.press(page, named(page, 'button', 'Earlier prompts'));
    await hand.press(page, named(page, 'dialog', 'Earlier prompts').getByRole('button', { name: 'a blue fish' }));
    assert.equal(await page.inputValue('#prompt'), 'a blue fish');
  },

  async keeps_a_list_of_words(page, hand) {
    await start(page);
    await openSettings(page, hand);
    await hand.press(page, page.getByText('Several prompts', { exact: true }).locator('xpath=ancestor-or-self::summary'));
    await hand.write(page, named(page, 'textbox', 'Name of the list'), 'colour');
    await hand.write(page, named(page, 'textbox', 'Entries, one a line'), 'red');
    await hand.press(page, named(page, 'button', 'Save'));
    await until(page, () => document.getElementById('wildcard-status').textContent.includes('__colour__'));
    await hand.write(page, named(page, 'textbox', 'Prompt'), 'a __colour__ car');
    await writeSettings(page, hand, { Width: 64, Height: 64, Steps: 2 });
    await generate(page, hand);
    await untilIdle(page);
    assert.equal(await page.evaluate(() => globalThis.pixart.state().image_prompt), 'a red car');
  },

  async opens_a_model_after_its_consent_and_lists_the_shortcuts(page, hand) {
    await page.goto(`${fixture.server.url}?device=wasm&lang=en&checkpoint=&ask=0`);
    await hand.press(page, named(page, 'button', 'Models'));
    const panel = named(page, 'dialog', 'Models');
    await hand.write(page, named(panel, 'textbox', 'Model URL or hub repository'), `${fixture.server.url}models/scenes/`);
    await hand.press(page, named(panel, 'button', 'Open'));
    const consent = named(page, 'group', 'Download this model?');
    await consent.waitFor({ timeout: TIMEOUT_MILLIS });
    await hand.press(page, named(consent, 'button', 'Download'));
    await untilEngine(page, TIMEOUT_MILLIS);
    assert.equal(await page.evaluate(() => globalThis.pixart.state().checkpoint.model), 'scenes');
    if (await panel.isVisible()) await hand.press(page, named(panel, 'button', 'Close'));
    await panel.waitFor({ state: 'hidden' });
    await hand.press(page, named(page, 'button', 'Keyboard shortcuts'));
    const shortcuts = named(page, 'dialog', 'Keyboard shortcuts');
    await hand.press(page, shortcuts.getByRole('button', { name: 'Close' }));
    await shortcuts.waitFor({ state: 'detached' });
  },

  async takes_the_settings_of_an_image_of_the_gallery(page, hand) {
    await openGallery(page, fixture.server.url, [pngFile({ prompt: 'a red star', seed: 41, num_inference_steps: 3 })]);
    await start(page);
    // The strip has it, too.
    await hand.press(page, named(page, 'list', 'Earlier images').getByRole('button', { name: 'a red star', exact: true }));
    const lightbox = page.locator('#lightbox');
    await hand.press(page, lightbox.getByRole('button', { name: 'Close' }));
    await lightbox.waitFor({ state: 'detached' });
    await hand.press(page, named(page, 'button', 'a red star · 41'));
    await hand.press(page, lightbox.getByRole('button', { name: 'Reuse settings' }));
    await until(page, () => document.getElementById('seed').value === '41');
    assert.equal(await page.inputValue('#prompt'), 'a red star');
    const gallery = named(page, 'dialog', 'Gallery');
    await hand.press(page, named(gallery, 'button', 'Close'));
    await gallery.waitFor({ state: 'hidden' });
  },
};

for (const [by, hand] of Object.entries(HANDS))
  for (const [name, flow] of Object.entries(FLOWS))
    test(`a_user_${name}_by_${by}`, () =>
      fixture.withPage(async (page) => {
        await page.setViewportSize(hand.size);
        await flow(page, hand);
      }));
