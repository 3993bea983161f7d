//! Image files: those that the user selects, and those that were generated.
import { fault } from '../engine/fault';

/** Decodes the selected file, in any format that the browser reads, and returns it as PNG. Rejects with a `Fault`. */
export async function readAsPng({ files }: HTMLInputElement): Promise<Uint8Array | undefined> {
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

export function pngBlob(png: Uint8Array): Blob {
  return new Blob([new Uint8Array(png)], { type: 'image/png' });
}

/** Turns `text` into a file name without extension: lower-case letters and digits, with dashes between. */
export function slug(text: string): string {
  const dashed = text.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, '-');
  return dashed.slice(0, 60).replace(/^-|-$/g, '') || 'image';
}
