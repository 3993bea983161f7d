// Builds the npm package into web/package: one file for pages, one for the worker, the wasm module beside it, and types.
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'rolldown';

const under = (path) => fileURLToPath(new URL(path, import.meta.url));
const { name, version, license } = JSON.parse(readFileSync(under('package.json'), 'utf8'));
const OUT = under('package');
/** What the types of `index` are made of. */
const TYPES = ['engine/index', 'engine/client', 'engine/fault', 'engine/protocol.gen', 'studio/studio', 'studio/fields'];

/** Bundlers of other people find the worker by this very expression, with the file's name in the package. */
const worker = {
  name: 'worker',
  transform: (code, id) => (id.endsWith('/client.ts') ? code.replace("'./worker.ts'", "'./worker.js'") : undefined),
};

/** The custom element uses the engine of the package. */
const engine = {
  name: 'engine',
  resolveId: (id, importer) =>
    id === '../engine/index' && importer?.includes('/studio/') ? { id: './index.js', external: true } : undefined,
};

rmSync(OUT, { recursive: true, force: true });
for (const [entry, path] of [
  ['index', 'engine/index'],
  ['worker', 'engine/worker'],
  ['studio', 'studio/studio'],
]) {
  await build({
    input: under(`src/${path}.ts`),
    plugins: [worker, engine],
    output: { dir: OUT, entryFileNames: `${entry}.js`, format: 'es', codeSplitting: false },
  });
}
cpSync(under('pkg/pixart_browser_bg.wasm'), `${OUT}/pixart_browser_bg.wasm`);
cpSync(under('PACKAGE.md'), `${OUT}/README.md`);
for (const file of ['LICENSE-MIT', 'LICENSE-APACHE']) cpSync(under(`../${file}`), `${OUT}/${file}`);
execFileSync('node', [under('node_modules/typescript/bin/tsc'), '-p', under('tsconfig.package.json')], { stdio: 'inherit' });
mkdirSync(`${OUT}/types`);
for (const path of TYPES) {
  const types = readFileSync(`${OUT}/declarations/${path}.d.ts`, 'utf8').replaceAll("'../engine/", "'./");
  writeFileSync(`${OUT}/types/${path.split('/').at(-1)}.d.ts`, types);
}
rmSync(`${OUT}/declarations`, { recursive: true });
const manifest = {
  name,
  version,
  description: 'PixArt text-to-image in a browser tab, on the visitor’s GPU (WebGPU) or CPU.',
  license,
  type: 'module',
  exports: {
    '.': { types: './types/index.d.ts', default: './index.js' },
    './studio': { types: './types/studio.d.ts', default: './studio.js' },
  },
  types: './types/index.d.ts',
  // Importing it defines the element.
  sideEffects: ['./studio.js'],
};
writeFileSync(`${OUT}/package.json`, `${JSON.stringify(manifest, undefined, 2)}\n`);
