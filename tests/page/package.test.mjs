//! The npm package in other pages, bundled by Vite and without a bundler; and the download sizes of the page.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';
import { openBrowser, screenshot, serveFolder } from './browser.mjs';

const under = (path) => fileURLToPath(new URL(`../../web/${path}`, import.meta.url));
const fromWeb = createRequire(under('package.json'));
/** Bytes after gzip: of what a first visit downloads before a click, without the wasm module, and of the module. */
const PAGE_MAX = 100_000;
const WASM_MAX = 4_000_000;
const EXAMPLE_MILLIS = 120_000;

/** The README's example in TypeScript, with estimates, faults and cancellation. */
const CONSUMER = `
import { createEngine, isFault, type Engine, type Estimate } from 'pixart-web';
const seen: string[] = [];
async function main(): Promise<unknown> {
  // The former name of \`storage\`.
  const options = { model: '/models/scenes/', device: 'wasm', store: 'indexeddb' } as const;
  const declined = await createEngine({ ...options, onEstimate: () => false }).then(() => undefined, (thrown: unknown) => thrown);
  let estimated = '';
  const onEstimate = ({ download_bytes, generation_cost }: Estimate) => (estimated = typeof generation_cost?.seconds + (download_bytes > 1e6)) !== '';
  const engine: Engine = await createEngine({ ...options, onEstimate, onProgress: (event) => seen.push(event.kind) });
  const request = { prompt: 'a red mushroom in a green field', seed: 7, num_inference_steps: 3, width: 64, height: 64 };
  const generation = engine.generate(request);
  const previews: (number | undefined)[] = [];
  for await (const { preview } of generation) previews.push(preview?.width);
  const image = await generation;
  // The former name of \`num_inference_steps\`.
  const former = { ...request, steps: 0 };
  const refused = await engine.generate(former).then(() => undefined, (thrown: unknown) => thrown);
  const stop = new AbortController();
  const long = engine.generate({ ...request, num_inference_steps: 500 }, { signal: stop.signal });
  for await (const { step } of long) if (step === 2) stop.abort();
  const stopped = await long;
  const again = await engine.generate(request);
  engine.close();
  const late = await engine.generate(request).then(() => undefined, (thrown: unknown) => thrown);
  return {
    native: engine.checkpoint.limits.native_size,
    storage: engine.checkpoint.storage,
    previews,
    png: [...(image?.png ?? [])].slice(0, 4),
    same: String(image?.png) === String(again?.png),
    refused: isFault(refused) && refused.what,
    declined: isFault(declined) && declined.what.endsWith('was declined'),
    estimated,
    stopped,
    late: isFault(late) && late.code,
    kinds: [...new Set(seen)],
  };
}
Object.assign(globalThis, { result: main() });
`;
const PAGE = '<!doctype html><title>a page</title>';

/** A page whose policy allows neither inline scripts nor inline styles. */
const BARE = `<!doctype html><html lang="en"><title>a page</title><script type="module" src="./pixart-web/studio.js"></script>
<pixart-studio model="/models/scenes/" device="wasm" prompt="a blue fish" prompt-weighting="false" seed="3" num-inference-steps="2" width="64" height="64"></pixart-studio>`;

let folder;
let server;
let browser;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'pixart-consumer-'));
  const [packed] = JSON.parse(
    execFileSync('npm', ['pack', '--json', '--pack-destination', folder], { cwd: under('package'), stdio: ['ignore', 'pipe', 'ignore'] }),
  );
  mkdirSync(join(folder, 'node_modules'));
  execFileSync('tar', ['-xzf', join(folder, packed.filename), '-C', join(folder, 'node_modules')]);
  execFileSync('mv', [join(folder, 'node_modules/package'), join(folder, 'node_modules/pixart-web')]);
  writeFileSync(join(folder, 'main.ts'), CONSUMER);
  writeFileSync(join(folder, 'index.html'), `${PAGE}<script type="module" src="./main.ts"></script>`);
  symlinkSync(under('models'), join(folder, 'models'));
  for (const example of ['embed.html', 'studio.html'])
    copyFileSync(new URL(`../../examples/${example}`, import.meta.url), join(folder, example));
  writeFileSync(join(folder, 'bare.html'), BARE);
  symlinkSync(join(folder, 'node_modules/pixart-web'), join(folder, 'pixart-web'));
  server = await serveFolder(folder);
  browser = await openBrowser({ flags: [] });
});
after(async () => {
  await browser.close();
  await server.close();
  rmSync(folder, { recursive: true });
});

