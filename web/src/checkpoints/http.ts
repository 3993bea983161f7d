//! Bytes over HTTP, patiently: what may pass by itself is asked for again, what arrived is not asked for twice. Every
//! failure that stays is a `Fault` with the address and what the server said.
import { fault, messageOf } from '../engine/fault';

/** How often one request is repeated, and the first and longest pause before that. */
const TRIES = 6;
const PAUSE_MILLIS = 250;
const PAUSE_MAX_MILLIS = 8_000;
/** A server that asks for a longer pause than this is told to the reader instead. */
const RETRY_AFTER_MAX_MILLIS = 60_000;
const PASSING = new Set([408, 425, 429, 500, 502, 503, 504]);

/** For how long a connection's rate is measured. */
const RATE_MILLIS = 1_000;

/** The file on the server is another one than it was. */
export class Changed extends Error {}

/** What a server says of a file. */
export interface Described {
  /** Of the whole file, where it tells. */
  bytes: number | undefined;
  /** Its ETag or date; empty where it tells neither. */
  version: string;
  /** Whether it sends parts of the file. */
  ranges: boolean;
}

/** A reply, and where in the file its body begins. */
export interface Reply {
  response: Response;
  begin: number;
  described: Described;
}

/**
 * Asks for the bytes of `url` from `begin` on, to `end` where it is given; the reply may begin at 0 all the same. Resolves
 * with `undefined` for a 404. Where `version` is known, another one throws `Changed`.
 */
export async function ask(url: string, begin = 0, end?: number, version = ''): Promise<Reply | undefined> {
  const range = `bytes=${begin}-${end === undefined ? '' : end - 1}`;
  // No If-Range: across origins it would have to be asked for first, and the version is compared here.
  const headers = { range };
  for (let tries = 1; ; tries += 1) {
    const outcome = await fetch(url, { headers, cache: 'no-store' }).catch((thrown: unknown) => unreachable(url, thrown));
    if (outcome instanceof Response && outcome.ok) {
      const described = describe(outcome);
      if (version !== '' && described.version !== '' && described.version !== version) {
        await outcome.body?.cancel();
        throw new Changed(url);
      }
      return { response: outcome, begin: outcome.status === 206 ? begin : 0, described };
    }
    if (outcome instanceof Response) await outcome.body?.cancel();
    if (outcome instanceof Response && outcome.status === 404) return undefined;
    if (outcome instanceof Response && outcome.status === 416) throw new Changed(url);
    const pause = outcome instanceof Response ? pauseFor(outcome, tries) : backoff(tries);
    if (pause === undefined || tries === TRIES) {
      throw outcome instanceof Response ? refused(url, outcome) : outcome;
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
}

/**
 * Reads the body of `reply` as far as the file's byte `end`, and hands over its chunks. A body that breaks off is asked for
 * again from there; a server that then begins anew is read past what was handed over.
 */
export async function stream(url: string, reply: Reply, end: number, take: (chunk: Uint8Array) => Promise<void> | void): Promise<void> {
  let at = reply.begin;
  for (let tries = 1; ; tries += 1) {
    const arrived = at;
    let place = reply.begin;
    try {
      const reader = reply.response.body?.getReader();
      for (let part = await reader?.read(); part?.value !== undefined && at < end; part = await reader?.read()) {
        const fresh = part.value.subarray(Math.max(0, at - place), end - place);
        place += part.value.length;
        if (fresh.length === 0) continue;
        at += fresh.length;
        await take(fresh);
      }
      await reader?.cancel();
      if (at >= end) return;
      throw new TypeError(`it ended at byte ${at} of ${end}`);
    } catch (thrown) {
      // fetch reports a broken connection as a TypeError; whatever else is thrown is the taker's.
      if (!(thrown instanceof TypeError)) throw thrown;
      if (at > arrived) tries = 1;
      if (tries === TRIES) throw unreachable(url, thrown);
      await new Promise((resolve) => setTimeout(resolve, backoff(tries)));
      const again = await ask(url, at, end, reply.described.version);
      if (again === undefined) throw unreachable(url, 'it is gone');
      reply = again;
    }
  }
}

/** Bytes per second of `url`, of which at most `bytes` are fetched, and for a second at most; what arrives is dropped. */
export async function rateOf(url: string, bytes: number): Promise<number | undefined> {
  const began = performance.now();
  const reply = await ask(url, 0, bytes);
  const reader = reply?.response.body?.getReader();
  let arrived = 0;
  try {
    for (let part = await reader?.read(); part?.value !== undefined; part = await reader?.read()) {
      arrived += part.value.length;
      if (arrived >= bytes || performance.now() - began > RATE_MILLIS) break;
    }
    await reader?.cancel();
  } catch {
    // What arrived before the connection broke tells enough.
  }
  return arrived === 0 ? undefined : arrived / ((performance.now() - began) / 1e3);
}

function describe(response: Response): Described {
  const total = /\/(\d+)$/.exec(response.headers.get('content-range') ?? '')?.[1];
  const length = response.headers.get('content-encoding') === null ? response.headers.get('content-length') : null;
  const bytes = total ?? (response.status === 200 ? length : null);
  return {
    bytes: bytes === null ? undefined : Number(bytes),
    version: response.headers.get('etag') ?? response.headers.get('last-modified') ?? '',
    ranges: response.status === 206,
  };
}

/** The pause before a status may have passed; `undefined` where it will not. */
function pauseFor(response: Response, tries: number): number | undefined {
  if (!PASSING.has(response.status)) return undefined;
  const after = response.headers.get('retry-after');
  if (after === null) return backoff(tries);
  const seconds = Number(after);
  const millis = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(after) - Date.now();
  return millis <= RETRY_AFTER_MAX_MILLIS ? Math.max(0, millis) : undefined;
}

function backoff(tries: number): number {
  return Math.min(PAUSE_MAX_MILLIS, PAUSE_MILLIS * 2 ** (tries - 1));
}

function refused(url: string, { status, headers }: Response) {
  const after = headers.get('retry-after');
  const remedy = status === 401 || status === 403 ? 'it may need a login; choose another address' : 'try again, or ask who serves the checkpoint';
  return fault('network', `${url} answered ${status}${after === null ? '' : `, to be asked again after ${after}`}`, remedy);
}

export function unreachable(url: string, thrown: unknown) {
  return fault('network', `${url} could not be fetched: ${messageOf(thrown)}`, 'check the connection, then try again; what has arrived is kept');
}
