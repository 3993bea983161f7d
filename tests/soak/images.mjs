//! Images in one page, with another model after every twenty: the same request gives the same image whenever it is made, the gallery
//! loses none, and memory does not grow.
import { createHash } from 'node:crypto';
import { openBrowser, servePage, untilEngine } from '../page/browser.mjs';
import { startModelServer } from '../page/model-server.mjs';

const MILLIS = 900_000;
const PER_MODEL = 20;
const REQUEST = {
  prompt: 'a red circle on a blue background',
  negative_prompt: '',
  num_inference_steps: 2,
  guidance_scale: 4.5,
  width: 64,
  height: 64,
  text_encoder: { kind: 'tab' },
};

/** Generates `count` images, on WebGPU. */
export async function images({ chrome, packed }, count) {
  const [server, models, browser] = [await servePage(), await startModelServer(packed), await openBrowser({ chrome })];
  try {
    const page = await browser.context.newPage();
    await page.goto(`${server.url}?device=webgpu`);
    const session = await browser.context.newCDPSession(page);
    const names = ['models/scenes/', models.url];
    const [first, differing, memories] = [new Map(), [], []];
    for (let at = 0; at < count; at += 1) {
      const name = names[Math.floor(at / PER_MODEL) % names.length];
      if (at % PER_MODEL === 0) await openModel(page, name, at === 0);
      const seed = at % PER_MODEL;
      const { png, memory } = await page.evaluate(
        async (request) => {
          const { png, memory } = await globalThis.pixart.generate(request);
          return { png: [...png], memory };
        },
        { ...REQUEST, seed },
      );
      const hash = createHash('sha256').update(Buffer.from(png)).digest('hex');
      const key = `${name} ${seed}`;
      if (!first.has(key)) first.set(key, hash);
      else if (first.get(key) !== hash) differing.push(key);
      if (seed === PER_MODEL - 1) memories.push({ name, ...memory, page_bytes: await pageBytes(session) });
    }
    const kept = await page.evaluate(async () => {
      const opening = indexedDB.open('pixart-web gallery');
      const database = await new Promise((resolve) => (opening.onsuccess = () => resolve(opening.result)));
      const counting = database.transaction('images').objectStore('images').count();
      return new Promise((resolve) => (counting.onsuccess = () => resolve(counting.result)));
    });
    return {
      images: count,
      models_opened: Math.ceil(count / PER_MODEL),
      images_in_gallery: kept,
      images_that_differ: differing.length,
      heap_growth: growth(memories, 'heap_bytes'),
      device_growth: growth(memories, 'device_bytes'),
      // The page's heap does not depend on the model, and grows once when the list of models is first opened.
      page_heap_growth: Number((memories.at(-1).page_bytes / memories[1].page_bytes - 1).toFixed(4)),
      memories,
    };
  } finally {
    await browser.close();
    await server.close();
    models.close();
  }
}

async function openModel(page, name, is_open) {
  if (!is_open) {
    await page.locator('#models').evaluate((section) => (section.open = true));
    await page.fill('#model-url', name);
    await page.click('#open-model');
  }
  await untilEngine(page, MILLIS);
  const fault = await page.evaluate(() => globalThis.pixart.state().fault);
  if (fault) throw new Error(`${name} does not open: ${fault.what}`);
}

/** The bytes of the page's JavaScript heap, without garbage. */
async function pageBytes(session) {
  await session.send('HeapProfiler.collectGarbage');
  return (await session.send('Runtime.getHeapUsage')).usedSize;
}

/** The largest growth of a model's memory from its first measurement to its last, as a part of the first. */
function growth(memories, key) {
  const growths = [...new Set(memories.map(({ name }) => name))].map((name) => {
    const own = memories.filter((memory) => memory.name === name);
    return own.at(-1)[key] / own[0][key] - 1;
  });
  return Number(Math.max(...growths).toFixed(4));
}
