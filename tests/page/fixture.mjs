//! What the tests of weights share: the page's own server, a hub that serves as it is told, and a browser for each test.
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach } from 'node:test';
import { fileURLToPath } from 'node:url';
import { openBrowser, servePage, untilEngine } from './browser.mjs';
import { openHub } from './model-server.mjs';

export const SCENES = fileURLToPath(new URL('../../web/models/scenes/', import.meta.url));
export const MIB = 1 << 20;
const OPEN_MILLIS = 60_000;

/** Serves the folder that `what` names to the tests of a group, each of which has a browser of its own. */
export function served(what) {
  let server;
  const road = {
    hub: undefined,
    page: '',
    /** The page with the hub's checkpoint, computing on the processor. The companion would read prompts: no text encoder. */
    address({ store = 'auto' } = {}) {
      return `${road.page}?device=wasm&store=${store}&companion=&checkpoint=${encodeURIComponent(road.hub.url)}`;
    },
    async openPage({ browser }, options = {}) {
      const page = await browser.context.newPage();
      await page.goto(road.address(options));
      return page;
    },
    /** Starts the engine again, and waits until the checkpoint is on the device. */
    async again(page) {
      road.hub.reset();
      await page.click('#restart');
      return opened(page);
    },
    /** Requests of shards, and the bytes sent for them. */
    asked: () => road.hub.log.filter(({ path }) => path.endsWith('.bin')),
    sent: () => road.asked().reduce((sum, entry) => sum + entry.sent, 0),
  };
  before(async () => {
    server = await servePage();
    road.page = server.url;
    road.hub = await openHub(what());
  });
  after(() => {
    server.close();
    road.hub.close();
  });
  beforeEach(async (context) => {
    road.hub.reset();
    context.browser = await openBrowser({ flags: [] });
  });
  afterEach((context) => context.browser?.close());
  return road;
}

/** The checkpoint, once it is on the device. */
export async function opened(page) {
  await untilEngine(page, OPEN_MILLIS);
  const { phase, fault, checkpoint } = await page.evaluate(() => globalThis.pixart.state());
  assert.equal(fault, undefined, `${fault?.what}`);
  assert.equal(phase, 'ready');
  return checkpoint;
}

export async function faultOf(page) {
  await untilEngine(page, OPEN_MILLIS);
  const fault = await page.evaluate(() => globalThis.pixart.state().fault);
  assert.ok(fault, 'the page opened what it cannot have');
  return fault;
}

export async function until(condition, what) {
  for (const end = Date.now() + OPEN_MILLIS; !condition(); await new Promise((resolve) => setTimeout(resolve, 2))) {
    assert.ok(Date.now() < end, `never: ${what}`);
  }
}
