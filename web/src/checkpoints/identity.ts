//! Identity of the contents of local files. Folders of one name may hold other numbers of the same shapes, and a folder may be edited
//! between two visits: a stored checkpoint is used for the files it was made of only.
import { fault, messageOf } from '../engine/fault';
import { sha256Of } from './sha256';

/** Files of up to this size are hashed whole; of larger ones samples, with the size and the date. */
const WHOLE_BYTES = 32 << 20;
/** Files that a checkpoint may consist of. Folders hold others, which are neither read nor count: notes, images, version control. */
const CHECKPOINT_FILE =
  /^(manifest\.json|model_index\.json|(transformer|vae|text_encoder|tokenizer|scheduler)\/[^/.][^/]*|[^/.][^/]*\.(json|safetensors|gguf|model))$/;
const SAMPLES = 64;
const SAMPLE_BYTES = 16 << 10;
/** Hexadecimal digits of an identity: as many as are told apart at a glance, and by which two of a user's folders never agree. */
const DIGITS = 12;

/** Returns the identity of `files` as a short hexadecimal text. The shards of a packed checkpoint do not count: its manifest holds
    their hashes. A file of the manifest's name may lie beside a folder of networks, which count all the same. */
export async function contentIdOf(files: ReadonlyMap<string, File>): Promise<string> {
  const paths = [...files.keys()].filter((path) => CHECKPOINT_FILE.test(path)).sort();
  const identities: string[] = [];
  // One after the other: the samples of a folder are megabytes at most, and a disk reads in order.
  for (const path of paths) {
    const file = files.get(path);
    if (file !== undefined) identities.push(`${path} ${await fileIdOf(path, file)}`);
  }
  return (await sha256Of(new TextEncoder().encode(identities.join('\n')))).slice(0, DIGITS);
}

/** Returns the identity of one file. */
export async function fileContentId(file: File): Promise<string> {
  return (await sha256Of(new TextEncoder().encode(await fileIdOf(file.name, file)))).slice(0, DIGITS);
}

/** Returns a text that differs for files of other contents. */
async function fileIdOf(path: string, file: File): Promise<string> {
  if (file.size <= WHOLE_BYTES) return sha256Of(await bytesOf(path, file));
  const stride = Math.floor((file.size - SAMPLE_BYTES) / (SAMPLES - 1));
  const pieces = Array.from({ length: SAMPLES }, (_, index) => file.slice(index * stride, index * stride + SAMPLE_BYTES));
  return `${file.size} ${file.lastModified} ${await sha256Of(await bytesOf(path, new Blob(pieces)))}`;
}

/** Reads a local file, or a part of one. */
export async function bytesOf(path: string, blob: Blob): Promise<Uint8Array<ArrayBuffer>> {
  try {
    return new Uint8Array(await blob.arrayBuffer());
  } catch (thrown) {
    throw fault('network', `${path} could not be read: ${messageOf(thrown)}`, 'choose the folder again: it may have changed since');
  }
}
