// Builds the page. The root is the repository's, where index.html lives; everything else of the page is under web/.
import { createHash } from 'node:crypto';
import { cpSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { defineConfig, type Plugin } from 'vite';
import { renameWords, withShortImports } from './wasm-imports';

const under = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** The classic script in the head of index.html. */
const LANGUAGE = 'language.js';

/** Serves web/models as `models/`, and copies it there in a build: the page fetches checkpoints by plain URLs. */
const models: Plugin = {
  name: 'models',
  configureServer(server) {
    server.middlewares.use((request, _response, next) => {
      if (request.url?.startsWith('/models/')) request.url = `/web${request.url}`;
      if (request.url === `/${LANGUAGE}`) request.url = '/web/src/language.ts';
      next();
    });
  },
  closeBundle() {
    cpSync(under('models'), under('dist/models'), { recursive: true });
  },
};

/** Makes what is downloaded smaller: names of imports, and the indentation of index.html. */
const small: Plugin = {
  name: 'small',
  enforce: 'post',
  apply: 'build',
  transformIndexHtml: (html) => html.replace(/<!--[\s\S]*?-->/g, '').replace(/\n\s+/g, '\n'),
  generateBundle(_options, bundle) {
    const assets = Object.values(bundle).filter((file) => file.type === 'asset');
    const wasm = assets.find(({ fileName }) => fileName.endsWith('.wasm'));
    const worker = assets.find(({ fileName }) => /^assets\/worker-.*\.js$/.test(fileName));
    if (wasm === undefined || worker === undefined) throw new Error('the build has no wasm module, or no worker');
    const { module, names } = withShortImports(Buffer.from(wasm.source));
    wasm.source = module;
    worker.source = renameWords(Buffer.from(worker.source).toString(), names);
  },
};

const SERVICE_WORKER = 'sw.js';

/** Puts what installs the page beside it, and tells the service worker the files of this build. */
const offline: Plugin = {
  name: 'offline',
  enforce: 'post',
  apply: 'build',
  buildStart() {
    this.emitFile({ type: 'chunk', id: under('src/sw.ts'), fileName: SERVICE_WORKER });
    this.emitFile({ type: 'chunk', id: under('src/language.ts'), fileName: LANGUAGE });
    for (const fileName of ['icon.svg', 'manifest.webmanifest']) {
      this.emitFile({ type: 'asset', fileName, source: readFileSync(under(`src/${fileName}`)) });
    }
  },
  generateBundle(_options, bundle) {
    const worker = bundle[SERVICE_WORKER];
    if (worker?.type !== 'chunk') throw new Error(`the build has no ${SERVICE_WORKER}`);
    const files = Object.values(bundle).filter((file) => file !== worker);
    const hash = createHash('sha256');
    for (const file of files) hash.update(file.fileName).update(file.type === 'chunk' ? file.code : file.source);
    const names = JSON.stringify(files.map(({ fileName }) => fileName));
    worker.code = worker.code.replace('__FILES__', names).replace('__BUILD__', `'${hash.digest('hex').slice(0, 16)}'`);
  },
};

export default defineConfig({
  root: under('..'),
  base: './',
  // No fallback to index.html: a missing checkpoint file has to be a 404, not a page of markup.
  appType: 'mpa',
  publicDir: false,
  cacheDir: under('node_modules/.vite'),
  plugins: [models, small, offline],
  // Texts and the catalogue are used as a whole.
  json: { namedExports: false },
  build: { outDir: under('dist'), emptyOutDir: true, target: 'es2023' },
  worker: { format: 'es' },
  // What a companion tells a browser, too.
  preview: { headers: { 'Content-Security-Policy': readFileSync(under('csp.txt'), 'utf8').trim() } },
  server: { host: '127.0.0.1', watch: { ignored: ['**/target/**', '**/golden/**', '**/dist/**'] } },
});
