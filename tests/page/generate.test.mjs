//! The built page in a headless Chromium, with the checkpoint that ships with it. Needs web/dist and, in PIXART, the
//! path of the `pixart` binary; fails without them.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import {
  echoConsole,
  fillForm,
  generate,
  largestDifference,
  openBrowser,
  openSettings,
  pixels,
  servePage,
  untilEngine,
} from './browser.mjs';

const SCENES = new URL('../../web/models/scenes/', import.meta.url);
/** Sets `globalThis.counter`. */
const COUNTER = readFileSync(new URL('../bench/counter.js', import.meta.url), 'utf8');
/** The time for an image, with model loading and shader compilation, on a slow machine. */
const TIMEOUT_MILLIS = 300_000;
const SMALL = {
  prompt: 'a red circle on a blue background',
  seed: 7,
  num_inference_steps: 2,
  guidance_scale: 4.5,
  text_encoder: { kind: 'tab' },
};

let server;
before(async () => {
  server = await servePage();
});
after(() => server.close());

for (const device of ['webgpu', 'wasm']) {
  describe(`a page with its checkpoint, device=${device}`, () => testGeneration(device));
}

function testGeneration(device) {
  let browser;
  let page;
  let image;
  before(async () => {
    browser = await openBrowser();
    page = await openPage(browser, { device });
    await untilEngine(page, TIMEOUT_MILLIS);
    await Promise.all(page.workers().map((worker) => worker.evaluate(COUNTER)));
    const { width, height } = await smallestSize(page);
    await fillForm(page, { ...SMALL, width, height });
    image = await generate(page, TIMEOUT_MILLIS);
  });
  after(() => browser.close());

  const again = async (changed = {}) => {
    await fillForm(page, { ...SMALL, ...(await smallestSize(page)), ...changed });
    return generate(page, TIMEOUT_MILLIS);
  };

  test('a_prompt_gives_an_image_of_the_requested_size', async () => {
    assert.equal(image.fault, undefined);
    assert.equal(image.file, 'a-red-circle-on-a-blue-background-7.png');
    const rgba = await pixels(page, image.png);
    const { width, height } = await smallestSize(page);
    assert.equal(rgba.length, width * height * 4);
    assert.ok(new Set(rgba).size > 8, 'the image is not flat');
  });

  test('the_first_image_compiles_at_most_one_pipeline', async () => {
    const made = await Promise.all(page.workers().map((worker) => worker.evaluate(() => globalThis.counter.read().pipelines)));
    const all = made.reduce((sum, count) => sum + count, 0);
    // burn's copy kernel is compiled for each size.
    assert.ok(all <= 1, `${all} pipelines`);
    const counted = await page.workers()[0].evaluate(async () => {
      const device = await (await navigator.gpu.requestAdapter()).requestDevice();
      const module = device.createShaderModule({ code: '@compute @workgroup_size(1) fn main() {}' });
      device.createComputePipeline({ layout: 'auto', compute: { module } });
      device.destroy();
      return globalThis.counter.read().pipelines;
    });
    assert.equal(counted, made[0] + 1, 'the counter counts pipelines');
  });

  test('the_adapter_is_named_and_a_fallback_adapter_is_called_slow', async () => {
    const { name, is_fallback_adapter } = await page.evaluate(() => globalThis.pixart.state().adapter);
    const shown = await page.innerText('#adapter');
    console.log(`# adapter of the page tests: ${shown}`);
    assert.ok(name.length > 0 && shown.includes(name));
    assert.equal(shown.includes('fallback adapter, slow'), is_fallback_adapter);
  });

  test('the_same_request_gives_the_same_bytes_and_another_seed_does_not', async () => {
    assert.deepEqual((await again()).png, image.png);
    assert.notDeepEqual((await again({ seed: 8 })).png, image.png);
  });

  const refused = [
    ['an_empty_prompt', { prompt: '' }, 'the prompt is empty'],
    ['a_prompt_of_100001_characters', { prompt: 'x'.repeat(100_001) }, 'the prompt has 100001 characters'],
    ['zero_steps', { num_inference_steps: 0 }, 'num_inference_steps is 0'],
    ['fractional_steps', { num_inference_steps: 2.5 }, 'num_inference_steps is 2.5'],
    ['a_guidance_scale_that_is_not_a_number', { guidance_scale: '' }, 'guidance_scale is NaN'],
    ['a_width_of_zero', { width: 0 }, 'width is 0'],
    ['a_height_that_is_not_a_multiple_of_16', { height: 72 }, 'height is 72'],
    ['a_seed_that_is_not_a_number', { seed: '' }, 'seed is not a number'],
  ];
  for (const [name, changed, what] of refused) {
    test(`${name}_is_refused_with_the_field_and_its_value`, async () => {
      const { fault } = await again(changed);
      assert.equal(fault?.code, 'bad_request');
      assert.equal(fault.what, what);
      assert.equal(await page.innerText('#fault-what'), what);
      assert.equal(await page.innerText('#fault-remedy'), fault.remedy);
      assert.ok(await page.isEnabled('#generate'));
    });
  }

  test('a_prompt_longer_than_the_encoder_reads_is_truncated_with_a_note_and_counted_while_typing', async () => {
    const { fault } = await again({ prompt: `a red circle ${'on a blue background '.repeat(25)}in the snow` });
    assert.equal(fault, undefined);
    assert.match(
      await page.innerText('#note'),
      /^The prompt has \d{3} tokens, and the text encoder reads 120\. Not read: “.*in the snow”$/,
    );
    await page.waitForFunction(() => document.querySelector('#token-counter').textContent.match(/^\d{3} of 120 tokens$/));
    assert.match(await page.innerText('#truncated-prompt'), /in the snow”$/);
    await page.fill('#prompt', 'a star');
    await page.waitForFunction(() => document.querySelector('#token-counter').textContent.match(/^\d of 120 tokens$/));
    assert.ok(await page.isHidden('#truncated-prompt'));
  });

  test('the_form_offers_the_schedulers_and_styles_of_the_engine', async () => {
    await page.selectOption('#scheduler', 'euler-a');
    const other = await again();
    await page.selectOption('#scheduler', '');
    await page.click('#styles button[value="ink"]');
    const styled = await again();
    await page.click('#styles button[value=""]');
    assert.equal(other.fault ?? styled.fault, undefined);
    assert.notDeepEqual(other.png, image.png);
    assert.notDeepEqual(styled.png, image.png);
    assert.equal(await page.locator('#scheduler option').count(), 18);
    assert.deepEqual((await again()).png, image.png);
  });

  test('image_to_image_agrees_with_the_companion', async () => {
    const side = (await smallestSize(page)).width;
    await page.setInputFiles('#init-image', { name: 'a.png', mimeType: 'image/png', buffer: image.png });
    await page.fill('#strength', '0.5');
    const changed = { prompt: 'a yellow circle on a blue background', num_inference_steps: 4 };
    const over = await again(changed);
    assert.equal(over.fault, undefined);
    const folder = await mkdtemp(`${tmpdir()}/pixart-`);
    const [from, to] = [`${folder}/from.png`, `${folder}/to.png`];
    await writeFile(from, image.png);
    const args = ['generate', '--checkpoint', fileURLToPath(SCENES), '--prompt', changed.prompt, '--steps', '4'];
    args.push('--seed', '7', '--width', side, '--height', side, '--image', from, '--strength', '0.5', '--out', to);
    await promisify(execFile)(process.env.PIXART, args.map(String));
    const theirs = await pixels(page, await readFile(to));
    await rm(folder, { recursive: true });
    const ours = await pixels(page, over.png);
    assert.ok(largestDifference(ours, theirs) <= 2, `${largestDifference(ours, theirs)}`);
    assert.ok(largestDifference(ours, await pixels(page, image.png)) > 2);

    await page.setInputFiles('#init-image', { name: 'a.txt', mimeType: 'text/plain', buffer: Buffer.from('not an image') });
    assert.equal((await again(changed)).fault?.what, 'a.txt is not an image this browser can decode');
    await page.setInputFiles('#init-image', []);
    // A strength that is left from before means nothing without an image.
    assert.deepEqual((await again()).png, image.png);
    await page.fill('#strength', '');
  });

  test('after_refused_requests_the_page_still_generates', async () => {
    assert.deepEqual((await again()).png, image.png);
    assert.ok(await page.isHidden('#fault'));
  });

  test('when_the_companion_is_down_the_tab_encodes_the_prompt_and_says_so', async () => {
    const result = await again({ text_encoder: { kind: 'companion', url: `http://127.0.0.1:${await closedPort()}` } });
    assert.deepEqual(result.png, image.png);
    assert.match(await page.textContent('#note'), /did not answer.*this tab encoded the prompt itself/);
    assert.match(await page.textContent('#companion-status'), /did not answer.*This tab encodes the prompt instead/);
    assert.deepEqual((await again()).png, image.png);
    assert.ok(await page.isHidden('#note'));
  });

  test('a_recording_holds_the_latents_of_every_step', async () => {
    assert.ok(await page.isHidden('#download-recording'));
    await page.check('#record');
    assert.deepEqual((await again()).png, image.png);
    const recording = await page.evaluate(() => [...globalThis.pixart.state().image.recording]);
    await page.uncheck('#record');
    assert.ok(await page.isVisible('#download-recording'));
    const header = JSON.parse(Buffer.from(recording.slice(8, 8 + recording[0] + 256 * recording[1])).toString());
    assert.equal(Object.keys(header).filter((name) => name.startsWith('latents.')).length, SMALL.num_inference_steps);
    assert.match(header.__metadata__.device, /^tab: /);
  });

  for (const [name, reply] of [
    ['no_json', 'hello'],
    ['too_few_embeddings', '{"shape":[2,4,8],"embeds":[1,2,3],"mask":[1,1,1,1,1,1,1,1]}'],
  ]) {
    test(`a_companion_that_answers_with_${name}_is_refused_and_the_tab_encodes_the_prompt`, async () => {
      await page.route('**/v1/encode', (route) => route.fulfill({ body: reply }));
      const result = await again({ text_encoder: { kind: 'companion', url: server.url } });
      await page.unroute('**/v1/encode');
      assert.deepEqual(result.png, image.png);
      assert.match(await page.textContent('#note'), /answered something other|answered .* embedded captions/);
    });
  }

  test('the_companion_and_the_tab_encode_a_prompt_alike', async () => {
    const companion = await startCompanion();
    try {
      const text_encoder = { kind: 'companion', url: companion.url };
      const theirs = await again({ text_encoder });
      assert.equal(theirs.fault, undefined);
      const models = 'scenes on cpu (encodes prompts, generates images)';
      await page.waitForFunction((models) => document.getElementById('companion-status').textContent.includes(models), models);
      assert.ok(await page.isHidden('#note'));
      const ours = await pixels(page, image.png);
      assert.ok(largestDifference(await pixels(page, theirs.png), ours) <= 2);
      const other = await again({ text_encoder, prompt: 'a yellow square on a black background' });
      assert.ok(largestDifference(await pixels(page, other.png), ours) > 2);
    } finally {
      companion.stop();
    }
  });

  test('cancel_ends_a_generation_and_does_not_change_the_next_image', async () => {
    // Repeated, because a cancelled step's leftovers would change the next image only sometimes.
    for (let time = 0; time < 5; time += 1) {
      await fillForm(page, { ...SMALL, ...(await smallestSize(page)), num_inference_steps: 900 });
      await page.click('#generate');
      const at = () => page.evaluate(() => globalThis.pixart.state().progress?.step ?? 0);
      await page.waitForFunction(() => globalThis.pixart.state().progress?.step > 0, undefined, { timeout: TIMEOUT_MILLIS });
      const step = await at();
      await page.click('#cancel');
      await page.waitForFunction(() => globalThis.pixart.state().phase === 'ready', undefined, { timeout: TIMEOUT_MILLIS });
      assert.ok(step < 900);
      assert.equal(await page.evaluate(() => globalThis.pixart.state().image.num_inference_steps), 2, 'the previous image stays');
      const next = await again();
      assert.equal(next.fault, undefined);
      assert.deepEqual(next.png, image.png);
    }
  });

  test('concurrent_requests_are_generated_in_order', async () => {
    const request = { ...SMALL, negative_prompt: '', ...(await smallestSize(page)) };
    const seeds = await page.evaluate(async (request) => {
      const images = [1, 2].map((seed) => globalThis.pixart.generate({ ...request, seed }));
      return (await Promise.all(images)).map((image) => image.seed);
    }, request);
    assert.deepEqual(seeds, [1, 2]);
  });
}

