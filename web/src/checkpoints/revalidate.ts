//! Comparison of the files of a server with those that a stored checkpoint was made of. Requests manifests, configurations and the
//! versions of weights; the checkpoint itself is not downloaded.
import type { CheckpointRow } from './blob-store';
import { describe, isSameVersion } from './describe';
import { readFile, type Source } from './source';

export const MANIFEST = 'manifest.json';
/** A server that takes longer counts as unchanged. */
const TIMEOUT_MILLIS = 5_000;
/** A checkpoint is estimated and opened in one go, and its parts one after the other. */
const VALID_MILLIS = 20_000;

const answers = new Map<string, { until_millis: number; is_outdated: Promise<boolean> }>();

/** Returns whether the source's files differ from those that `row` was stored from. A server that does not answer counts as
    unchanged: a stored checkpoint opens without a network. */
export function isOutdated(source: Source, row: CheckpointRow): Promise<boolean> {
  if (source.isImmutable() || !navigator.onLine) return Promise.resolve(false);
  const known = answers.get(row.key);
  if (known !== undefined && performance.now() < known.until_millis) return known.is_outdated;
  const answer = { until_millis: performance.now() + VALID_MILLIS, is_outdated: request(source, row) };
  answers.set(row.key, answer);
  return answer.is_outdated;
}

/** Forgets the answer for a row that was stored again. */
export function markCurrent(key: string): void {
  answers.delete(key);
}

async function request(source: Source, row: CheckpointRow): Promise<boolean> {
  const cancellation = new AbortController();
  const timer = setTimeout(() => cancellation.abort(), TIMEOUT_MILLIS);
  const server = source.reopened({ max_attempts: 1, signal: cancellation.signal });
  try {
    if (row.converted) return await hasOtherVersions(server, row);
    const bytes = await readFile(server, MANIFEST);
    const text = bytes && new TextDecoder().decode(bytes);
    return text !== undefined && text !== row.manifest && mayBeManifest(text);
  } catch {
    // It does not answer, or no longer has the checkpoint.
    return false;
  } finally {
    clearTimeout(timer);
    // Servers without Range requests are still sending files.
    cancellation.abort();
  }
}

async function hasOtherVersions(server: Source, { key, checkpoint, version }: CheckpointRow): Promise<boolean> {
  if (version === undefined) return false;
  const networks = key === checkpoint ? ['transformer', 'vae'] : ['text_encoder'];
  return !isSameVersion(JSON.parse(version) as Record<string, string>, (await describe(server, networks)).versions);
}

/** Returns whether a file may be a packed checkpoint's manifest. A server may have a web page there, or the manifest of a web app. */
export function mayBeManifest(text: string): boolean {
  if (!/^\s*\{/.test(text)) return false;
  try {
    const { format, sections } = JSON.parse(text) as { format?: unknown; sections?: unknown };
    return format !== undefined || sections !== undefined;
  } catch {
    // A damaged one: the engine says what is wrong with it.
    return true;
  }
}
