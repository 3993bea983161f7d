//! The counter on a shader whose counts are known, in a page and in workers of both kinds.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { openBrowser } from '../page/browser.mjs';
import { serve } from './serve.mjs';

const COUNTER = readFileSync(new URL('counter.js', import.meta.url), 'utf8');
const NUMBERS = 64;
const PLAIN = { dispatches: 3, indirect: 1, submits: 2, sync: 1, async: 1, spare_bytes: 16 };
/** What `program(PLAIN)` amounts to: 256 bytes in, 256 bytes out, 12 bytes of indirect arguments. */
const EXPECTED = {
  dispatches: 2 * (3 + 1),
  pipelines: 2,
  submits: 2,
  bytes: 2 * (3 + 1) * (256 + 256),
  bytes_written: 256 + 12,
  bytes_read: 256,
  live_buffer_bytes: 512 + 1024 + 12,
  peak_buffer_bytes: 512 + 1024 + 12 + 256 + 16,
};

/** Doubles 0..63 on the device, `submits` times over in the ways that the counter tells apart. Runs in the browser. */
async function program({ dispatches, indirect, submits, sync, async, spare_bytes }) {
  const adapter = await navigator.gpu.requestAdapter();
  const device = await adapter.requestDevice();
  counter.reset();
  const code = `
    @group(0) @binding(0) var<storage, read> input: array<f32>;
    @group(0) @binding(1) var<storage, read_write> output: array<f32>;
    @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) { output[id.x] = 2 * input[id.x]; }`;
  const module = device.createShaderModule({ code });
  const layout = device.createBindGroupLayout({
    entries: ['read-only-storage', 'storage'].map((type, binding) => ({ binding, visibility: GPUShaderStage.COMPUTE, buffer: { type } })),
  });
  const descriptor = { layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }), compute: { module } };
  let pipeline;
  for (let made = 0; made < sync; made += 1) pipeline = device.createComputePipeline(descriptor);
  for (let made = 0; made < async; made += 1) pipeline = await device.createComputePipelineAsync(descriptor);

  const { STORAGE, COPY_DST, COPY_SRC, INDIRECT, MAP_READ } = GPUBufferUsage;
  const input = device.createBuffer({ size: 512, usage: STORAGE | COPY_DST });
  const output = device.createBuffer({ size: 1024, usage: STORAGE | COPY_SRC });
  const count = device.createBuffer({ size: 12, usage: INDIRECT, mappedAtCreation: true });
  new Uint32Array(count.getMappedRange()).fill(1);
  count.unmap();
  const staging = device.createBuffer({ size: 256, usage: MAP_READ | COPY_DST });
  device.createBuffer({ size: spare_bytes, usage: COPY_DST }).destroy();
  device.queue.writeBuffer(
    input,
    256,
    Float32Array.from({ length: 128 }, (_, at) => at - 64),
    64,
  );
  const entries = [
    { binding: 0, resource: { buffer: input, offset: 256 } },
    { binding: 1, resource: { buffer: output, size: 256 } },
  ];
  const group = device.createBindGroup({ layout, entries });
  for (let submitted = 0; submitted < submits; submitted += 1) {
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.setBindGroup(0, group);
    for (let at = 0; at < dispatches; at += 1) pass.dispatchWorkgroups(1);
    for (let at = 0; at < indirect; at += 1) pass.dispatchWorkgroupsIndirect(count, 0);
    pass.end();
    encoder.copyBufferToBuffer(output, 0, staging, 0, 256);
    device.queue.submit([encoder.finish()]);
  }
  await staging.mapAsync(GPUMapMode.READ);
  const result = [...new Float32Array(staging.getMappedRange())];
  staging.destroy();
  staging.destroy();
  return { result, counts: counter.read() };
}

/** The same in a worker that begins with the counter. */
function inWorker([source, knobs, url, type]) {
  const begin = type === 'module' ? `import '${url}';` : `importScripts('${url}');`;
  const script = `${begin} (${source})(${JSON.stringify(knobs)}).then(postMessage);`;
  const worker = new Worker(URL.createObjectURL(new Blob([script], { type: 'text/javascript' })), { type });
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = ({ message }) => reject(new Error(message));
  });
}

function assertCounts({ result, counts }, expected) {
  const { pipeline_ms, ...exact } = counts;
  assert.deepEqual(
    result,
    Array.from({ length: NUMBERS }, (_, at) => 2 * at),
  );
  assert.deepEqual(exact, expected);
  assert.ok(pipeline_ms > 0, `${pipeline_ms} ms`);
}

describe('the counter', () => {
  let server;
  let browser;
  let page;
  before(async () => {
    server = await serve({ '/': fileURLToPath(new URL('.', import.meta.url)) });
    browser = await openBrowser();
    page = await browser.context.newPage();
    await page.addInitScript(COUNTER);
  });
  after(async () => {
    await browser.close();
    server.close();
  });
  /** A fresh document, so that nothing is left alive from the last test. */
  const run = async (knobs = {}) => {
    await page.goto(`${server.url}/ort.html?provider=none`);
    return page.evaluate(program, { ...PLAIN, ...knobs });
  };

  test('counts_of_a_known_program_are_exact', async () => assertCounts(await run(), EXPECTED));

  for (const type of ['classic', 'module']) {
    test(`counts_in_a_${type}_worker_are_exact`, async () => {
      await page.goto(`${server.url}/ort.html?provider=none`);
      const result = await page.evaluate(inWorker, [program.toString(), PLAIN, `${server.url}/counter.js`, type]);
      assertCounts(result, EXPECTED);
    });
  }

  const changes = [
    ['a_dispatch', { dispatches: 4 }, { dispatches: 10, bytes: 10 * 512 }],
    ['an_indirect_dispatch', { indirect: 0 }, { dispatches: 6, bytes: 6 * 512 }],
    ['a_submit', { submits: 3 }, { submits: 3, dispatches: 12, bytes: 12 * 512 }],
    ['a_pipeline', { sync: 3 }, { pipelines: 4 }],
    ['an_awaited_pipeline', { async: 0 }, { pipelines: 1 }],
    ['a_buffer', { spare_bytes: 4096 }, { peak_buffer_bytes: EXPECTED.peak_buffer_bytes + 4080 }],
  ];
  for (const [what, knobs, counts] of changes) {
    test(`${what}_more_or_less_changes_its_counts_alone`, async () => {
      const result = await run(knobs);
      assertCounts(result, { ...EXPECTED, ...counts });
      assert.throws(() => assertCounts(result, EXPECTED), assert.AssertionError);
    });
  }

  test('a_reset_forgets_what_happened_but_not_what_lives', async () => {
    await run();
    const counts = await page.evaluate(() => {
      counter.reset();
      return counter.read();
    });
    const zeros = Object.fromEntries(Object.keys(counts).map((name) => [name, 0]));
    const live = EXPECTED.live_buffer_bytes;
    assert.deepEqual(counts, { ...zeros, live_buffer_bytes: live, peak_buffer_bytes: live });
  });

  test('an_invalid_pipeline_is_still_reported_to_its_own_error_scope', async () => {
    await page.goto(`${server.url}/ort.html?provider=none`);
    const message = await page.evaluate(async () => {
      const device = await (await navigator.gpu.requestAdapter()).requestDevice();
      device.pushErrorScope('validation');
      const module = device.createShaderModule({ code: '@compute @workgroup_size(1) fn main() {}' });
      device.createComputePipeline({ layout: 'auto', compute: { module, entryPoint: 'absent' } });
      return (await device.popErrorScope())?.message;
    });
    assert.match(message, /absent/);
  });
});
