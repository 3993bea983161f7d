//! Checks of the messages that a worker receives. TypeScript checks those of this package; this is for every other sender. The fields
//! of a generate request are checked by the wasm module. Changes nothing.
import { fault, isRecord } from './fault';
import type { EngineRequest, Fault } from './protocol.gen';

type FieldType =
  | 'string'
  | 'boolean'
  | 'number'
  | 'id'
  | 'object'
  | 'object or missing'
  | 'places or missing'
  | 'loras'
  | 'loras or missing'
  | 'number or null'
  | 'list of bytes';

/** The fields of each kind of message. */
const FIELDS: Record<EngineRequest['kind'], Record<string, FieldType>> = {
  open: {
    checkpoint: 'string',
    device: 'string',
    load_text_encoder: 'boolean',
    storage: 'string',
    dtype: 'string',
    memory_limit_bytes: 'number or null',
    components: 'places or missing',
    loras: 'loras or missing',
  },
  estimate: {
    id: 'id',
    checkpoint: 'string',
    device: 'string',
    load_text_encoder: 'boolean',
    storage: 'string',
    dtype: 'string',
    measure_above_bytes: 'number',
    components: 'places or missing',
  },
  set_loras: { id: 'id', loras: 'loras' },
  generate: { id: 'id' },
  resume: { request: 'object', model_outputs: 'list of bytes', text_encoder_layer: 'object or missing' },
  cancel: { id: 'id' },
  count_tokens: { id: 'id', request: 'object' },
  check: { id: 'id', variant: 'string', device: 'string' },
  storage: { id: 'id', task: 'object', storage: 'string' },
};

/** Values of fields that are one of a list. */
const CHOICES: Record<string, readonly string[]> = {
  device: ['auto', 'webgpu', 'wasm'],
  storage: ['auto', 'indexeddb', 'opfs', 'memory'],
  dtype: ['auto', 'f32', 'f16', 'q8', 'q4'],
};
const NAMES: Record<FieldType, string> = {
  string: 'string',
  boolean: 'boolean',
  number: 'finite number',
  id: 'whole number from 0 to 4294967295',
  object: 'record',
  'object or missing': 'record, or nothing',
  'places or missing': 'record of strings by transformer, vae, text_encoder, tokenizer and scheduler, or nothing',
  loras: 'list of records of source, name and scale',
  'loras or missing': 'list of records of source, name and scale, or nothing',
  'number or null': 'finite number, or null',
  'list of bytes': 'list of Uint8Arrays',
};
const ID_MAX = 2 ** 32 - 1;

/** Returns the fault of a message that is no `EngineRequest`. */
export function messageFault(message: unknown): Fault | undefined {
  if (!isRecord(message) || typeof message.kind !== 'string' || !Object.hasOwn(FIELDS, message.kind)) {
    const kinds = Object.keys(FIELDS).join(', ');
    return fault('bad_request', `the message's kind is ${shown(isRecord(message) ? message.kind : message)}`, `send one of ${kinds}`);
  }
  const kind = message.kind as EngineRequest['kind'];
  for (const [field, type] of Object.entries(FIELDS[kind])) {
    const value = message[field];
    if (!isOf(type, value)) return fault('bad_request', `\`${field}\` of ${kind} is ${shown(value)}`, `send a ${NAMES[type]}`);
    const choices = CHOICES[field];
    if (choices !== undefined && !choices.includes(value as string))
      return fault('bad_request', `\`${field}\` of ${kind} is ${shown(value)}`, `send one of ${choices.join(', ')}`);
  }
  const { request, task } = message;
  if (kind === 'resume' && !(isRecord(request) && isOf('id', request.id)))
    return fault('bad_request', 'the request of resume has no id', 'send a whole number from 0 to 4294967295');
  if (kind === 'storage' && !(isRecord(task) && isTask(task)))
    return fault(
      'bad_request',
      `\`task\` of storage is ${shown(task)}`,
      'send list or delete_prompts, or verify or delete with a checkpoint',
    );
  return undefined;
}

/** Returns the id under which a reply to the message is sent: `null` where it has none. */
export function messageId(message: unknown): number | null {
  if (!isRecord(message)) return null;
  const { id } = message.kind === 'resume' && isRecord(message.request) ? message.request : message;
  return isOf('id', id) ? (id as number) : null;
}

function isTask({ kind, checkpoint }: Record<string, unknown>): boolean {
  return kind === 'list' || kind === 'delete_prompts' || ((kind === 'verify' || kind === 'delete') && typeof checkpoint === 'string');
}

function isPlace([component, place]: [string, unknown]): boolean {
  return /^(transformer|vae|text_encoder|tokenizer|scheduler)$/.test(component) && typeof place === 'string';
}

function isLora(lora: unknown): boolean {
  return isRecord(lora) && typeof lora.source === 'string' && typeof lora.name === 'string' && Number.isFinite(lora.scale);
}

function isOf(type: FieldType, value: unknown): boolean {
  switch (type) {
    case 'id':
      return Number.isInteger(value) && (value as number) >= 0 && (value as number) <= ID_MAX;
    case 'object':
      return isRecord(value);
    case 'object or missing':
      return value === undefined || value === null || isRecord(value);
    case 'places or missing':
      return value === undefined || value === null || (isRecord(value) && Object.entries(value).every(isPlace));
    case 'loras or missing':
      return value === undefined || value === null || isOf('loras', value);
    case 'loras':
      return Array.isArray(value) && value.every(isLora);
    case 'number':
      return Number.isFinite(value);
    case 'number or null':
      return value === null || Number.isFinite(value);
    case 'list of bytes':
      return Array.isArray(value) && value.every((bytes) => bytes instanceof Uint8Array);
    default:
      // The remaining types are those of `typeof`.
      return typeof value === type;
  }
}

/** Formats a value for a person, at most a line. */
function shown(value: unknown): string {
  if (value === undefined) return 'missing';
  if (typeof value === 'string') return `\`${value.slice(0, 60)}\``;
  if (typeof value === 'number' || typeof value === 'boolean' || value === null) return String(value);
  return Array.isArray(value) ? 'a list' : `of type ${typeof value}`;
}
