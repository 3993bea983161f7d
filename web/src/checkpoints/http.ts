//! HTTP downloads: transient failures are retried, interrupted bodies resume with Range requests. Every other failure is a `Fault`
//! with the URL and the server's status.
import { fault, messageOf } from '../engine/fault';

/** Attempts of one request, and the exponential backoff between them. */
export const MAX_ATTEMPTS = 6;
const BACKOFF_MILLIS = 250;
const BACKOFF_MAX_MILLIS = 8_000;
/** A longer `Retry-After` is a fault. */
const RETRY_AFTER_MAX_MILLIS = 60_000;
const LARGE = /\.(safetensors|bin)(\?|$)/;
const RETRYABLE_STATUS = new Set([408, 425, 429, 500, 502, 503, 504]);

/** Duration of a measurement of the connection's rate. */
const RATE_MILLIS = 1_000;

/** The file on the server has changed since it was first read. */
export class FileChangedError extends Error {}

/** Metadata of a file, from the headers of a response. */
export interface RemoteFile {
  /** Size of the whole file, where the server reports it. */
  bytes: number | undefined;
  /** The ETag or the modification date; empty where there is neither. */
  version: string;
  /** True if the server supports Range requests. */
  supports_ranges: boolean;
}

/** How persistently a file is requested. */
export interface RequestOptions {
  max_attempts?: number;
  signal?: AbortSignal | null;
}

/** A response, and the offset of its body in the file. */
export interface FileResponse {
  response: Response;
  begin: number;
  file: RemoteFile;
}

/** A file that the server does not have, or does not give to this page. Stores answer 403 for a key that they lack. */
export interface Refusal {
  status: number;
}
const REFUSALS = new Set([401, 403, 404, 410]);

export function isRefusal(reply: FileResponse | Refusal): reply is Refusal {
  return 'status' in reply;
}

/**
 * Requests the bytes of `url` from `begin` to `end`, or to its end; the response may begin at 0 all the same. Throws
 * `FileChangedError` where the file's version is another one than `version`.
 */
export async function requestFile(
  url: string,
  begin = 0,
  end?: number,
  version = '',
  { max_attempts = MAX_ATTEMPTS, signal = null }: RequestOptions = {},
): Promise<FileResponse | Refusal> {
  const range = `bytes=${begin}-${end === undefined ? '' : end - 1}`;
  // No If-Range: across origins it needs a preflight request, and the version is compared here.
  for (let attempt = 1; ; attempt += 1) {
    // A server that compresses a part of a file all the same sends what no browser decodes: a small file is then requested whole.
    const headers: HeadersInit = attempt === 2 && begin === 0 && !LARGE.test(url) ? {} : { range };
    const outcome = await fetch(url, { headers, cache: 'no-store', signal }).catch((thrown: unknown) => networkFault(url, thrown));
    if (outcome instanceof Response && outcome.ok) {
      const file = remoteFile(outcome);
      if (version !== '' && file.version !== '' && file.version !== version) {
        await outcome.body?.cancel();
        throw new FileChangedError(url);
      }
      return { response: outcome, begin: outcome.status === 206 ? begun(url, outcome, begin) : 0, file };
    }
    if (outcome instanceof Response) await outcome.body?.cancel();
    if (outcome instanceof Response && REFUSALS.has(outcome.status)) return { status: outcome.status };
    if (outcome instanceof Response && outcome.status === 416) throw new FileChangedError(url);
    const delay = outcome instanceof Response ? retryDelay(outcome, attempt) : backoff(attempt);
    if (delay === undefined || attempt >= max_attempts) {
      throw outcome instanceof Response ? statusFault(url, outcome) : outcome;
    }
    await new Promise((resolve) => setTimeout(resolve, delay));
  }
}

/**
 * Reads the body of `reply` up to the file's byte `end`, and passes its chunks to `onChunk`. An interrupted body is requested again
 * from there; where the server then starts at 0, the bytes that were passed on are skipped.
 */
