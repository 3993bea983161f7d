//! Downloads whose browser is killed at a random moment: the checkpoint is loaded after each, and little is downloaded twice.
import { children } from '../bench/report.mjs';
import { openBrowser, servePage } from '../page/browser.mjs';
import { untilLoaded, waitUntil } from '../page/fixture.mjs';
import { startModelServer } from '../page/model-server.mjs';

/** The longest delay of a response, so that a download lasts long enough to be hit. */
const DELAY_MILLIS = 800;
/** The most requests before a kill; a download has more. */
const REQUESTS = 14;

/** Kills the browser `count` times. */
export async function restarts({ chrome, packed, random }, count) {
  const [server, models] = [await servePage(), await startModelServer(packed)];
  const twice = [];
  let during_download = 0;
  try {
    for (let at = 0; at < count; at += 1) {
      models.reset();
      models.rule = () => new Promise((resolve) => setTimeout(resolve, random() * DELAY_MILLIS));
      const url = `${server.url}?device=wasm&companion=&checkpoint=${encodeURIComponent(models.url)}&round=${at}`;
      const earlier = children(process.pid);
      const killed = await openBrowser({ chrome, flags: [] });
      const pids = children(process.pid).filter((pid) => !earlier.includes(pid));
      const page = await killed.context.newPage();
      await page.goto(url);
      const requests = 1 + Math.floor(random() * REQUESTS);
      await waitUntil(() => models.log.length >= requests, `${requests} requests`);
      await new Promise((resolve) => setTimeout(resolve, random() * DELAY_MILLIS));
      if (await page.evaluate(() => globalThis.pixart?.state().phase !== 'ready')) during_download += 1;
      for (const pid of pids) process.kill(pid, 'SIGKILL');
      const sent_first = sentBytes(models);
      models.reset();
      const browser = await openBrowser({ chrome, flags: [], profile: killed.profile });
      try {
        const again = await browser.context.newPage();
        await again.goto(url);
        await untilLoaded(again);
        twice.push({ first: sent_first, second: sentBytes(models) });
      } finally {
        await browser.close();
      }
    }
  } finally {
    await server.close();
    models.close();
  }
  const whole = Math.max(...twice.map(({ first, second }) => Math.max(first, second)));
  const most = Math.max(...twice.map(({ first, second }) => first + second - whole));
  return { restarts: count, during_download, loaded: twice.length, checkpoint_bytes: whole, most_bytes_twice: Math.max(0, most) };
}

const sentBytes = ({ log }) => log.reduce((sum, { sent }) => sum + sent, 0);