describe('a browser without an adapter', () => {
  let browser;
  before(async () => {
    browser = await openBrowser({ flags: ['--disable-gpu', '--disable-software-rasterizer'] });
  });
  after(() => browser.close());

  test('the_cpu_generates_and_the_page_says_why', async () => {
    const page = await openPage(browser);
    await untilEngine(page);
    await fillForm(page, { ...SMALL, ...(await smallestSize(page)) });
    assert.equal((await generate(page, TIMEOUT_MILLIS)).fault, undefined);
    assert.match(await page.innerText('#adapter'), /^CPU \(wasm\): .*WebGPU/);
    await page.close();
  });

  test('webgpu_is_refused_with_no_webgpu_and_the_cpu_can_be_selected', async () => {
    const page = await openPage(browser, { device: 'webgpu' });
    await untilEngine(page);
    assert.equal(await page.evaluate(() => globalThis.pixart.state().fault.code), 'no_webgpu');
    assert.match(await page.innerText('#fault'), /WebGPU/);
    assert.ok(await page.isDisabled('#generate'));
    await openSettings(page);
    await page.selectOption('#device', 'wasm');
    await page.waitForFunction(() => globalThis.pixart.state().phase === 'ready');
    await page.close();
  });
});

test('the_gpu_and_the_cpu_generate_the_same_image', async () => {
  const browser = await openBrowser();
  try {
    const images = [];
    for (const device of ['webgpu', 'wasm']) {
      const page = await openPage(browser, { device });
      await untilEngine(page, TIMEOUT_MILLIS);
      await fillForm(page, { ...SMALL, ...(await smallestSize(page)) });
      const { png } = await generate(page, TIMEOUT_MILLIS);
      images.push(await pixels(page, png));
      await page.close();
    }
    assert.ok(largestDifference(...images) <= 1);
  } finally {
    await browser.close();
  }
});

