//! Image files for tests, byte by byte: PNG with any texts, EXIF data.
import { crc32, deflateSync } from 'node:zlib';

const SIGNATURE = Buffer.from('89504e470d0a1a0a', 'hex');

/** Returns a chunk of a PNG file. */
export function pngChunk(type, body) {
  const named = Buffer.concat([Buffer.from(type, 'latin1'), body]);
  const chunk = Buffer.alloc(named.length + 8);
  chunk.writeUInt32BE(body.length);
  named.copy(chunk, 4);
  chunk.writeUInt32BE(crc32(named), named.length + 4);
  return chunk;
}

/** Returns a PNG of 8-bit samples: `colour` is 2 for RGB, 6 for RGBA; `sample(x, y)` returns a pixel. */
export function png(width, height, colour, sample, extra = []) {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(width);
  header.writeUInt32BE(height, 4);
  header.set([8, colour], 8);
  const rows = Array.from({ length: height }, (_, y) => [0, ...Array.from({ length: width }, (_, x) => sample(x, y)).flat()]);
  const pixels = deflateSync(Buffer.from(rows.flat()));
  return Buffer.concat([SIGNATURE, pngChunk('IHDR', header), ...extra, pngChunk('IDAT', pixels), pngChunk('IEND', Buffer.alloc(0))]);
}

/** Returns an RGB PNG with a gradient. */
export function rgbPng(width, height, extra = []) {
  return png(width, height, 2, (x, y) => [(x * 37) % 256, (y * 53) % 256, (x * y) % 256], extra);
}

/** Returns a PNG file with the text chunks `[type, keyword, body]` after its header, and without those that it has. `body` is what
    follows the keyword and its zero. */
export function pngWithTexts(file, texts) {
  const chunks = [];
  for (let at = 8; at < file.length; at += file.readUInt32BE(at) + 12) chunks.push(file.subarray(at, at + file.readUInt32BE(at) + 12));
  const isText = (chunk) => ['tEXt', 'zTXt', 'iTXt'].includes(chunk.toString('latin1', 4, 8));
  const [header, ...rest] = chunks.filter((chunk) => !isText(chunk));
  const added = texts.map(([type, keyword, body]) => pngChunk(type, Buffer.concat([Buffer.from(`${keyword}\0`, 'latin1'), body])));
  return Buffer.concat([SIGNATURE, header, ...added, ...rest]);
}

/** Returns the texts in a PNG file's uncompressed iTXt chunks, by keyword. */
export function textsOf(file) {
  const texts = {};
  for (let at = 8; at < file.length; at += file.readUInt32BE(at) + 12) {
    if (file.toString('latin1', at + 4, at + 8) !== 'iTXt') continue;
    const body = file.subarray(at + 8, at + 8 + file.readUInt32BE(at));
    const keyword = body.subarray(0, body.indexOf(0)).toString('latin1');
    texts[keyword] = body.subarray(keyword.length + 5).toString('utf8');
  }
  return texts;
}

/** Returns an uncompressed iTXt body. */
export const itxt = (text) => Buffer.from(`\0\0\0\0${text}`);
/** Returns a compressed iTXt body. */
export const compressedItxt = (text) => Buffer.concat([Buffer.from([1, 0, 0, 0]), deflateSync(Buffer.from(text))]);
/** Returns a zTXt body. */
export const ztxt = (text) => Buffer.concat([Buffer.from([0]), deflateSync(Buffer.from(text, 'latin1'))]);

/** Returns EXIF data with a user comment of these bytes, and an orientation. */
export function exif({ comment, orientation = 1, little = false }) {
  const [u16, u32] = little ? ['writeUInt16LE', 'writeUInt32LE'] : ['writeUInt16BE', 'writeUInt32BE'];
  const tiff = Buffer.alloc(8 + 2 + 24 + 4 + 2 + 12 + 4 + (comment?.length ?? 0));
  tiff.write(little ? 'II' : 'MM');
  tiff[u16](42, 2);
  tiff[u32](8, 4);
  tiff[u16](2, 8);
  const entry = (at, tag, type, count, value) => {
    tiff[u16](tag, at);
    tiff[u16](type, at + 2);
    tiff[u32](count, at + 4);
    if (type === 3) tiff[u16](value, at + 8);
    else tiff[u32](value, at + 8);
  };
  entry(10, 0x0112, 3, 1, orientation);
  entry(22, 0x8769, 4, 1, 38);
  tiff[u16](comment === undefined ? 0 : 1, 38);
  if (comment !== undefined) {
    entry(40, 0x9286, 7, comment.length, 56);
    comment.copy(tiff, 56);
  }
  return tiff;
}

/** Returns a JPEG file with EXIF data before its other segments. */
export function jpegWithExif(jpeg, data) {
  const body = Buffer.concat([Buffer.from('Exif\0\0', 'latin1'), data]);
  const head = Buffer.from([0xff, 0xe1, 0, 0]);
  head.writeUInt16BE(body.length + 2, 2);
  return Buffer.concat([jpeg.subarray(0, 2), head, body, jpeg.subarray(2)]);
}

/** Returns an extended WebP file with these chunks. */
export function webp(chunks) {
  const parts = chunks.map(([name, body]) => {
    const head = Buffer.alloc(8);
    head.write(name, 'latin1');
    head.writeUInt32LE(body.length, 4);
    return Buffer.concat([head, body, Buffer.alloc(body.length % 2)]);
  });
  const body = Buffer.concat([Buffer.from('WEBP'), ...parts]);
  const head = Buffer.alloc(8);
  head.write('RIFF');
  head.writeUInt32LE(body.length, 4);
  return Buffer.concat([head, body]);
}
