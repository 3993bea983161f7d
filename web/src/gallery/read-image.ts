//! Image files that the user selects, as the PNG that the engine reads.
import { fault } from '../engine/fault';
import { imageFormat, readTexts, storedSize, webpChunks } from './image-file';

/** Largest accepted image: 64 megapixels, as the engine accepts. */
const PIXELS_MAX = 1 << 26;
const REMEDY = 'choose a PNG, JPEG or WebP file of at most 64 megapixels';

/** Returns an image file as PNG, as diffusers' `load_image` reads it: upright, and with the colours of transparent pixels. The engine
    does that for a PNG; any other format is decoded by the browser. Rejects with a `Fault`. */
export async function readAsPng(file: File): Promise<Uint8Array> {
  const bytes = await readBytes(file);
  if (imageFormat(bytes) === 'png') return bytes;
  const upright = await decodeUpright(file, bytes);
  return new Uint8Array(await (await upright.convertToBlob({ type: 'image/png' })).arrayBuffer());
}

/** Returns the pixels of an image file, as the engine reads them. Rejects with a `Fault`. */
export async function decodeImage(file: File): Promise<ImageData> {
  const upright = await decodeUpright(file, await readBytes(file));
  const context = upright.getContext('2d');
  if (context === null) throw new Error(`a canvas of ${upright.width} × ${upright.height} pixels has no 2D context`);
  const image = context.getImageData(0, 0, upright.width, upright.height);
  for (let alpha = 3; alpha < image.data.length; alpha += 4) image.data[alpha] = 255;
  return image;
}

function unreadable({ name }: File): never {
  throw fault('bad_request', `${name} is not an image this browser can decode`, REMEDY);
}

async function readBytes(file: File): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(await file.arrayBuffer().catch(() => unreadable(file)));
  const { width, height } = storedSize(bytes) ?? { width: 0, height: 0 };
  // A small file may hold an image that no memory does.
  if (width * height > PIXELS_MAX) throw fault('bad_request', `${file.name} has ${width} × ${height} pixels`, REMEDY);
  return bytes;
}

async function decodeUpright(file: File, bytes: Uint8Array<ArrayBuffer>): Promise<OffscreenCanvas> {
  const format = imageFormat(bytes);
  // Browsers differ in whether they turn WebP and PNG files.
  const is_turned_here = format === 'webp' || format === 'png';
  const orientation = is_turned_here ? (await readTexts(bytes)).orientation : 1;
  const blob = new Blob([format === 'webp' ? withoutExif(bytes) : bytes], { type: file.type });
  const bitmap = await createImageBitmap(blob, {
    imageOrientation: format === 'png' ? 'none' : 'from-image',
    premultiplyAlpha: 'none',
    colorSpaceConversion: 'none',
  }).catch(() => unreadable(file));
  const opaque = format === 'jpeg' ? undefined : opaquePixels(bitmap);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext('2d');
  if (opaque === undefined) context?.drawImage(bitmap, 0, 0);
  else context?.putImageData(opaque, 0, 0);
  bitmap.close();
  return turned(canvas, orientation);
}

/** Returns a copy of a WebP file whose EXIF chunk has a name that nobody reads. */
function withoutExif(webp: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const copy = webp.slice();
  for (const { name, at } of webpChunks(copy)) if (name === 'EXIF') copy.set([0x6e, 0x6f, 0x6e, 0x65], at);
  return copy;
}

/** Turns an image by its EXIF orientation, as Pillow's `exif_transpose`. */
function turned(image: OffscreenCanvas, orientation: number): OffscreenCanvas {
  const { width: w, height: h } = image;
  const matrices: Readonly<Record<number, [number, number, number, number, number, number]>> = {
    2: [-1, 0, 0, 1, w, 0],
    3: [-1, 0, 0, -1, w, h],
    4: [1, 0, 0, -1, 0, h],
    5: [0, 1, 1, 0, 0, 0],
    6: [0, 1, -1, 0, h, 0],
    7: [0, -1, -1, 0, h, w],
    8: [0, -1, 1, 0, 0, w],
  };
  const matrix = matrices[orientation];
  if (matrix === undefined) return image;
  const canvas = orientation < 5 ? new OffscreenCanvas(w, h) : new OffscreenCanvas(h, w);
  const context = canvas.getContext('2d');
  context?.setTransform(...matrix);
  context?.drawImage(image, 0, 0);
  return canvas;
}

/** Returns the pixels without alpha. A 2D canvas would multiply colours with it, so that those of transparent pixels are lost; WebGL
    copies them. `undefined` where there is no WebGL, or the image is larger than its textures. */
function opaquePixels(bitmap: ImageBitmap): ImageData | undefined {
  const { width, height } = bitmap;
  const gl = new OffscreenCanvas(1, 1).getContext('webgl2');
  if (gl === null || Math.max(width, height) > gl.getParameter(gl.MAX_TEXTURE_SIZE)) return undefined;
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, false);
  gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, bitmap);
  gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, gl.getParameter(gl.TEXTURE_BINDING_2D), 0);
  const pixels = new ImageData(width, height);
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(pixels.data.buffer));
  const failed = gl.getError() !== gl.NO_ERROR;
  gl.getExtension('WEBGL_lose_context')?.loseContext();
  for (let alpha = 3; alpha < pixels.data.length; alpha += 4) pixels.data[alpha] = 255;
  return failed ? undefined : pixels;
}
