//! Times implementations in a headless Chromium and prints one JSON line per workload and implementation.
//!
//!   node drive.mjs --models DIR --workload NAME ... --implementation NAME ... [--runs N] [--chrome PATH]
//!
//! DIR is what tests/oracle/export_onnx.py wrote. Each row has a browser of its own; all are opened first and then run
//! in turns, so that what else the machine does meets all of them alike. A line with a `fault` stands for what failed
//! or was too far from PyTorch's output; the exit status is 1 then.
//!
//! A page of an implementation offers `bench`: `load()`; then `run()`, any number of times, from the inputs in memory
//! to the output in memory, which returns its milliseconds; then `check()`, the distance of the last output from the
//! recorded one. `counter` (counter.js) is there before its scripts. A page that computes in a worker, where it is
//! not, begins the worker with counter.js and puts one that asks the worker in its place.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { echoConsole, openBrowser } from '../page/browser.mjs';
import { children, cpuMillis, processes, row } from './report.mjs';
import { serve } from './serve.mjs';

/** A page, and the type of the process that computes for it. */
const IMPLEMENTATIONS = {
  ours: { page: 'ours.html?variant=registers', process: 'gpu-process' },
  'ours-workgroup': { page: 'ours.html?variant=workgroup', process: 'gpu-process' },
  'ours-cpu': { page: 'ours.html?variant=cpu', process: 'renderer' },
  'burn-reference': { page: 'ours.html?variant=burn-reference', process: 'gpu-process' },
  'onnxruntime-web': { page: 'ort.html?provider=webgpu', process: 'gpu-process' },
  'onnxruntime-web-wasm': { page: 'ort.html?provider=wasm', process: 'renderer' },
};
/** f32 comes to 5e-5 in another order of sums (onnxruntime-web-wasm, vae_32); 100 biases lost in a block give 2e-2. */
const REL_L2_LIMIT = 1e-3;

const COUNTER = readFileSync(new URL('counter.js', import.meta.url), 'utf8');
const folder = (path) => fileURLToPath(new URL(path, import.meta.url));

const { values: options } = parseArgs({
  options: {
    models: { type: 'string' },
    workload: { type: 'string', multiple: true, default: [] },
    implementation: { type: 'string', multiple: true, default: [] },
    runs: { type: 'string', default: '3' },
    chrome: { type: 'string' },
  },
});
const runs = Number(options.runs);
const known = options.implementation.every((name) => name in IMPLEMENTATIONS);
const complete = options.models && options.workload.length > 0 && options.implementation.length > 0;
if (!complete || !known || !(runs >= 1)) {
  console.error('usage: drive.mjs --models DIR --workload NAME ... --implementation NAME ... [--runs N] [--chrome PATH]');
  console.error(`implementations: ${Object.keys(IMPLEMENTATIONS).join(', ')}`);
  process.exit(2);
}

const server = await serve({
  '/bench/': folder('.'),
  '/ort/': folder('../../web/node_modules/onnxruntime-web/dist/'),
  '/models/': options.models,
  '/pkg/': folder('../../web/pkg/'),
});
const subjects = options.workload.flatMap((workload) =>
  options.implementation.map((implementation) => ({ name: { workload, implementation }, runs: [] })),
);
for (const subject of subjects) await guarded(subject, open);
for (let turn = 0; turn < runs; turn += 1) {
  for (const subject of subjects) await guarded(subject, run);
}
for (const subject of subjects) {
  await guarded(subject, check);
  console.log(JSON.stringify(subject.fault === undefined ? row(subject) : { ...subject.name, fault: subject.fault }));
  await subject.browser?.close();
}
server.close();
process.exitCode = subjects.some(({ fault }) => fault !== undefined) ? 1 : 0;

/** Does `work`, whose failure is the subject's fault; one that has a fault is left alone. */
async function guarded(subject, work) {
  if (subject.fault !== undefined) return;
  try {
    await work(subject);
  } catch (error) {
    subject.fault = error.message;
  }
}

/** Opens the page, loads the workload and runs it once. */
async function open(subject) {
  const { workload, implementation } = subject.name;
  const { page: path, process: type } = IMPLEMENTATIONS[implementation];
  const earlier = children(process.pid);
  subject.browser = await openBrowser(options.chrome ? { chrome: options.chrome } : {});
  const [chrome] = children(process.pid).filter((pid) => !earlier.includes(pid));
  subject.page = await subject.browser.context.newPage();
  echoConsole(subject.page);
  await subject.page.addInitScript(COUNTER);
  const url = new URL(path, `${server.url}/bench/`);
  url.searchParams.set('workload', workload);
  await subject.page.goto(url.href);
  await subject.page.evaluate(() => bench.load());
  subject.first_ms = await subject.page.evaluate(() => bench.run());
  subject.opening = await subject.page.evaluate(() => counter.read());
  subject.workers = processes(chrome, type);
  if (subject.workers.length === 0) throw new Error(`Chromium has no process of type ${type}`);
  say(subject, `first run ${Math.round(subject.first_ms)} ms`);
}

async function run(subject) {
  await subject.page.evaluate(() => counter.reset());
  const earlier = cpuMillis(subject.workers);
  const ms = await subject.page.evaluate(() => bench.run());
  const cpu_ms = cpuMillis(subject.workers) - earlier;
  subject.runs.push({ ms, cpu_ms });
  subject.warm = await subject.page.evaluate(() => counter.read());
  say(subject, `${Math.round(ms)} ms, ${cpu_ms} ms of CPU time`);
}

async function check(subject) {
  const { max_abs, rel_l2 } = await subject.page.evaluate(() => bench.check());
  subject.accuracy = { max_abs, rel_l2 };
  if (!(rel_l2 <= REL_L2_LIMIT)) throw new Error(`${rel_l2} of the recorded output away, more than ${REL_L2_LIMIT}`);
}

function say({ name: { workload, implementation } }, what) {
  console.error(`${workload} ${implementation}: ${what}`);
}