/** Returns the result of the consumer at `path`. */
async function result(path) {
  const page = await browser.context.newPage();
  await page.goto(new URL(path, server.url).href);
  const made = await page.evaluate(() => globalThis.result);
  await page.close();
  return made;
}

/** `estimates`: whether the checkpoint is not stored yet, so that an estimate is made before its download. */
function assertResult(made, estimates) {
  assert.equal(made.native, 128);
  assert.equal(made.storage, 'indexeddb');
  assert.deepEqual(made.previews, [8, 8, 8], 'a preview for each step');
  assert.deepEqual(made.png, [137, 80, 78, 71]);
  assert.ok(made.same, 'the same request gives the same image');
  assert.equal(made.refused, 'num_inference_steps is 0');
  assert.deepEqual([made.declined, made.estimated], estimates ? [true, 'numbertrue'] : [false, '']);
  assert.equal(made.stopped, undefined);
  assert.equal(made.late, 'internal');
  for (const kind of ['adapter', 'loading', 'ready', 'planned', 'step', 'image', 'cancelled']) assert.ok(made.kinds.includes(kind), kind);
}

test('its_types_accept_the_readme_example_and_reject_a_wrong_field', () => {
  const options = [
    '--strict',
    '--noEmit',
    '--target',
    'es2023',
    '--module',
    'esnext',
    '--moduleResolution',
    'bundler',
    '--lib',
    'es2023,dom',
  ];
  execFileSync('node', [under('node_modules/typescript/bin/tsc'), ...options, join(folder, 'main.ts')], { stdio: 'inherit' });
  writeFileSync(
    join(folder, 'studio.ts'),
    `import { PixartStudio, type StudioRequest } from 'pixart-web/studio';
const studio: PixartStudio = document.createElement('pixart-studio');
const request: StudioRequest = { prompt: 'a fish', seed: 7 };
studio.request = request;
export const image: Promise<{ png: Uint8Array } | undefined> = studio.generate();
`,
  );
  execFileSync('node', [under('node_modules/typescript/bin/tsc'), ...options, join(folder, 'studio.ts')], { stdio: 'inherit' });
  const wrong = join(folder, 'wrong.ts');
  writeFileSync(wrong, CONSUMER.replace('seed: 7', "seed: '7'"));
  const refused = () => execFileSync('node', [under('node_modules/typescript/bin/tsc'), ...options, wrong], { stdio: 'pipe' });
  assert.throws(refused, ({ stdout }) => /wrong\.ts.*string.*number/s.test(String(stdout)));
});

test('vite_bundles_its_worker_and_wasm_module', async () => {
  const { build } = await import(pathToFileURL(fromWeb.resolve('vite')).href);
  await build({
    root: folder,
    configFile: false,
    logLevel: 'error',
    base: './',
    build: { target: 'es2023', outDir: 'dist', emptyOutDir: true, minify: false },
  });
  assert.ok(readdirSync(join(folder, 'dist/assets')).some((file) => file.endsWith('.wasm')));
  assertResult(await result('/dist/index.html'), true);
});

test('a_page_without_a_bundler_imports_it_unchanged', async () => {
  const plain = CONSUMER.replace('type Engine, type Estimate', '')
    .replace(': Engine', '')
    .replace(' as const', '')
    .replace(': Estimate', '')
    .replace(/: (Promise<unknown>|string\[\]|unknown|\(number \| undefined\)\[\])/g, '');
  const map = '<script type="importmap">{"imports":{"pixart-web":"/node_modules/pixart-web/index.js"}}</script>';
  writeFileSync(join(folder, 'plain.html'), `${PAGE}${map}<script type="module">${plain}</script>`);
  assertResult(await result('/plain.html'), false);
});

