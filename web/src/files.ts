//! Pictures as files: those that the reader chose, and the names of those that were drawn.
import { fault } from './fault';

/** The chosen file as a PNG, whatever kind of picture it is that the browser reads. Throws a fault. */
export async function pngOf({ files }: HTMLInputElement): Promise<Uint8Array | undefined> {
  const file = files?.[0];
  if (file === undefined) return undefined;
  const bitmap = await createImageBitmap(file).catch(() => {
    throw fault('bad_request', `${file.name} is not an image this browser can decode`, 'choose a PNG, JPEG or WebP file');
  });
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext('2d')?.drawImage(bitmap, 0, 0);
  bitmap.close();
  return new Uint8Array(await (await canvas.convertToBlob({ type: 'image/png' })).arrayBuffer());
}

/** A PNG that was drawn, as a file. */
export function pngFile(png: Uint8Array): Blob {
  return new Blob([new Uint8Array(png)], { type: 'image/png' });
}

/** `text` as a file name: its first letters and digits, the rest dashes. */
export function slug(text: string): string {
  const dashed = text.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, '-');
  return dashed.slice(0, 60).replace(/^-|-$/g, '') || 'picture';
}
