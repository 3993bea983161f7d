//! The request form: reads a request from it, and fills it in from a checkpoint or an image's metadata. The engine validates values.
import type { ImageRequest } from '../engine/client';
import { fault } from '../engine/fault';
import type { Checkpoint, GenerateRequest, Limits, Preset } from '../engine/protocol.gen';
import { readAsPng } from '../gallery/files';
import { element } from './dom';
import { paintedMask } from './mask';
import { readTextSource } from './text-source';

const prompt = element('prompt', HTMLTextAreaElement);
const negativePrompt = element('negative-prompt', HTMLInputElement);
const seed = element('seed', HTMLInputElement);
const randomSeed = element('random-seed', HTMLInputElement);
const preset = element('preset', HTMLSelectElement);
const steps = element('steps', HTMLInputElement);
const guidanceScale = element('guidance-scale', HTMLInputElement);
const scheduler = element('scheduler', HTMLSelectElement);
const style = element('style', HTMLSelectElement);
const numImages = element('num-images', HTMLInputElement);
const initImage = element('init-image', HTMLInputElement);
const maskImage = element('mask-image', HTMLInputElement);
const strength = element('strength', HTMLInputElement);
const width = element('width', HTMLInputElement);
const height = element('height', HTMLInputElement);
const aspectRatios = element('aspect-ratios', HTMLElement);
const record = element('record', HTMLInputElement);

const U32_MAX = 2 ** 32 - 1;
/** Width to height. The buttons keep the area of the checkpoint's native size. */
const ASPECT_RATIOS: readonly (readonly [number, number])[] = [
  [1, 1],
  [4, 3],
  [3, 4],
  [3, 2],
  [2, 3],
  [16, 9],
  [9, 16],
];

/** The open checkpoint's presets. */
let presets: readonly Preset[] = [];
preset.addEventListener('change', applyPreset);

/** Returns the request without its files; see `readFiles`. Throws a `Fault`. */
export function readRequest(): ImageRequest {
  if (randomSeed.checked) seed.valueAsNumber = crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
  return {
    prompt: prompt.value,
    negative_prompt: negativePrompt.value,
    seed: readU32('seed', seed),
    num_inference_steps: readU32('num_inference_steps', steps),
    guidance_scale: guidanceScale.valueAsNumber,
    ...presetFields(),
    ...(scheduler.value && { scheduler: scheduler.value }),
    ...(style.value && { style: style.value }),
    width: readU32('width', width),
    height: readU32('height', height),
    record: record.checked,
  };
}

/** Returns the fields that decide how the prompts are read. */
export function readPrompts(): ImageRequest {
  const { max_sequence_length } = presetFields();
  return {
    prompt: prompt.value,
    negative_prompt: negativePrompt.value,
    ...(max_sequence_length !== undefined && { max_sequence_length }),
    ...(style.value && { style: style.value }),
  };
}

/** Returns the number of images to generate, each with the next seed. Throws a `Fault`. */
export function readNumImages(): number {
  return readU32('the number of images', numImages);
}

/** Returns the fields of a request that are read from files: text source, input image and mask, with the strength. Rejects with a `Fault`. */
export async function readFiles(): Promise<Partial<ImageRequest>> {
  const [text_encoder, image, selected, painted] = await Promise.all([
    readTextSource(),
    readAsPng(initImage),
    readAsPng(maskImage),
    paintedMask(),
  ]);
  const mask_image = selected ?? painted;
  return {
    text_encoder,
    ...(image && { image }),
    ...(mask_image && { mask_image }),
    ...(strength.value && { strength: strength.valueAsNumber }),
  };
}

/** Returns the selected preset's values that have no field in the form. */
function presetFields(): Partial<ImageRequest> {
  const selected = presets.find(({ name }) => name === preset.value);
  if (selected === undefined) return {};
  const { max_sequence_length, timesteps, pag_scale } = selected;
  return { max_sequence_length, ...(timesteps && { timesteps }), ...(pag_scale > 0 && { pag_scale }) };
}

/** Fills in the selected preset. */
function applyPreset(): void {
  const selected = presets.find(({ name }) => name === preset.value);
  if (selected === undefined) return;
  steps.valueAsNumber = selected.num_inference_steps;
  guidanceScale.valueAsNumber = selected.guidance_scale;
  select(scheduler, selected.scheduler ?? '');
}

