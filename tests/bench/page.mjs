//! Input latency while the page generates, and memory after many images; prints one JSON line per measurement.
//!
//!   node page.mjs --chrome PATH [--images N]
//!
//! Latency is that of keys pressed in the prompt, from the event's own time until the frame after it has begun, while the
//! worker generates. Memory is what the engine reports after each image.
import { parseArgs } from 'node:util';
import { echoConsole, fillForm, openBrowser, servePage, untilEngine } from '../page/browser.mjs';

const SMALL = { prompt: 'a red circle on a blue background', seed: 7, num_inference_steps: 4, width: 128, height: 128 };
const MILLIS = 900_000;
const KEYS = 120;
const PAUSE_MILLIS = 60;

const { values: options } = parseArgs({ options: { chrome: { type: 'string' }, images: { type: 'string', default: '50' } } });
const server = await servePage();
try {
  for (const device of ['webgpu', 'wasm']) {
    const browser = await openBrowser({ chrome: options.chrome });
    try {
      const page = await browser.context.newPage();
      echoConsole(page);
      await page.goto(`${server.url}?device=${device}&companion=`);
      await untilEngine(page, MILLIS);
      await page.evaluate(() => document.getElementById('text-tab').click());
      await fillForm(page, SMALL);
      console.log(JSON.stringify({ what: 'latency', device, ...(await latency(page)) }));
      console.log(JSON.stringify({ what: 'endurance', device, ...(await endurance(page, Number(options.images))) }));
    } finally {
      await browser.close();
    }
  }
} finally {
  server.close();
}

/** Types while a long image is generated. */
async function latency(page) {
  await page.evaluate(() => {
    globalThis.taken = [];
    document.getElementById('prompt').addEventListener('keydown', ({ timeStamp }) => {
      requestAnimationFrame(() => globalThis.taken.push(performance.now() - timeStamp));
    });
  });
  await fillForm(page, { num_inference_steps: 900 });
  await page.click('#generate');
  await page.waitForFunction(() => globalThis.pixart.state().progress?.step > 0, undefined, { timeout: MILLIS });
  await page.focus('#prompt');
  for (let key = 0; key < KEYS; key += 1) {
    await page.keyboard.press('a');
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MILLIS));
  }
  const { taken, phase, step } = await page.evaluate(() => ({
    taken: globalThis.taken,
    ...globalThis.pixart.state(),
    step: globalThis.pixart.state().progress.step,
  }));
  const began = Date.now();
  await page.click('#cancel');
  await page.waitForFunction(() => globalThis.pixart.state().phase === 'ready', undefined, { timeout: MILLIS });
  const cancel_ms = Date.now() - began;
  const sorted = taken.toSorted((a, b) => a - b);
  const at = (part) => Math.round(sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))]);
  await fillForm(page, SMALL);
  return { keys: taken.length, generating: phase === 'generating', step, p50_ms: at(0.5), p95_ms: at(0.95), max_ms: at(1), cancel_ms };
}

/** Generates many images in a row, and compares memory after the second and after the last. */
async function endurance(page, images) {
  const memories = [];
  for (let at = 0; at < images; at += 1) {
    const memory = await page.evaluate(async (request) => (await globalThis.pixart.generate(request)).memory, {
      ...SMALL,
      seed: at,
      text_encoder: { kind: 'tab' },
    });
    memories.push(memory);
  }
  const [second, last] = [memories[1], memories.at(-1)];
  const growth = (key) => (second[key] ? Number((last[key] / second[key] - 1).toFixed(4)) : null);
  return { images, second, last, heap_growth: growth('heap_bytes'), device_growth: growth('device_bytes') };
}
