//! What a PNG that was drawn here says of itself: the twin of `crates/model/src/image/signature.rs`, which writes it.
import { isRecord } from './fault';
import type { Generate } from './protocol.gen';

const KEYWORD = 'pixart';
const HEAD = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
/** Of a chunk: its length, its type, and its checksum at the end. */
const FRAME_BYTES = 12;

/** The request that a picture was drawn by, as its file has it; `undefined` where it says nothing of that. */
export function requestOf(png: Uint8Array): Partial<Generate> | undefined {
  if (!HEAD.every((byte, at) => png[at] === byte)) return undefined;
  const view = new DataView(png.buffer, png.byteOffset, png.byteLength);
  for (let at = HEAD.length; at + FRAME_BYTES <= png.length; at += view.getUint32(at) + FRAME_BYTES) {
    const type = new TextDecoder().decode(png.subarray(at + 4, at + 8));
    const body = png.subarray(at + 8, at + 8 + view.getUint32(at));
    const text = type === 'iTXt' ? textOf(body) : undefined;
    if (text !== undefined) return requestIn(text);
  }
  return undefined;
}

/** The text of an uncompressed iTXt chunk of our keyword: keyword, 0, flag, method, language, 0, translation, 0, text. */
function textOf(body: Uint8Array): string | undefined {
  const keyword = new TextEncoder().encode(`${KEYWORD}\0\0`);
  if (!keyword.every((byte, at) => body[at] === byte)) return undefined;
  const language = body.indexOf(0, keyword.length + 1);
  const translation = body.indexOf(0, language + 1);
  if (language < 0 || translation < 0) return undefined;
  return new TextDecoder().decode(body.subarray(translation + 1));
}

function requestIn(text: string): Partial<Generate> | undefined {
  try {
    const json: unknown = JSON.parse(text);
    // Every field is checked once more by who reads the form.
    if (isRecord(json) && isRecord(json.request)) return json.request as Partial<Generate>;
  } catch {
    // A text that is no JSON is as good as none.
  }
  return undefined;
}
