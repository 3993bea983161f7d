//! Settings restored from image files: those of this project completely, or with the rest named; those of other tools as far as the form has
//! fields for them.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fillForm, generate, largestDifference, openSettings, pixels } from './browser.mjs';
import { dropFiles } from './drag.mjs';
import { SCENES, useBrowser } from './fixture.mjs';
import { compressedItxt, exif, itxt, jpegWithExif, pngChunk, pngWithTexts, rgbPng, textsOf, webp, ztxt } from './image-files.mjs';

const TIMEOUT_MILLIS = 300_000;
const SMALL = { prompt: 'a red circle on a blue background', seed: 7, num_inference_steps: 4, width: 64, height: 64 };
const scratch = mkdtempSync(join(tmpdir(), 'pixart-metadata-'));

const { openPage } = useBrowser({ flags: [] });
let page;
before(async () => {
  assert.ok(process.env.PIXART, 'PIXART must hold the path of the pixart binary');
  page = await openPage('?device=wasm&lang=en');
  await openSettings(page);
});
after(() => rmSync(scratch, { recursive: true }));

/** Drops a file, and returns the remark about it. */
async function restore(bytes, name = 'restored.png') {
  writeFileSync(join(scratch, name), bytes);
  await page.evaluate(() => (document.getElementById('notice-text').textContent = ''));
  await dropFiles(page, 'h1', [join(scratch, name)]);
  await page.waitForFunction(() => document.getElementById('notice-text').textContent !== '');
  return page.innerText('#notice-text');
}

/** Runs `pixart generate`, and returns the files that it wrote. */
function runPixart(args, files = ['out.png']) {
  const common = ['generate', '--checkpoint', SCENES, '--out', join(scratch, 'out.png')];
  execFileSync(process.env.PIXART, [...common, ...args], { stdio: ['ignore', 'ignore', 'inherit'] });
  return files.map((name) => readFileSync(join(scratch, name)));
}

const FIELDS = ['prompt', 'negative-prompt', 'seed', 'steps', 'guidance-scale', 'scheduler', 'style', 'width', 'height', 'strength'];
const VARIATION_FIELDS = ['variation-seed', 'variation-strength'];
const formValues = () => page.evaluate((ids) => Object.fromEntries(ids.map((id) => [id, document.getElementById(id).value])), FIELDS);
/** The form after a restored file that names nothing but a prompt. */
const DEFAULTS = {
  prompt: '',
  'negative-prompt': '',
  seed: '0',
  steps: '20',
  'guidance-scale': '4.5',
  scheduler: '',
  style: '',
  width: '128',
  height: '128',
  strength: '',
};

/** Generates, and returns the pixels and the request in the metadata. */
async function generated() {
  const { fault, png } = await generate(page, TIMEOUT_MILLIS);
  assert.equal(fault, undefined, fault?.what);
  return { png, pixels: await pixels(page, png), request: JSON.parse(textsOf(png).pixart).request };
}

const own = (request, generated_by = {}, size = [128, 128]) =>
  pngWithTexts(rgbPng(...size), [['iTXt', 'pixart', itxt(JSON.stringify({ request, generated_by }))]]);
const FULL = {
  id: 0,
  prompt: 'a star',
  negative_prompt: 'blur',
  seed: 5,
  num_inference_steps: 6,
  guidance_scale: 3,
  max_sequence_length: 120,
  clean_caption: true,
  use_resolution_binning: true,
};

test('an_image_without_a_named_size_is_restored_to_its_own_pixels', async () => {
  await fillForm(page, { width: 64, height: 64 });
  assert.equal(await restore(own(FULL, {}, [96, 128])), 'The settings of restored.png are in the form.');
  assert.deepEqual(await formValues(), {
    ...DEFAULTS,
    prompt: 'a star',
    'negative-prompt': 'blur',
    seed: '5',
    steps: '6',
    'guidance-scale': '3',
    width: '96',
  });
});

