//! The page without a network, and while its files are replaced: `web/dist` behind a server that can be closed.
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { dropPng, fillForm, generate, openBrowser, openPanel, serveFolder, untilEngine } from './browser.mjs';

const DIST = fileURLToPath(new URL('../../web/dist/', import.meta.url));
const SMALL = { prompt: 'a red circle on a blue background', seed: 7, num_inference_steps: 2, width: 64, height: 64 };
const TIMEOUT_MILLIS = 60_000;

let browser;
let folder;
let server;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pixart-dist-'));
  cpSync(DIST, folder, { recursive: true });
  browser = await openBrowser({ serviceWorkers: 'allow', flags: [] });
  server = await serveFolder(folder);
});
after(async () => {
  await browser.close();
  await server.close();
  rmSync(folder, { recursive: true });
});

async function openPage() {
  const page = await browser.context.newPage();
  await page.goto(`${server.url}?device=wasm`);
  await untilEngine(page, TIMEOUT_MILLIS);
  assert.equal(await page.evaluate(() => globalThis.pixart.state().phase), 'ready');
  return page;
}

const installed = (page) => page.evaluate(async () => (await navigator.serviceWorker.ready).active.state);

test('a_new_build_is_activated_once_every_page_of_the_old_one_is_closed', async () => {
  const old = await openPage();
  await installed(old);
  await old.reload();
  for (const [file, from, to] of [
    ['index.html', /<h1>[\s\S]*?<\/h1>/, '<h1>another build</h1>'],
    ['sw.js', /(?<=['"`])[0-9a-f]{16}(?=['"`])/, 'another'],
  ]) {
    const text = readFileSync(join(folder, file), 'utf8');
    assert.match(text, from, file);
    writeFileSync(join(folder, file), text.replace(from, to));
  }
  await old.evaluate(async () => {
    const registration = await navigator.serviceWorker.ready;
    await registration.update();
    while (registration.waiting === null) await new Promise((resolve) => setTimeout(resolve, 50));
  });
  await old.reload();
  assert.equal(await old.innerText('h1'), 'pixart-web', 'the old build, while a page of it is open');
  await old.goto('about:blank');
  await old.close();
  // The browser lets the new one take over a moment after the last page is closed.
  let fresh;
  for (let tries = 0; tries < 10; tries += 1) {
    await new Promise((resolve) => setTimeout(resolve, 500));
    fresh = await openPage();
    if ((await fresh.innerText('h1')) === 'another build') break;
    await fresh.close();
  }
  assert.equal(await fresh.innerText('h1'), 'another build');
  assert.deepEqual(await fresh.evaluate(() => caches.keys()), ['pixart-web page another'], 'the old one is gone');
  await fresh.close();
});

test('after_one_visit_the_page_generates_offline', async () => {
  const page = await openPage();
  await installed(page);
  await page.reload();
  await untilEngine(page, TIMEOUT_MILLIS);
  await server.close();
  await page.reload();
  await untilEngine(page, TIMEOUT_MILLIS);
  await fillForm(page, SMALL);
  const result = await generate(page, TIMEOUT_MILLIS);
  assert.equal(result.fault, undefined);
  assert.equal(result.png.subarray(1, 4).toString(), 'PNG');
  // Parts that were not used online.
  await openPanel(page, 'gallery');
  await page.waitForSelector('#gallery-list li');
  await dropPng(page, result.png);
  await page.waitForFunction(() => document.getElementById('notice-text').textContent === 'The settings of a.png are in the form.');
  await page.setInputFiles('#init-image', { name: 'a.png', mimeType: 'image/png', buffer: result.png });
  assert.equal((await generate(page, TIMEOUT_MILLIS)).fault, undefined);
  await assert.rejects(
    page.evaluate(() => fetch('nowhere').then((reply) => reply.text())),
    /Failed to fetch/,
  );
});
