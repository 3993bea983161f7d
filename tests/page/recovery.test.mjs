//! Recovery from a lost GPU device, a crashed worker and a lack of memory: the generation resumes after its last step, with the same
//! image as without the failure.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { echoConsole, fillForm, generate, largestDifference, pixels, untilEngine } from './browser.mjs';
import { useBrowser } from './fixture.mjs';

const TIMEOUT_MILLIS = 300_000;
const SMALL = { prompt: 'a red circle on a blue background', seed: 7, num_inference_steps: 6, width: 64, height: 64 };

/** Runs before the worker's own code: fails at the step that a `sabotage` message names. */
const SABOTAGE = `
  const lost = { step: Infinity, how: '' };
  addEventListener('message', (event) => {
    if (event.data.kind !== 'sabotage') return;
    event.stopImmediatePropagation();
    if (event.data.step === 0) device.destroy();
    else Object.assign(lost, event.data);
  });
  const request = self.GPUAdapter?.prototype.requestDevice;
  let device;
  if (request) GPUAdapter.prototype.requestDevice = async function (...all) { return (device = await request.apply(this, all)); };
  const post = self.postMessage;
  self.postMessage = (event, ...rest) => {
    post.call(self, event, ...rest);
    if (event.kind !== 'step' || event.step !== lost.step) return;
    lost.step = Infinity;
    if (lost.how === 'destroy') device.destroy();
    if (lost.how === 'crash') setTimeout(() => { throw new Error('the worker falls over'); });
    const fault = { code: 'out_of_memory', what: 'the GPU is out of memory', remedy: 'none' };
    if (lost.how === 'memory') post.call(self, { kind: 'fault', id: event.id, fault });
  };
`;

const fixture = useBrowser();

/** A page whose worker can be sabotaged, at the step and in the way that \`window.sabotage\` says. */
async function openPage(device) {
  const page = await fixture.browser.context.newPage();
  echoConsole(page);
  await page.addInitScript(() => {
    const Plain = globalThis.Worker;
    globalThis.workers = [];
    globalThis.Worker = class extends Plain {
      constructor(...all) {
        super(...all);
        globalThis.workers.push(this);
      }
    };
  });
  await page.route('**/worker-*.js', async (route) => {
    const reply = await route.fetch({ maxRetries: 3 });
    await route.fulfill({ response: reply, body: SABOTAGE + (await reply.text()) });
  });
  await page.goto(`${fixture.server.url}?device=${device}`);
  await untilEngine(page, TIMEOUT_MILLIS);
  await fillForm(page, SMALL);
  return page;
}

const sabotage = (page, how, step) =>
  page.evaluate(({ how, step }) => globalThis.workers.at(-1).postMessage({ kind: 'sabotage', how, step }), { how, step });

for (const [device, ways] of [
  ['webgpu', ['destroy', 'crash']],
  ['wasm', ['crash']],
]) {
  describe(`a worker that fails, device=${device}`, () => {
    let page;
    let image;
    before(async () => {
      page = await openPage(device);
      image = await generate(page, TIMEOUT_MILLIS);
      assert.equal(image.fault, undefined);
    });
    after(() => page.close());

    for (const how of ways) {
      const step = 1 + Math.floor(Math.random() * (SMALL.num_inference_steps - 1));
      test(`after_${how}_at_step_${step}_the_image_is_the_same`, async () => {
        const workers = await page.evaluate(() => globalThis.workers.length);
        await sabotage(page, how, step);
        const again = await generate(page, TIMEOUT_MILLIS);
        assert.equal(again.fault, undefined);
        assert.equal(await page.evaluate(() => globalThis.workers.length), workers + 1, 'a new worker was started');
        assert.match(await page.innerText('#note'), new RegExp(`resumes after step ${step}`));
        assert.deepEqual(again.png, image.png);
      });
    }

    if (device === 'wasm') {
      test('after_out_of_memory_the_generation_resumes_with_less_memory_and_the_page_says_so', async () => {
        await fillForm(page, { ...SMALL, width: 256, height: 256, num_inference_steps: 2 });
        const whole = await generate(page, TIMEOUT_MILLIS);
        assert.match(await page.innerText('#adapter'), /decoded whole/);
        await sabotage(page, 'memory', 1);
        const again = await generate(page, TIMEOUT_MILLIS);
        assert.equal(whole.fault ?? again.fault, undefined);
        assert.match(await page.innerText('#note'), /out of memory.*opened again, with \d+ MiB.*after step 1/);
        assert.match(await page.innerText('#adapter'), /decoded in tiles/);
        const apart = largestDifference(await pixels(page, whole.png), await pixels(page, again.png));
        assert.ok(apart > 0 && apart < 128, `tiles differ at their edges, by ${apart}`);
      });
      return;
    }
    test('a_device_lost_between_two_images_is_opened_again', async () => {
      await sabotage(page, 'destroy', 0);
      await page.waitForFunction(() => document.getElementById('note').textContent.includes('opened again'));
      assert.deepEqual((await generate(page, TIMEOUT_MILLIS)).png, image.png);
    });
  });
}