test('an_image_of_image_to_image_leaves_nothing_behind_for_the_next_one', async () => {
  const text = await restore(own({ ...FULL, strength: 0.5, width: 64, height: 64 }, { files: ['image', 'mask_image'] }));
  assert.match(text, /does not hold its input image: choose it.+ does not hold its inpaint mask/);
  assert.equal(await page.inputValue('#strength'), '0.5');
  await page.setInputFiles('#init-image', { name: 'under.png', mimeType: 'image/png', buffer: rgbPng(64, 64) });
  assert.equal((await generated()).request.strength, 0.5);

  // An older file of image-to-image names the strength alone; the selected image stays.
  assert.doesNotMatch(await restore(own({ ...FULL, strength: 0.4, width: 64, height: 64 })), /input image/);
  assert.equal(await page.evaluate(() => document.getElementById('init-image').files.length), 1);

  const plain = { ...FULL, num_inference_steps: 2, width: 64, height: 64 };
  assert.equal(await restore(own(plain)), 'The settings of restored.png are in the form.');
  assert.equal(await page.inputValue('#strength'), '');
  assert.equal(await page.evaluate(() => document.getElementById('init-image').files.length), 0);
  assert.ok(await page.isHidden('#init-image-preview'));
  assert.deepEqual((await generated()).request, { ...(await generated()).request, ...plain });
});

test('a_variation_reaches_the_image_and_comes_back_with_its_file', async () => {
  const values = () => page.evaluate((ids) => ids.map((id) => document.getElementById(id).value), VARIATION_FIELDS);
  const varied = { ...FULL, variation_seed: 9, variation_strength: 0.25, width: 64, height: 64, num_inference_steps: 2 };
  await restore(own(varied));
  assert.deepEqual(await values(), ['9', '0.25']);
  const first = await generated();
  assert.deepEqual(first.request, { ...first.request, ...varied });
  assert.match(textsOf(first.png).parameters, /, Variation seed: 9, Variation seed strength: 0\.25, /);
  await restore(own({ ...FULL, width: 64, height: 64, num_inference_steps: 2 }));
  assert.deepEqual(await values(), ['0', '0']);
  const plain = await generated();
  assert.ok(!('variation_seed' in plain.request) && !('variation_strength' in plain.request));
  assert.notDeepEqual(plain.pixels, first.pixels);
  const text = 'a star\nSteps: 2, Sampler: Euler, CFG scale: 3, Seed: 5, Size: 64x64, Variation seed: 9, Variation seed strength: 0.25';
  await restore(pngWithTexts(rgbPng(64, 64), [['tEXt', 'parameters', Buffer.from(text, 'latin1')]]));
  assert.deepEqual(await values(), ['9', '0.25']);
});

test('weights_in_a_prompt_reach_the_image_and_brackets_of_an_older_file_stay_text', async () => {
  const small = { ...FULL, width: 64, height: 64, num_inference_steps: 2 };
  await restore(own({ ...small, prompt: 'a (red:1.5) star' }));
  assert.ok(!(await page.isChecked('#prompt-weighting')), 'the file says nothing of weights');
  const text = await generated();
  assert.ok(!('prompt_weighting' in text.request));
  await page.check('#prompt-weighting');
  const weighted = await generated();
  assert.equal(weighted.request.prompt_weighting, true);
  assert.match(textsOf(weighted.png).parameters, /, Prompt weighting: true, /);
  assert.notDeepEqual(weighted.pixels, text.pixels);
  await restore(own(small));
  const plain = await generated();
  assert.ok(!('prompt_weighting' in plain.request), 'there is nothing to read as a weight');
  await restore(weighted.png);
  assert.ok(await page.isChecked('#prompt-weighting'));
  assert.deepEqual((await generated()).png, weighted.png);
  // Other weights need no text encoder, and weights of 1 are the plain prompt.
  await page.fill('#prompt', 'a (red:1) star');
  const ones = await generated();
  await page.fill('#prompt', 'a red star');
  assert.deepEqual((await generated()).pixels, ones.pixels);
});

test('a_second_pass_reaches_the_image_and_comes_back_with_its_file', async () => {
  const ids = ['hires-scale', 'hires-strength', 'hires-steps'];
  const values = () => page.evaluate((ids) => ids.map((id) => document.getElementById(id).value), ids);
  const second = { hires_scale: 1.5, hires_strength: 0.5, hires_steps: 4 };
  const plain = { ...FULL, width: 64, height: 64, num_inference_steps: 2 };
  await restore(own({ ...plain, ...second }));
  assert.deepEqual(await values(), ['1.5', '0.5', '4']);
  const first = await generated();
  assert.deepEqual(first.request, { ...first.request, ...second });
  const fields = /, Size: 64x64, .*, Denoising strength: 0\.5, Hires upscale: 1\.5, Hires steps: 4, Hires upscaler: Lanczos, /;
  const { parameters } = textsOf(first.png);
  assert.match(parameters, fields);
  const { width, height } = await page.evaluate(() => globalThis.pixart.state().image);
  assert.deepEqual([width, height], [96, 96]);
  await restore(own(plain));
  assert.deepEqual(await values(), ['1', '', '']);
  assert.ok(!('hires_scale' in (await generated()).request));
  await restore(pngWithTexts(rgbPng(96, 96), [['iTXt', 'parameters', itxt(parameters)]]));
  assert.deepEqual(await values(), ['1.5', '0.5', '4']);
  assert.deepEqual((await generated()).pixels, first.pixels);
});

