/**
 * A model hub on loopback, as the Hugging Face hub answers: a list of files, small files itself, large ones by a redirect to another
 * host with a signed address that is good for one transfer, ETags, ranges, and the headers that pages of other origins are shown.
 * `node hub.mjs DIR` serves the repositories in DIR, each a folder `owner/name`, and prints the address.
 */
import { createHash, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';

/** The commit of every `main`. */
const COMMIT = '0123456789abcdef0123456789abcdef01234567';
/** Milliseconds that a signed address is good for. */
const SIGNATURE_MILLIS = 60_000;
const EXPOSED = [
  'X-Repo-Commit',
  'X-Request-Id',
  'X-Error-Code',
  'X-Error-Message',
  'ETag',
  'Link',
  'Accept-Ranges',
  'Content-Range',
  'X-Linked-Size',
  'X-Linked-ETag',
].join(',');

/** Starts a hub of the repositories in `folder`. `hub.log` holds `METHOD path` of the requests to both of its hosts. */
export async function startHub(folder) {
  const hub = { log: [], signed: new Map() };
  const storage = createServer((request, response) => answer(response, () => sendStored(hub, request, response)));
  const front = createServer((request, response) => answer(response, () => sendFront(hub, folder, request, response)));
  for (const server of [storage, front]) await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = (server) => `http://127.0.0.1:${server.address().port}`;
  return Object.assign(hub, {
    endpoint: address(front),
    storage: address(storage),
    close() {
      for (const server of [storage, front]) {
        server.closeAllConnections();
        server.close();
      }
    },
  });
}

async function answer(response, send) {
  try {
    await send();
  } catch (error) {
    if (response.headersSent) response.destroy(error);
    else response.writeHead(error.code === 'ENOENT' ? 404 : 500, cors()).end(String(error));
  }
}

function cors(request) {
  return {
    'access-control-allow-origin': request?.headers.origin ?? '*',
    'access-control-expose-headers': EXPOSED,
    vary: 'Origin',
  };
}

async function sendFront(hub, folder, request, response) {
  const { pathname } = new URL(request.url, 'http://hub');
  hub.log.push(`${request.method} ${pathname}`);
  if (request.method === 'OPTIONS')
    return response.writeHead(204, { ...cors(request), 'access-control-allow-headers': 'Range,Authorization' }).end();
  const listed = /^\/api\/models\/([^/]+\/[^/]+)(?:\/revision\/([^/]+))?$/.exec(pathname);
  const resolved = /^\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(decodeURIComponent(pathname));
  const [, repository, revision = 'main', file] = listed ?? resolved ?? [];
  const commit = revision === 'main' ? COMMIT : revision;
  const isSafe = repository !== undefined && !`${repository}/${file ?? ''}`.split('/').includes('..');
  if (!isSafe || !/^[0-9a-f]{40}$/.test(commit)) return response.writeHead(404, cors(request)).end();
  if (listed) {
    const root = join(folder, repository);
    const entries = await readdir(root, { recursive: true, withFileTypes: true });
    const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
    const siblings = files.map((path) => ({ rfilename: path.slice(root.length + 1) })).sort(byName);
    const body = JSON.stringify({ id: repository, sha: commit, siblings });
    return response.writeHead(200, { ...cors(request), 'content-type': 'application/json; charset=utf-8' }).end(body);
  }
  const path = join(folder, repository, file);
  const { size } = await stat(path);
  const headers = { ...cors(request), 'x-repo-commit': commit, 'accept-ranges': 'bytes' };
  const hash = await digest(path);
  if (/\.(json|md)$/.test(file)) return send(request, response, path, size, { ...headers, etag: `"${hash.slice(0, 40)}"` });
  const signed = `/${hash}?Expires=${Date.now() + SIGNATURE_MILLIS}&Signature=${randomUUID()}`;
  hub.signed.set(signed, { path, size, hash, until: Date.now() + SIGNATURE_MILLIS });
  const linked = { 'x-linked-size': size, 'x-linked-etag': `"${hash}"`, location: `${hub.storage}${signed}` };
  response.writeHead(302, { ...headers, ...linked }).end('Found. Redirecting');
}

async function sendStored(hub, request, response) {
  hub.log.push(`${request.method} ${request.url.split('?')[0]}`);
  if (request.method === 'OPTIONS') return response.writeHead(204, { ...cors(request), 'access-control-allow-headers': 'Range' }).end();
  const found = hub.signed.get(request.url);
  if (!found || found.until < Date.now() || request.headers.authorization) return response.writeHead(403, cors(request)).end();
  if (request.method === 'GET') hub.signed.delete(request.url);
  await send(request, response, found.path, found.size, { ...cors(request), etag: `"${found.hash}"`, 'accept-ranges': 'bytes' });
}

async function send(request, response, path, size, headers) {
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
  const begin = Number(range?.[1] ?? 0);
  const end = range?.[2] ? Math.min(size, Number(range[2]) + 1) : size;
  if (range && begin >= size) return response.writeHead(416, { ...headers, 'content-range': `bytes */${size}` }).end();
  const part = range ? { 'content-range': `bytes ${begin}-${end - 1}/${size}` } : {};
  response.writeHead(range ? 206 : 200, { ...headers, ...part, 'content-length': end - begin });
  if (request.method === 'HEAD' || end === begin) return response.end();
  // A client that has what it needs may close first.
  await pipeline(createReadStream(path, { start: begin, end: end - 1 }), response).catch(() => response.destroy());
}

const hashes = new Map();

/** Returns the SHA-256 of a file, computed once. */
async function digest(path) {
  if (!hashes.has(path)) {
    const hash = createHash('sha256');
    for await (const chunk of createReadStream(path)) hash.update(chunk);
    hashes.set(path, hash.digest('hex'));
  }
  return hashes.get(path);
}

function byName(a, b) {
  return a.rfilename < b.rfilename ? -1 : 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) console.log((await startHub(process.argv[2])).endpoint);
