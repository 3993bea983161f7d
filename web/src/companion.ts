//! Text embeddings from a companion: `POST /v1/encode`. Trusts no byte of the reply; every failure is one `Fault`.
import { fault, isFault, isRecord, messageOf } from './fault';
import type { EncodeReply, EncodeRequest, Fault } from './protocol.gen';

/** A companion on a slow processor needs minutes for the full T5. */
const ENCODE_TIMEOUT_MILLIS = 300_000;

/** Encodes captions at the companion whose origin is `url`; rejects with a fault, also when `stop` is aborted. */
export async function encode(url: string, request: EncodeRequest, stop: AbortSignal): Promise<EncodeReply> {
  const endpoint = endpointOf(url);
  const { captions } = request;
  let status: number;
  let body: string;
  try {
    const response = await fetch(endpoint, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(request),
      signal: AbortSignal.any([stop, AbortSignal.timeout(ENCODE_TIMEOUT_MILLIS)]),
    });
    status = response.status;
    body = await response.text();
  } catch (thrown) {
    throw companionFault(`the companion at ${url} did not answer: ${messageOf(thrown)}`);
  }
  const reply = parsed(body);
  if (isFault(reply)) throw reply;
  if (status !== 200) throw companionFault(`the companion at ${url} answered ${status}`);
  if (!isReply(reply, captions.length)) {
    throw companionFault(`the companion at ${url} answered something other than ${captions.length} embedded captions`);
  }
  return reply;
}

function endpointOf(url: string): URL {
  if (!URL.canParse(url)) throw companionFault(`the companion's address is ${JSON.stringify(url)}`);
  return new URL('/v1/encode', url);
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

function isReply(value: unknown, captions: number): value is EncodeReply {
  if (!isRecord(value) || !isNumbers(value.shape) || !isNumbers(value.embeds) || !isNumbers(value.mask)) return false;
  const [rows, tokens, channels] = value.shape;
  return (
    value.shape.length === 3 &&
    rows === captions &&
    tokens !== undefined &&
    channels !== undefined &&
    value.embeds.length === rows * tokens * channels &&
    value.mask.length === rows * tokens
  );
}

function isNumbers(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((number) => Number.isFinite(number));
}
