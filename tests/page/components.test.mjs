//! A model whose components are in several places: folders of other checkpoints, their own folders, single files on a server, local
//! files. The image is that of the same weights in one folder.
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fillForm, generate, pixels, screenshot } from './browser.mjs';
import { dropFiles } from './drag.mjs';
import { faultOf, SCENES, untilLoaded, useModelServer } from './fixture.mjs';
import { writeGguf } from './gguf.mjs';

const SMALL = { prompt: 'a red circle on a blue background', seed: 7, num_inference_steps: 1, width: 64, height: 64 };
const scratch = mkdtempSync(join(tmpdir(), 'pixart-components-'));
const WEIGHTS = 'diffusion_pytorch_model.safetensors';
const place = (...path) => join(scratch, ...path);
const VAE_FILE = place('files', 'my vae.safetensors');

before(() => {
  cpSync(SCENES, place('whole'), { recursive: true });
  // As the published Σ repositories: a transformer alone.
  mkdirSync(place('transformer-only'));
  cpSync(join(SCENES, 'transformer'), place('transformer-only', 'transformer'), { recursive: true });
  // As their base: everything else.
  cpSync(SCENES, place('base'), { recursive: true });
  rmSync(place('base', 'transformer'), { recursive: true });
  // A model without weights of transformer and VAE.
  cpSync(SCENES, place('configs'), { recursive: true });
  for (const path of [`transformer/${WEIGHTS}`, `vae/${WEIGHTS}`, 'text_encoder']) rmSync(place('configs', path), { recursive: true });
  mkdirSync(place('files'));
  cpSync(join(SCENES, 'transformer', WEIGHTS), place('files', 'scenes.f16.safetensors'));
  cpSync(join(SCENES, 'vae', WEIGHTS), VAE_FILE);
  cpSync(join(SCENES, 'vae'), place('my-vae'), { recursive: true });
  writeGguf(join(SCENES, 'text_encoder', 'model.safetensors'), place('files', 't5.gguf'));
});
after(() => rmSync(scratch, { recursive: true }));

