//! The shapes of images that are offered, at the area of the model's native size. Pure.
import type { Limits } from '../engine/protocol.gen';

export interface Shape {
  /** Width to height, as "4:3". */
  name: string;
  width: number;
  height: number;
}

const ASPECT_RATIOS: readonly (readonly [number, number])[] = [
  [1, 1],
  [4, 3],
  [3, 4],
  [3, 2],
  [2, 3],
  [16, 9],
  [9, 16],
];

export function shapesOf({ native_size, size_multiple, size_min, size_max }: Limits): readonly Shape[] {
  const side = (ratio: number): number => {
    const pixels = Math.round((native_size * Math.sqrt(ratio)) / size_multiple) * size_multiple;
    return Math.min(Math.max(pixels, size_min), size_max);
  };
  return ASPECT_RATIOS.map(([wide, high]) => ({ name: `${wide}:${high}`, width: side(wide / high), height: side(high / wide) }));
}
