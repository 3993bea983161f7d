//! The gallery with many images: the time until it shows, the frames while it is scrolled through, and the page's heap. Prints one JSON line.
//!
//!   node gallery.mjs [--chrome PATH] [--images N] [--screenshot FILE]
import { parseArgs } from 'node:util';
import { echoConsole, openBrowser, servePage } from '../page/browser.mjs';
import { fillGallery, openGallery } from '../page/gallery-images.mjs';

const SCROLL_MILLIS = 6000;
const { values: options } = parseArgs({
  options: { chrome: { type: 'string' }, images: { type: 'string', default: '10000' }, screenshot: { type: 'string' } },
});
const count = Number(options.images);
const server = await servePage();
const browser = await openBrowser({ ...(options.chrome && { chrome: options.chrome }), flags: [] });
try {
  const page = await browser.context.newPage();
  echoConsole(page);
  await page.setViewportSize({ width: 1280, height: 800 });
  await openGallery(page, server.url);
  const thumbnail_bytes = await fillGallery(page, count);
  await page.goto(`${server.url}?checkpoint=&device=wasm&lang=en`);
  await page.waitForFunction(() => globalThis.pixart !== undefined);
  const open_ms = await page.evaluate(async () => {
    const started = performance.now();
    document.getElementById('open-gallery').click();
    const isShown = () => {
      const images = [...document.querySelectorAll('#gallery-list img')];
      return images.length > 8 && images.slice(0, 8).every(({ complete, naturalWidth }) => complete && naturalWidth > 0);
    };
    while (!isShown()) await new Promise(requestAnimationFrame);
    return Math.round(performance.now() - started);
  });
  const scroll = await page.evaluate(async (millis) => {
    const list = document.getElementById('gallery-list');
    let scroller = list.parentElement;
    while (scroller !== null && !(scroller.scrollHeight > scroller.clientHeight + 1 && getComputedStyle(scroller).overflowY !== 'visible'))
      scroller = scroller.parentElement;
    scroller ??= document.scrollingElement;
    const [from, started] = [list.getBoundingClientRect().top + scroller.scrollTop, performance.now()];
    const frames = [];
    let [before, blank, tiles] = [started, 0, 0];
    // 3000 pixels a second, as a hand does with a wheel.
    for (let now = started; now < started + millis; ) {
      scroller.scrollTop = from + ((now - started) / 1000) * 3000;
      now = await new Promise(requestAnimationFrame);
      frames.push(now - before);
      before = now;
      for (const tile of list.querySelectorAll('li')) {
        const { top, bottom } = tile.getBoundingClientRect();
        if (bottom < 0 || top > innerHeight) continue;
        tiles += 1;
        if (tile.querySelector('img') === null) blank += 1;
      }
    }
    const sorted = frames.slice(1).sort((a, b) => a - b);
    const mean = sorted.reduce((sum, one) => sum + one, 0) / sorted.length;
    const at = (part) => Math.round(sorted[Math.floor(part * (sorted.length - 1))] * 10) / 10;
    return {
      frames_per_second: Math.round(1000 / mean),
      frame_p95_ms: at(0.95),
      frame_max_ms: at(1),
      blank_tiles: Math.round((100 * blank) / tiles) / 100,
    };
  }, SCROLL_MILLIS);
  if (options.screenshot) await page.screenshot({ path: options.screenshot });
  const client = await page.context().newCDPSession(page);
  await client.send('HeapProfiler.collectGarbage');
  const { usedSize } = await client.send('Runtime.getHeapUsage');
  const tiles = await page.locator('#gallery-list li').count();
  console.log(
    JSON.stringify({
      what: 'gallery',
      images: count,
      open_ms,
      ...scroll,
      heap_mb: Math.round(usedSize / 1e5) / 10,
      tiles,
      thumbnail_bytes,
    }),
  );
} finally {
  await browser.close();
  server.close();
}
