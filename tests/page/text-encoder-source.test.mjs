//! A text encoder from another place than its model: a GGUF file, its own folder, another checkpoint, or a file in a local folder. The
//! image is that of the model with the same weights in its own folder.
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fillForm, generate, pixels } from './browser.mjs';
import { faultOf, SCENES, untilLoaded, useModelServer } from './fixture.mjs';
import { writeGguf } from './gguf.mjs';

const SMALL = { prompt: 'a red circle on a blue background', seed: 7, num_inference_steps: 1, width: 64, height: 64 };
const scratch = mkdtempSync(join(tmpdir(), 'pixart-text-encoder-'));
const GGUF = join(scratch, 'encoders', 't5-v1_1.F16.gguf');

before(() => {
  cpSync(SCENES, join(scratch, 'whole'), { recursive: true });
  cpSync(SCENES, join(scratch, 'model'), { recursive: true });
  rmSync(join(scratch, 'model', 'text_encoder'), { recursive: true });
  mkdirSync(join(scratch, 'encoders'));
  writeGguf(join(SCENES, 'text_encoder', 'model.safetensors'), GGUF);
  writeFileSync(join(scratch, 'encoders', 'cut.gguf'), readFileSync(GGUF).subarray(0, 5000));
});
after(() => rmSync(scratch, { recursive: true }));

describe('a text encoder', () => {
  const fixture = useModelServer(() => scratch);
  let expected;
  const openModel = async (context, text_encoder) => {
    const page = await context.browser.context.newPage();
    const of = (path) => encodeURIComponent(fixture.server.url + path);
    await page.goto(
      text_encoder === undefined
        ? `${fixture.pageUrl}?device=wasm&checkpoint=${of('whole/')}`
        : `${fixture.pageUrl}?device=wasm&checkpoint=${of('model/')}&text_encoder=${of(text_encoder)}`,
    );
    return page;
  };
  const draw = async (page) => {
    await untilLoaded(page);
    await fillForm(page, SMALL);
    const { png, fault } = await generate(page, 60_000);
    assert.equal(fault, undefined, fault?.what);
    return (await pixels(page, png)).join();
  };

  test('in_a_gguf_file_or_in_another_folder_gives_the_same_image', async (context) => {
    expected = await draw(await openModel(context));
    for (const place of ['encoders/t5-v1_1.F16.gguf', 'whole/text_encoder/', 'whole/']) {
      const page = await openModel(context, place);
      assert.ok((await draw(page)) === expected, place);
      fixture.server.log = [];
      await page.reload();
      assert.ok((await draw(page)) === expected, `${place}, stored`);
      const sent = fixture.server.log.reduce((sum, entry) => sum + entry.sent, 0);
      assert.ok(sent < 1_500_000, `${place}: ${sent} bytes are read again`);
      await page.close();
    }
  });

  test('in_a_local_folder_is_read_whatever_its_name', async (context) => {
    const folder = join(scratch, 'local');
    cpSync(join(scratch, 'model'), folder, { recursive: true });
    mkdirSync(join(folder, 'text_encoder'));
    cpSync(GGUF, join(folder, 'text_encoder', 'my t5.gguf'));
    const page = await context.browser.context.newPage();
    await page.goto(`${fixture.pageUrl}?device=wasm&checkpoint=`);
    const open = async () => {
      await page.locator('#models').evaluate((fold) => (fold.open = true));
      await page.setInputFiles('#model-folder', folder);
    };
    await open();
    assert.ok((await draw(page)) === expected);
    cpSync(GGUF, join(folder, 'text_encoder', 'another.gguf'));
    await open();
    await page.waitForFunction(() => globalThis.pixart.state().fault !== undefined, undefined, { timeout: 60_000 });
    const { what } = await page.evaluate(() => globalThis.pixart.state().fault);
    assert.match(what, /holds text_encoder\/(another|my t5)\.gguf and text_encoder\/(another|my t5)\.gguf, and either may be its weights/);
  });

  test('that_is_damaged_or_missing_is_refused_before_weights_are_downloaded', async (context) => {
    for (const [place, expected] of [
      ['encoders/cut.gguf', /cut\.gguf` is truncated/],
      ['encoders/none.gguf', /has no text_encoder\/none\.gguf|none\.gguf/],
      ['encoders/', /has no text_encoder\/model\.safetensors/],
    ]) {
      fixture.server.log = [];
      const page = await openModel(context, place);
      const fault = await faultOf(page);
      assert.match(fault.what, expected, place);
      const sent = fixture.server.log
        .filter(({ path }) => path.startsWith('model/transformer'))
        .reduce((sum, entry) => sum + entry.sent, 0);
      assert.ok(sent < 300_000, `${sent} bytes of the transformer`);
      await page.close();
    }
  });
});