test('the_embed_example_generates_an_image_and_shows_a_fault', async () => {
  const page = await browser.context.newPage();
  const errors = [];
  page.on('pageerror', (error) => errors.push(error.message));
  await page.goto(new URL('/embed.html', server.url).href);
  await page.click('#generate', { timeout: EXAMPLE_MILLIS });
  await page.waitForFunction(() => document.getElementById('status').textContent.startsWith('Step '), undefined, {
    timeout: EXAMPLE_MILLIS,
  });
  await page.waitForSelector('#image:not([hidden])', { timeout: EXAMPLE_MILLIS });
  assert.deepEqual(
    await page.evaluate(async () => (await document.getElementById('image').decode(), [document.getElementById('image').naturalWidth])),
    [128],
  );
  assert.match(await page.innerText('#status'), /^Generated in [\d.]+ s$/);
  await page.fill('#prompt', '');
  await page.click('#generate');
  await page.waitForFunction(() => document.getElementById('status').textContent.startsWith('the prompt is empty: '));
  assert.deepEqual(errors, []);
  await page.close();
});

test('a_first_visit_and_the_wasm_module_are_within_their_size_limits', async () => {
  const dist = under('dist/');
  const built = [
    'index.html',
    'language.js',
    'sw.js',
    'manifest.webmanifest',
    'icon.svg',
    ...readdirSync(join(dist, 'assets')).map((file) => `assets/${file}`),
  ];
  const sent = new Set();
  const record = (path, bytes) => {
    sent.add(path.slice(1));
    return bytes;
  };
  const server = await serveFolder(dist, { transform: record });
  const browser = await openBrowser({ flags: [] });
  try {
    const page = await browser.context.newPage();
    await page.goto(`${server.url}?device=wasm`);
    await page.evaluate(() => globalThis.pixart.ready().then(() => undefined));
    await page.waitForLoadState('networkidle');
  } finally {
    await browser.close();
    await server.close();
  }
  // Headless browsers may leave out the icon and the manifest, and this one installs no service worker.
  const first = built.filter((file) => sent.has(file) || !file.startsWith('assets/'));
  const bytes = (files, wanted) => files.filter(wanted).reduce((sum, file) => sum + gzipSync(readFileSync(join(dist, file))).length, 0);
  const isWasm = (file) => file.endsWith('.wasm');
  const [page, total, wasm] = [bytes(first, (file) => !isWasm(file)), bytes(built, (file) => !isWasm(file)), bytes(built, isWasm)];
  console.log(`# gzipped: first visit ${page} bytes, page with all its parts ${total} bytes, module ${wasm} bytes`);
  assert.ok(first.some(isWasm) && first.some((file) => file.endsWith('.css')), first.join());
  assert.ok(page > 1_000 && page <= PAGE_MAX, `${page}: ${first.join()}`);
  assert.ok(wasm > 1_000_000 && wasm <= WASM_MAX, `${wasm}`);
  const listed = readFileSync(join(dist, 'sw.js'), 'utf8');
  const unlisted = built.filter((file) => file !== 'sw.js' && !listed.includes(`"${file}"`) && !listed.includes(`\`${file}\``));
  assert.deepEqual(unlisted, [], 'the service worker stores every part');
});

/** Opens the page at `path` with the strictest policy that the package allows. */
async function openStudio(path) {
  const page = await browser.context.newPage();
  const errors = [];
  page.on('pageerror', (error) => errors.push(error.message));
  // A browser asks each server for an icon once.
  const isIcon = (message) => message.location().url.endsWith('/favicon.ico');
  page.on('console', (message) => message.type() === 'error' && !isIcon(message) && errors.push(message.text()));
  await page.goto(new URL(path, server.url).href);
  await page.evaluate(() => {
    globalThis.heard = [];
    for (const kind of ['image', 'fault'])
      document.addEventListener(kind, ({ detail, target }) =>
        globalThis.heard.push([kind, target.localName, detail.code ?? detail.image.width]),
      );
  });
  return { page, errors };
}

const untilHeard = (page, kind) =>
  page.waitForFunction((kind) => globalThis.heard.some(([heard]) => heard === kind), kind, { timeout: EXAMPLE_MILLIS });

