//! The service worker: caches the files of one build and serves them from that cache alone. The page works offline, and never
//! mixes two builds: a new build is activated once every page of the old one is closed. The store caches checkpoints.

/** Replaced by the build: its hash, and the paths of its files. */
declare const __BUILD__: string;
declare const __FILES__: readonly string[];

/** The part of a service worker's global scope that is used here; TypeScript's DOM library does not declare it. */
interface Scope {
  addEventListener(kind: 'install' | 'activate' | 'fetch', listener: (event: LifetimeEvent) => void): void;
  registration: { scope: string };
}

interface LifetimeEvent {
  waitUntil(work: Promise<unknown>): void;
  respondWith(response: Promise<Response>): void;
  request: Request;
}

const scope = self as unknown as Scope;
const CACHE_PREFIX = 'pixart-web page ';
const CACHE = CACHE_PREFIX + __BUILD__;
const INDEX = new URL('index.html', scope.registration.scope).href;
const cached = new Set(__FILES__.map((file) => new URL(file, scope.registration.scope).href));

scope.addEventListener('install', (event) => {
  // The HTTP cache may hold files of another build: `no-cache` revalidates them.
  const requests = [...cached].map((url) => new Request(url, { cache: 'no-cache' }));
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(requests)));
});

scope.addEventListener('activate', (event) => {
  const deleteOldBuilds = async (): Promise<void> => {
    const names = await caches.keys();
    await Promise.all(names.filter((name) => name.startsWith(CACHE_PREFIX) && name !== CACHE).map((name) => caches.delete(name)));
  };
  event.waitUntil(deleteOldBuilds());
});

scope.addEventListener('fetch', (event) => {
  const { request } = event;
  const url = new URL(request.url);
  const path = url.origin + url.pathname;
  const file = path === scope.registration.scope ? INDEX : path;
  if (request.method === 'GET' && cached.has(file)) event.respondWith(respond(file, request));
});

async function respond(file: string, request: Request): Promise<Response> {
  const cache = await caches.open(CACHE);
  return (await cache.match(file)) ?? fetch(request);
}
