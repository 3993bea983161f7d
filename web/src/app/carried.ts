//! Settings of a request that have no field in the form: those of the selected preset, or of a restored image. Whatever differs from the
//! preset is shown, and can be reset.
import type { GenerateRequest, Preset } from '../engine/protocol.gen';
import { element } from './dom';
import { t } from './i18n';

const line = element('carried', HTMLElement);
const text = element('carried-text', HTMLElement);

/** The fields, with a request's defaults (`crates/protocol`, request.rs). */
const DEFAULTS = {
  timesteps: undefined,
  sigmas: undefined,
  pag_scale: 0,
  pag_adaptive_scale: 0,
  pag_applied_layers: undefined,
  eta: 0,
  clean_caption: true,
  use_resolution_binning: true,
  max_sequence_length: 120,
  num_images_per_prompt: 1,
  image_index: undefined,
} as const satisfies Partial<Record<keyof GenerateRequest, unknown>>;
type Field = keyof typeof DEFAULTS;
export type Carried = Pick<GenerateRequest, Field>;

/** Fields that a preset sets, and fields that belong to the number of steps or to the seed. */
const [PRESET_FIELDS, STEP_FIELDS, SEED_FIELDS] = [
  ['max_sequence_length', 'timesteps', 'pag_scale'],
  ['timesteps', 'sigmas'],
  ['num_images_per_prompt', 'image_index'],
] as const satisfies readonly (readonly Field[])[];
const FIELDS = Object.keys(DEFAULTS) as Field[];

let carried: Carried = {};
let preset: Carried = {};

/** Returns the fields of the next request. */
export function readCarried(): Carried {
  return { ...carried };
}

/** Replaces all fields by those of `request`; what it lacks gets a request's default. */
export function carry(request: Partial<GenerateRequest>, selected: Preset | undefined): void {
  preset = fieldsOfPreset(selected);
  carried = differences({ ...DEFAULTS, ...without(request, undefined, null) });
  renderCarried();
}

/** Returns to the fields of a preset. */
export function carryPreset(selected: Preset | undefined): void {
  preset = fieldsOfPreset(selected);
  carried = preset;
  renderCarried();
}

/** Drops what a new number of steps replaces. */
export function dropSteps(): void {
  drop(STEP_FIELDS);
}

/** Drops what belongs to the seed that was restored. */
export function dropImageIndex(): void {
  drop(SEED_FIELDS);
}

/** Returns whether a preset has these fields of a request. */
export function hasPresetFields(selected: Preset, request: Partial<GenerateRequest>): boolean {
  const known = { ...DEFAULTS, ...fieldsOfPreset(selected) };
  return PRESET_FIELDS.every((field) => String(known[field] ?? '') === String(request[field] ?? DEFAULTS[field] ?? ''));
}

/** Shows the fields that differ from those of the preset. */
export function renderCarried(): void {
  const differing = FIELDS.filter((field) => String(carried[field] ?? '') !== String(preset[field] ?? ''));
  const parts = differing.filter((field) => field !== 'image_index' && field !== 'num_images_per_prompt').map(describe);
  const { image_index, num_images_per_prompt: images = 1 } = carried;
  if (image_index !== undefined) parts.push(t('imageOfImages', { image: image_index + 1, images }));
  line.hidden = parts.length === 0;
  text.textContent = t('carried', { settings: parts.join(' · ') });
}

function describe(field: Field): string {
  const value = carried[field] ?? DEFAULTS[field];
  return `${field}: ${Array.isArray(value) ? value.join(', ') : (value ?? t('modelDefault'))}`;
}

function drop(fields: readonly Field[]): void {
  carried = Object.fromEntries(Object.entries(carried).filter(([field]) => !fields.some((dropped) => dropped === field)));
  renderCarried();
}

function fieldsOfPreset(selected: Preset | undefined): Carried {
  if (selected === undefined) return {};
  const { max_sequence_length, timesteps, pag_scale } = selected;
  return differences({ ...DEFAULTS, max_sequence_length, timesteps: timesteps ?? undefined, pag_scale });
}

/** Returns the fields that are not a request's defaults. */
function differences(fields: Readonly<Record<Field, unknown>>): Carried {
  return Object.fromEntries(FIELDS.filter((field) => fields[field] !== DEFAULTS[field]).map((field) => [field, fields[field]]));
}

function without(fields: object, ...values: unknown[]): object {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => !values.includes(value)));
}
