//! The list of published models: one click, one consent, and a model composed of its repositories; the second visit requests nothing.
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { screenshot } from './browser.mjs';
import { SCENES, untilLoaded, useModelServer } from './fixture.mjs';
import { writeGguf } from './gguf.mjs';

const CATALOGUE = JSON.parse(readFileSync(new URL('../../crates/weights/catalogue.json', import.meta.url), 'utf8'));
const MODEL = CATALOGUE.models.find(({ name }) => name === 'pixart-sigma-512');
const ENCODER = CATALOGUE.text_encoders.find(({ name }) => name === 't5-xxl-q4_k_m').component;
const scratch = mkdtempSync(join(tmpdir(), 'pixart-catalogue-'));

before(() => {
  // Small weights in the published layout.
  for (const component of ['transformer', 'vae', 'tokenizer', 'scheduler']) {
    const { repository, revision } = MODEL.components[component];
    cpSync(join(SCENES, component), join(scratch, repository, 'resolve', revision, component), { recursive: true });
  }
  const [base, revision] = MODEL.base.split('@');
  cpSync(join(SCENES, 'model_index.json'), join(scratch, base, 'resolve', revision, 'model_index.json'));
  const encoder = join(scratch, ENCODER.repository, 'resolve', ENCODER.revision, ENCODER.files[0].path);
  mkdirSync(dirname(encoder), { recursive: true });
  writeGguf(join(SCENES, 'text_encoder', 'model.safetensors'), encoder);
});
after(() => rmSync(scratch, { recursive: true }));

describe('the catalogue', () => {
  const fixture = useModelServer(() => scratch);
  test('opens_a_model_of_several_repositories_after_one_consent', async (context) => {
    const page = await context.browser.context.newPage();
    const url = `${fixture.pageUrl}?device=wasm&checkpoint=&ask=0&hub=${encodeURIComponent(fixture.server.url)}`;
    await page.goto(url);
    await page.locator('#models').evaluate((fold) => (fold.open = true));
    const entry = page.locator('#model-list > li', { has: page.getByRole('heading', { name: /^PixArt-Σ 512 px/ }) });
    await entry.waitFor();
    const facts = () =>
      entry
        .locator('dl > div')
        .evaluateAll((rows) => Object.fromEntries(rows.map(({ children }) => [...children].map((at) => at.textContent))));
    assert.deepEqual(await facts(), { Size: '5.7 GB', Licence: 'openrail++', Memory: '1.6 GB', 'Time per image here': '–' });
    assert.equal(await page.locator('#model-list > li', { hasText: 'DMD' }).count(), 0, 'no tab reads its .bin');
    await screenshot(page, 'catalogue');
    await page.selectOption('#catalogue-encoder', '');
    await page.waitForFunction(() => /21\.8 GB/.test(document.getElementById('model-list').textContent));
    assert.equal((await facts()).Size, '21.8 GB');
    await page.selectOption('#catalogue-encoder', 't5-xxl-q4_k_m');
    await entry.getByRole('button', { name: 'Open' }).click();
    await page.waitForSelector('#estimate:not([hidden])', { timeout: 30_000 });
    assert.match(await page.innerText('#estimate-lines'), /Download: \d+\.\d MB/);
    await page.click('#accept-download');
    const { model } = await untilLoaded(page);
    assert.equal(model, MODEL.base.split('@')[0].split('/')[1]);
    assert.equal(await page.inputValue('#preset'), 'sigma');

    // One card is the published and the stored model; its time comes from the measurement before the download.
    await page.locator('#models').evaluate((panel) => (panel.open = true));
    await entry.getByRole('button', { name: 'Verify' }).waitFor();
    assert.equal(await entry.count(), 1);
    assert.match((await facts())['Time per image here'], /^\d+(\.\d)? (sec|min|hr)$/);
    await screenshot(page, 'catalogue-stored');

    fixture.server.log = [];
    await entry.getByRole('button', { name: 'Open' }).click();
    await page.waitForFunction(() => globalThis.pixart.state().phase === 'opening');
    await untilLoaded(page);
    const expected = ENCODER.revision === 'main' ? [ENCODER.repository] : [];
    const requested = new Set(fixture.server.log.map(({ path }) => path.split('/').slice(0, 2).join('/')));
    assert.deepEqual(
      [...requested].filter((repository) => !expected.includes(repository)),
      [],
    );
  });
});
