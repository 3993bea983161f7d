//! LoRAs in the page: dropped, chosen or by address, with weights; merged into weights of every format. The image is that of a
//! checkpoint with the merged weights.
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { dropPng, fillForm, generate, largestDifference, pixels, screenshot } from './browser.mjs';
import { dropFiles } from './drag.mjs';
import { SCENES, untilLoaded, useModelServer } from './fixture.mjs';
import { readTensors, writeTensors } from './safetensors.mjs';

const SMALL = { prompt: 'a red circle on a blue background', seed: 7, num_inference_steps: 1, width: 64, height: 64 };
const scratch = mkdtempSync(join(tmpdir(), 'pixart-loras-'));
const WEIGHTS = 'transformer/diffusion_pytorch_model.safetensors';
const [FIRST, SECOND, OTHER] = ['first.safetensors', 'second.safetensors', 'other.safetensors'].map((name) => join(scratch, 'loras', name));
const RANK = 4;
const MODULES = [0, 1, 2, 3].flatMap((block) =>
  ['attn1.to_q', 'attn2.to_out.0', 'ff.net.2'].map((name) => `transformer_blocks.${block}.${name}`),
);

/** Numbers of a linear congruential generator, of about this magnitude. */
function numbers(count, seed, magnitude) {
  let state = seed;
  return Float32Array.from({ length: count }, () => ((state = (state * 1664525 + 1013904223) % 2 ** 32) / 2 ** 31 - 1) * magnitude);
}

/** A LoRA for `tensors` as diffusers writes it. */
function lora(tensors, seed) {
  return new Map(
    MODULES.flatMap((module, index) => {
      const [outputs, inputs] = tensors.get(`${module}.weight`).shape;
      const of = (part, shape) => [
        `transformer.${module}.lora_${part}.weight`,
        { shape, values: numbers(shape[0] * shape[1], seed + 2 * index + (part === 'A' ? 0 : 1), 0.3) },
      ];
      return [of('A', [RANK, inputs]), of('B', [outputs, RANK])];
    }),
  );
}

/** Adds scale · B · A to the weights. */
function merge(tensors, adapter, scale) {
  for (const module of MODULES) {
    const { shape, values } = tensors.get(`${module}.weight`);
    const [a, b] = ['A', 'B'].map((part) => adapter.get(`transformer.${module}.lora_${part}.weight`).values);
    for (let row = 0; row < shape[0]; row += 1) {
      for (let column = 0; column < shape[1]; column += 1) {
        for (let k = 0; k < RANK; k += 1) values[row * shape[1] + column] += scale * b[row * RANK + k] * a[k * shape[1] + column];
      }
    }
  }
}

before(() => {
  mkdirSync(join(scratch, 'loras'));
  const file = readFileSync(join(SCENES, WEIGHTS));
  const [first, second] = [lora(readTensors(file), 1), lora(readTensors(file), 1000)];
  writeFileSync(FIRST, writeTensors(first));
  writeFileSync(SECOND, writeTensors(second));
  const narrow = [...first].map(([name, { shape, values }]) => [
    name,
    name.includes('lora_B') ? { shape: [shape[0] / 2, RANK], values: values.subarray(values.length / 2) } : { shape, values },
  ]);
  writeFileSync(OTHER, writeTensors(new Map(narrow)));
  const tensors = readTensors(file);
  cpSync(SCENES, join(scratch, 'plain'), { recursive: true });
  merge(tensors, first, 0.5);
  merge(tensors, second, 1);
  cpSync(SCENES, join(scratch, 'merged'), { recursive: true });
  writeFileSync(join(scratch, 'merged', WEIGHTS), writeTensors(tensors));
});
after(() => rmSync(scratch, { recursive: true }));

