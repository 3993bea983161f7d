//! A companion over HTTP: its models (`GET /v1/models`) and prompt embeddings (`POST /v1/encode`). Validates every reply; every
//! failure is a `Fault`.
import { fault, isFault, isRecord, messageOf } from './fault';
import type { EncodeRequest, EncodeResponse, Fault } from './protocol.gen';

/** Long enough for the full T5 on a slow CPU. */
const ENCODE_TIMEOUT_MILLIS = 300_000;
const MODELS_TIMEOUT_MILLIS = 3_000;

/** A companion's URL, and its bearer token where it requires one. */
export interface CompanionAddress {
  url: string;
  token?: string | null;
}

/** A model that a companion has loaded. */
export interface CompanionModel {
  id: string;
  device: string;
  generates_images: boolean;
}

/** Returns whether a companion serves this page: it says so in a header of every reply. */
export async function isServedByCompanion(signal: AbortSignal): Promise<boolean> {
  const response = await fetch('./', { method: 'HEAD', signal }).catch(() => undefined);
  return response?.headers.has('x-pixart-companion') ?? false;
}

/** Returns the models of the companion at `url`. Rejects with a fault, also when `signal` is aborted. */
export async function listModels(url: string, token: string, signal: AbortSignal): Promise<CompanionModel[]> {
  const timeout = AbortSignal.any([signal, AbortSignal.timeout(MODELS_TIMEOUT_MILLIS)]);
  const body = await request({ url, token }, '/v1/models', { signal: timeout });
  const models = isRecord(body) && Array.isArray(body.data) ? body.data.map(currentModel) : undefined;
  if (models?.every(isModel)) return models;
  throw companionFault(`the server at ${url} is not a companion`);
}

/** Encodes captions on a companion. Rejects with a fault, also when `signal` is aborted. */
export async function encode(
  address: CompanionAddress,
  { captions, ...rest }: EncodeRequest,
  signal: AbortSignal,
): Promise<EncodeResponse> {
  const body = await request(address, '/v1/encode', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ captions, ...rest }),
    signal: AbortSignal.any([signal, AbortSignal.timeout(ENCODE_TIMEOUT_MILLIS)]),
  });
  // Earlier companions call it `mask`.
  const response = isRecord(body) && 'mask' in body ? { ...body, attention_mask: body.mask } : body;
  if (isEncodeResponse(response, captions.length)) return response;
  throw companionFault(`the companion at ${address.url} answered something other than ${captions.length} embedded captions`);
}

async function request({ url, token }: CompanionAddress, path: string, init: RequestInit): Promise<unknown> {
  if (!URL.canParse(url)) throw companionFault(`the companion's URL is ${url || 'empty'}`);
  let status: number;
  let text: string;
  try {
    const headers = { ...init.headers, ...(token && { authorization: `Bearer ${token}` }) };
    const response = await fetch(new URL(path, url), { ...init, headers });
    status = response.status;
    text = await response.text();
  } catch (thrown) {
    throw companionFault(`the companion at ${url} did not answer: ${messageOf(thrown)}`);
  }
  const body = parseJson(text);
  if (isFault(body)) throw fault(body.code, body.what, body.remedy);
  if (status !== 200) throw companionFault(`the companion at ${url} answered ${status}`);
  return body;
}

function companionFault(what: string): Fault {
  return fault('companion', what, 'start it with `pixart serve` and check its address, or encode the text in this tab');
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** A model's entry; earlier companions call `generates_images` `draws`. */
function currentModel(value: unknown): unknown {
  return isRecord(value) && 'draws' in value ? { ...value, generates_images: value.draws } : value;
}

function isModel(value: unknown): value is CompanionModel {
  return isRecord(value) && typeof value.id === 'string' && typeof value.device === 'string' && typeof value.generates_images === 'boolean';
}

function isEncodeResponse(value: unknown, captions: number): value is EncodeResponse {
  if (!isRecord(value) || !isNumbers(value.shape) || !isNumbers(value.embeds) || !isNumbers(value.attention_mask)) return false;
  const [rows, tokens, channels] = value.shape;
  return (
    value.shape.length === 3 &&
    rows === captions &&
    tokens !== undefined &&
    channels !== undefined &&
    value.embeds.length === rows * tokens * channels &&
    value.attention_mask.length === rows * tokens
  );
}

function isNumbers(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((number) => Number.isFinite(number));
}
