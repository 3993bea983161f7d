//! AUTOMATIC1111's `parameters` text, and flat JSON of other tools: names of fields, samplers and schedules as this project has them.
//! Source of the rule: `parse_generation_parameters` in AUTOMATIC1111's `modules/infotext_utils.py`.
import { isRecord } from '../engine/fault';
import type { GenerateRequest, LoraScale } from '../engine/protocol.gen';
import type { ImageMetadata } from './image-metadata';

const FIELD = /\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)/g;
/** A text with fewer fields in its last line is a prompt alone. */
const FIELDS_MIN = 3;
const NEGATIVE = 'Negative prompt:';
const U32_MAX = 2 ** 32 - 1;

/** Names of the samplers, in lower case without signs. */
const SAMPLERS: Readonly<Record<string, string>> = {
  euler: 'euler',
  eulera: 'euler-a',
  eulerancestral: 'euler-a',
  lms: 'lms',
  heun: 'heun',
  dpm2: 'kdpm2',
  kdpm2: 'kdpm2',
  dpm2a: 'kdpm2-a',
  kdpm2a: 'kdpm2-a',
  dpm2ancestral: 'kdpm2-a',
  dpmpp2m: 'dpm++2m',
  dpmpp2msde: 'dpm++2m-sde',
  dpmsingle: 'dpm-single',
  ddim: 'ddim',
  ddpm: 'ddpm',
  plms: 'pndm',
  pndm: 'pndm',
  unipc: 'unipc',
  lcm: 'lcm',
  tcd: 'tcd',
  deis: 'deis',
  sa: 'sa',
};
/** The schedulers that can space their noise levels otherwise. */
const WITH_SIGMAS = ['euler', 'lms', 'heun', 'kdpm2', 'kdpm2-a', 'dpm++2m', 'dpm++2m-sde', 'dpm-single', 'unipc', 'deis', 'sa'];
const SCHEDULES: Readonly<Record<string, string>> = {
  karras: 'use_karras_sigmas',
  exponential: 'use_exponential_sigmas',
  beta: 'use_beta_sigmas',
};
/** Schedules that are a scheduler's own. */
const DEFAULT_SCHEDULES = ['', 'automatic', 'normal', 'uniform', 'default', 'native'];

/** Names of a request's fields in other tools' metadata, in lower case with underscores. */
const NAMES: Readonly<Record<string, readonly string[]>> = {
  prompt: ['prompt', 'positive_prompt', 'positive'],
  negative_prompt: ['negative_prompt', 'negativeprompt', 'negative', 'uc'],
  seed: ['seed', 'noise_seed'],
  variation_seed: ['variation_seed', 'subseed'],
  variation_strength: ['variation_seed_strength', 'subseed_strength'],
  num_inference_steps: ['steps', 'num_inference_steps'],
  guidance_scale: ['cfg_scale', 'cfgscale', 'guidance_scale', 'cfg', 'scale'],
  width: ['width'],
  height: ['height'],
  size: ['size', 'resolution'],
  scheduler: ['sampler', 'sampler_name', 'scheduler'],
  schedule: ['schedule_type', 'schedule', 'noise_schedule'],
  strength: ['denoising_strength', 'strength', 'denoise'],
  model: ['model', 'model_name', 'base_model', 'ckpt_name'],
  model_hash: ['model_hash', 'base_model_hash'],
};
const HASH = 'model_hash';
/** The fields of LoRAs and of a VAE from another place. */
const LORAS = 'LoRA';
const VAE = 'VAE';
/** Fields of this project's own text. */
const OWN_NAMES = {
  style: 'Style',
  options: 'Scheduler options',
  batch_size: 'Batch size',
  batch_pos: 'Batch pos',
  weighting: 'Prompt weighting',
} as const;
/** AUTOMATIC1111's field of its other readings of brackets; as text where it is `None`. */
const EMPHASIS = 'Emphasis';

