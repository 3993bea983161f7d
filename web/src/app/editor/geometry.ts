//! Where the image is on the screen, and the sizes it can be cropped to. Pure.
import type { Limits } from '../../engine/protocol.gen';
import { type Shape, shapesOf } from '../shapes';
import type { Sides } from './infill';
import type { Rect, Size } from './mask';

/** The view of the image: CSS pixels a pixel of the image, and where its upper left corner is. */
export interface ImagePlacement {
  scale: number;
  x: number;
  y: number;
}

export interface Point {
  x: number;
  y: number;
}

export const SCALE_MAX = 32;
/** The room around an image that is fitted into the view: the handles lie there. */
const MARGIN = 28;

/** Returns the view in which the whole image is visible; small ones are enlarged. */
export function fitted(image: Size, view: Size): ImagePlacement {
  const room = (side: number): number => Math.max(side - 2 * MARGIN, 16);
  const scale = Math.min(room(view.width) / image.width, room(view.height) / image.height, SCALE_MAX);
  return centred(image, view, scale);
}

export function centred(image: Size, view: Size, scale: number): ImagePlacement {
  return { scale, x: (view.width - image.width * scale) / 2, y: (view.height - image.height * scale) / 2 };
}

/** Returns the view scaled by `factor`, with the same pixel of the image under `at`. */
export function zoomed(view: ImagePlacement, at: Point, factor: number, least: number): ImagePlacement {
  const scale = Math.min(Math.max(view.scale * factor, Math.min(least, view.scale)), SCALE_MAX);
  const real = scale / view.scale;
  return { scale, x: at.x - (at.x - view.x) * real, y: at.y - (at.y - view.y) * real };
}

export function toImage(view: ImagePlacement, { x, y }: Point): Point {
  return { x: (x - view.x) / view.scale, y: (y - view.y) / view.scale };
}

/** Returns the size at which the model generates an image of this shape: its own where the model has it, else that of the model's
    native area. */
export function generatedSize(limits: Limits | undefined, { width, height }: Size): Size {
  if (limits === undefined) return { width, height };
  const { size_min, size_max, size_multiple, native_size } = limits;
  const fits = (side: number): boolean => side % size_multiple === 0 && side >= size_min && side <= size_max;
  if (fits(width) && fits(height)) return { width, height };
  const scale = native_size / Math.sqrt(width * height);
  const side = (pixels: number): number => {
    const rounded = Math.max(Math.round((pixels * scale) / size_multiple), 1) * size_multiple;
    return Math.min(Math.max(rounded, size_min), size_max);
  };
  return { width: side(width), height: side(height) };
}

/** Returns the shapes that an image can be cropped to. */
export function cropShapes(limits: Limits | undefined): readonly Shape[] {
  return limits === undefined ? [] : shapesOf(limits);
}

/** Returns the largest rectangle of a shape inside of an image, in its middle. */
export function largestRect(image: Size, shape: Size): Rect {
  const scale = Math.min(image.width / shape.width, image.height / shape.height);
  const [width, height] = [Math.round(shape.width * scale), Math.round(shape.height * scale)];
  return { x: Math.floor((image.width - width) / 2), y: Math.floor((image.height - height) / 2), width, height };
}

/** Returns a rectangle moved inside of an image. */
export function movedRect(rect: Rect, image: Size, by: Point): Rect {
  const within = (value: number, room: number): number => Math.round(Math.min(Math.max(value, 0), room));
  return { ...rect, x: within(rect.x + by.x, image.width - rect.width), y: within(rect.y + by.y, image.height - rect.height) };
}

/** Returns a rectangle of another width and the same shape, with the same upper left corner, inside of an image. */
export function resizedRect(rect: Rect, image: Size, shape: Size, width: number): Rect {
  const ratio = shape.height / shape.width;
  const most = Math.min(image.width - rect.x, (image.height - rect.y) / ratio);
  const wide = Math.min(Math.max(Math.round(width), 8), Math.max(Math.floor(most), 1));
  return { ...rect, width: wide, height: Math.max(Math.round(wide * ratio), 1) };
}

/** Returns the step in pixels of the image by which it can be extended, so that its generated size stays a whole number of patches. */
export function extensionStep(limits: Limits | undefined, image: Size): number {
  if (limits === undefined) return 8;
  const { width } = generatedSize(limits, image);
  return Math.max(Math.round((limits.size_multiple * image.width) / width), 1);
}

/** Returns the sides rounded to steps, each at most as much as the model takes. */
export function snappedSides(sides: Sides, image: Size, limits: Limits | undefined): Sides {
  const step = extensionStep(limits, image);
  const generated = generatedSize(limits, image);
  const isExact = generated.width === image.width && generated.height === image.height;
  const room = (side: number): number => {
    const most = isExact ? (limits?.size_max ?? 4 * side) : 2 * side;
    return Math.max(Math.floor((most - side) / step) * step, 0);
  };
  const snap = (pixels: number, side: number): number => Math.min(Math.max(Math.round(pixels / step) * step, 0), room(side));
  return {
    left: snap(sides.left, image.width),
    right: snap(sides.right, image.width),
    top: snap(sides.top, image.height),
    bottom: snap(sides.bottom, image.height),
  };
}
