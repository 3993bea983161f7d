// Builds the page. The root is the repository's, where index.html lives; everything else of the page is under web/.
import { cpSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { defineConfig, type Plugin } from 'vite';

const under = (path: string): string => fileURLToPath(new URL(path, import.meta.url));

/** Serves web/models as `models/`, and copies it there in a build: the page fetches checkpoints by plain URLs. */
const models: Plugin = {
  name: 'models',
  configureServer(server) {
    server.middlewares.use((request, _response, next) => {
      if (request.url?.startsWith('/models/')) request.url = `/web${request.url}`;
      next();
    });
  },
  closeBundle() {
    cpSync(under('models'), under('dist/models'), { recursive: true });
  },
};

export default defineConfig({
  root: under('..'),
  base: './',
  // No fallback to index.html: a missing checkpoint file has to be a 404, not a page of markup.
  appType: 'mpa',
  publicDir: false,
  cacheDir: under('node_modules/.vite'),
  plugins: [models],
  build: { outDir: under('dist'), emptyOutDir: true, target: 'es2023' },
  worker: { format: 'es' },
  // What a companion tells a browser, too.
  preview: { headers: { 'Content-Security-Policy': readFileSync(under('csp.txt'), 'utf8').trim() } },
  server: { host: '127.0.0.1', watch: { ignored: ['**/target/**', '**/golden/**', '**/dist/**'] } },
});
