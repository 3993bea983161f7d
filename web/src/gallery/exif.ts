//! The texts in EXIF data, as image tools write them. Reads the first directory of the TIFF structure and its EXIF directory.
//! (A library for all of EXIF has twice the size of this page.)

const TEXT_TAGS: Readonly<Record<number, string>> = {
  270: 'ImageDescription',
  271: 'Make',
  272: 'Model',
  305: 'Software',
};
const ORIENTATION_TAG = 0x0112;
const EXIF_DIRECTORY_TAG = 0x8769;
const USER_COMMENT_TAG = 0x9286;
/** Tag, type, count, and value or offset. */
const ENTRY_BYTES = 12;
/** The type of a value of bytes; text has type 2 and one byte each, too. */
const UNDEFINED_TYPE = 7;
/** A user comment begins with the name of its encoding. */
const ENCODING_BYTES = 8;
const PREFIX = 'Exif\0\0';

export interface Exif {
  /** Text by the name of its tag. */
  texts: Map<string, string>;
  /** 1 to 8; 1 is upright. */
  orientation: number;
}

/** Reads EXIF data. What is damaged is left out. */
export function readExif(exif: Uint8Array): Exif {
  const read: Exif = { texts: new Map(), orientation: 1 };
  const tiff = latin1(exif.subarray(0, PREFIX.length)) === PREFIX ? exif.subarray(PREFIX.length) : exif;
  const order = latin1(tiff.subarray(0, 2));
  if (tiff.length < 8 || (order !== 'II' && order !== 'MM')) return read;
  const little = order === 'II';
  const view = new DataView(tiff.buffer, tiff.byteOffset, tiff.byteLength);
  const readDirectory = (at: number, isFirst: boolean): void => {
    if (at + 2 > tiff.length) return;
    const count = view.getUint16(at, little);
    for (let entry = at + 2; entry < at + 2 + count * ENTRY_BYTES && entry + ENTRY_BYTES <= tiff.length; entry += ENTRY_BYTES) {
      const [tag, type, bytes] = [view.getUint16(entry, little), view.getUint16(entry + 2, little), view.getUint32(entry + 4, little)];
      const offset = view.getUint32(entry + 8, little);
      const value = bytes <= 4 ? tiff.subarray(entry + 8, entry + 8 + bytes) : tiff.subarray(offset, offset + bytes);
      const name = TEXT_TAGS[tag];
      if (tag === ORIENTATION_TAG) read.orientation = view.getUint16(entry + 8, little);
      else if (tag === EXIF_DIRECTORY_TAG && isFirst) readDirectory(offset, false);
      else if (tag === USER_COMMENT_TAG && type === UNDEFINED_TYPE) read.texts.set('UserComment', userComment(value, little));
      else if (name !== undefined) read.texts.set(name, plainText(value));
    }
  };
  readDirectory(view.getUint32(4, little), true);
  return read;
}

/** Returns a user comment. EXIF says that UTF-16 has the byte order of the file; most tools write big-endian in any file. */
function userComment(value: Uint8Array, little: boolean): string {
  const text = value.subarray(ENCODING_BYTES);
  if (!latin1(value.subarray(0, ENCODING_BYTES)).startsWith('UNICODE')) return plainText(text);
  const [utf16le, utf16be] = ['utf-16le', 'utf-16be'].map((encoding) => new TextDecoder(encoding).decode(text));
  const [first, second] = little ? [utf16le, utf16be] : [utf16be, utf16le];
  const plain = (decoded = ''): number => decoded.match(/[\n -\u024f]/g)?.length ?? 0;
  return withoutEnd((plain(second) > plain(first) ? second : first) ?? '');
}

/** Decodes UTF-8, or Latin-1 where the bytes are not UTF-8. */
export function plainText(bytes: Uint8Array): string {
  try {
    return withoutEnd(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    // Not UTF-8.
    return withoutEnd(latin1(bytes));
  }
}

/** Decodes Latin-1. (`TextDecoder` would decode windows-1252.) */
export function latin1(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}

/** Removes the zeros that end a text in C. */
function withoutEnd(text: string): string {
  return text.replace(/\0+$/, '');
}
