//! The request form: reads a request from it, and fills it in from a checkpoint or an image's metadata. The engine validates values.
import type { ImageRequest } from '../engine/client';
import { fault } from '../engine/fault';
import type { Checkpoint, GenerateRequest, Preset } from '../engine/protocol.gen';
import { hasSizeSuffix } from '../gallery/size-suffix';
import { carry, carryPreset, dropImageIndex, dropSteps, hasPresetFields, readCarried } from './carried';
import { element } from './dom';
import { isRestored, readText, readU32, select, setOptions, setText } from './fields';
import { t } from './i18n';
import { keepFiles, readInputImage, selectInitImage } from './input-image';
import { openPanel } from './panels';
import { promptVariants, VARIANTS_MAX } from './prompt-variants';
import { type Shape, shapesOf } from './shapes';
import { readStyle, renderStyles, selectStyle, setStyles } from './style-chips';
import { readTextSource, unselectFile } from './text-source';
import { readLists, unknownWildcards, withWildcards } from './wildcards';

const prompt = element('prompt', HTMLTextAreaElement);
const negativePrompt = element('negative-prompt', HTMLTextAreaElement);
const eachLine = element('each-line', HTMLInputElement);
const promptCount = element('prompt-count', HTMLElement);
const seed = element('seed', HTMLInputElement);
const promptWeighting = element('prompt-weighting', HTMLInputElement);
const hiresScale = element('hires-scale', HTMLInputElement);
const hiresStrength = element('hires-strength', HTMLInputElement);
const hiresSteps = element('hires-steps', HTMLInputElement);
const variationSeed = element('variation-seed', HTMLInputElement);
const variationStrength = element('variation-strength', HTMLInputElement);
const randomSeedBox = element('random-seed', HTMLInputElement);
const preset = element('preset', HTMLSelectElement);
const steps = element('steps', HTMLInputElement);
const guidanceScale = element('guidance-scale', HTMLInputElement);
const scheduler = element('scheduler', HTMLSelectElement);
const negative = element('negative', HTMLDetailsElement);
const numImages = element('num-images', HTMLInputElement);
const strength = element('strength', HTMLInputElement);
const width = element('width', HTMLInputElement);
const height = element('height', HTMLInputElement);
const aspectRatios = element('aspect-ratios', HTMLElement);
const record = element('record', HTMLInputElement);

/** The open checkpoint's presets, and the recommended one. */
let presets: readonly Preset[] = [];
let recommended: Preset | undefined;
preset.addEventListener('change', applyPreset);
steps.addEventListener('input', dropSteps);
for (const field of [seed, randomSeedBox, numImages]) field.addEventListener('input', dropImageIndex);
element('reset-carried', HTMLButtonElement).addEventListener('click', () => carryPreset(selectedPreset()));

/** Returns the request without its files; see `readFiles`. Throws a `Fault`. */
export function readRequest(): ImageRequest {
  if (randomSeedBox.checked) seed.valueAsNumber = randomSeed();
  return {
    prompt: readText(prompt),
    negative_prompt: readText(negativePrompt),
    ...readWeighting(),
    seed: readU32('seed', seed),
    ...readVariation(),
    ...readSecondPass(),
    num_inference_steps: readU32('num_inference_steps', steps),
    guidance_scale: guidanceScale.valueAsNumber,
    ...readCarried(),
    ...(scheduler.value && { scheduler: scheduler.value }),
    ...(readStyle() && { style: readStyle() }),
    ...readSize(),
    record: record.checked,
  };
}

/** Returns whether brackets in the prompts are weights; nothing where there are none. */
function readWeighting(): Partial<ImageRequest> {
  return promptWeighting.checked && (hasBrackets(prompt.value) || hasBrackets(negativePrompt.value)) ? { prompt_weighting: true } : {};
}

function hasBrackets(text: string): boolean {
  return /[()[\]\\]/.test(text);
}

/** Returns the prompts that the prompt's text gives: one of a restored text, which is an image's. Throws a `Fault`. */
export function readPromptVariants(): string[] {
  const text = readText(prompt);
  if (isRestored(prompt)) return [text];
  const variants = promptVariants(text, eachLine.checked);
  if (variants.length <= VARIANTS_MAX) return variants;
  throw fault('bad_request', `the prompt gives more than ${VARIANTS_MAX} prompts`, 'use fewer alternatives in braces, or fewer lines');
}

