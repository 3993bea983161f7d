//! The time until the page shows and until it can generate, input latency while it generates, and memory after many images; prints one
//! JSON line per measurement.
//!
//!   node page.mjs [--chrome PATH] [--images N] [--only visit]
//!
//! A visit is one after the first: the page and its model are stored. It ends with the first paint, and with the moment at which Generate is
//! enabled and the prompt takes a key; of several visits the median and the longest are printed.
//! Latency is that of keys pressed in the prompt, from the event's own time until the frame after it has begun, while the
//! worker generates. Memory is what the engine reports after each image.
import { parseArgs } from 'node:util';
import { echoConsole, fillForm, openBrowser, servePage, untilEngine } from '../page/browser.mjs';

const SMALL = { prompt: 'a red circle on a blue background', seed: 7, num_inference_steps: 4, width: 128, height: 128 };
const MILLIS = 900_000;
const KEYS = 120;
const PAUSE_MILLIS = 60;

const VISITS = 9;

const { values: options } = parseArgs({
  options: { chrome: { type: 'string' }, images: { type: 'string', default: '50' }, only: { type: 'string' } },
});
const chrome = options.chrome === undefined ? {} : { chrome: options.chrome };
const server = await servePage();
try {
  console.log(JSON.stringify({ what: 'visit', ...(await visits()) }));
  for (const device of options.only === 'visit' ? [] : ['webgpu', 'wasm']) {
    const browser = await openBrowser(chrome);
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

/** Visits the page again and again after a first visit, with its service worker and its model stored, as on a computer without a GPU. */
async function visits() {
  const browser = await openBrowser({ ...chrome, flags: [], serviceWorkers: 'allow' });
  const measured = [];
  try {
    for (let visit = 0; visit <= VISITS; visit += 1) {
      const page = await browser.context.newPage();
      echoConsole(page);
      await page.addInitScript(recordReady);
      await page.goto(server.url);
      await page.waitForFunction(() => globalThis.interactive_ms !== undefined, undefined, { timeout: MILLIS });
      await page.evaluate(() => navigator.serviceWorker.ready);
      const times = await page.evaluate(() => ({
        first_paint_ms: performance.getEntriesByName('first-contentful-paint')[0]?.startTime,
        interactive_ms: globalThis.interactive_ms,
      }));
      // The first visit downloads what the others find stored.
      if (visit > 0) measured.push(times);
      await page.close();
    }
  } finally {
    await browser.close();
  }
  const numbers = (key) => measured.map((times) => times[key]).toSorted((a, b) => a - b);
  const [paints, ready] = [numbers('first_paint_ms'), numbers('interactive_ms')];
  const middle = Math.floor(VISITS / 2);
  return {
    visits: VISITS,
    first_paint_ms: Math.round(paints[middle]),
    first_paint_max_ms: Math.round(paints.at(-1)),
    interactive_ms: Math.round(ready[middle]),
    interactive_max_ms: Math.round(ready.at(-1)),
  };
}

/** Runs in the page: `interactive_ms` is when Generate was enabled first, in a frame that has begun after it. */
function recordReady() {
  const check = () => {
    const generate = document.getElementById('generate');
    if (generate !== null && !generate.disabled && globalThis.pixart?.state().phase === 'ready') {
      requestAnimationFrame(() => (globalThis.interactive_ms ??= performance.now()));
      return;
    }
    requestAnimationFrame(check);
  };
  requestAnimationFrame(check);
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
