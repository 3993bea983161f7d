//! WebGPU in Firefox, which has it behind preferences on Linux: over Mesa's software Vulkan where there is no GPU. Needs web/dist.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { largestDifference, pixels } from '../page/browser.mjs';
import { openFirefox, WEBGPU_PREFS } from './engines.mjs';
import { brief, generateImage, openPage, SMALL, useEngine } from './fixture.mjs';

/** Firefox compiles the shaders of the kernels in ten seconds, and in many minutes on a machine with other work. */
const COMPILATION_MILLIS = 600_000;

describe('firefox with WebGPU', () => {
  const context = useEngine(() => openFirefox({ prefs: WEBGPU_PREFS }));

  test('the_gpu_and_the_cpu_generate_the_same_image', async (t) => {
    const { page } = context;
    await openPage(context, '?device=webgpu', COMPILATION_MILLIS);
    const { adapter, fault } = await brief(page);
    assert.equal(fault, undefined);
    assert.equal(adapter.backend, 'webgpu');
    assert.match(await page.innerText('#adapter'), /^GPU \(webgpu\).*: as requested; the browser does not name it/);
    t.diagnostic(`adapter: ${adapter.name}, WebGPU in Firefox`);
    const gpu = await generateImage(page, SMALL);
    assert.equal(gpu.fault, undefined);
    await openPage(context, '?device=wasm');
    const cpu = await generateImage(page, SMALL);
    const difference = largestDifference(await pixels(page, gpu.png), await pixels(page, cpu.png));
    assert.ok(difference <= 1, `${difference}`);
  });

  test('every_tap_of_the_embedded_checkpoint_is_as_in_diffusers', async () => {
    const [drive, variant] = ['../page/drive.mjs', '../golden/scenes'].map((path) => fileURLToPath(new URL(path, import.meta.url)));
    const args = ['check', '--firefox', '--device', 'webgpu', '--url', context.server.url, '--name', 'scenes', '--variant-dir', variant];
    // The driver fails with its fault on standard output.
    const { stdout } = await promisify(execFile)('node', [drive, ...args], { maxBuffer: 1 << 26 }).catch((error) => error);
    const rows = JSON.parse(stdout.trim().split('\n').at(-1));
    assert.ok(Array.isArray(rows), stdout);
    assert.ok(rows.length > 40, `${rows.length} taps`);
    assert.deepEqual(
      rows.filter(({ verdict }) => verdict.kind !== 'pass'),
      [],
    );
  });
});