export async function stream(
  url: string,
  reply: FileResponse,
  end: number,
  onChunk: (chunk: Uint8Array) => Promise<void> | void,
): Promise<void> {
  let at = reply.begin;
  for (let attempt = 1; ; attempt += 1) {
    const received = at;
    let position = reply.begin;
    try {
      const reader = reply.response.body?.getReader();
      for (let part = await reader?.read(); part?.value !== undefined && at < end; part = await reader?.read()) {
        const fresh = part.value.subarray(Math.max(0, at - position), end - position);
        position += part.value.length;
        if (fresh.length === 0) continue;
        at += fresh.length;
        await onChunk(fresh);
      }
      await reader?.cancel();
      if (at >= end) return;
      throw new TypeError(`it ended at byte ${at} of ${end}`);
    } catch (thrown) {
      // fetch reports a broken connection as a TypeError; anything else was thrown by `onChunk`.
      if (!(thrown instanceof TypeError)) throw thrown;
      if (at > received) attempt = 1;
      if (attempt === MAX_ATTEMPTS) throw networkFault(url, thrown);
      await new Promise((resolve) => setTimeout(resolve, backoff(attempt)));
      const again = await requestFile(url, at, end, reply.file.version);
      if (isRefusal(again)) throw refusalFault(url, again);
      reply = again;
    }
  }
}

/** Measures the bytes per second of `url`: downloads at most `bytes` of it, for at most a second, and drops them. */
export async function measureRate(url: string, bytes: number): Promise<number | undefined> {
  const started_millis = performance.now();
  const reply = await requestFile(url, 0, bytes);
  const reader = isRefusal(reply) ? undefined : reply.response.body?.getReader();
  let received = 0;
  try {
    for (let part = await reader?.read(); part?.value !== undefined; part = await reader?.read()) {
      received += part.value.length;
      if (received >= bytes || performance.now() - started_millis > RATE_MILLIS) break;
    }
    await reader?.cancel();
  } catch {
    // The bytes before the connection broke are enough for a rate.
  }
  return received === 0 ? undefined : received / ((performance.now() - started_millis) / 1e3);
}

function remoteFile(response: Response): RemoteFile {
  const total = /\/(\d+)$/.exec(response.headers.get('content-range') ?? '')?.[1];
  const length = response.headers.get('content-encoding') === null ? response.headers.get('content-length') : null;
  const bytes = total ?? (response.status === 200 ? length : null);
  return {
    bytes: bytes === null ? undefined : Number(bytes),
    version: response.headers.get('etag') ?? response.headers.get('last-modified') ?? '',
    supports_ranges: response.status === 206,
  };
}

/** Returns the delay before a retry; `undefined` for a status that is not transient. */
function retryDelay(response: Response, attempt: number): number | undefined {
  if (!RETRYABLE_STATUS.has(response.status)) return undefined;
  const after = response.headers.get('retry-after');
  if (after === null) return backoff(attempt);
  const seconds = Number(after);
  const millis = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(after) - Date.now();
  return millis <= RETRY_AFTER_MAX_MILLIS ? Math.max(0, millis) : undefined;
}

/** Returns the delay before another attempt. */
export function backoff(attempt: number): number {
  return Math.min(BACKOFF_MAX_MILLIS, BACKOFF_MILLIS * 2 ** (attempt - 1));
}

/** Returns the offset at which a part of a file begins, where the server says so. */
function begun(url: string, response: Response, requested: number): number {
  const reported = /^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '')?.[1];
  const begin = reported === undefined ? requested : Number(reported);
  if (begin <= requested) return begin;
  const what = `${url} answered with the bytes from ${begin} on, and those from ${requested} on were requested`;
  throw fault('network', what, 'ask the owner of the server, or choose another address');
}

/** Returns the fault of a file that has to be there. */
export function refusalFault(url: string, { status }: Refusal) {
  const remedies: Record<number, string> = {
    401: 'it needs a login, which this page cannot give: make the files public, download them and choose the folder, or use a signed address',
    403: 'it is missing, needs a login or permission, or the signed address has expired: make the files public, or choose another address',
  };
  return fault('network', `${url} answered ${status}`, remedies[status] ?? 'check the address; it must be that of a checkpoint folder');
}

function statusFault(url: string, { status, headers }: Response) {
  const after = headers.get('retry-after');
  const what = `${url} answered ${status}${after === null ? '' : ` (retry after ${after})`}`;
  return fault('network', what, status === 400 ? 'check the address' : 'try again, or ask the owner of the server');
}

export function networkFault(url: string, thrown: unknown) {
  return fault(
    'network',
    `${url} could not be downloaded: ${messageOf(thrown)}`,
    'check the connection and the address, then try again; its server has to allow other pages to read it (CORS); what was downloaded stays stored',
  );
}