/** Returns a prompt with the words that the image's seed chooses; a restored one holds them already. */
export function withChosenWords(text: string, seed: number): string {
  return isRestored(prompt) ? text : withWildcards(text, readLists(), seed);
}

/** Makes each line of a text a prompt. */
export function setPromptLines(text: string): void {
  eachLine.checked = true;
  setPrompt(text, undefined);
}

/** Returns the second pass, where it is on. */
function readSecondPass(): Partial<ImageRequest> {
  const hires_scale = hiresScale.valueAsNumber;
  if (!(hires_scale > 1)) return {};
  return {
    hires_scale,
    ...(hiresStrength.value && { hires_strength: hiresStrength.valueAsNumber }),
    ...(hiresSteps.value && { hires_steps: readU32('hires_steps', hiresSteps) }),
  };
}

/** Returns the variation of the seed, where it is on. */
function readVariation(): Partial<ImageRequest> {
  const variation_strength = variationStrength.valueAsNumber;
  return variation_strength > 0 ? { variation_seed: readU32('variation_seed', variationSeed), variation_strength } : {};
}

/** Fills in a prompt, and a seed where the prompt has one. */
export function setPrompt(text: string, itsSeed: number | undefined): void {
  prompt.value = text;
  if (itsSeed !== undefined) {
    seed.value = String(itsSeed);
    randomSeedBox.checked = false;
  }
  dropImageIndex();
  renderForm();
}

/** Returns a seed that nobody chose. */
export function randomSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
}

/** Returns the fields that decide how the prompts are read, with the first of several prompts. */
export function readPrompts(): ImageRequest {
  const { max_sequence_length } = readCarried();
  return {
    prompt: isRestored(prompt) ? readText(prompt) : (promptVariants(prompt.value, eachLine.checked)[0] ?? ''),
    negative_prompt: readText(negativePrompt),
    ...readWeighting(),
    ...(max_sequence_length !== undefined && { max_sequence_length }),
    ...(readStyle() && { style: readStyle() }),
  };
}

/** Removes the size from a request whose prompt chooses it, after the axes of a grid have set the prompt. */
export function withPromptSize<T extends Partial<ImageRequest>>(request: T): T {
  if (!hasSizeSuffix(request.prompt ?? '')) return request;
  const { width: _width, height: _height, ...rest } = request;
  return rest as T;
}

/** Returns the size, unless the fields are empty or the prompt chooses it. */
function readSize(): Partial<ImageRequest> {
  if (hasSizeSuffix(prompt.value)) return {};
  return {
    ...(width.value !== '' || width.validity.badInput ? { width: readU32('width', width) } : {}),
    ...(height.value !== '' || height.validity.badInput ? { height: readU32('height', height) } : {}),
  };
}

/** Returns the number of images to generate, each with the next seed. Throws a `Fault`. */
export function readNumImages(): number {
  return readU32('the number of images', numImages);
}

/** Returns the fields of a request that are read from files: text source, input image and mask, with the strength. Rejects with a `Fault`. */
export async function readFiles(): Promise<Partial<ImageRequest>> {
  const [text_encoder, files] = await Promise.all([readTextSource(), readInputImage()]);
  // A strength without an image has no meaning: it may be left from before.
  return {
    text_encoder,
    ...files,
    ...(files.image && strength.value && { strength: strength.valueAsNumber }),
  };
}

/** Selects an input image, and shows its settings. */
export function useInitImage(file: File): void {
  selectInitImage(file);
  openPanel('settings');
  element('image-input', HTMLDetailsElement).open = true;
}

/** Fills in the size. */
export function setSize(size: { width: number; height: number }): void {
  [width.valueAsNumber, height.valueAsNumber] = [size.width, size.height];
  renderForm();
}

function selectedPreset(): Preset | undefined {
  return presets.find(({ name }) => name === preset.value);
}

/** Fills in the selected preset. */
function applyPreset(): void {
  const selected = selectedPreset();
  if (selected === undefined) return;
  steps.valueAsNumber = selected.num_inference_steps;
  guidanceScale.valueAsNumber = selected.guidance_scale;
  select(scheduler, selected.scheduler ?? '');
  carryPreset(selected);
}

/**
 * Fills in a request. Every field is set: one that the request lacks to a request's default, or, with `fromPreset`, to the preset's:
 * other tools' files do not name all. An input image stays selected where the request had one, too.
 */
