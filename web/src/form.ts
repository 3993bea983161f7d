//! The form: what it asks for, and how it is filled from a checkpoint or from a picture's own request. What values mean is for
//! the engine to judge.
import type { Picture } from './client';
import { element } from './dom';
import { fault } from './fault';
import { paintedMask } from './mask';
import { pngOf } from './files';
import type { Checkpoint, Generate, Limits, Preset } from './protocol.gen';
import { chosenText } from './text-source';

const prompt = element('prompt', HTMLTextAreaElement);
const negative = element('negative-prompt', HTMLInputElement);
const seed = element('seed', HTMLInputElement);
const random = element('random-seed', HTMLInputElement);
const preset = element('preset', HTMLSelectElement);
const steps = element('steps', HTMLInputElement);
const guidance = element('guidance-scale', HTMLInputElement);
const scheduler = element('scheduler', HTMLSelectElement);
const style = element('style', HTMLSelectElement);
const count = element('num-images', HTMLInputElement);
const overImage = element('init-image', HTMLInputElement);
const overMask = element('mask-image', HTMLInputElement);
const strength = element('strength', HTMLInputElement);
const width = element('width', HTMLInputElement);
const height = element('height', HTMLInputElement);
const shapes = element('aspect-ratios', HTMLElement);
const record = element('record', HTMLInputElement);

const U32_MAX = 2 ** 32 - 1;
/** Width to height of the buttons; the sides have the area of the checkpoint's own square. */
const SHAPES: readonly (readonly [number, number])[] = [
  [1, 1],
  [4, 3],
  [3, 4],
  [3, 2],
  [2, 3],
  [16, 9],
  [9, 16],
];

/** Those that the checkpoint offers. */
let presets: readonly Preset[] = [];
preset.addEventListener('change', take);

/** What the engine is to be asked for, without its files. Throws a fault. */
export function asked(): Picture {
  if (random.checked) seed.valueAsNumber = crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
  return {
    prompt: prompt.value,
    negative_prompt: negative.value,
    seed: whole('seed', seed),
    steps: whole('steps', steps),
    guidance: guidance.valueAsNumber,
    ...distilled(),
    ...(scheduler.value && { scheduler: scheduler.value }),
    ...(style.value && { style: style.value }),
    width: whole('width', width),
    height: whole('height', height),
    record: record.checked,
  };
}

/** How many pictures are asked for, each with the seed after the one before. Throws a fault. */
export function pictures(): number {
  return whole('the number of images', count);
}

/** Who reads the prompt, and the picture to draw over, its mask and its strength, where they are chosen. */
export async function files(): Promise<Partial<Picture>> {
  const [text, picture, chosen, painted] = await Promise.all([chosenText(), pngOf(overImage), pngOf(overMask), paintedMask()]);
  const drawn = chosen ?? painted;
  return {
    text,
    ...(picture && { image: picture }),
    ...(drawn && { mask_image: drawn }),
    ...(strength.value && { strength: strength.valueAsNumber }),
  };
}

/** What of a preset has no field of its own. */
function distilled(): Partial<Picture> {
  const chosen = presets.find(({ name }) => name === preset.value);
  if (chosen === undefined) return {};
  const { max_sequence_length, timesteps, pag_scale } = chosen;
  return { max_sequence_length, ...(timesteps && { timesteps }), ...(pag_scale > 0 && { pag_scale }) };
}

/** Fills in what the chosen preset is best asked for. */
function take(): void {
  const chosen = presets.find(({ name }) => name === preset.value);
  if (chosen === undefined) return;
  steps.valueAsNumber = chosen.steps;
  guidance.valueAsNumber = chosen.guidance;
  choose(scheduler, chosen.scheduler ?? '');
}

/** The preset with what of a request has no field. */
function presetOf({ max_sequence_length, timesteps, pag_scale }: Partial<Generate>): Preset | undefined {
  return presets.find(
    (known) =>
      known.max_sequence_length === max_sequence_length &&
      known.pag_scale === (pag_scale ?? 0) &&
      String(known.timesteps ?? '') === String(timesteps ?? ''),
  );
}

/** Fills in the request of a picture. */
export function fill(request: Partial<Generate>): void {
  const put = (field: { value: string }, value: string | number | null | undefined): void => {
    if (value !== undefined && value !== null) field.value = String(value);
  };
  put(prompt, request.prompt);
  put(negative, request.negative_prompt ?? '');
  put(seed, request.seed);
  put(preset, presetOf(request)?.name);
  put(steps, request.steps);
  put(guidance, request.guidance);
  choose(scheduler, request.scheduler ?? '');
  choose(style, request.style ?? '');
  put(width, request.width);
  put(height, request.height);
  put(strength, request.strength);
  put(count, 1);
  random.checked = false;
  render();
}

/** Offers what the checkpoint can do, and takes what it is best asked for where nothing else was entered. */
export function offer({ limits, preset: own, presets: all, schedulers, styles }: Checkpoint): void {
  presets = all;
  preset.replaceChildren(...all.map(({ name }) => new Option(name, name, false, name === own.name)));
  for (const [field, best] of [[steps, own.steps], [guidance, own.guidance]] as const) {
    if (field.value === field.defaultValue) field.valueAsNumber = best;
  }
  list(scheduler, schedulers);
  list(style, styles);
  for (const side of [width, height]) {
    Object.assign(side, { min: limits.size_min, max: limits.size_max, step: limits.size_multiple });
    if (side.value === '') side.valueAsNumber = limits.native_size;
  }
  shapes.replaceChildren(...SHAPES.map((shape) => shapeButton(shape, limits)));
  render();
}

/** Shows what follows from what was entered. */
export function render(): void {
  seed.readOnly = random.checked;
  for (const button of shapes.querySelectorAll('button')) {
    const { width: wide, height: high } = button.dataset;
    button.setAttribute('aria-pressed', String(wide === width.value && high === height.value));
  }
}

function shapeButton([wide, high]: readonly [number, number], limits: Limits): HTMLButtonElement {
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
    render();
  });
  return button;
}

/** Fills a list with names below its first entry, which is none of them. */
function list(select: HTMLSelectElement, names: string[]): void {
  const chosen = select.value;
  select.options.length = 1;
  select.append(...names.map((name) => new Option(name, name, false, name === chosen)));
}

/** Chooses a value that a list may lack: a scheduler with settings of its own. */
function choose(select: HTMLSelectElement, value: string): void {
  if (![...select.options].some((option) => option.value === value)) select.append(new Option(value, value));
  select.value = value;
}

/** The value of a field that travels as a `u32`. */
function whole(name: string, { value, valueAsNumber }: HTMLInputElement): number {
  if (Number.isInteger(valueAsNumber) && valueAsNumber >= 0 && valueAsNumber <= U32_MAX) return valueAsNumber;
  throw fault('bad_request', `${name} is ${value || 'not a number'}`, `choose a whole number from 0 to ${U32_MAX}`);
}
