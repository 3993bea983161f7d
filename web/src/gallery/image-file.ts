//! What an image file says before its pixels are decoded: format, size, and the texts that tools write into it. Damaged files give
//! what can be read.
import { type Exif, latin1, plainText, readExif } from './exif';

export type ImageFormat = 'png' | 'jpeg' | 'webp' | 'gif' | 'bmp' | 'avif';

const PNG_SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
/** Length, type and checksum of a PNG chunk. */
const PNG_OVERHEAD_BYTES = 12;
/** The most bytes that a compressed text is inflated to. */
const TEXT_BYTES_MAX = 1 << 24;
/** Marks of a JPEG frame header: all from 0xc0 to 0xcf but tables and arithmetic conditioning. */
const JPEG_FRAMES = [0xc0, 0xc1, 0xc2, 0xc3, 0xc5, 0xc6, 0xc7, 0xc9, 0xca, 0xcb, 0xcd, 0xce, 0xcf];
const JPEG_SCAN = 0xda;

/** Returns the format by the first bytes; `undefined` for a file that is no image. */
export function imageFormat(file: Uint8Array): ImageFormat | undefined {
  if (PNG_SIGNATURE.every((byte, at) => file[at] === byte)) return 'png';
  if (file[0] === 0xff && file[1] === 0xd8 && file[2] === 0xff) return 'jpeg';
  const start = latin1(file.subarray(0, 16));
  if (start.startsWith('RIFF') && start.slice(8, 12) === 'WEBP') return 'webp';
  if (start.startsWith('GIF8')) return 'gif';
  if (start.startsWith('BM')) return 'bmp';
  if (/^.{4}ftyp(avif|avis|mif1)/s.test(start)) return 'avif';
  return undefined;
}

/** Returns width and height as they are stored; `undefined` where the header does not say. */
export function storedSize(file: Uint8Array): { width: number; height: number } | undefined {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const within = (bytes: number): boolean => file.length >= bytes;
  switch (imageFormat(file)) {
    case 'png':
      return within(24) ? { width: view.getUint32(16), height: view.getUint32(20) } : undefined;
    case 'gif':
      return within(10) ? { width: view.getUint16(6, true), height: view.getUint16(8, true) } : undefined;
    case 'bmp':
      return within(26) ? { width: Math.abs(view.getInt32(18, true)), height: Math.abs(view.getInt32(22, true)) } : undefined;
    case 'jpeg': {
      const frame = jpegSegments(file).find(({ mark }) => JPEG_FRAMES.includes(mark))?.body;
      if (frame === undefined || frame.length < 5) return undefined;
      const at = frame.byteOffset - file.byteOffset;
      return { width: view.getUint16(at + 3), height: view.getUint16(at + 1) };
    }
    case 'webp': {
      const chunks = webpChunks(file);
      const u24 = (body: Uint8Array, at: number): number => (body[at] ?? 0) | ((body[at + 1] ?? 0) << 8) | ((body[at + 2] ?? 0) << 16);
      const [extended, lossless, lossy] = ['VP8X', 'VP8L', 'VP8 '].map((name) => chunks.find((chunk) => chunk.name === name)?.body);
      if (extended !== undefined) return { width: u24(extended, 4) + 1, height: u24(extended, 7) + 1 };
      if (lossless !== undefined) {
        const bits = u24(lossless, 1) + (lossless[4] ?? 0) * 2 ** 24;
        return { width: (bits & 0x3fff) + 1, height: (Math.floor(bits / 2 ** 14) & 0x3fff) + 1 };
      }
      return lossy && { width: u24(lossy, 6) & 0x3fff, height: u24(lossy, 8) & 0x3fff };
    }
    default:
      return undefined;
  }
}

/** Returns the texts in a PNG, JPEG or WebP file by keyword or EXIF tag, and the orientation. */
export async function readTexts(file: Uint8Array): Promise<Exif> {
  switch (imageFormat(file)) {
    case 'png':
      return pngTexts(file);
    case 'jpeg': {
      const segments = jpegSegments(file);
      const exif = segments.find(({ mark, body }) => mark === 0xe1 && latin1(body.subarray(0, 4)) === 'Exif');
      const read = readExif(exif?.body ?? new Uint8Array());
      const comment = segments.find(({ mark }) => mark === 0xfe);
      if (comment !== undefined) read.texts.set('Comment', plainText(comment.body));
      return read;
    }
    case 'webp':
      return readExif(webpChunks(file).find(({ name }) => name === 'EXIF')?.body ?? new Uint8Array());
    default:
      return { texts: new Map(), orientation: 1 };
  }
}