export function applyRequest(request: Partial<GenerateRequest>, files: readonly string[], fromPreset = false): void {
  const own = fromPreset ? selectedPreset() : undefined;
  setText(prompt, request.prompt ?? '');
  setText(negativePrompt, request.negative_prompt ?? '');
  if (negativePrompt.value !== '') negative.open = true;
  // Prompts without brackets say nothing about the next ones.
  if (hasBrackets(prompt.value) || hasBrackets(negativePrompt.value)) promptWeighting.checked = request.prompt_weighting ?? false;
  seed.value = String(request.seed ?? 0);
  hiresScale.value = String(request.hires_scale ?? 1);
  hiresStrength.value = String(request.hires_strength ?? '');
  hiresSteps.value = String(request.hires_steps ?? '');
  variationSeed.value = String(request.variation_seed ?? 0);
  variationStrength.value = String(request.variation_strength ?? 0);
  steps.value = String(request.num_inference_steps ?? own?.num_inference_steps ?? steps.defaultValue);
  guidanceScale.value = String(request.guidance_scale ?? own?.guidance_scale ?? guidanceScale.defaultValue);
  select(scheduler, request.scheduler ?? own?.scheduler ?? '');
  selectStyle(request.style ?? '');
  width.value = String(request.width ?? '');
  height.value = String(request.height ?? '');
  strength.value = String(request.strength ?? '');
  numImages.value = '1';
  randomSeedBox.checked = false;
  keepFiles(files);
  unselectFile();
  if (own === undefined) {
    const matching = [selectedPreset(), ...presets].find((known) => known !== undefined && hasPresetFields(known, request));
    if (matching !== undefined) preset.value = matching.name;
    carry(request, matching ?? selectedPreset());
  } else carryPreset(own);
  renderForm();
}

/** Offers a checkpoint's presets, schedulers, styles and sizes, and fills in its preset where the user has entered nothing else. */
export function applyCheckpoint({ limits, preset: own, presets: all, schedulers, styles }: Checkpoint): void {
  presets = all;
  // After a restart with the same preset the user's settings stay.
  if (recommended?.name !== own.name) {
    preset.replaceChildren(...all.map(({ name }) => new Option(name, name, false, name === own.name)));
    carryPreset(own);
  }
  recommended = own;
  for (const [field, value] of [
    [steps, own.num_inference_steps],
    [guidanceScale, own.guidance_scale],
  ] as const) {
    if (field.value === field.defaultValue) field.valueAsNumber = value;
  }
  setOptions(scheduler, schedulers);
  setStyles(styles);
  for (const side of [width, height]) {
    Object.assign(side, { min: limits.size_min, max: limits.size_max, step: limits.size_multiple });
    side.placeholder = String(limits.native_size);
    if (side.value === '' && !hasSizeSuffix(prompt.value)) side.valueAsNumber = limits.native_size;
  }
  aspectRatios.replaceChildren(...shapesOf(limits).map(aspectRatioButton));
  renderForm();
}

/** Updates what depends on other fields. */
export function renderForm(): void {
  renderStyles();
  seed.readOnly = randomSeedBox.checked;
  const count = isRestored(prompt) ? 1 : promptVariants(prompt.value, eachLine.checked).length;
  const unknown = isRestored(prompt) ? [] : unknownWildcards(prompt.value, readLists()).map((name) => `__${name}__`);
  promptCount.hidden = count === 1 && unknown.length === 0;
  promptCount.textContent = [
    ...(count > 1 ? [t('promptCount', { count: count > VARIANTS_MAX ? `> ${VARIANTS_MAX}` : count })] : []),
    ...(unknown.length > 0 ? [t('unknownWildcards', { names: unknown.join(', ') })] : []),
  ].join(' · ');
  for (const side of [width, height]) side.readOnly = hasSizeSuffix(prompt.value);
  for (const button of aspectRatios.querySelectorAll('button')) {
    const pressed = button.dataset.width === width.value && button.dataset.height === height.value;
    button.setAttribute('aria-pressed', String(pressed));
  }
}

function aspectRatioButton(shape: Shape): HTMLButtonElement {
  const button = document.createElement('button');
  Object.assign(button, { type: 'button', textContent: shape.name });
  Object.assign(button.dataset, { width: String(shape.width), height: String(shape.height) });
  button.addEventListener('click', () => {
    [width.value, height.value] = [button.dataset.width ?? '', button.dataset.height ?? ''];
    renderForm();
  });
  return button;
}