test('the_studio_example_generates_an_image_by_mouse_and_reports_a_fault', async () => {
  const { page, errors } = await openStudio('/studio.html');
  await page.getByRole('button', { name: 'Generate' }).click();
  await untilHeard(page, 'image');
  assert.deepEqual(await page.evaluate(() => globalThis.heard), [['image', 'pixart-studio', 128]]);
  assert.match(await page.innerText('#last'), /^“a red mushroom in a green field”: 128 × 128 pixels, \d+ bytes$/);
  const image = page.getByRole('img', { name: 'a red mushroom in a green field' });
  assert.equal(await image.evaluate(async (image) => (await image.decode(), image.naturalWidth)), 128);
  assert.match(await page.locator('pixart-studio [role="status"]').innerText(), /^Generated in \d+(\.\d)? sec$/);
  // The page's variables reach into the element.
  const colour = await page.getByRole('button', { name: 'Generate' }).evaluate((button) => getComputedStyle(button).backgroundColor);
  assert.equal(colour, 'rgb(11, 107, 79)');
  for (const [width, colorScheme] of [
    [1280, 'light'],
    [390, 'dark'],
  ]) {
    await page.setViewportSize({ width, height: 844 });
    await page.emulateMedia({ colorScheme });
    await page.evaluate(readFileSync(fromWeb.resolve('axe-core/axe.min.js'), 'utf8'));
    const { violations } = await page.evaluate(() => globalThis.axe.run());
    assert.deepEqual(
      violations.map(({ id, nodes }) => `${id}: ${nodes[0].html}`),
      [],
    );
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
    await screenshot(page, `studio-${width}`);
  }
  await page.getByLabel('Prompt', { exact: true }).fill('');
  await page.getByRole('button', { name: 'Generate' }).click();
  await untilHeard(page, 'fault');
  assert.match(await page.getByRole('alert').innerText(), /^the prompt is empty: /);
  assert.equal(await page.innerText('#last'), 'There is no image: bad_request');
  assert.deepEqual(errors, []);
  await page.close();
});

test('attributes_of_the_studio_are_the_fields_of_its_request_under_a_strict_policy', async () => {
  const strict = await serveFolder(folder, {
    headers: {
      'content-security-policy':
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; connect-src 'self'; img-src blob:",
    },
  });
  try {
    const { page, errors } = await openStudio(new URL('/bare.html', strict.url).href);
    const studio = page.locator('pixart-studio');
    assert.deepEqual(await studio.evaluate((studio) => studio.request), {
      prompt: 'a blue fish',
      prompt_weighting: false,
      seed: 3,
      num_inference_steps: 2,
      width: 64,
      height: 64,
    });
    // By keyboard: what is typed is reflected.
    await page.getByText('Settings').focus();
    await page.keyboard.press('Enter');
    await page.getByLabel('Steps').fill('4');
    assert.equal(await studio.getAttribute('num-inference-steps'), '4');
    await studio.evaluate((studio) => (studio.request = { seed: 9, negative_prompt: 'blur', guidance_scale: undefined }));
    assert.deepEqual([await page.getByLabel('Seed').inputValue(), await studio.getAttribute('negative-prompt')], ['9', 'blur']);
    await page.getByLabel('Prompt', { exact: true }).focus();
    await page.keyboard.press('Control+Enter');
    await untilHeard(page, 'image');
    const generated = await studio.evaluate(async (studio) => {
      const { image } = await new Promise((resolve) => {
        studio.addEventListener('image', ({ detail }) => resolve(detail), { once: true });
        studio.generate();
      });
      return [image.seed, image.num_inference_steps, image.width];
    });
    assert.deepEqual(generated, [9, 4, 64]);
    await studio.evaluate((studio) => studio.setAttribute('num-inference-steps', '500'));
    await page.getByRole('button', { name: 'Generate' }).click();
    await page.getByText(/^Step \d+ of 500$/).waitFor();
    await page.getByRole('button', { name: 'Cancel' }).click();
    await page.getByText('Cancelled').waitFor();
    await studio.evaluate((studio) => studio.setAttribute('model', '/nowhere/'));
    await page.getByRole('button', { name: 'Generate' }).click();
    await untilHeard(page, 'fault');
    assert.match(await page.getByRole('alert').innerText(), /nowhere.*: /);
    await studio.evaluate((studio) => studio.removeAttribute('model'));
    await page.getByRole('button', { name: 'Generate' }).click();
    await page.getByRole('alert').filter({ hasText: 'has no attribute `model`' }).waitFor();
    assert.deepEqual(
      errors.filter((error) => !error.includes('404')),
      [],
    );
    await page.close();
  } finally {
    await strict.close();
  }
});
