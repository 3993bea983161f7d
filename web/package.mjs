// Builds the npm package into web/package: one file for pages, one for the worker, the wasm module beside it, and types.
import { execFileSync } from 'node:child_process';
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'rolldown';

const under = (path) => fileURLToPath(new URL(path, import.meta.url));
const { name, version, license } = JSON.parse(readFileSync(under('package.json'), 'utf8'));
const OUT = under('package');
/** What the types of `index` are made of. */
const TYPES = ['index', 'client', 'fault', 'protocol.gen'];

/** Bundlers of other people find the worker by this very expression, with the file's name in the package. */
const worker = {
  name: 'worker',
  transform: (code, id) => (id.endsWith('/client.ts') ? code.replace("'./worker.ts'", "'./worker.js'") : undefined),
};

rmSync(OUT, { recursive: true, force: true });
for (const entry of ['index', 'worker']) {
  await build({
    input: under(`src/engine/${entry}.ts`),
    plugins: [worker],
    output: { dir: OUT, entryFileNames: `${entry}.js`, format: 'es', codeSplitting: false },
  });
}
cpSync(under('pkg/pixart_browser_bg.wasm'), `${OUT}/pixart_browser_bg.wasm`);
cpSync(under('PACKAGE.md'), `${OUT}/README.md`);
for (const file of ['LICENSE-MIT', 'LICENSE-APACHE']) cpSync(under(`../${file}`), `${OUT}/${file}`);
execFileSync('node', [under('node_modules/typescript/bin/tsc'), '-p', under('tsconfig.package.json')], { stdio: 'inherit' });
for (const name of TYPES) cpSync(`${OUT}/declarations/engine/${name}.d.ts`, `${OUT}/types/${name}.d.ts`);
rmSync(`${OUT}/declarations`, { recursive: true });
const manifest = {
  name,
  version,
  description: 'PixArt text-to-image in a browser tab, on the visitor’s GPU (WebGPU) or CPU.',
  license,
  type: 'module',
  exports: { '.': { types: './types/index.d.ts', default: './index.js' } },
  types: './types/index.d.ts',
  sideEffects: false,
};
writeFileSync(`${OUT}/package.json`, `${JSON.stringify(manifest, undefined, 2)}\n`);
