//! Drives the page in a headless browser and prints one JSON line. Exit status 1 on a fault, which is the line then.
//!
//!   node drive.mjs generate --url URL --request request.json --out image.png [--chrome PATH] [--timeout-seconds N]
//!   node drive.mjs check    --url URL --variant-dir DIR --name NAME            [--chrome PATH | --firefox] [--timeout-seconds N]
//!
//! `generate` fills in the form and saves the PNG that the page offers for download, and the recording with --recording FILE.
//! `check` compares the golden variant in DIR, which it serves to the page from disk, and prints the rows (numbers that are not
//! finite as null); the caller judges whether they pass.
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join, normalize, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { openFirefox, WEBGPU_PREFS } from '../engines/engines.mjs';
import { echoConsole, fillForm, generate, openBrowser, untilEngine } from './browser.mjs';

const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url));
const COMMANDS = { generate: generateImage, check: checkVariant };

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    url: { type: 'string' },
    chrome: { type: 'string' },
    firefox: { type: 'boolean', default: false },
    request: { type: 'string' },
    out: { type: 'string' },
    recording: { type: 'string' },
    'variant-dir': { type: 'string' },
    name: { type: 'string' },
    device: { type: 'string', default: 'auto' },
    'timeout-seconds': { type: 'string', default: '600' },
  },
});
const timeout = Number(options['timeout-seconds']) * 1000;

const command = COMMANDS[positionals[0]];
if (command === undefined || !options.url || (options.firefox && command !== checkVariant)) {
  console.error(
    'usage: drive.mjs generate --url URL --request FILE --out FILE | check --url URL --variant-dir DIR --name NAME [--firefox]',
  );
  process.exit(2);
}
const browser = options.firefox
  ? await openFirefox({ prefs: WEBGPU_PREFS })
  : await openBrowser(options.chrome ? { chrome: options.chrome } : {});
let line;
try {
  line = await command(browser.page ?? (await newPage()));
} catch (error) {
  const remedy = 'see the messages above, or allow it more time with --timeout-seconds';
  line = { fault: { code: 'internal', what: error.message, remedy } };
} finally {
  await browser.close();
}
console.log(JSON.stringify(line));
process.exitCode = 'fault' in line ? 1 : 0;

async function newPage() {
  const page = await browser.context.newPage();
  echoConsole(page);
  page.setDefaultTimeout(timeout);
  return page;
}

async function generateImage(page) {
  const request = JSON.parse(readFileSync(options.request, 'utf8'));
  await page.goto(pageUrl().href);
  await untilEngine(page, timeout);
  await fillForm(page, request);
  const { fault, png } = await generate(page, timeout);
  if (fault) return { fault };
  writeFileSync(options.out, png);
  if (options.recording) {
    const recording = await page.evaluate(() => [...(globalThis.pixart.state().image.recording ?? [])]);
    writeFileSync(options.recording, Buffer.from(recording));
  }
  const { adapter, checkpoint, image, opened_millis, image_millis } = await page.evaluate(() => {
    const { image, ...state } = globalThis.pixart.state();
    return { ...state, image: { ...image, png: undefined, recording: undefined } };
  });
  return {
    adapter: `${adapter.name} (${adapter.backend})`,
    is_fallback_adapter: adapter.is_fallback_adapter,
    reason: adapter.reason,
    width: image.width,
    height: image.height,
    steps: image.num_inference_steps,
    seed: image.seed,
    millis: { open: opened_millis, load: checkpoint.load_millis, ...image.millis, page_to_image: image_millis },
    sha256: createHash('sha256').update(png).digest('hex'),
  };
}

async function checkVariant(page) {
  const meta = JSON.parse(await readFile(join(options['variant-dir'], 'meta.json'), 'utf8'));
  const files = createServer(({ url }, reply) => serveVariant(decodeURIComponent(url), reply, meta.checkpoint));
  await new Promise((resolve) => files.listen(0, '127.0.0.1', resolve));
  const url = pageUrl();
  url.searchParams.set('checkpoint', '');
  await page.goto(url.href);
  // A fault is a plain object, which would not survive the way out of the page as a rejection.
  const checking = page.evaluate(
    (variant) =>
      globalThis.pixart.check(variant).then(
        (rows) => ({ rows }),
        (fault) => ({ fault }),
      ),
    `http://127.0.0.1:${files.address().port}/${options.name}/`,
  );
  try {
    const { rows, fault } = await Promise.race([checking, expiry()]);
    return fault ? { fault } : rows;
  } finally {
    files.close();
    files.closeAllConnections();
  }
}

function pageUrl() {
  const url = new URL(options.url);
  url.searchParams.set('device', options.device);
  return url;
}

function expiry() {
  return new Promise((_, reject) => {
    setTimeout(() => reject(new Error(`no rows after ${timeout / 1000} s`)), timeout).unref();
  });
}

/** Answers `/<name>/<path>` with that file of the variant's folder, or of the repository's `checkpoint`. */
async function serveVariant(url, reply, checkpoint) {
  const path = url.split(`/${options.name}/`)[1];
  const headers = { 'access-control-allow-origin': '*' };
  if (path === undefined || normalize(path).startsWith('..')) return reply.writeHead(404, headers).end();
  const inPipeline = path.startsWith('pipeline/') && checkpoint !== undefined;
  const file = inPipeline ? resolve(REPOSITORY, checkpoint, path.slice('pipeline/'.length)) : join(options['variant-dir'], path);
  try {
    const bytes = await readFile(file);
    reply.writeHead(200, { ...headers, 'content-type': 'application/octet-stream' }).end(bytes);
  } catch (error) {
    reply.writeHead(error.code === 'ENOENT' ? 404 : 500, headers).end();
  }
}
