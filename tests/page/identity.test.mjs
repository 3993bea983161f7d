//! Which stored checkpoint is opened: that of the same contents, however folders and addresses are named.
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fillForm, generate, untilStep } from './browser.mjs';
import { SCENES, untilLoaded, useModelServer } from './fixture.mjs';

const SMALL = { prompt: 'a red circle on a blue background', seed: 7, num_inference_steps: 2, width: 64, height: 64 };
const TRANSFORMER = 'transformer/diffusion_pytorch_model.safetensors';
const scratch = mkdtempSync(join(tmpdir(), 'pixart-identity-'));
const TEXT_ENCODER = 'text_encoder/model.safetensors';
const [ONE, OTHER, OTHER_TEXT] = ['one', 'other', 'text'].map((name) => join(scratch, name, 'model'));

before(() => {
  for (const folder of [ONE, OTHER, OTHER_TEXT]) cpSync(SCENES, folder, { recursive: true, preserveTimestamps: true });
  exchangeNumbers(OTHER);
  exchangeNumbers(OTHER_TEXT, TEXT_ENCODER);
});
after(() => rmSync(scratch, { recursive: true }));

/** Exchanges numbers of a network in a folder: shapes, sizes and dates stay. */
function exchangeNumbers(folder, network = TRANSFORMER) {
  const path = join(folder, network);
  const { atime, mtime } = statSync(path);
  const bytes = readFileSync(path);
  const header = 8 + Number(bytes.readBigUInt64LE());
  bytes.subarray(header).reverse();
  // Of little-endian numbers the bytes are exchanged back.
  bytes.subarray(header, header + ((bytes.length - header) & ~1)).swap16();
  writeFileSync(path, bytes);
  utimesSync(path, atime, mtime);
}

async function draw(page) {
  await fillForm(page, SMALL);
  const { png, fault } = await generate(page, 60_000);
  assert.equal(fault, undefined, fault?.what);
  return png.toString('base64');
}

async function openFolder(page, folder) {
  await page.locator('#models').evaluate((fold) => (fold.open = true));
  await page.setInputFiles('#model-folder', folder);
  await untilLoaded(page);
}