test('settings_without_a_field_reach_the_image_are_listed_and_can_be_reset', async () => {
  const extra = {
    eta: 0.5,
    clean_caption: false,
    use_resolution_binning: false,
    max_sequence_length: 100,
    pag_scale: 2,
    pag_applied_layers: [0],
  };
  const request = { ...FULL, ...extra, scheduler: 'ddim', width: 64, height: 64, num_inference_steps: 2 };
  await restore(own(request));
  const listed = await page.innerText('#carried-text');
  for (const [name, value] of Object.entries(extra)) assert.ok(listed.includes(`${name}: ${value}`), `${name} in ${listed}`);
  assert.deepEqual(
    await generated().then(({ request }) => Object.fromEntries(Object.keys(extra).map((name) => [name, request[name]]))),
    extra,
  );
  // A file without them resets them.
  await restore(own({ ...FULL, width: 64, height: 64 }));
  assert.ok(await page.isHidden('#carried'));

  await restore(own({ ...request, scheduler: 'ddpm', timesteps: [900, 500], eta: 0 }));
  assert.match(await page.innerText('#carried-text'), /timesteps: 900, 500/);
  assert.deepEqual((await generated()).request.timesteps, [900, 500]);
  await page.fill('#steps', '3');
  assert.doesNotMatch(await page.innerText('#carried-text'), /timesteps/);
  await page.click('#reset-carried');
  assert.ok(await page.isHidden('#carried'));
  const { clean_caption, pag_scale, timesteps } = (await generated()).request;
  assert.deepEqual({ clean_caption, pag_scale, timesteps }, { clean_caption: true, pag_scale: 0, timesteps: undefined });

  await restore(own({ ...FULL, sigmas: [10, 2, 0.5], scheduler: 'euler:use_karras_sigmas=true', style: 'ink', width: 64, height: 64 }));
  assert.match(await page.innerText('#carried-text'), /sigmas: 10, 2, 0\.5/);
  const { scheduler, style } = await formValues();
  assert.deepEqual([scheduler, style], ['euler:use_karras_sigmas=true', 'ink']);
});

test('files_models_and_loras_that_an_image_needs_are_named', async () => {
  const by = {
    model: 'another',
    weight_format: 'q8',
    loras: [{ name: 'ink, wet', scale: 0.5 }],
    transformer: 'a.pth',
    files: ['latents', 'text_encoder'],
  };
  const text = await restore(own(FULL, by));
  for (const part of [
    /file of latents/,
    /file of prompt embeddings/,
    /LoRA ink, wet \(0\.5\), transformer a\.pth/,
    /model another; scenes is open/,
  ])
    assert.match(text, part);
  const { model_hash, weight_format } = await page.evaluate(() => globalThis.pixart.state().checkpoint);
  assert.equal(await restore(own(FULL, { model: 'renamed', model_hash, weight_format })), 'The settings of restored.png are in the form.');
  assert.match(await restore(own(FULL, { model: 'scenes', model_hash, weight_format: 'q4' })), /weights in q4; here they are in /);
});

test('the_second_image_of_a_request_is_generated_again_from_its_own_file', async () => {
  const args = ['--prompt', 'a red circle', '--seed', '7', '--images', '2', '--steps', '3', '--width', '64', '--height', '64'];
  const [, second] = runPixart([...args, '--scheduler', 'euler-a'], ['out-0.png', 'out-1.png']);
  await restore(second);
  assert.match(await page.innerText('#carried-text'), /image 2 of 2/);
  const again = await generated();
  assert.ok(largestDifference(again.pixels, await pixels(page, second)) <= 1);
  // And from the tab's own file.
  await page.fill('#seed', '1');
  assert.ok(await page.isHidden('#carried'), 'another seed is another image');
  await restore(again.png);
  assert.deepEqual((await generated()).png, again.png);
  const [alone] = runPixart([...args, '--scheduler', 'euler-a', '--image-index', '1']);
  assert.deepEqual(alone, second);

  const old = { ...FULL, num_images_per_prompt: 2, width: 64, height: 64 };
  assert.match(await restore(own(old)), /one of 2 images, and the file does not say which/);
  await restore(own({ ...old, seeds: [4, 5] }));
  assert.ok(await page.isHidden('#carried'), 'an own seed needs no index');
});

