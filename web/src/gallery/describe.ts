//! What the gallery lists of an image file: size, model, and a thumbnail.
import { storedSize } from './image-file';
import type { ImageMetadata } from './image-metadata';
import { readMetadata } from './metadata';
import type { NewImage } from './schema';

/** The longest side of a thumbnail in pixels: that of the largest tile at two device pixels a CSS pixel. */
const THUMBNAIL_SIDE = 320;
const QUALITY = 0.8;

export type ImageDescription = Required<Pick<NewImage, 'width' | 'height' | 'model'>> & Pick<NewImage, 'thumbnail'>;

/** Returns the description of an image file, and its settings. A file that is no image has the size 0, and one that cannot
    be decoded no thumbnail. */
export async function describeImage(png: Blob): Promise<{ description: ImageDescription; metadata: ImageMetadata | undefined }> {
  const bytes = new Uint8Array(await png.arrayBuffer());
  const metadata = await readMetadata(bytes);
  const model = metadata?.model ?? '';
  const size = storedSize(bytes);
  const thumbnail = size && (await thumbnailOf(png, size));
  const { width, height } = size ?? { width: 0, height: 0 };
  return { description: { width, height, model, thumbnail }, metadata };
}

/** Returns a small copy, as WebP, or as JPEG where the browser writes no WebP; `undefined` where it cannot decode the image. */
async function thumbnailOf(png: Blob, { width, height }: { width: number; height: number }): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const scale = Math.min(1, THUMBNAIL_SIDE / Math.max(width, height));
  const [wide, high] = [width, height].map((side) => Math.max(1, Math.round(side * scale))) as [number, number];
  try {
    const bitmap = await createImageBitmap(png, { resizeWidth: wide, resizeHeight: high, resizeQuality: 'medium' });
    const canvas = new OffscreenCanvas(wide, high);
    canvas.getContext('2d')?.drawImage(bitmap, 0, 0, wide, high);
    bitmap.close();
    const webp = await canvas.convertToBlob({ type: 'image/webp', quality: QUALITY });
    const small = webp.type === 'image/webp' ? webp : await canvas.convertToBlob({ type: 'image/jpeg', quality: QUALITY });
    return new Uint8Array(await small.arrayBuffer());
  } catch {
    // A damaged file, or a browser without an OffscreenCanvas: the image itself stands for its thumbnail.
    return undefined;
  }
}
