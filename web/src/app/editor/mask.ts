//! Painting of masks, a byte a pixel: 0 stays as it is, 255 is generated again. Pure, and exact: the same strokes give the same bytes in
//! every browser, which a 2D canvas does not promise.

export interface Size {
  width: number;
  height: number;
}

export interface Rect extends Size {
  x: number;
  y: number;
}

/** A position of the brush, in pixels of the image. */
export interface Dab {
  x: number;
  y: number;
  radius: number;
}

/** With it the brush covers at least one pixel's centre, wherever it is. */
const RADIUS_MIN = Math.SQRT1_2;

/** Raises `coverage` to that of a brush moved from `from` to `to`. With a `softness` of 0 a pixel whose centre is under the brush is
    255; with 1 the edge begins at the centre of the brush. Returns the rectangle that was touched. */
export function paintSegment(coverage: Uint8Array, size: Size, from: Dab, to: Dab, softness: number): Rect {
  const most = Math.max(from.radius, to.radius, RADIUS_MIN);
  const rect = clipped(
    {
      x: Math.floor(Math.min(from.x, to.x) - most),
      y: Math.floor(Math.min(from.y, to.y) - most),
      width: Math.ceil(Math.abs(from.x - to.x) + 2 * most) + 1,
      height: Math.ceil(Math.abs(from.y - to.y) + 2 * most) + 1,
    },
    size,
  );
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const squared = dx * dx + dy * dy;
  for (let row = rect.y; row < rect.y + rect.height; row += 1) {
    for (let column = rect.x; column < rect.x + rect.width; column += 1) {
      const [x, y] = [column + 0.5 - from.x, row + 0.5 - from.y];
      // The nearest point of the segment, from 0 to 1.
      const along = squared === 0 ? 0 : Math.min(Math.max((x * dx + y * dy) / squared, 0), 1);
      const distance = Math.hypot(x - along * dx, y - along * dy);
      const radius = Math.max(from.radius + along * (to.radius - from.radius), RADIUS_MIN);
      const value = profile(distance, radius, softness);
      const at = row * size.width + column;
      if (value > (coverage[at] ?? 0)) coverage[at] = value;
    }
  }
  return rect;
}

/** Returns the coverage at a distance from the middle of the brush: a smoothstep between its core and its edge. */
function profile(distance: number, radius: number, softness: number): number {
  if (distance > radius) return 0;
  const core = radius * (1 - softness);
  if (distance <= core) return 255;
  const rest = (radius - distance) / (radius - core);
  return Math.round(255 * rest * rest * (3 - 2 * rest));
}

/** Writes `base` with a stroke over it into `mask`, inside of `rect`. */
export function applyStroke(
  { mask, base, coverage }: { mask: Uint8Array; base: Uint8Array; coverage: Uint8Array },
  { width }: Size,
  rect: Rect,
  erases: boolean,
): void {
  for (let row = rect.y; row < rect.y + rect.height; row += 1) {
    for (let at = row * width + rect.x; at < row * width + rect.x + rect.width; at += 1) {
      const [below, over] = [base[at] ?? 0, coverage[at] ?? 0];
      const left = Math.round((below * (255 - over)) / 255);
      mask[at] = erases ? left : over + left;
    }
  }
}

export function inverted(mask: Uint8Array): Uint8Array {
  return mask.map((value) => 255 - value);
}

/** Returns the part of the image that is generated again: the engine takes what is at least half white. */
export function maskedShare(mask: Uint8Array): number {
  let masked = 0;
  for (const value of mask) if (value >= 128) masked += 1;
  return mask.length === 0 ? 0 : masked / mask.length;
}

/** Returns a part of a mask. */
export function cut(mask: Uint8Array, { width }: Size, rect: Rect): Uint8Array {
  const part = new Uint8Array(rect.width * rect.height);
  for (let row = 0; row < rect.height; row += 1) {
    const from = (rect.y + row) * width + rect.x;
    part.set(mask.subarray(from, from + rect.width), row * rect.width);
  }
  return part;
}

/** Writes a part of a mask. */
export function paste(mask: Uint8Array, { width }: Size, rect: Rect, part: Uint8Array): void {
  for (let row = 0; row < rect.height; row += 1) {
    mask.set(part.subarray(row * rect.width, (row + 1) * rect.width), (rect.y + row) * width + rect.x);
  }
}

/** Returns the part of a rectangle inside of an image. */
export function clipped({ x, y, width, height }: Rect, size: Size): Rect {
  const [left, top] = [Math.min(Math.max(x, 0), size.width), Math.min(Math.max(y, 0), size.height)];
  const [right, bottom] = [Math.min(Math.max(x + width, left), size.width), Math.min(Math.max(y + height, top), size.height)];
  return { x: left, y: top, width: right - left, height: bottom - top };
}

/** Returns the smallest rectangle around two. */
export function union(one: Rect | undefined, other: Rect): Rect {
  if (one === undefined) return other;
  const [x, y] = [Math.min(one.x, other.x), Math.min(one.y, other.y)];
  return {
    x,
    y,
    width: Math.max(one.x + one.width, other.x + other.width) - x,
    height: Math.max(one.y + one.height, other.y + other.height) - y,
  };
}