describe('a stored checkpoint', () => {
  const fixture = useModelServer(() => scratch);

  test('whose_transformer_changed_during_a_generation_is_not_mixed_with_the_steps_before', (context) => changes(context, 'other'));
  test('whose_text_encoder_changed_during_a_generation_is_not_mixed_with_the_steps_before', (context) => changes(context, 'text'));

  async function changes(context, folder) {
    let version = 1;
    fixture.server.rule = ({ path }) => ({
      from: path.replace(/^model/, version === 1 ? 'one/model' : `${folder}/model`),
      etag: `"${folder} ${version}"`,
    });
    const page = await context.browser.context.newPage();
    await page.goto(`${fixture.pageUrl}?device=wasm&checkpoint=${encodeURIComponent(`${fixture.server.url}model/`)}`);
    await untilLoaded(page);
    const long = { ...SMALL, num_inference_steps: 150 };
    const interrupt = async () => {
      await fillForm(page, long);
      await page.click('#generate');
      await untilStep(page, 60);
      await page.reload();
      await untilLoaded(page);
      await page.waitForSelector('#unfinished:not([hidden])');
    };
    const resumed = async () => {
      await page.click('#resume');
      await page.waitForFunction(() => globalThis.pixart.state().image !== undefined, undefined, { timeout: 60_000 });
      return page.evaluate(() => {
        const { image, note } = globalThis.pixart.state();
        return { png: btoa(String.fromCharCode(...image.png)), note };
      });
    };
    await interrupt();
    const same = await resumed();
    assert.equal(same.note, undefined, 'the weights are the same');
    version = 2;
    await page.reload();
    await untilLoaded(page);
    await fillForm(page, long);
    const other = (await generate(page, 60_000)).png.toString('base64');
    assert.notEqual(other, same.png);
    version = 1;
    await page.reload();
    await untilLoaded(page);
    await fillForm(page, long);
    await page.click('#generate');
    await untilStep(page, 60);
    version = 2;
    await page.reload();
    await untilLoaded(page);
    await page.waitForSelector('#unfinished:not([hidden])');
    const changed = await resumed();
    assert.match(changed.note, /^The model has other weights than before the interruption/);
    assert.equal(changed.png, other, 'it is the image of the new weights alone');
    await page.close();
  }

  test('of_another_folder_of_the_same_name_is_not_opened_for_it', async (context) => {
    const page = await context.browser.context.newPage();
    await page.goto(`${fixture.pageUrl}?device=wasm&checkpoint=`);
    await openFolder(page, ONE);
    const first = await draw(page);
    await openFolder(page, OTHER);
    const second = await draw(page);
    assert.notEqual(second, first);
    await openFolder(page, ONE);
    assert.equal(await draw(page), first);
    const stored = await page.evaluate(() => globalThis.pixart.storage({ kind: 'list' }));
    assert.equal(new Set(stored.map(({ checkpoint }) => checkpoint)).size, 2);
    for (const { checkpoint } of stored) assert.match(checkpoint, /^folder:model#[0-9a-f]{12}\/$/);
    const edited = join(scratch, 'edited', 'model');
    cpSync(ONE, edited, { recursive: true, preserveTimestamps: true });
    await openFolder(page, edited);
    assert.equal(await draw(page), first);
    exchangeNumbers(edited);
    await openFolder(page, edited);
    assert.equal(await draw(page), second);
  });

  test('of_another_format_is_not_opened_for_the_one_that_is_chosen', async (context) => {
    const images = {};
    for (const dtype of ['f32', 'q8', 'f32', 'auto']) {
      const page = await context.browser.context.newPage();
      await page.goto(`${fixture.pageUrl}?device=wasm&dtype=${dtype}`);
      await untilLoaded(page);
      const image = await draw(page);
      assert.equal(image, (images[dtype === 'auto' ? 'f32' : dtype] ??= image), dtype);
      await page.close();
    }
    assert.notEqual(images.q8, images.f32);
  });

  test('is_found_in_a_folder_beside_files_that_are_none_of_its_own', async (context) => {
    const folder = join(scratch, 'Ein Modell – ü (1)');
    const root = join(folder, 'snapshots', '0123 #%');
    cpSync(ONE, root, { recursive: true });
    for (const dir of ['transformer', 'vae', 'scheduler', 'tokenizer', 'text_encoder']) {
      for (const name of ['config (1).json', '.DS_Store', '._config.json', 'Kopie von ü.safetensors'])
        writeFileSync(join(root, dir, name), 'none');
    }
    const page = await context.browser.context.newPage();
    await page.goto(`${fixture.pageUrl}?device=wasm&checkpoint=`);
    await openFolder(page, folder);
    await draw(page);
    const [{ checkpoint }] = await page.evaluate(() => globalThis.pixart.storage({ kind: 'list' }));
    assert.match(checkpoint, /^folder:0123 #%#[0-9a-f]{12}\/$/);
  });

  for (const [what, headers] of [
    ['an_etag', (version) => ({ etag: `"${version}"` })],
    ['a_weak_etag', (version) => ({ etag: `W/"${version}"` })],
    ['a_date', (version) => ({ 'last-modified': new Date(1e12 + version * 1e3).toUTCString() })],
    ['nothing', () => ({})],
  ]) {
    test(`is_replaced_once_the_server_has_another_one_as_${what}_tells`, async (context) => {
      let version = 1;
      fixture.server.rule = ({ path }) => ({
        from: path.replace(/^model/, version === 1 ? 'one/model' : 'other/model'),
        etag: null,
        headers: headers(version),
      });
      const url = encodeURIComponent(`${fixture.server.url}model/`);
      const page = await context.browser.context.newPage();
      await page.goto(`${fixture.pageUrl}?device=wasm&checkpoint=${url}`);
      await untilLoaded(page);
      const first = await draw(page);
      fixture.server.log = [];
      await page.reload();
      await untilLoaded(page);
      assert.equal(await draw(page), first);
      const read = fixture.server.log.filter(({ path }) => path.endsWith('.safetensors')).reduce((sum, { sent }) => sum + sent, 0);
      assert.ok(read < 100_000, `${read} bytes of weights are read again`);
      version = 2;
      await page.reload();
      await untilLoaded(page);
      assert.notEqual(await draw(page), first);
      const stored = await page.evaluate(() => globalThis.pixart.storage({ kind: 'list' }));
      assert.deepEqual(
        stored.map(({ missing }) => missing),
        [0],
      );
    });
  }
});
