//! A companion over HTTP: what it has (`GET /v1/models`), and text embeddings (`POST /v1/encode`). Trusts no byte of a
//! reply; every failure is one `Fault`.
import { fault, isFault, isRecord, messageOf } from './fault';
import type { EncodeResponse, EncodeRequest, Fault } from './protocol.gen';

/** A companion on a slow processor needs minutes for the full T5. */
const ENCODE_TIMEOUT_MILLIS = 300_000;
const LOOK_TIMEOUT_MILLIS = 3_000;

/** A companion's address, and the token it asks for where it asks for one. */
export interface Place {
  url: string;
  token?: string | null;
}

/** A model that a companion has loaded. */
export interface Offer {
  id: string;
  device: string;
  generates_images: boolean;
}

/** Whether this page is from a companion, which says so with every reply. */
export async function servesPage(stop: AbortSignal): Promise<boolean> {
  const reply = await fetch('./', { method: 'HEAD', signal: stop }).catch(() => undefined);
  return reply?.headers.has('x-pixart-companion') ?? false;
}

/** The models of the companion whose origin is `url`; rejects with a fault, also when `stop` is aborted. */
export async function offered(url: string, token: string, stop: AbortSignal): Promise<Offer[]> {
  const reply = await ask({ url, token }, '/v1/models', { signal: AbortSignal.any([stop, AbortSignal.timeout(LOOK_TIMEOUT_MILLIS)]) });
  const models = isRecord(reply) && Array.isArray(reply.data) ? reply.data.map(currentOffer) : undefined;
  if (models?.every(isOffer)) return models;
  throw companionFault(`what answers at ${url} is no companion`);
}

/** Encodes captions at a companion; rejects with a fault, also when `stop` is aborted. */
export async function encode(place: Place, request: EncodeRequest, stop: AbortSignal): Promise<EncodeResponse> {
  const { captions } = request;
  const reply = await ask(place, '/v1/encode', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(request),
    signal: AbortSignal.any([stop, AbortSignal.timeout(ENCODE_TIMEOUT_MILLIS)]),
  });
  // Earlier companions call it `mask`.
  const current = isRecord(reply) && 'mask' in reply ? { ...reply, attention_mask: reply.mask } : reply;
  if (isReply(current, captions.length)) return current;
  throw companionFault(`the companion at ${place.url} answered something other than ${captions.length} embedded captions`);
}

async function ask({ url, token }: Place, path: string, init: RequestInit): Promise<unknown> {
  if (!URL.canParse(url)) throw companionFault(`the companion's address is ${JSON.stringify(url)}`);
  let status: number;
  let body: string;
  try {
    const headers = { ...init.headers, ...(token && { authorization: `Bearer ${token}` }) };
    const response = await fetch(new URL(path, url), { ...init, headers });
    status = response.status;
    body = await response.text();
  } catch (thrown) {
    throw companionFault(`the companion at ${url} did not answer: ${messageOf(thrown)}`);
  }
  const reply = parsed(body);
  if (isFault(reply)) throw fault(reply.code, reply.what, reply.remedy);
  if (status !== 200) throw companionFault(`the companion at ${url} answered ${status}`);
  return reply;
}

function companionFault(what: string): Fault {
  return fault('companion', what, 'start it with `pixart serve` and check its address, or encode the text in this tab');
}

function parsed(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}

/** A model's entry; earlier companions call `generates_images` `draws`. */
function currentOffer(value: unknown): unknown {
  return isRecord(value) && 'draws' in value ? { ...value, generates_images: value.draws } : value;
}

function isOffer(value: unknown): value is Offer {
  return isRecord(value) && typeof value.id === 'string' && typeof value.device === 'string' && typeof value.generates_images === 'boolean';
}

function isReply(value: unknown, captions: number): value is EncodeResponse {
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