describe('components', () => {
  const fixture = useModelServer(() => scratch);
  let expected;
  const openModel = async (context, places) => {
    const page = await context.browser.context.newPage();
    const query = Object.entries(places).map(([name, path]) => `&${name}=${encodeURIComponent(fixture.server.url + path)}`);
    await page.goto(`${fixture.pageUrl}?device=wasm${query.join('')}`);
    return page;
  };
  const imageOf = async (page) => {
    await untilLoaded(page);
    await fillForm(page, SMALL);
    const { png, fault } = await generate(page, 60_000);
    assert.equal(fault, undefined, fault?.what);
    return { png, pixels: (await pixels(page, png)).join() };
  };
  const stored = (page) => page.evaluate(() => globalThis.pixart.storage({ kind: 'list' }));

  test('of_other_folders_and_files_give_the_image_of_one_folder', async (context) => {
    expected = (await imageOf(await openModel(context, { checkpoint: 'whole/' }))).pixels;
    const page = await openModel(context, { checkpoint: 'base/', transformer: 'transformer-only/' });
    assert.ok((await imageOf(page)).pixels === expected, 'a transformer from its repository');

    await page.goto('about:blank');
    const files = { transformer: 'files/scenes.f16.safetensors', vae: 'my-vae/', text_encoder: 'files/t5.gguf' };
    const composed = await openModel(context, { checkpoint: 'configs/', ...files });
    const { png, pixels } = await imageOf(composed);
    assert.ok(pixels === expected, 'files and an own folder');
    const { generated_by } = JSON.parse(/\{"generated_by".*?\}\}|\{"request".*\}\}/.exec(png.toString('latin1'))[0]);
    assert.deepEqual(
      [generated_by.model, generated_by.transformer, generated_by.vae, generated_by.text_encoder],
      ['configs', 'scenes.f16.safetensors', 'my-vae', 't5.gguf'],
    );

    fixture.server.log = [];
    await composed.reload();
    assert.ok((await imageOf(composed)).pixels === expected, 'stored');
    const weights = fixture.server.log.filter(({ path, sent }) => /safetensors|gguf/.test(path) && sent > 40_000);
    assert.deepEqual(weights, []);

    const url = (path) => fixture.server.url + path;
    const entries = await stored(composed);
    const model = entries.find(({ composition }) => composition?.components.vae !== undefined);
    assert.equal(model.kind, 'model');
    assert.deepEqual(model.composition, {
      checkpoint: url('configs/'),
      components: { transformer: url('files/scenes.f16.safetensors'), vae: url('my-vae/') },
    });
    const encoders = entries.filter(({ kind }) => kind === 'text_encoder').map(({ checkpoint }) => checkpoint);
    assert.deepEqual(encoders.sort(), [url('base/'), url('files/t5.gguf')]);
    // The other models share shards with the one that is deleted.
    await composed.evaluate((checkpoint) => globalThis.pixart.storage({ kind: 'delete', checkpoint }), model.checkpoint);
    const left = await stored(composed);
    assert.deepEqual(
      left.map(({ missing }) => missing),
      left.map(() => 0),
    );
    assert.equal(left.length, entries.length - 1);
  });

  test('that_are_missing_are_named_with_the_ways_to_give_them', async (context) => {
    for (const [places, what, remedy] of [
      [
        { checkpoint: 'transformer-only/' },
        /transformer-only\/ has no vae\/config\.json/,
        /take its vae from another place: .*\?vae=.*--vae/,
      ],
      [{ checkpoint: 'base/' }, /base\/ has no transformer\/config\.json/, /\?transformer=.*--transformer/],
      [{ checkpoint: 'base/', transformer: 'files/none.safetensors' }, /base\/ has no transformer\/config\.json/, /\?transformer=/],
      [{ checkpoint: 'configs/', transformer: 'files/none.safetensors' }, /files\/ has no none\.safetensors/, /check the address/],
      [
        { checkpoint: 'whole/', text_encoder: 'configs/' },
        /configs\/ has no text_encoder\/model\.safetensors/,
        /\?text_encoder=.*--text-encoder/,
      ],
    ]) {
      fixture.server.log = [];
      const page = await openModel(context, places);
      const fault = await faultOf(page);
      assert.match(fault.what, what);
      assert.match(fault.remedy, remedy);
      const sent = fixture.server.log.filter(({ path }) => path.endsWith('.safetensors')).reduce((sum, entry) => sum + entry.sent, 0);
      assert.ok(sent < 300_000, `${sent} bytes of weights`);
      await page.close();
    }
  });

  test('of_local_files_are_recognised_and_can_be_removed', async (context) => {
    const page = await openModel(context, { checkpoint: 'configs/', transformer: 'files/scenes.f16.safetensors' });
    assert.match((await faultOf(page)).what, /configs\/ has no vae/);
    await dropFiles(page, 'h1', [VAE_FILE]);
    await page.waitForFunction(
      () => globalThis.pixart.state().phase === 'opening' || /text_encoder/.test(globalThis.pixart.state().fault?.what),
    );
    assert.match((await faultOf(page)).what, /configs\/ has no text_encoder/);
    await page.locator('#models').evaluate((fold) => (fold.open = true));
    await page.setInputFiles('#component-file', place('files', 't5.gguf'));
    await page.waitForFunction(() => document.querySelectorAll('#component-list li').length === 3);
    assert.ok((await imageOf(page)).pixels === expected);
    assert.deepEqual(await page.locator('#component-list li').allInnerTexts(), [
      'Transformer: scenes.f16.safetensors Remove',
      'VAE: my vae.safetensors Remove',
      'Text encoder: t5.gguf Remove',
    ]);
    await screenshot(page, 'components');
    await page.click('#component-list li:nth-child(2) button');
    assert.match((await faultOf(page)).what, /configs\/ has no vae/);
  });
});