test('a_prompt_that_ends_in_an_aspect_ratio_is_restored_and_generated', async () => {
  const [file] = runPixart(['--prompt', 'a red circle --ar 1:2', '--seed', '3', '--steps', '2']);
  await fillForm(page, { width: 64, height: 64 });
  await restore(file);
  const { width, height } = await formValues();
  assert.deepEqual([width, height], ['', '']);
  assert.ok(largestDifference((await generated()).pixels, await pixels(page, file)) <= 1);
  // Typed by hand, it takes precedence over the fields; without it they count again.
  await fillForm(page, { prompt: 'a red circle', width: 64, height: 64, num_inference_steps: 1 });
  await fillForm(page, { prompt: 'a red circle --hw 2:1' });
  const typed = await generated();
  assert.deepEqual([typed.request.width, typed.request.height], [undefined, undefined]);
  assert.equal(typed.png.readUInt32BE(16) < typed.png.readUInt32BE(20), true);
  await fillForm(page, { prompt: 'a red circle' });
  assert.equal((await generated()).request.width, 64);
});

test('line_breaks_and_control_characters_in_prompts_give_the_same_pixels_as_with_pixart', async () => {
  const small = ['--seed', '7', '--steps', '4', '--width', '64', '--height', '64'];
  for (const [prompt, negative_prompt] of [
    ['a red circle', 'blur\nugly'],
    ['a red\r\ncircle', 'blur\rugly\n\nthin'],
    ['a red\tcircle\u2028here', 'blur\u0085ugly\u000bthin'],
  ]) {
    const [file] = runPixart(['--prompt', prompt, '--negative-prompt', negative_prompt, ...small]);
    await restore(file);
    const again = await generated();
    assert.deepEqual([again.request.prompt, again.request.negative_prompt], [prompt, negative_prompt]);
    assert.ok(largestDifference(again.pixels, await pixels(page, file)) <= 1, JSON.stringify(negative_prompt));
  }
  const [file] = runPixart(['--prompt', 'a red circle', '--negative-prompt', 'blur\nugly', ...small]);
  await fillForm(page, { ...SMALL, prompt: 'a red circle', negative_prompt: '', guidance_scale: 4.5 });
  await page.focus('#negative-prompt');
  await page.evaluate(() => document.execCommand('insertText', false, 'blur\nugly'));
  assert.ok(largestDifference((await generated()).pixels, await pixels(page, file)) <= 1, 'pasted by hand');
});

test('an_own_file_whose_texts_another_program_wrote_anew_is_restored', async () => {
  await fillForm(page, { ...SMALL, prompt: 'ein grüner Kaktus', seed: 21 });
  const { png } = await generated();
  const texts = textsOf(png);
  const kinds = {
    compressed: [['iTXt', 'pixart', compressedItxt(texts.pixart)]],
    ztxt: [['zTXt', 'pixart', ztxt(texts.pixart)]],
    latin1: [['tEXt', 'pixart', Buffer.from(texts.pixart, 'latin1')]],
    utf8: [['tEXt', 'pixart', Buffer.from(texts.pixart)]],
    parameters: [['tEXt', 'parameters', Buffer.from(texts.parameters, 'latin1')]],
  };
  for (const [name, chunks] of Object.entries(kinds)) {
    await fillForm(page, { prompt: 'another', seed: 1, width: 128, height: 128 });
    await restore(pngWithTexts(png, chunks));
    assert.deepEqual((await generated()).pixels, await pixels(page, png), name);
  }
});

