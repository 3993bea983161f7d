//! WebGPU in Firefox, which has it behind preferences on Linux: over Mesa's software Vulkan where there is no GPU. Needs web/dist.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { largestDifference, pixels } from '../page/browser.mjs';
import { openFirefox, WEBGPU_PREFS } from './engines.mjs';
import { brief, generateImage, openPage, SMALL, useEngine } from './fixture.mjs';

/** Firefox compiles the shaders of the kernels in more than a minute, on a machine that does nothing else. */
const COMPILATION_MILLIS = 600_000;

describe('firefox with WebGPU', () => {
  const context = useEngine(() => openFirefox({ prefs: WEBGPU_PREFS }));

  test('the_gpu_and_the_cpu_generate_the_same_image', async (t) => {
    const { page } = context;
    await openPage(context, '?device=webgpu', COMPILATION_MILLIS);
    const { adapter, fault } = await brief(page);
    assert.equal(fault, undefined);
    assert.equal(adapter.backend, 'webgpu');
    assert.match(await page.innerText('#adapter'), /^GPU \(webgpu\): as requested; the browser does not name it/);
    t.diagnostic(`adapter: ${adapter.name}, WebGPU in Firefox`);
    const gpu = await generateImage(page, SMALL);
    assert.equal(gpu.fault, undefined);
    await openPage(context, '?device=wasm');
    const cpu = await generateImage(page, SMALL);
    const difference = largestDifference(await pixels(page, gpu.png), await pixels(page, cpu.png));
    assert.ok(difference <= 1, `${difference}`);
  });
});