describe('a lora', () => {
  const fixture = useModelServer(() => scratch);
  const openModel = async (context, query) => {
    const page = await context.browser.context.newPage();
    await page.goto(`${fixture.pageUrl}?device=wasm&${query}`);
    await untilLoaded(page);
    return page;
  };
  const url = (path) => encodeURIComponent(fixture.server.url + path);
  const imageOf = async (page) => {
    await fillForm(page, SMALL);
    const { png, fault } = await generate(page, 60_000);
    assert.equal(fault, undefined, fault?.what);
    return { png, pixels: await pixels(page, png) };
  };
  const setScale = (page, index, scale) =>
    page.locator(`#lora-scale-${index}`).evaluate((slider, scale) => {
      slider.value = scale;
      slider.dispatchEvent(new Event('input', { bubbles: true }));
    }, String(scale));
  const added = (page, count) =>
    page.waitForFunction((count) => globalThis.pixart.state().checkpoint?.loras.length === count, count, { timeout: 30_000 });

  test('that_is_dropped_or_added_by_address_gives_the_image_of_merged_weights', async (context) => {
    const merged = (await imageOf(await openModel(context, `checkpoint=${url('merged/')}&dtype=f32`))).pixels;
    const page = await openModel(context, `checkpoint=${url('plain/')}&dtype=f32`);
    const plain = (await imageOf(page)).pixels;
    assert.ok(largestDifference(plain, merged) > 20, 'the LoRAs change the image');

    await dropFiles(page, 'h1', [FIRST]);
    await added(page, 1);
    await page.fill('#lora-url', `${fixture.server.url}loras/second.safetensors`);
    await page.click('#add-lora');
    await added(page, 2);
    await setScale(page, 0, 0.5);
    fixture.server.log = [];
    const { png, pixels: both } = await imageOf(page);
    assert.ok(largestDifference(both, merged) <= 1, `${largestDifference(both, merged)}`);
    assert.deepEqual(fixture.server.log, [], 'a weight that changes requests nothing');
    await page.locator('#loras').evaluate((fold) => (fold.open = true));
    await screenshot(page, 'loras');

    await setScale(page, 0, 0);
    await setScale(page, 1, 0);
    assert.ok(largestDifference((await imageOf(page)).pixels, plain) === 0, 'off');

    await dropPng(page, png);
    await page.waitForFunction(() => document.getElementById('lora-scale-0').value === '0.5');
    assert.equal(await page.inputValue('#lora-scale-1'), '1');
    assert.ok(largestDifference((await imageOf(page)).pixels, both) === 0, 'restored');
    await page.click('#lora-list li:first-child button');
    assert.equal(await page.locator('#lora-list li').count(), 1);

    // The metadata names LoRAs that are stored: they are added again.
    await page.reload();
    await untilLoaded(page);
    await dropPng(page, png);
    await page.waitForFunction(() => document.querySelectorAll('#lora-list li').length === 2);
    fixture.server.log = [];
    assert.ok(largestDifference((await imageOf(page)).pixels, both) === 0, 'from the store');
    assert.deepEqual(fixture.server.log, []);
  });

  test('is_merged_into_quantised_weights_near_the_merged_weights_in_that_format', async (context) => {
    for (const dtype of ['f16', 'q8', 'q4']) {
      const merged = (await imageOf(await openModel(context, `checkpoint=${url('merged/')}&dtype=${dtype}`))).pixels;
      const query = `checkpoint=${url('plain/')}&dtype=${dtype}`;
      const plain = (await imageOf(await openModel(context, query))).pixels;
      const page = await openModel(
        context,
        `${query}&lora=${url('loras/first.safetensors')}${encodeURIComponent('=0.5')}&lora=${url('loras/second.safetensors')}`,
      );
      const { weight_format, loras } = await page.evaluate(() => globalThis.pixart.state().checkpoint);
      assert.equal(weight_format, dtype);
      assert.deepEqual(loras, [
        { name: 'first.safetensors', scale: 0.5 },
        { name: 'second.safetensors', scale: 1 },
      ]);
      const both = (await imageOf(page)).pixels;
      const mean = (left, right) => left.reduce((sum, value, at) => sum + Math.abs(value - right[at]), 0) / left.length;
      assert.ok(mean(both, merged) < 0.35 * mean(plain, merged), `${dtype}: ${mean(both, merged)} of ${mean(plain, merged)}`);
      console.log(dtype, mean(both, merged), mean(plain, merged));
      await page.close();
    }
  });

  test('that_does_not_fit_is_refused_by_name_and_leaves_the_model_as_it_was', async (context) => {
    const page = await openModel(context, `checkpoint=${url('plain/')}`);
    const plain = (await imageOf(page)).pixels;
    await dropFiles(page, 'h1', [OTHER]);
    await page.waitForFunction(() => globalThis.pixart.state().fault !== undefined);
    const { what } = await page.evaluate(() => globalThis.pixart.state().fault);
    assert.match(what, /LoRA.*transformer_blocks\.0\.attn1\.to_q\.weight|transformer_blocks.*/);
    assert.equal(await page.locator('#lora-list li').count(), 0);
    assert.equal(await page.evaluate(() => globalThis.pixart.state().phase), 'ready');
    await fillForm(page, SMALL);
    await page.click('#generate');
    await page.waitForFunction(() => globalThis.pixart.state().phase === 'ready' && globalThis.pixart.state().fault === undefined);
    const { png } = await generate(page, 60_000);
    assert.equal(largestDifference(await pixels(page, png), plain), 0);
  });
});