const A1111 = `a cat, (very:1.2) <lora:wet ink:0.7>
second line
Negative prompt: blur, ugly
deformed
Steps: 30, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 965400086, Size: 128x96, Model hash: 45dee52b, Model: "a, b: c", Clip skip: 2, Version: v1.10.1`;
const A1111_FORM = {
  ...DEFAULTS,
  prompt: 'a cat, (very:1.2)\nsecond line',
  'negative-prompt': 'blur, ugly\ndeformed',
  seed: '965400086',
  steps: '30',
  'guidance-scale': '7',
  scheduler: 'dpm++2m:use_karras_sigmas=true',
  width: '128',
  height: '96',
};
const utf16 = (text, little) => {
  const bytes = Buffer.from(text, 'utf16le');
  return little ? bytes : bytes.swap16();
};
const comment = (prefix, body) => Buffer.concat([Buffer.from(prefix.padEnd(8, '\0'), 'latin1'), body]);
const jpeg = readFileSync(new URL('../../crates/model/src/image/fixtures/grey.jpg', import.meta.url));
const vp8x = Buffer.from('080000007f00005f0000', 'hex');

test('settings_of_automatic1111_are_restored_from_every_kind_of_file', async () => {
  const unicode = (little, littleText) => exif({ comment: comment('UNICODE', utf16(A1111, littleText)), little });
  const files = {
    'text.png': pngWithTexts(rgbPng(128, 96), [['tEXt', 'parameters', Buffer.from(A1111, 'latin1')]]),
    'ztxt.png': pngWithTexts(rgbPng(128, 96), [['zTXt', 'parameters', ztxt(A1111)]]),
    'itxt.png': pngWithTexts(rgbPng(128, 96), [['iTXt', 'parameters', itxt(A1111)]]),
    'exif.png': rgbPng(128, 96, [pngChunk('eXIf', unicode(false, false))]),
    'big.jpg': jpegWithExif(jpeg, unicode(false, false)),
    'little.jpg': jpegWithExif(jpeg, unicode(true, true)),
    // What piexif, and so AUTOMATIC1111, writes into a little-endian file.
    'mixed.jpg': jpegWithExif(jpeg, unicode(true, false)),
    'ascii.jpg': jpegWithExif(jpeg, exif({ comment: comment('ASCII', Buffer.from(A1111)) })),
    'plain.jpg': jpegWithExif(jpeg, exif({ comment: comment('', Buffer.from(A1111)) })),
    'exif.webp': webp([
      ['VP8X', vp8x],
      ['EXIF', unicode(false, false)],
    ]),
    'prefixed.webp': webp([
      ['VP8X', vp8x],
      ['EXIF', Buffer.concat([Buffer.from('Exif\0\0'), unicode(true, true)])],
    ]),
  };
  for (const [name, bytes] of Object.entries(files)) {
    await fillForm(page, { prompt: 'another', negative_prompt: 'left', seed: 1, width: 64, height: 64 });
    const text = await restore(bytes, name);
    assert.deepEqual(await formValues(), A1111_FORM, name);
    assert.match(text, /written by AUTOMATIC1111/);
    assert.ok(await page.isChecked('#prompt-weighting'), 'brackets are weights there');
    assert.match(text, /LoRA wet ink \(0\.7\)/);
    assert.match(text, /Not used: Clip skip: 2\./);
    assert.match(text, /model a, b: c; scenes is open/);
  }
});

const comfy = {
  3: {
    class_type: 'KSampler',
    inputs: {
      seed: 156680208700286,
      steps: 12,
      cfg: 8,
      sampler_name: 'euler_ancestral',
      scheduler: 'normal',
      denoise: 1,
      model: ['10', 0],
      positive: ['6', 0],
      negative: ['7', 0],
      latent_image: ['5', 0],
    },
  },
  4: { class_type: 'CheckpointLoaderSimple', inputs: { ckpt_name: 'sd.safetensors' } },
  5: { class_type: 'EmptyLatentImage', inputs: { width: 96, height: 128, batch_size: 1 } },
  6: { class_type: 'CLIPTextEncode', inputs: { text: ['11', 0], clip: ['4', 1] } },
  7: { class_type: 'CLIPTextEncode', inputs: { text: 'text, watermark', clip: ['4', 1] } },
  8: { class_type: 'VAEDecode', inputs: {} },
  9: { class_type: 'SaveImage', inputs: {} },
  10: { class_type: 'LoraLoader', inputs: { lora_name: 'a' } },
  11: { class_type: 'PrimitiveString', inputs: { value: 'a glass bottle' } },
};
const png = (keyword, value) =>
  pngWithTexts(rgbPng(96, 128), [['tEXt', keyword, Buffer.from(typeof value === 'string' ? value : JSON.stringify(value), 'latin1')]]);
