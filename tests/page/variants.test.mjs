//! Weights under the names of diffusers' `variant`, from a server and from a folder.
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fillForm, generate } from './browser.mjs';
import { faultOf, SCENES, untilLoaded, useModelServer } from './fixture.mjs';
import { split } from './safetensors.mjs';

const SMALL = { prompt: 'a red circle on a blue background', seed: 7, num_inference_steps: 2, width: 64, height: 64 };
const STEMS = ['transformer/diffusion_pytorch_model', 'vae/diffusion_pytorch_model', 'text_encoder/model'];
const scratch = mkdtempSync(join(tmpdir(), 'pixart-variants-'));
const path = (name, file) => join(scratch, name, file);

before(() => {
  for (const name of ['plain', 'variant', 'sharded']) cpSync(SCENES, join(scratch, name), { recursive: true });
  for (const stem of STEMS) {
    renameSync(path('variant', `${stem}.safetensors`), path('variant', `${stem}.fp16.safetensors`));
    const { files, weight_map } = split(readFileSync(path('sharded', `${stem}.safetensors`)));
    rmSync(path('sharded', `${stem}.safetensors`));
    const renamed = (file) => file.replace('.safetensors', '.fp16.safetensors');
    for (const [file, bytes] of files) writeFileSync(path('sharded', join(stem, '..', renamed(file))), bytes);
    const map = Object.fromEntries(Object.entries(weight_map).map(([tensor, file]) => [tensor, renamed(file)]));
    writeFileSync(path('sharded', `${stem}.safetensors.index.fp16.json`), JSON.stringify({ weight_map: map }));
  }
});
after(() => rmSync(scratch, { recursive: true }));

describe('weights', () => {
  const fixture = useModelServer(() => scratch);
  let plain;

  for (const name of ['plain', 'variant', 'sharded']) {
    for (const from of ['server', 'folder']) {
      test(`of_a_${name}_checkpoint_are_read_from_a_${from}`, async (context) => {
        const page = await context.browser.context.newPage();
        const url = from === 'server' ? `${fixture.server.url}${name}/` : '';
        await page.goto(`${fixture.pageUrl}?device=wasm&store=memory&checkpoint=${encodeURIComponent(url)}`);
        if (from === 'folder') {
          await page.locator('#models').evaluate((fold) => (fold.open = true));
          await page.setInputFiles('#model-folder', join(scratch, name));
        }
        await untilLoaded(page);
        await fillForm(page, SMALL);
        const { png, fault } = await generate(page, 60_000);
        assert.equal(fault, undefined, fault?.what);
        // The metadata name the checkpoint.
        const pixels = await page.evaluate(async () => {
          const { png } = globalThis.pixart.state().image;
          const bitmap = await createImageBitmap(new Blob([png]));
          const canvas = new OffscreenCanvas(64, 64).getContext('2d');
          canvas.drawImage(bitmap, 0, 0);
          return canvas.getImageData(0, 0, 64, 64).data.join();
        });
        assert.equal(pixels, (plain ??= pixels));
        assert.equal(png.subarray(1, 4).toString(), 'PNG');
      });
    }
  }

  test('of_a_variant_are_named_as_they_are_called_in_a_fault', async (context) => {
    fixture.server.rule = ({ path }) => (path.includes('transformer') && path.endsWith('.fp16.safetensors') ? { flip: 9 } : undefined);
    const page = await context.browser.context.newPage();
    await page.goto(`${fixture.pageUrl}?device=wasm&store=memory&checkpoint=${encodeURIComponent(`${fixture.server.url}variant/`)}`);
    const { code, what } = await faultOf(page);
    assert.equal(code, 'bad_weights');
    assert.match(what, /transformer\/diffusion_pytorch_model\.fp16\.safetensors/);
  });
});
