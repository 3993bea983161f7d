//! The new area of an image that is extended: colours of the edge, ever softer with the distance, with a little noise. AUTOMATIC1111's
//! "fill" composites blurred copies of the image to the same end; a pyramid of averages costs one pass over the pixels. Pure.
import type { Size } from './mask';

/** By how many pixels an image grows at each side. */
export interface Sides {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

/** The largest change of a channel by noise. Without it the encoder sees flat colours, and the new area tends to stay flat. */
const NOISE = 12;

/** A level of the pyramid: sums of the known pixels' colours, and their weights. */
interface Level extends Size {
  /** Red, green, blue, weight. */
  values: Float32Array;
}

/** Returns an opaque image with room at its sides, filled. */
export function extendedImage(image: ImageData, sides: Sides): ImageData {
  const { width, height, data } = image;
  const extended = new ImageData(width + sides.left + sides.right, height + sides.top + sides.bottom);
  const known = new Uint8Array(extended.width * extended.height);
  for (let row = 0; row < height; row += 1) {
    const at = (row + sides.top) * extended.width + sides.left;
    extended.data.set(data.subarray(row * width * 4, (row + 1) * width * 4), at * 4);
    known.fill(1, at, at + width);
  }
  fillUnknown(extended, known);
  return extended;
}

/** Fills the pixels that are not `known`. */
export function fillUnknown(image: ImageData, known: Uint8Array): void {
  const levels = [firstLevel(image, known)];
  for (let last = levels[0]; last !== undefined && Math.max(last.width, last.height) > 1; last = levels.at(-1)) levels.push(halved(last));
  // From the coarsest on, each level takes from the one above what it does not know.
  for (let at = levels.length - 2; at >= 0; at -= 1) {
    const [fine, coarse] = [levels[at], levels[at + 1]];
    if (fine !== undefined && coarse !== undefined) complete(fine, coarse);
  }
  const [{ values = new Float32Array() } = {}] = levels;
  for (let pixel = 0; pixel < known.length; pixel += 1) {
    if (known[pixel] === 1) continue;
    for (let channel = 0; channel < 3; channel += 1) {
      const noise = (hash(pixel * 3 + channel) * 2 - 1) * NOISE;
      image.data[pixel * 4 + channel] = Math.round((values[pixel * 4 + channel] ?? 0) + noise);
    }
    image.data[pixel * 4 + 3] = 255;
  }
}

function firstLevel({ width, height, data }: ImageData, known: Uint8Array): Level {
  const values = new Float32Array(width * height * 4);
  for (let pixel = 0; pixel < known.length; pixel += 1) {
    if (known[pixel] !== 1) continue;
    for (let channel = 0; channel < 3; channel += 1) values[pixel * 4 + channel] = data[pixel * 4 + channel] ?? 0;
    values[pixel * 4 + 3] = 1;
  }
  return { width, height, values };
}

/** Returns a level of half the size: the average of the known pixels of each square of four. */
function halved({ width, height, values }: Level): Level {
  const half: Level = { width: Math.ceil(width / 2), height: Math.ceil(height / 2), values: new Float32Array() };
  half.values = new Float32Array(half.width * half.height * 4);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const from = (y * width + x) * 4;
      const weight = values[from + 3] ?? 0;
      if (weight === 0) continue;
      const to = ((y >> 1) * half.width + (x >> 1)) * 4;
      for (let channel = 0; channel < 3; channel += 1) add(half.values, to + channel, weight * (values[from + channel] ?? 0));
      add(half.values, to + 3, weight);
    }
  }
  for (let at = 0; at < half.values.length; at += 4) {
    const weight = half.values[at + 3] ?? 0;
    if (weight === 0) continue;
    for (let channel = 0; channel < 3; channel += 1) half.values[at + channel] = (half.values[at + channel] ?? 0) / weight;
    half.values[at + 3] = 1;
  }
  return half;
}

function add(values: Float32Array, at: number, amount: number): void {
  values[at] = (values[at] ?? 0) + amount;
}

/** Sets the unknown pixels of `fine` by bilinear interpolation of `coarse`, which is complete. */
function complete(fine: Level, coarse: Level): void {
  for (let y = 0; y < fine.height; y += 1) {
    for (let x = 0; x < fine.width; x += 1) {
      const at = (y * fine.width + x) * 4;
      if (fine.values[at + 3] === 1) continue;
      for (let channel = 0; channel < 3; channel += 1) fine.values[at + channel] = sample(coarse, (x - 0.5) / 2, (y - 0.5) / 2, channel);
      fine.values[at + 3] = 1;
    }
  }
}

function sample({ width, height, values }: Level, x: number, y: number, channel: number): number {
  const [left, top] = [Math.floor(x), Math.floor(y)];
  const at = (column: number, row: number): number => {
    const [inside, below] = [Math.min(Math.max(column, 0), width - 1), Math.min(Math.max(row, 0), height - 1)];
    return values[(below * width + inside) * 4 + channel] ?? 0;
  };
  const [right, bottom] = [x - left, y - top];
  return (
    (1 - bottom) * ((1 - right) * at(left, top) + right * at(left + 1, top)) +
    bottom * ((1 - right) * at(left, top + 1) + right * at(left + 1, top + 1))
  );
}

/** Returns a number from 0 to 1 that looks random: the same area is filled with the same noise. */
function hash(index: number): number {
  let bits = Math.imul(index ^ 0x9e3779b9, 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return ((bits ^ (bits >>> 16)) >>> 0) / 2 ** 32;
}