const SIZE = { width: '96', height: '128' };
/** A file, the fields that differ from the defaults, and the remark. */
const FOREIGN = [
  [
    'upscaled',
    png(
      'parameters',
      'a cat\nSteps: 9, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 96x128, Denoising strength: 0.5, Hires upscale: 2, Hires upscaler: Latent',
    ),
    { prompt: 'a cat', seed: '1', steps: '9', 'guidance-scale': '7', scheduler: 'euler-a', ...SIZE },
    /Not used: Hires upscale: 2, Hires upscaler: Latent\./,
  ],
  [
    'image_to_image',
    png('parameters', 'a cat\nSteps: 9, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 1, Size: 96x128, Denoising strength: 0.5'),
    {
      prompt: 'a cat',
      seed: '1',
      steps: '9',
      'guidance-scale': '7',
      scheduler: 'dpm++2m:use_karras_sigmas=true',
      strength: '0.5',
      ...SIZE,
    },
    /does not hold its input image/,
  ],
  [
    'an_unknown_sampler_and_a_large_size',
    png('parameters', 'a cat\nSteps: 9, Sampler: DPM++ SDE, CFG scale: 7, Seed: 1, Size: 1024x1024'),
    { prompt: 'a cat', seed: '1', steps: '9', 'guidance-scale': '7' },
    /Not used: size: 1024x1024, sampler: DPM\+\+ SDE\./,
  ],
  [
    'comfyui',
    png('prompt', comfy),
    { prompt: 'a glass bottle', 'negative-prompt': 'text, watermark', steps: '12', 'guidance-scale': '8', scheduler: 'euler-a', ...SIZE },
    /written by ComfyUI.+LoRA a \(1\): add it.+Not used: seed: 156680208700286\..+model sd\.safetensors/,
  ],
  [
    'comfyui_webp',
    webp([
      ['VP8X', vp8x],
      [
        'EXIF',
        (() => {
          const data = exif({ comment: comment('', Buffer.from(`prompt:${JSON.stringify(comfy)}`)) });
          return data;
        })(),
      ],
    ]),
    { prompt: 'a glass bottle', 'negative-prompt': 'text, watermark', steps: '12', 'guidance-scale': '8', scheduler: 'euler-a', ...SIZE },
    /written by ComfyUI/,
  ],
  [
    'invokeai',
    png('invokeai_metadata', {
      generation_mode: 'txt2img',
      positive_prompt: 'a barn',
      negative_prompt: 'blur',
      width: 96,
      height: 128,
      seed: 2,
      cfg_scale: 7.5,
      steps: 11,
      scheduler: 'dpmpp_2m_k',
      model: { name: 'stable', hash: 'x' },
    }),
    {
      prompt: 'a barn',
      'negative-prompt': 'blur',
      seed: '2',
      steps: '11',
      'guidance-scale': '7.5',
      scheduler: 'dpm++2m:use_karras_sigmas=true',
      ...SIZE,
    },
    /written by InvokeAI.+Not used: generation_mode: txt2img\..+model stable/,
  ],
  [
    'former_invokeai',
    png('sd-metadata', {
      model: 'stable diffusion',
      image: {
        prompt: [{ prompt: 'a barn', weight: 1 }],
        steps: 11,
        cfg_scale: 7.5,
        seed: 2,
        sampler: 'k_euler_a',
        width: 96,
        height: 128,
      },
    }),
    { prompt: 'a barn', seed: '2', steps: '11', 'guidance-scale': '7.5', scheduler: 'euler-a', ...SIZE },
    /InvokeAI/,
  ],
  [
    'novelai',
    pngWithTexts(rgbPng(96, 128), [
      ['tEXt', 'Software', Buffer.from('NovelAI')],
      ['tEXt', 'Description', Buffer.from('a fox')],
      [
        'tEXt',
        'Comment',
        Buffer.from(
          JSON.stringify({
            steps: 28,
            sampler: 'k_euler',
            seed: 3,
            scale: 11,
            uc: 'lowres',
            height: 128,
            width: 96,
            strength: 0.7,
            noise: 0.2,
          }),
        ),
      ],
    ]),
    {
      prompt: 'a fox',
      'negative-prompt': 'lowres',
      seed: '3',
      steps: '28',
      'guidance-scale': '11',
      scheduler: 'euler',

      ...SIZE,
    },
    /written by NovelAI/,
  ],
  [
    'fooocus',
    png('parameters', {
      prompt: 'a fox',
      negative_prompt: 'blur',
      steps: 30,
      guidance_scale: 4,
      resolution: '(96, 128)',
      seed: '12',
      sampler: 'dpmpp_2m_sde_gpu',
      scheduler: 'karras',
      base_model: 'juggernaut',
    }),
    {
      prompt: 'a fox',
      'negative-prompt': 'blur',
      seed: '12',
      steps: '30',
      'guidance-scale': '4',
      scheduler: 'dpm++2m-sde:use_karras_sigmas=true',
      ...SIZE,
    },
    /model juggernaut/,
  ],
  [
    'swarmui',
    png('parameters', {
      sui_image_params: {
        prompt: 'a fox',
        negativeprompt: 'blur',
        model: 'sdxl',
        seed: 4,
        steps: 20,
        cfgscale: 6,
        width: 96,
        height: 128,
        sampler: 'heun',
      },
    }),
    { prompt: 'a fox', 'negative-prompt': 'blur', seed: '4', 'guidance-scale': '6', scheduler: 'heun', ...SIZE },
    /written by SwarmUI/,
  ],
  [
    'one_keyword_for_each_setting',
    pngWithTexts(rgbPng(96, 128), [
      ['tEXt', 'prompt', Buffer.from('a fox')],
      ['tEXt', 'seed', Buffer.from('9')],
      ['tEXt', 'num_inference_steps', Buffer.from('8')],
    ]),
    { prompt: 'a fox', seed: '9', steps: '8', ...SIZE },
    /./,
  ],
];

