//! The page by plain HTTP from another host: browsers withhold WebGPU, the origin private file system, locks, `crypto.subtle` and
//! service workers there.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { fillForm, generate, serveFolder, untilEngine } from './browser.mjs';
import { untilLoaded, useBrowser } from './fixture.mjs';

const DIST = fileURLToPath(new URL('../../web/dist/', import.meta.url));
const SMALL = { prompt: 'a red circle on a blue background', seed: 7, num_inference_steps: 2, width: 64, height: 64 };
const TIMEOUT_MILLIS = 120_000;

const fixture = useBrowser({ serve: () => serveFolder(DIST), flags: ['--host-resolver-rules=MAP pixart.test 127.0.0.1'] });

async function openPage(host, query) {
  const page = await fixture.browser.context.newPage();
  const errors = [];
  page.on('pageerror', (error) => errors.push(error.message));
  await page.goto(fixture.server.url.replace('127.0.0.1', host) + query);
  return { page, errors };
}

async function draw(page) {
  await fillForm(page, SMALL);
  const { fault, png } = await generate(page, TIMEOUT_MILLIS);
  assert.equal(fault, undefined, fault?.what);
  return png;
}

test('a_page_by_plain_http_from_another_host_generates_the_same_image', async () => {
  const local = await openPage('localhost', '?device=wasm');
  await untilLoaded(local.page);
  const expected = await draw(local.page);
  const { page, errors } = await openPage('pixart.test', '');
  await untilLoaded(page);
  assert.equal(await page.evaluate(() => isSecureContext), false);
  assert.match(await page.innerText('#adapter'), /https and localhost only/);
  assert.deepEqual(await draw(page), expected);
  await page.reload();
  await untilLoaded(page);
  assert.deepEqual(await draw(page), expected);
  const stored = await page.evaluate(() =>
    globalThis.pixart.storage({ kind: 'verify', checkpoint: new URL('models/scenes/', location.href).href }),
  );
  assert.deepEqual(
    stored.map(({ storage, missing }) => ({ storage, missing })),
    [{ storage: 'indexeddb', missing: 0 }],
  );
  assert.deepEqual(errors, []);
});

test('webgpu_by_plain_http_from_another_host_is_refused_with_the_reason', async () => {
  const { page } = await openPage('pixart.test', '?device=webgpu');
  await untilEngine(page, TIMEOUT_MILLIS);
  assert.deepEqual(await page.evaluate(() => globalThis.pixart.state().fault), {
    code: 'no_webgpu',
    what: 'browsers offer WebGPU to pages from https and localhost only',
    remedy: 'open this page by https or at localhost, or use the CPU',
  });
});
