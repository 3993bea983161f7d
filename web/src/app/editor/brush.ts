//! The size and the softness of the brush.
import type { Size } from './mask';

/** How much `[` and `]` change the size. */
const SIZE_FACTOR = 1.2;
/** The diameter as a part of the longer side of the image, before the user has chosen one. */
const SIZE_SHARE = 0.12;

export class Brush {
  /** The diameter in pixels of the image. */
  size = 24;
  softness = 0;
  sizeMax = 2;
  #isSizeChosen = false;

  /** Limits the size to that of an image. */
  limit({ width, height }: Size): void {
    this.sizeMax = Math.max(Math.ceil(Math.max(width, height) / 2), 2);
  }

  /** Adjusts the size to another image. */
  fit(image: Size): void {
    this.limit(image);
    const longer = Math.max(image.width, image.height);
    this.size = this.#isSizeChosen ? Math.min(this.size, this.sizeMax) : Math.max(Math.round(longer * SIZE_SHARE), 1);
  }

  set(change: { size?: number; softness?: number }): void {
    this.#isSizeChosen ||= change.size !== undefined;
    this.size = Math.min(Math.max(Math.round(change.size ?? this.size), 1), this.sizeMax);
    this.softness = change.softness ?? this.softness;
  }

  /** Makes it at least one pixel smaller or larger. */
  step(direction: 1 | -1): void {
    const { size } = this;
    this.set({ size: direction > 0 ? Math.max(size * SIZE_FACTOR, size + 1) : Math.min(size / SIZE_FACTOR, size - 1) });
  }
}