/** Reads AUTOMATIC1111's text; `undefined` for any other text. */
export function readInfotext(text: string): ImageMetadata | undefined {
  const lines = text.trim().split('\n');
  const fields = new Map([...(lines.pop() ?? '').matchAll(FIELD)].map(([, name = '', value = '']) => [name, unquoted(value)]));
  if (fields.size < FIELDS_MIN || !fields.has('Steps')) return undefined;
  const begin = lines.findIndex((line) => line.trim().startsWith(NEGATIVE));
  const [positive, negative] = begin < 0 ? [lines, []] : [lines.slice(0, begin), lines.slice(begin)];
  const joined = (part: string[]): string => part.map((line) => line.trim()).join('\n');
  const version = fields.get('Version') ?? '';
  fields.delete('Version');
  const isOwn = version.startsWith('pixart-web');
  const [loras, prompt] = splitLoras(joined(positive));
  const own = isOwn ? takeOwn(fields) : { request: { prompt_weighting: fields.get(EMPHASIS) !== 'None' } };
  if (fields.get(EMPHASIS) === 'None') fields.delete(EMPHASIS);
  if (isOwn) loras.push(...takeLoras(fields));
  const vae = isOwn ? fields.get(VAE) : undefined;
  if (isOwn) fields.delete(VAE);
  const second = takeSecondPass(fields);
  const upscaled = second === undefined && [...fields.keys()].some((name) => name.startsWith('Hires'));
  const record: Record<string, unknown> = { prompt, negative_prompt: joined(negative).slice(NEGATIVE.length).trim() };
  for (const [name, value] of fields) if (!(upscaled && name === 'Denoising strength')) record[name] = value;
  const read = fieldsOf(record, isOwn ? 'pixart-web' : 'AUTOMATIC1111', undefined);
  if (read === undefined) return undefined;
  const { scheduler } = read.request;
  const options = own.options && scheduler && !scheduler.includes(':') ? { scheduler: `${scheduler}:${own.options}` } : {};
  return {
    ...read,
    request: { ...read.request, ...own.request, ...second, ...options },
    loras,
    components: vae === undefined ? [] : [`vae ${vae}`],
  };
}

/** Reads settings from a flat record of any tool, or from the first record inside it that holds a prompt; `undefined` without one. */
export function fieldsOf(json: Record<string, unknown>, software: string, description: string | undefined): ImageMetadata | undefined {
  const nested = [json, ...Object.values(json).filter(isRecord)].find((record) => promptOf(record, description) !== undefined);
  if (nested === undefined) return undefined;
  const rest = new Map(Object.entries(nested));
  const take = (field: string): unknown => {
    const key = NAMES[field]?.flatMap((name) => [...rest.keys()].filter((key) => nameOf(key) === name))[0];
    const value = key === undefined ? undefined : rest.get(key);
    if (key !== undefined) rest.delete(key);
    return value;
  };
  const ignored: string[] = [];
  const number = (field: string, isWhole: boolean): number | undefined => {
    const value = take(field);
    if (value === undefined || value === null || value === '') return undefined;
    const read = Number(value);
    if (Number.isFinite(read) && (!isWhole || (Number.isInteger(read) && read >= 0 && read <= U32_MAX))) return read;
    ignored.push(`${field}: ${shown(value)}`);
    return undefined;
  };
  const prompt = promptOf(nested, description) ?? '';
  take('prompt');
  if (typeof nested.Description === 'string') rest.delete('Description');
  const negative_prompt = textOf(take('negative_prompt')) ?? '';
  const size = /(\d+)\D+(\d+)/.exec(textOf(take('size')) ?? '');
  const [width, height] = [number('width', true) ?? sideOf(size?.[1]), number('height', true) ?? sideOf(size?.[2])];
  // NovelAI writes a strength for text-to-image, too.
  const strength = 'uc' in nested ? undefined : number('strength', false);
  const sampler = textOf(take('scheduler'));
  // Where a file names a sampler and a scheduler, the scheduler is the schedule.
  const schedule = textOf(take('schedule') ?? take('scheduler')) ?? '';
  const scheduler = sampler === undefined ? undefined : schedulerOf(sampler, schedule);
  if (sampler !== undefined && scheduler === undefined) ignored.push(`sampler: ${sampler}${schedule && ` ${schedule}`}`);
  const model = take('model');
  const model_hash = textOf(take(HASH));
  const request: Partial<GenerateRequest> = withoutUndefined({
    prompt,
    negative_prompt,
    seed: number('seed', true),
    variation_seed: number('variation_seed', true),
    variation_strength: number('variation_strength', false),
    num_inference_steps: number('num_inference_steps', true),
    guidance_scale: number('guidance_scale', false),
    width,
    height,
    scheduler,
    // Strength 1 is text-to-image in most tools.
    strength: strength === 1 ? undefined : strength,
  });
  rest.delete('Software');
  for (const [key, value] of rest) if (value !== null && value !== '' && value !== false) ignored.push(`${key}: ${shown(value)}`);
  const files = request.strength === undefined ? [] : ['image'];
  return { software, request, files, ignored, model: textOf(isRecord(model) ? (model.name ?? model.model_name) : model), model_hash };
}

