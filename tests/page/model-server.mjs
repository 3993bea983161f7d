//! A file server on a free loopback port, of another origin than the page, whose faults a test sets.
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
 * Serves `folder`. Before each response, `server.rule({ path, begin, count })` returns its faults, or nothing; `count` is the
 * number of earlier requests for the path. A rule is some of `{ status, headers, cut, flip, length, etag, ranges, from }`: another
 * status; the number of bytes after which the connection is cut; the offset of a byte to change; another file length; another
 * ETag, or with null none; `ranges: false` to ignore range requests; `omit`, names of headers to leave out; `body` to send
 * with status 200; the path of the file to send instead. `server.log` holds the requests, with the
 * bytes sent.
 */
export async function startModelServer(folder) {
  const state = { log: [], rule: () => undefined };
  const server = createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, 'http://localhost').pathname)).slice(1);
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
    const requested = {
      path,
      method: request.method,
      begin: Number(range?.[1] ?? 0),
      count: state.log.filter((other) => other.path === path).length,
    };
    const entry = { ...requested, sent: 0 };
    state.log.push(entry);
    const {
      status,
      headers = {},
      cut,
      flip,
      length,
      etag = '"one"',
      ranges = true,
      from = path,
      body: page,
      omit = [],
    } = (await state.rule(requested)) ?? {};
    const found = await stat(join(folder, from)).catch(() => undefined); // an unreadable file is served as missing
    if (status !== undefined || (page === undefined && !found?.isFile()))
      return response.writeHead(status ?? 404, { ...HEADERS, ...headers }).end();
    if (page !== undefined) return response.writeHead(200, { ...HEADERS, ...headers }).end(page);
    const size = length ?? found.size;
    const partial = range !== null && ranges;
    const begin = partial ? requested.begin : 0;
    const end = partial && range[2] !== '' ? Math.min(size, Number(range[2]) + 1) : size;
    const all = {
      ...HEADERS,
      ...(etag !== null && { etag }),
      'content-length': end - begin,
      ...(partial && { 'content-range': `bytes ${begin}-${end - 1}/${size}` }),
      ...headers,
    };
    response.writeHead(partial ? 206 : 200, Object.fromEntries(Object.entries(all).filter(([name]) => !omit.includes(name))));
    if (request.method === 'HEAD') return response.end();
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
    // A browser drops bytes it has not delivered when the connection breaks: the delay lets them arrive.
    if (cut !== undefined) setTimeout(() => response.destroy(), cut > 0 ? 400 : 0);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return Object.assign(state, {
    url: `http://127.0.0.1:${server.address().port}/`,
    /** Clears the log and the rule. */
    reset() {
      state.log = [];
      state.rule = () => undefined;
    },
    close() {
      server.closeAllConnections();
      server.close();
    },
  });
}
