//! A file server on a free loopback port, another origin than the page's, that serves as badly as it is told to.
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join, normalize } from 'node:path';
import { pipeline } from 'node:stream/promises';

const HEADERS = {
  'access-control-allow-origin': '*',
  'access-control-expose-headers': 'content-range, etag, retry-after',
  'cache-control': 'no-store',
};

/**
 * Serves `folder`. Before each reply `hub.rule({ path, begin, count })` may say how it goes: `count` is how often the path was
 * asked for before. It returns nothing, or some of `{ status, headers, cut, flip, length, etag, ranges, from }`: another status; a
 * connection that is cut after `cut` bytes; a file whose byte `flip` is another one; one of another `length`; another ETag;
 * `ranges: false`, a server that knows none; `from`, the path of the file that is served instead. `hub.log` is what was asked for, with the bytes that were sent.
 */
export async function openHub(folder) {
  const hub = { log: [], rule: () => undefined };
  const server = createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, 'http://localhost').pathname)).slice(1);
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
    const asked = { path, begin: Number(range?.[1] ?? 0), count: hub.log.filter((other) => other.path === path).length };
    const entry = { ...asked, sent: 0 };
    hub.log.push(entry);
    const { status, headers = {}, cut, flip, length, etag = '"one"', ranges = true, from = path } = (await hub.rule(asked)) ?? {};
    const found = await stat(join(folder, from)).catch(() => undefined); // what cannot be read is not there
    if (status !== undefined || !found?.isFile()) return response.writeHead(status ?? 404, { ...HEADERS, ...headers }).end();
    const size = length ?? found.size;
    const partial = range !== null && ranges;
    const begin = partial ? asked.begin : 0;
    const end = partial && range[2] !== '' ? Math.min(size, Number(range[2]) + 1) : size;
    response.writeHead(partial ? 206 : 200, {
      ...HEADERS,
      etag,
      'content-length': end - begin,
      ...(partial && { 'content-range': `bytes ${begin}-${end - 1}/${size}` }),
      ...headers,
    });
    const stop = Math.min(end, found.size, begin + (cut ?? Infinity));
    const body = async function* () {
      let at = begin;
      if (stop > begin) {
        for await (const chunk of createReadStream(join(folder, from), { start: begin, end: stop - 1, highWaterMark: 1 << 16 })) {
          if (flip >= at && flip < at + chunk.length) chunk[flip - at] ^= 1;
          at += chunk.length;
          entry.sent += chunk.length;
          yield chunk;
        }
      }
      if (cut === undefined && end > at) yield Buffer.alloc(end - at);
    };
    await pipeline(body, response, { end: cut === undefined }).catch(() => response.destroy());
    // What was sent before is to arrive: a browser drops what it has not handed over when a connection breaks.
    if (cut !== undefined) setTimeout(() => response.destroy(), cut > 0 ? 400 : 0);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return Object.assign(hub, {
    url: `http://127.0.0.1:${server.address().port}/`,
    /** Forgets what was asked for, and serves well again. */
    reset() {
      hub.log = [];
      hub.rule = () => undefined;
    },
    close() {
      server.closeAllConnections();
      server.close();
    },
  });
}