test('largest_difference_finds_images_that_differ', () => {
  assert.equal(largestDifference([1, 2, 3], [1, 2, 3]), 0);
  assert.equal(largestDifference([1, 2, 3], [1, 9, 3]), 7);
  assert.equal(largestDifference([1, 2, 3], [1, 2]), Infinity);
});

async function openPage({ context }, { device = 'auto' } = {}) {
  const page = await context.newPage();
  echoConsole(page);
  await page.goto(`${server.url}?device=${device}`);
  return page;
}

async function smallestSize(page) {
  const side = await page.evaluate(() => globalThis.pixart.state().checkpoint.limits.size_min);
  return { width: side, height: side };
}

async function closedPort() {
  const listener = createServer();
  await new Promise((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const { port } = listener.address();
  await new Promise((resolve) => listener.close(resolve));
  return port;
}

/** `pixart serve` on a free port; resolves once it has printed its address. */
async function startCompanion() {
  assert.ok(process.env.PIXART, 'PIXART must hold the path of the pixart binary');
  const args = ['serve', '--api-only', '--listen', '127.0.0.1:0', '--checkpoint', fileURLToPath(SCENES)];
  const child = spawn(process.env.PIXART, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const url = await new Promise((resolve, reject) => {
    createInterface(child.stdout).once('line', resolve);
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`pixart serve exited with ${code}`)));
  });
  return { url, stop: () => child.kill() };
}