async function pngTexts(png: Uint8Array): Promise<Exif> {
  const view = new DataView(png.buffer, png.byteOffset, png.byteLength);
  const texts = new Map<string, string>();
  let exif: Exif = { texts, orientation: 1 };
  for (let at = PNG_SIGNATURE.length; at + PNG_OVERHEAD_BYTES <= png.length; at += view.getUint32(at) + PNG_OVERHEAD_BYTES) {
    const type = latin1(png.subarray(at + 4, at + 8));
    const body = png.subarray(at + 8, at + 8 + view.getUint32(at));
    if (type === 'eXIf') exif = readExif(body);
    if (!['tEXt', 'zTXt', 'iTXt'].includes(type)) continue;
    const end = body.indexOf(0);
    if (end < 0) continue;
    const text = await textOf(type, body, end);
    const keyword = latin1(body.subarray(0, end));
    // The first of several with one keyword counts.
    if (text !== undefined && !texts.has(keyword)) texts.set(keyword, text);
  }
  return { texts: new Map([...exif.texts, ...texts]), orientation: exif.orientation };
}

/** Returns the text of a chunk whose keyword ends at `end`; `undefined` where it is damaged. Some tools write UTF-8 into tEXt. */
async function textOf(type: string, body: Uint8Array, end: number): Promise<string | undefined> {
  if (type === 'tEXt') return plainText(body.subarray(end + 1));
  if (type === 'zTXt') {
    const inflated = await inflate(body.subarray(end + 2));
    return inflated && plainText(inflated);
  }
  // iTXt: keyword, 0, compression flag, method, language, 0, translated keyword, 0, text.
  const language = body.indexOf(0, end + 3);
  const translation = body.indexOf(0, language + 1);
  if (language < 0 || translation < 0) return undefined;
  const text = body.subarray(translation + 1);
  const plain = body[end + 1] === 1 ? await inflate(text) : text;
  return plain && new TextDecoder().decode(plain);
}

/** Inflates zlib data; `undefined` for damaged data, or more than 16 MiB. */
async function inflate(data: Uint8Array): Promise<Uint8Array | undefined> {
  try {
    const reader = new Blob([new Uint8Array(data)]).stream().pipeThrough(new DecompressionStream('deflate')).getReader();
    const parts: Uint8Array[] = [];
    let bytes = 0;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      bytes += value.length;
      if (bytes > TEXT_BYTES_MAX) return undefined;
      parts.push(value);
    }
    return new Uint8Array(await new Blob(parts.map((part) => new Uint8Array(part))).arrayBuffer());
  } catch {
    return undefined;
  }
}

/** Returns the segments of a JPEG file before its first scan. */
function jpegSegments(file: Uint8Array): { mark: number; body: Uint8Array }[] {
  const segments: { mark: number; body: Uint8Array }[] = [];
  for (let at = 2; at + 4 <= file.length && file[at] === 0xff; ) {
    const mark = file[at + 1] ?? 0;
    if (mark === JPEG_SCAN) break;
    // Padding.
    if (mark === 0xff) {
      at += 1;
      continue;
    }
    const length = (file[at + 2] ?? 0) * 256 + (file[at + 3] ?? 0);
    if (length < 2) break;
    segments.push({ mark, body: file.subarray(at + 4, at + 2 + length) });
    at += 2 + length;
  }
  return segments;
}

/** Returns the chunks of a WebP file, with the offset of each. */
export function webpChunks(file: Uint8Array): { name: string; at: number; body: Uint8Array }[] {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const chunks: { name: string; at: number; body: Uint8Array }[] = [];
  for (let at = 12; at + 8 <= file.length; ) {
    const bytes = view.getUint32(at + 4, true);
    chunks.push({ name: latin1(file.subarray(at, at + 4)), at, body: file.subarray(at + 8, at + 8 + bytes) });
    at += 8 + bytes + (bytes % 2);
  }
  return chunks;
}
