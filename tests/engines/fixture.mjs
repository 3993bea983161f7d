//! The fixture of the tests in engines beside Chromium: one browser for a group of tests, and the built page, where a test asks for
//! it on an origin of its own, whose storage is empty.
import { readFileSync } from 'node:fs';
import { after, afterEach, before, beforeEach, describe } from 'node:test';
import { fileURLToPath } from 'node:url';
import { fillForm, serveFolder, untilEngine } from '../page/browser.mjs';
import { ENGINES } from './engines.mjs';

export const DIST = fileURLToPath(new URL('../../web/dist/', import.meta.url));
const CSP = readFileSync(new URL('../../web/csp.txt', import.meta.url), 'utf8').trim();
export const TIMEOUT_MILLIS = 120_000;
export const SMALL = {
  prompt: 'a red circle on a blue background',
  negative_prompt: '',
  seed: 7,
  num_inference_steps: 2,
  guidance_scale: 4.5,
  width: 64,
  height: 64,
};

/** Runs `tests(context)` in a group for each engine. `context.page` is its page, `context.server` the server of the built page. */
export function inEachEngine(tests, { engines = ENGINES, ...options } = {}) {
  for (const [name, open] of Object.entries(engines)) describe(name, () => tests(useEngine(open, options), name));
}

/** Opens a browser for the tests of a group, and serves the page on one origin, or on one for each test. */
export function useEngine(open, { originPerTest = false } = {}) {
  const context = { session: undefined, page: undefined, server: undefined };
  const serve = async () => {
    context.server = await servePage();
  };
  const close = async () => {
    await context.page?.goto('about:blank');
    await context.server.close();
  };
  before(async () => {
    context.session = await open();
    context.page = context.session.page;
  });
  (originPerTest ? beforeEach : before)(serve);
  (originPerTest ? afterEach : after)(close);
  after(() => context.session?.close());
  return context;
}

/** Serves the built page on an origin of its own, with the headers that its users get. Once `server.script` is set, it runs before
    the page's own script and before its worker's. */
export async function servePage(folder = DIST) {
  const state = { script: '' };
  const transform = (path, bytes) =>
    /(index|worker)-[^/]*\.js$/.test(path) ? Buffer.concat([Buffer.from(`${state.script}\n`), bytes]) : bytes;
  return Object.assign(
    state,
    await serveFolder(folder, { headers: { 'content-security-policy': CSP, 'cache-control': 'no-store' }, transform }),
  );
}

/** Opens the page with the checkpoint that ships with it, on the CPU unless `query` says otherwise. A page that is open and ready
    is used again: to compile the module takes some engines seconds. */
export async function openPage({ page, server }, query = '?device=wasm', timeout = TIMEOUT_MILLIS) {
  const isOpen = await page.evaluate((url) => location.href === url && globalThis.pixart?.state().phase === 'ready', server.url + query);
  if (!isOpen) await page.goto(server.url + query);
  await untilReady(page, timeout);
}

/** Waits until a checkpoint is loaded; throws the fault where there is one. */
export async function untilReady(page, timeout = TIMEOUT_MILLIS) {
  await untilEngine(page, timeout);
  const { phase, fault } = await brief(page);
  if (phase !== 'ready') throw new Error(`the page is ${phase}: ${fault?.what}`);
}

/** The state of the page, without what is large. */
export function brief(page) {
  return page.evaluate(() => {
    const { image, progress, ...rest } = globalThis.pixart.state();
    return { ...rest, step: progress?.step, image: image && { ...image, png: undefined, recording: undefined } };
  });
}

/** Requests an image as a user does, and returns `{ fault }` or `{ png }`. */
export async function generateImage(page, request = {}, submit = () => page.click('#generate')) {
  await fillForm(page, { ...SMALL, ...request });
  await page.evaluate(() => (window.earlier = globalThis.pixart.state()) && undefined);
  await submit();
  // A driver may return before the page has received the click.
  const ended = () => {
    const { phase, image, fault } = globalThis.pixart.state();
    return phase !== 'generating' && (image !== window.earlier.image || (fault !== undefined && fault !== window.earlier.fault));
  };
  await page.waitForFunction(ended, undefined, { timeout: TIMEOUT_MILLIS });
  return page.evaluate(() => {
    const { fault, image } = globalThis.pixart.state();
    return fault === undefined ? { png: image.png } : { fault };
  });
}
