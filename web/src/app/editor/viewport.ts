//! Where the image is in the editor, and what moves it. Pure: the size of the canvas is given.
import { centred, fitted, type ImagePlacement, type Point, zoomed } from './geometry';
import type { Sides } from './infill';
import type { Size } from './mask';

/** The part of an image that stays in sight, in CSS pixels. */
const IN_SIGHT = 40;

export class Viewport {
  view: ImagePlacement = { scale: 1, x: 0, y: 0 };
  /** The size of the canvas; `undefined` until it is on the page. */
  size: Size | undefined;
  /** The user has not moved the view since the image was fitted into it. */
  isFitted = true;

  /** Shows the whole image, with room at its sides in pixels of the image. */
  fit(image: Size, { left, top, right, bottom }: Sides): void {
    if (this.size === undefined) return;
    this.isFitted = true;
    const { scale, x, y } = fitted({ width: image.width + left + right, height: image.height + top + bottom }, this.size);
    this.view = { scale, x: x + left * scale, y: y + top * scale };
  }

  /** Shows a pixel of the image in a CSS pixel. */
  actualSize(image: Size): void {
    if (this.size === undefined) return;
    this.isFitted = false;
    this.view = centred(image, this.size, 1);
  }

  /** Scales around a point, by default the middle. */
  zoom(image: Size, factor: number, at?: Point): void {
    if (this.size === undefined) return;
    this.isFitted = false;
    const { width, height } = this.size;
    // Not much smaller than when it is fitted.
    const least = fitted(image, this.size).scale / 4;
    this.view = zoomed(this.view, at ?? { x: width / 2, y: height / 2 }, factor, least);
  }

  pan(image: Size, by: Point): void {
    if (this.size === undefined) return;
    this.isFitted = false;
    const { scale, x, y } = this.view;
    const within = (at: number, length: number, room: number): number => Math.min(Math.max(at, IN_SIGHT - length), room - IN_SIGHT);
    this.view = {
      scale,
      x: within(x + by.x, image.width * scale, this.size.width),
      y: within(y + by.y, image.height * scale, this.size.height),
    };
  }
}