/** Returns our scheduler with its options; `undefined` for a sampler or a schedule that it does not have. */
export function schedulerOf(sampler: string, schedule: string): string | undefined {
  const words = sampler
    .toLowerCase()
    .replace(/\+\+/g, 'pp')
    .replace(/^k_/, '')
    .split(/[^a-z0-9]+/);
  const last = words.at(-1) ?? '';
  const named = last in SCHEDULES || last === 'k' ? words.pop() : undefined;
  const scheduler = SAMPLERS[words.join('')] ?? SAMPLERS[words.join('').replace(/gpu$/, '')];
  const spacing = (named === 'k' ? 'karras' : named) ?? schedule.toLowerCase();
  if (scheduler === undefined || DEFAULT_SCHEDULES.includes(spacing)) return scheduler;
  const option = SCHEDULES[spacing];
  return option === undefined || !WITH_SIGMAS.includes(scheduler) ? undefined : `${scheduler}:${option}=true`;
}

/** Takes the second pass of a text, where it resized the image as this project does. */
function takeSecondPass(fields: Map<string, string>): Partial<GenerateRequest> | undefined {
  const [scale, steps, strength] = ['Hires upscale', 'Hires steps', 'Denoising strength'].map((name) => Number(fields.get(name) ?? 0));
  if (fields.get('Hires upscaler') !== 'Lanczos' || !scale || !strength) return undefined;
  for (const name of ['Hires upscaler', 'Hires upscale', 'Hires steps', 'Denoising strength']) fields.delete(name);
  return { hires_scale: scale, hires_strength: strength, ...(steps && { hires_steps: steps }) };
}

/** Takes the fields that only this project's text has. */
function takeOwn(fields: Map<string, string>): { options?: string | undefined; request?: Partial<GenerateRequest> } {
  const [style, options, batch_size, batch_pos, weighting] = Object.values(OWN_NAMES).map((name) => {
    const value = fields.get(name);
    fields.delete(name);
    return value;
  });
  const image = batch_pos === undefined ? {} : { num_images_per_prompt: Number(batch_size), image_index: Number(batch_pos) };
  return { options, request: { ...(style !== undefined && { style }), ...(weighting === 'true' && { prompt_weighting: true }), ...image } };
}

/** Returns the LoRAs that a prompt names as `<lora:name:scale>`, and the prompt without them. */
function splitLoras(prompt: string): [LoraScale[], string] {
  const tag = /\s*<(?:lora|lyco|hypernet):([^:>]+):?([^>]*)>/g;
  // A second number is that of the text encoder.
  const loras = [...prompt.matchAll(tag)].map(([, name = '', scale = '']) => ({ name, scale: finite(scale.split(':')[0]) }));
  return [loras, loras.length === 0 ? prompt : prompt.replace(tag, '').trim()];
}

/** Takes the LoRAs of this project's own text: `a: 0.5, b: 1`. */
function takeLoras(fields: Map<string, string>): LoraScale[] {
  const text = fields.get(LORAS) ?? '';
  fields.delete(LORAS);
  return [...text.matchAll(/(.+?): (-?[\d.e+-]+)(?:, |$)/g)].map(([, name = '', scale]) => ({ name, scale: finite(scale) }));
}

function finite(text: string | undefined): number {
  const number = Number(text || '1');
  return Number.isFinite(number) ? number : 1;
}

function promptOf(record: Record<string, unknown>, description: string | undefined): string | undefined {
  const key = NAMES.prompt?.flatMap((name) => Object.keys(record).filter((key) => nameOf(key) === name))[0];
  const value = key === undefined ? undefined : record[key];
  // InvokeAI's former files hold a list of weighted prompts; NovelAI's hold the prompt in another chunk.
  if (Array.isArray(value)) return value.map((part) => (isRecord(part) ? textOf(part.prompt) : textOf(part)) ?? '').join(' ');
  if (typeof value === 'string') return value;
  return 'uc' in record && 'steps' in record ? description : undefined;
}

function unquoted(value: string): string {
  if (!(value.length > 1 && value.startsWith('"') && value.endsWith('"'))) return value;
  try {
    return String(JSON.parse(value));
  } catch {
    return value;
  }
}

function nameOf(key: string): string {
  return key.trim().toLowerCase().replace(/[ -]/g, '_');
}

function sideOf(digits: string | undefined): number | undefined {
  return digits === undefined ? undefined : Number(digits);
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : typeof value === 'number' ? String(value) : undefined;
}

/** Shortens a value for a list of settings. */
function shown(value: unknown): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? '');
  return text.length > 40 ? `${text.slice(0, 40)}…` : text;
}

function withoutUndefined(fields: { [Name in keyof GenerateRequest]?: GenerateRequest[Name] | undefined }): Partial<GenerateRequest> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}
