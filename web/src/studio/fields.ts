//! The attributes of `<pixart-studio>` that are fields of a request: each is the field's name with hyphens.
import type { ImageRequest } from '../engine/index';

/** How the text of an attribute is read. A boolean is true unless it is `false`. */
type Kind = 'text' | 'number' | 'boolean';

export const FIELDS = {
  prompt: 'text',
  negative_prompt: 'text',
  prompt_weighting: 'boolean',
  seed: 'number',
  variation_seed: 'number',
  variation_strength: 'number',
  num_inference_steps: 'number',
  guidance_scale: 'number',
  pag_scale: 'number',
  width: 'number',
  height: 'number',
  eta: 'number',
  clean_caption: 'boolean',
  use_resolution_binning: 'boolean',
  max_sequence_length: 'number',
  scheduler: 'text',
  style: 'text',
  hires_scale: 'number',
  hires_strength: 'number',
  hires_steps: 'number',
} as const satisfies Partial<Record<keyof ImageRequest, Kind>>;

export type Field = keyof typeof FIELDS;
export type StudioRequest = Partial<Pick<ImageRequest, Field>>;

/** `style` is an attribute of every element, for CSS. */
export function attributeOf(field: Field): string {
  return field === 'style' ? 'prompt-style' : field.replaceAll('_', '-');
}

/** Returns the request that the attributes of `element` hold. Without a prompt it is empty, and the engine refuses it. */
export function requestOf(element: Element): StudioRequest & { prompt: string } {
  const entries = (Object.keys(FIELDS) as Field[]).flatMap((field): [Field, string | number | boolean][] => {
    const text = element.getAttribute(attributeOf(field));
    if (text === null) return [];
    const kind = FIELDS[field];
    return [[field, kind === 'number' ? Number(text) : kind === 'boolean' ? text !== 'false' : text]];
  });
  return { prompt: '', ...Object.fromEntries(entries) };
}

/** Sets the attributes that `request` names; `undefined` removes one. */
export function reflect(element: Element, request: StudioRequest): void {
  for (const field of Object.keys(FIELDS) as Field[]) {
    if (!Object.hasOwn(request, field)) continue;
    const value = request[field];
    if (value === undefined) element.removeAttribute(attributeOf(field));
    else element.setAttribute(attributeOf(field), String(value));
  }
}
