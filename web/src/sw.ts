//! The service worker: keeps the files of one build, whole, and answers with them alone, so that the page works without a
//! network and never mixes two builds. A new build takes over once every page of the old one is closed. Checkpoints are not
//! its business; the store keeps those.

/** What the build puts in place of these: a name for its files, and their paths. */
declare const __BUILD__: string;
declare const __FILES__: readonly string[];

/** What TypeScript's description of the DOM has of a service worker's scope. */
interface Scope {
  addEventListener(kind: 'install' | 'activate' | 'fetch', hear: (event: Extendable) => void): void;
  registration: { scope: string };
}

interface Extendable {
  waitUntil(work: Promise<unknown>): void;
  respondWith(reply: Promise<Response>): void;
  request: Request;
}

const scope = self as unknown as Scope;
const PREFIX = 'pixart-web page ';
const CACHE = PREFIX + __BUILD__;
const PAGE = new URL('index.html', scope.registration.scope).href;
const kept = new Set(__FILES__.map((file) => new URL(file, scope.registration.scope).href));

scope.addEventListener('install', (event) => {
  // The browser's own cache may hold files of another build: its server is asked whether they are still these.
  const requests = [...kept].map((url) => new Request(url, { cache: 'no-cache' }));
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(requests)));
});

scope.addEventListener('activate', (event) => {
  const forget = async (): Promise<void> => {
    const names = await caches.keys();
    await Promise.all(names.filter((name) => name.startsWith(PREFIX) && name !== CACHE).map((name) => caches.delete(name)));
  };
  event.waitUntil(forget());
});

scope.addEventListener('fetch', (event) => {
  const { request } = event;
  const url = new URL(request.url);
  const path = url.origin + url.pathname;
  const file = path === scope.registration.scope ? PAGE : path;
  if (request.method === 'GET' && kept.has(file)) event.respondWith(answer(file, request));
});

async function answer(file: string, request: Request): Promise<Response> {
  const cache = await caches.open(CACHE);
  return (await cache.match(file)) ?? fetch(request);
}
