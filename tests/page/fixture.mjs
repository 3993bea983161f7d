//! Fixtures of the page tests: the server and the browser of a file, a model server whose faults a test sets, and observers of a page.
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach } from 'node:test';
import { fileURLToPath } from 'node:url';
import { echoConsole, openBrowser, servePage, untilEngine } from './browser.mjs';
import { startModelServer } from './model-server.mjs';

export const SCENES = fileURLToPath(new URL('../../web/models/scenes/', import.meta.url));
export const MIB = 1 << 20;
const LOAD_MILLIS = 60_000;
const ENGINE_MILLIS = 300_000;

/** Serves the built page to the tests of a file, in one browser or, with `browserPerTest`, in a fresh one for each. `serve` starts the server. */
export function useBrowser({ browserPerTest = false, serve = servePage, ...options } = {}) {
  let start;
  const fixture = {
    server: undefined,
    browser: undefined,
    /** Resolves with the server and the browser of the file: its other hooks run at the same time as those that start them. */
    started: new Promise((resolve) => (start = resolve)),
    /** Opens the page, and waits until its engine has started or stopped. */
    async openPage(address = '?device=wasm') {
      if (!browserPerTest) await fixture.started;
      const page = await fixture.browser.context.newPage();
      echoConsole(page);
      await page.goto(`${fixture.server.url}${address}`);
      await untilEngine(page, ENGINE_MILLIS);
      return page;
    },
    /** Runs `body` with a page of the browser; `prepare` runs before it opens anything. Fails on what is uncaught in the page. */
    async withPage(body, prepare = async () => {}) {
      const page = await fixture.browser.context.newPage();
      const uncaught = [];
      page.on('pageerror', (error) => uncaught.push(error.message));
      await prepare(page);
      await body(page);
      assert.deepEqual(uncaught, []);
    },
  };
  before(async () => {
    fixture.server = await serve();
    if (!browserPerTest) fixture.browser = await openBrowser(options);
    start(fixture);
  });
  if (browserPerTest)
    beforeEach(async () => {
      fixture.browser = await openBrowser(options);
    });
  (browserPerTest ? afterEach : after)(() => fixture.browser.close());
  after(() => fixture.server.close());
  return fixture;
}

/** Records the layout shifts of a page that is not open yet. */
export async function observeShifts(page) {
  await page.addInitScript(() => {
    globalThis.shifts = [];
    new PerformanceObserver((list) => {
      for (const { value, hadRecentInput, sources } of list.getEntries())
        if (!hadRecentInput)
          globalThis.shifts.push([
            value,
            ...sources.map(({ node, previousRect, currentRect }) => [
              node?.id || node?.nodeName,
              previousRect.toJSON(),
              currentRect.toJSON(),
            ]),
          ]);
    }).observe({ type: 'layout-shift', buffered: true });
  });
}

/** Fails where the layout of an observed page has shifted without an input. */
export async function assertNoShifts(page) {
  assert.deepEqual(await page.evaluate(() => globalThis.shifts), []);
}

/** Serves `folder()` to the tests of a group. */
export function useModelServer(folder) {
  let pageServer;
  const fixture = {
    server: undefined,
    pageUrl: '',
    /** The page with the model server's checkpoint, on the CPU. With a companion to encode prompts, it loads no text encoder. */
    url({ store = 'auto' } = {}) {
      return `${fixture.pageUrl}?device=wasm&store=${store}&companion=&checkpoint=${encodeURIComponent(fixture.server.url)}`;
    },
    async openPage({ browser }, options = {}) {
      const page = await browser.context.newPage();
      await page.goto(fixture.url(options));
      return page;
    },
    /** Restarts the engine, and waits until the checkpoint is loaded from a server without faults. */
    async restart(page) {
      fixture.server.reset();
      await page.click('#restart');
      return untilLoaded(page);
    },
    shardRequests: () => fixture.server.log.filter(({ path }) => path.endsWith('.bin')),
    /** The bytes sent for shards. */
    shardBytes: () => fixture.shardRequests().reduce((sum, entry) => sum + entry.sent, 0),
  };
  before(async () => {
    pageServer = await servePage();
    fixture.pageUrl = pageServer.url;
    fixture.server = await startModelServer(folder());
  });
  after(() => {
    pageServer.close();
    fixture.server.close();
  });
  beforeEach(async (context) => {
    fixture.server.reset();
    context.browser = await openBrowser({ flags: [] });
  });
  afterEach((context) => context.browser?.close());
  return fixture;
}

/** Returns the checkpoint once it is loaded; fails on a fault. */
export async function untilLoaded(page) {
  await untilEngine(page, LOAD_MILLIS);
  const { phase, fault, checkpoint } = await page.evaluate(() => globalThis.pixart.state());
  assert.equal(fault, undefined, `${fault?.what}`);
  assert.equal(phase, 'ready');
  return checkpoint;
}

/** Returns the fault of a page that must not load its checkpoint. */
export async function faultOf(page) {
  await untilEngine(page, LOAD_MILLIS);
  const fault = await page.evaluate(() => globalThis.pixart.state().fault);
  assert.ok(fault, 'the page reported no fault');
  return fault;
}

export async function waitUntil(condition, what) {
  for (const end = Date.now() + LOAD_MILLIS; !condition(); await new Promise((resolve) => setTimeout(resolve, 2))) {
    assert.ok(Date.now() < end, `timed out: ${what}`);
  }
}