test('settings_of_other_tools_are_restored_as_far_as_the_form_has_them', async () => {
  for (const [name, bytes, fields, remark] of FOREIGN) {
    await fillForm(page, { prompt: 'another', negative_prompt: 'left', seed: 1, width: 64, height: 64 });
    await page.fill('#strength', '0.9');
    const text = await restore(bytes, name.includes('webp') ? 'a.webp' : 'a.png');
    assert.deepEqual(await formValues(), { ...DEFAULTS, ...fields }, name);
    assert.match(text, remark, name);
  }
});

test('a_file_of_another_tool_without_settings_is_offered_as_input_image', async () => {
  const workflow = png('workflow', { nodes: [], links: [] });
  const diffusers = pngWithTexts(rgbPng(8, 8), [['tEXt', 'Software', Buffer.from('diffusers')]]);
  for (const bytes of [workflow, diffusers, jpeg]) {
    assert.match(await restore(bytes, 'other.png'), /^other\.png holds no generation settings/);
    assert.ok(await page.isVisible('#use-image'));
  }
});

test('a_pasted_text_of_automatic1111_fills_in_the_form_and_any_other_text_is_a_prompt', async () => {
  const paste = (text) =>
    page.evaluate((text) => {
      const field = document.getElementById('prompt');
      field.focus();
      field.select();
      const clipboardData = new DataTransfer();
      clipboardData.setData('text/plain', text);
      const isDefault = field.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }));
      document.getElementById('notice-text').textContent = '';
      return isDefault;
    }, text);
  const text =
    'a lighthouse at dusk\nNegative prompt: fog\nSteps: 12, Sampler: Euler a, CFG scale: 6.5, Seed: 4242, Size: 128x128, Model: other';
  assert.equal(await paste(text), false);
  await page.waitForFunction(() => document.getElementById('notice-text').textContent !== '');
  assert.match(await page.innerText('#notice-text'), /^The settings of the pasted text, written by AUTOMATIC1111, are in the form/);
  const { prompt, seed, steps, scheduler, ...others } = await formValues();
  assert.deepEqual(
    [prompt, others['negative-prompt'], seed, steps, others['guidance-scale'], scheduler],
    ['a lighthouse at dusk', 'fog', '4242', '12', '6.5', 'euler-a'],
  );
  assert.ok(await page.evaluate(() => document.getElementById('negative').open), 'what is filled in is unfolded');
  assert.equal(await paste('three steps: one, two, three'), true, 'the browser pastes it');
  assert.equal(await paste('Steps: 12, of a stair'), false);
  await page.waitForFunction(() => document.getElementById('prompt').value === 'Steps: 12, of a stair');
});