/** Returns the preset that agrees with a request in the values that have no field in the form. */
function presetOf({ max_sequence_length, timesteps, pag_scale }: Partial<GenerateRequest>): Preset | undefined {
  return presets.find(
    (known) =>
      known.max_sequence_length === max_sequence_length &&
      known.pag_scale === (pag_scale ?? 0) &&
      String(known.timesteps ?? '') === String(timesteps ?? ''),
  );
}

/** Fills in a request. */
export function applyRequest(request: Partial<GenerateRequest>): void {
  const put = (field: { value: string }, value: string | number | null | undefined): void => {
    if (value !== undefined && value !== null) field.value = String(value);
  };
  put(prompt, request.prompt);
  put(negativePrompt, request.negative_prompt ?? '');
  put(seed, request.seed);
  put(preset, presetOf(request)?.name);
  put(steps, request.num_inference_steps);
  put(guidanceScale, request.guidance_scale);
  select(scheduler, request.scheduler ?? '');
  select(style, request.style ?? '');
  put(width, request.width);
  put(height, request.height);
  put(strength, request.strength);
  put(numImages, 1);
  randomSeed.checked = false;
  renderForm();
}

/** Offers a checkpoint's presets, schedulers, styles and sizes, and fills in its preset where the user has entered nothing else. */
export function applyCheckpoint({ limits, preset: own, presets: all, schedulers, styles }: Checkpoint): void {
  presets = all;
  preset.replaceChildren(...all.map(({ name }) => new Option(name, name, false, name === own.name)));
  for (const [field, value] of [
    [steps, own.num_inference_steps],
    [guidanceScale, own.guidance_scale],
  ] as const) {
    if (field.value === field.defaultValue) field.valueAsNumber = value;
  }
  setOptions(scheduler, schedulers);
  setOptions(style, styles);
  for (const side of [width, height]) {
    Object.assign(side, { min: limits.size_min, max: limits.size_max, step: limits.size_multiple });
    if (side.value === '') side.valueAsNumber = limits.native_size;
  }
  aspectRatios.replaceChildren(...ASPECT_RATIOS.map((ratio) => aspectRatioButton(ratio, limits)));
  renderForm();
}

/** Updates what depends on other fields. */
export function renderForm(): void {
  seed.readOnly = randomSeed.checked;
  for (const button of aspectRatios.querySelectorAll('button')) {
    const pressed = button.dataset.width === width.value && button.dataset.height === height.value;
    button.setAttribute('aria-pressed', String(pressed));
  }
}

function aspectRatioButton([wide, high]: readonly [number, number], limits: Limits): HTMLButtonElement {
  const { native_size, size_multiple, size_min, size_max } = limits;
  const side = (ratio: number): number => {
    const pixels = Math.round((native_size * Math.sqrt(ratio)) / size_multiple) * size_multiple;
    return Math.min(Math.max(pixels, size_min), size_max);
  };
  const button = document.createElement('button');
  Object.assign(button, { type: 'button', textContent: `${wide}:${high}` });
  Object.assign(button.dataset, { width: String(side(wide / high)), height: String(side(high / wide)) });
  button.addEventListener('click', () => {
    [width.value, height.value] = [button.dataset.width ?? '', button.dataset.height ?? ''];
    renderForm();
  });
  return button;
}

/** Replaces the options after the first one, which stands for the default. */
function setOptions(list: HTMLSelectElement, names: string[]): void {
  const selected = list.value;
  list.options.length = 1;
  list.append(...names.map((name) => new Option(name, name, false, name === selected)));
}

/** Selects a value, which is added where the list lacks it: a scheduler with options, for example. */
function select(list: HTMLSelectElement, value: string): void {
  if (![...list.options].some((option) => option.value === value)) list.append(new Option(value, value));
  list.value = value;
}

/** Reads a field that is sent as `u32`. */
function readU32(name: string, { value, valueAsNumber }: HTMLInputElement): number {
  if (Number.isInteger(valueAsNumber) && valueAsNumber >= 0 && valueAsNumber <= U32_MAX) return valueAsNumber;
  throw fault('bad_request', `${name} is ${value || 'not a number'}`, `enter a whole number from 0 to ${U32_MAX}`);
}
