//! Shared by the page tests and drive.mjs: the built page on a loopback port, and a headless Chromium with WebGPU.
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { delimiter, extname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const WEB = new URL('../../web/', import.meta.url);
const fromWeb = createRequire(new URL('package.json', WEB));
const { chromium } = fromWeb('playwright-core');

/** SwiftShader, the WebGPU adapter that every Chromium brings along. */
export const WEBGPU_FLAGS = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'];
const QUIET_FLAGS = ['--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

/** The Chromium to drive: `CHROME`, else the first one on PATH. */
export function findChrome() {
  const named = process.env.CHROME;
  if (named) return named;
  const folders = (process.env.PATH ?? '').split(delimiter);
  const names = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];
  const found = names.flatMap((name) => folders.map((folder) => join(folder, name))).find((path) => existsSync(path));
  if (!found) throw new Error(`none of ${names.join(', ')} is on PATH; name one in CHROME`);
  return found;
}

/** Opens Chromium with a fresh profile, which `close` removes, or with that of a browser that was killed. Service workers are
    blocked by default: they would bypass the routes of tests. */
export async function openBrowser({
  chrome = findChrome(),
  flags = WEBGPU_FLAGS,
  serviceWorkers = 'block',
  hasTouch = false,
  profile = mkdtempSync(join(tmpdir(), 'pixart-chrome-')),
} = {}) {
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: chrome,
    headless: true,
    chromiumSandbox: false,
    acceptDownloads: true,
    serviceWorkers,
    hasTouch,
    args: [...QUIET_FLAGS, ...flags],
  });
  return {
    context,
    profile,
    async close() {
      await context.close();
      rmSync(profile, { recursive: true, force: true });
    },
  };
}

/** Serves web/dist on a free loopback port. */
export async function servePage() {
  const { preview } = await import(pathToFileURL(fromWeb.resolve('vite')).href);
  const server = await preview({
    configFile: fileURLToPath(new URL('vite.config.ts', WEB)),
    logLevel: 'error',
    preview: { host: '127.0.0.1', port: 0 },
  });
  const url = server.resolvedUrls.local[0];
  return { url, close: () => server.close() };
}

const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.wasm': 'application/wasm', '.svg': 'image/svg+xml' };

/** Serves a folder as it is at each request, on a free loopback port. `transform(path, bytes)` is what is sent of a file. */
export async function serveFolder(folder, { headers = {}, transform = (_path, bytes) => bytes } = {}) {
  const server = createServer(({ url }, reply) => {
    const path = decodeURIComponent(new URL(url, 'http://a').pathname).replace(/\/$/, '/index.html');
    let bytes;
    try {
      bytes = readFileSync(join(folder, path));
    } catch {
      return reply.writeHead(404, headers).end();
    }
    reply.writeHead(200, { 'content-type': TYPES[extname(path)] ?? 'application/octet-stream', ...headers });
    reply.end(transform(path, bytes));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const close = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  return { url: `http://127.0.0.1:${server.address().port}/`, close };
}

/** Prints what the page writes to its console as warnings and errors to stderr. */
export function echoConsole(page) {
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) console.error(`page: ${message.text()}`);
  });
  page.on('pageerror', (error) => console.error(`page: uncaught ${error.message}`));
}

/** Fills in the form as a user would; fields that `request` lacks keep their values. */
export async function fillForm(page, request) {
  const fields = {
    '#prompt': request.prompt,
    '#negative-prompt': request.negative_prompt,
    '#seed': request.seed,
    '#steps': request.num_inference_steps,
    '#guidance-scale': request.guidance_scale,
    '#width': request.width,
    '#height': request.height,
  };
  await openSettings(page);
  for (const [field, value] of Object.entries(fields)) {
    if (value !== undefined) await page.fill(field, String(value));
  }
  if (request.record) await page.check('#record');
  if (request.text_encoder?.kind === 'tab') await page.check('#text-tab');
  if (request.text_encoder?.kind === 'companion') {
    await page.check('#text-companion');
    await page.fill('#companion-url', request.text_encoder.url);
  }
}

/** Opens the panel that holds most fields, and what is folded in it. */
export async function openSettings(page) {
  await page.evaluate(() => {
    for (const part of [document.getElementById('settings'), ...document.querySelectorAll('#settings details')]) part.open = true;
  });
}

/** Opens a panel: `models` or `gallery`. */
export async function openPanel(page, name) {
  if (!(await page.evaluate((name) => document.getElementById(name).open, name))) await page.click(`#open-${name}`);
}

/** Chooses an action from the menu of an image in the gallery, by its position. */
export async function chooseAction(page, at, name) {
  await page.locator('#gallery-list li').nth(at).locator('.menu').click();
  await page.locator('[role="menu"] button', { hasText: name }).click();
}

/** Clicks Generate once it is enabled, and returns the result: `{ fault }`, or `{ png, file }` as downloaded. */
export async function generate(page, timeout = 30_000) {
  await untilEngine(page, timeout);
  if (await page.isEnabled('#generate')) {
    // The phase is another one only after the form was read.
    const before = await page.evaluateHandle(() => globalThis.pixart.state());
    await page.click('#generate');
    await page.waitForFunction(
      (before) => {
        const { phase, image, fault } = globalThis.pixart.state();
        return phase !== 'generating' && (image !== before.image || (fault !== undefined && fault !== before.fault));
      },
      before,
      { timeout },
    );
  }
  const fault = await page.evaluate(() => globalThis.pixart.state().fault);
  if (fault) return { fault };
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('#download')]);
  const chunks = [];
  for await (const chunk of await download.createReadStream()) chunks.push(chunk);
  return { png: Buffer.concat(chunks), file: download.suggestedFilename() };
}

/** Drops a PNG file on the page. */
export async function dropPng(page, png) {
  await page.evaluate(
    (bytes) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([new Uint8Array(bytes)], 'a.png', { type: 'image/png' }));
      document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true }));
    },
    [...png],
  );
}

/** Saves a screenshot of the whole page, for a person to look at, in the folder that SHOTS names, if it is set. */
export async function screenshot(page, name) {
  if (process.env.SHOTS) await page.screenshot({ path: join(process.env.SHOTS, `${name}.png`), fullPage: true });
}

/** Waits until the checkpoint is loaded, or the engine has stopped. */
export async function untilEngine(page, timeout = 30_000) {
  await page.waitForFunction(() => (globalThis.pixart?.state().phase ?? 'opening') !== 'opening', undefined, { timeout });
}

/** The RGBA bytes of a PNG, as the browser decodes them. */
export async function pixels(page, png) {
  const bytes = await page.evaluate(async (base64) => {
    const file = await fetch(`data:image/png;base64,${base64}`);
    const bitmap = await createImageBitmap(await file.blob());
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height).getContext('2d');
    canvas.drawImage(bitmap, 0, 0);
    return [...canvas.getImageData(0, 0, bitmap.width, bitmap.height).data];
  }, png.toString('base64'));
  return Uint8Array.from(bytes);
}

/** The largest difference between two images in any channel; infinite where their sizes differ. */
export function largestDifference(left, right) {
  if (left.length !== right.length || left.length === 0) return Infinity;
  return left.reduce((largest, value, at) => Math.max(largest, Math.abs(value - right[at])), 0);
}

/** Resolves once the running generation has done `step` steps. */
export const untilStep = (page, step) =>
  page.waitForFunction((step) => globalThis.pixart.state().progress?.step >= step, step, { timeout: 300_000 });
