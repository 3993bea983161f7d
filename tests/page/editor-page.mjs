//! The editor of the input image, for tests: where its pixels are on the screen, and what the page sends of it.
import { openPanel, pixels, untilEngine } from './browser.mjs';

/** The room around a fitted image, and the largest scale (geometry.ts). */
const MARGIN = 28;
const SCALE_MAX = 32;

/** Records the requests that the page sends to its worker in `globalThis.sent`. Called before the page is loaded. */
export async function recordRequests(page) {
  await page.addInitScript(() => {
    globalThis.sent = [];
    const post = Worker.prototype.postMessage;
    Worker.prototype.postMessage = function (message, ...rest) {
      if (message.kind === 'generate') {
        const { kind: _, image, mask_image, ...request } = message;
        const copies = Object.entries({ image, mask_image }).map(([name, bytes]) => [name, bytes && [...bytes]]);
        globalThis.sent.push({ ...request, ...Object.fromEntries(copies) });
      }
      return post.call(this, message, ...rest);
    };
  });
}

/** Opens the editor with an image file. */
export async function openEditor(page, png, name = 'input.png') {
  await openPanel(page, 'editor');
  await page.waitForSelector('#editor-file', { state: 'attached' });
  await page.setInputFiles('#editor-file', { name, mimeType: 'image/png', buffer: png });
  await page.waitForSelector('#editor-canvas');
  await untilFrame(page);
}

/** Waits until what was changed is drawn. */
export const untilFrame = (page) => page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve))));

/** Fits the image into the view, and returns a function from its pixels to the page's. */
export async function editorPoints(page, { width, height }) {
  await page.waitForSelector('#editor-canvas');
  await page.click('#zoom-fit');
  await untilFrame(page);
  const box = await page.locator('#editor-canvas').boundingBox();
  const scale = Math.min((box.width - 2 * MARGIN) / width, (box.height - 2 * MARGIN) / height, SCALE_MAX);
  const [left, top] = [box.x + (box.width - width * scale) / 2, box.y + (box.height - height * scale) / 2];
  const at = (x, y) => [left + x * scale, top + y * scale];
  at.scale = scale;
  return at;
}

/** Draws with the mouse through points of the image. */
export async function stroke(page, points) {
  const [first, ...rest] = points;
  await page.mouse.move(...first);
  await page.mouse.down();
  for (const point of rest) await page.mouse.move(...point);
  await page.mouse.up();
}

/** Generates an image, and returns what was sent: the fields, the pixels of the image, and the mask with a number a pixel. */
export async function sent(page, timeout = 60_000) {
  const before = await page.evaluate(() => globalThis.sent.length);
  await page.click('#generate');
  await page.waitForFunction((before) => globalThis.sent.length > before, before, { timeout });
  await page.waitForFunction(() => globalThis.pixart.state().phase === 'ready' && globalThis.pixart.state().jobs.length === 0, undefined, {
    timeout,
  });
  const { image, mask_image, ...request } = await page.evaluate(() => globalThis.sent.at(-1));
  const decoded = async (bytes) => {
    if (bytes === undefined) return undefined;
    const file = Buffer.from(bytes);
    return { file, width: file.readUInt32BE(16), height: file.readUInt32BE(20), rgba: await pixels(page, file) };
  };
  const [sentImage, sentMask] = [await decoded(image), await decoded(mask_image)];
  const mask = sentMask && { ...sentMask, values: sentMask.rgba.filter((_, at) => at % 4 === 0) };
  return { request, image: sentImage, mask };
}

/** The pixels under a brush of this radius that moves along a segment, by their centres: 255 or 0. */
export function capsule({ width, height }, [fromX, fromY], [toX, toY], radius) {
  const [dx, dy] = [toX - fromX, toY - fromY];
  const length = dx * dx + dy * dy;
  return Uint8Array.from({ length: width * height }, (_, at) => {
    const [x, y] = [(at % width) + 0.5, Math.floor(at / width) + 0.5];
    const along = length === 0 ? 0 : Math.min(Math.max(((x - fromX) * dx + (y - fromY) * dy) / length, 0), 1);
    return Math.hypot(x - fromX - along * dx, y - fromY - along * dy) <= radius ? 255 : 0;
  });
}

/** Opens the page, and records its requests. */
export async function openRecordedPage(browser, url, { size = { width: 1280, height: 800 }, prepare = async () => {} } = {}) {
  const page = await browser.context.newPage();
  await page.setViewportSize(size);
  await recordRequests(page);
  await prepare(page);
  await page.goto(`${url}?device=wasm`);
  await untilEngine(page, 60_000);
  page.setDefaultTimeout(20_000);
  return page;
}
