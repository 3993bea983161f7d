//! The document of the editor: an image and its mask, with undo. Nothing of the DOM is used but `ImageData`.
import { extendedImage, type Sides } from './infill';
import { applyStroke, clipped, cut, type Dab, inverted, paintSegment, paste, type Rect, union } from './mask';

/** Replaced as a whole, but for strokes, which write into the mask. */
interface Layers {
  /** Opaque. */
  image: ImageData;
  mask: Uint8Array;
}

/** A change that can be undone. */
type Change = { kind: 'stroke'; rect: Rect; before: Uint8Array; after: Uint8Array } | { kind: 'layers'; before: Layers; after: Layers };

interface Stroke {
  erases: boolean;
  base: Uint8Array;
  coverage: Uint8Array;
  last: Dab;
  rect: Rect | undefined;
}

/** Memory for changes that can be undone; at least one can be. */
const UNDO_BYTES_MAX = 1 << 28;

export class EditorDocument {
  #layers: Layers;
  #undo: Change[] = [];
  #redo: Change[] = [];
  #stroke: Stroke | undefined;
  readonly #opened: ImageData;

  constructor(image: ImageData, mask = new Uint8Array(image.width * image.height)) {
    this.#opened = image;
    this.#layers = { image, mask };
  }

  get image(): ImageData {
    return this.#layers.image;
  }

  get mask(): Uint8Array {
    return this.#layers.mask;
  }

  get canUndo(): boolean {
    return this.#undo.length > 0;
  }

  get canRedo(): boolean {
    return this.#redo.length > 0;
  }

  /** Whether the image is another one than the file that was opened. */
  get isImageEdited(): boolean {
    return this.image !== this.#opened;
  }

  /** Begins a stroke, and returns the rectangle that changed. */
  beginStroke(dab: Dab, softness: number, erases: boolean): Rect {
    this.endStroke();
    this.#stroke = { erases, base: this.mask.slice(), coverage: new Uint8Array(this.mask.length), last: dab, rect: undefined };
    return this.continueStroke(dab, softness);
  }

  /** Moves the brush of the stroke. */
  continueStroke(dab: Dab, softness: number): Rect {
    const stroke = this.#stroke;
    if (stroke === undefined) return { x: 0, y: 0, width: 0, height: 0 };
    const rect = paintSegment(stroke.coverage, this.image, stroke.last, dab, softness);
    applyStroke({ ...stroke, mask: this.mask }, this.image, rect, stroke.erases);
    stroke.last = dab;
    stroke.rect = union(stroke.rect, rect);
    return rect;
  }

  endStroke(): void {
    const stroke = this.#stroke;
    this.#stroke = undefined;
    const rect = stroke?.rect;
    if (stroke === undefined || rect === undefined) return;
    const [before, after] = [cut(stroke.base, this.image, rect), cut(this.mask, this.image, rect)];
    if (before.some((value, at) => value !== after[at])) this.#push({ kind: 'stroke', rect, before, after });
  }

  /** Takes back the stroke that has not ended, as if it had not begun. */
  cancelStroke(): void {
    const stroke = this.#stroke;
    this.#stroke = undefined;
    if (stroke !== undefined) this.mask.set(stroke.base);
  }

  invert(): void {
    this.#replace({ ...this.#layers, mask: inverted(this.mask) });
  }

  /** Sets the whole mask: 255 to generate all again, 0 for an empty one. */
  fill(value: number): void {
    if (this.mask.every((pixel) => pixel === value)) return;
    this.#replace({ ...this.#layers, mask: new Uint8Array(this.mask.length).fill(value) });
  }

  /** Replaces the mask by that of a file. */
  setMask(mask: Uint8Array): void {
    this.#replace({ ...this.#layers, mask });
  }

  crop(wanted: Rect): void {
    const { image, mask } = this.#layers;
    const rect = clipped(wanted, image);
    if (rect.width === 0 || rect.height === 0 || (rect.width === image.width && rect.height === image.height)) return;
    const cropped = new ImageData(rect.width, rect.height);
    for (let row = 0; row < rect.height; row += 1) {
      const from = ((rect.y + row) * image.width + rect.x) * 4;
      cropped.data.set(image.data.subarray(from, from + rect.width * 4), row * rect.width * 4);
    }
    this.#replace({ image: cropped, mask: cut(mask, image, rect) });
  }

  /** Extends the image at its sides. The new area is filled, and is in the mask. */
  extend(sides: Sides): void {
    if (sides.left + sides.top + sides.right + sides.bottom === 0) return;
    const { image, mask } = this.#layers;
    const extended = extendedImage(image, sides);
    const extendedMask = new Uint8Array(extended.width * extended.height).fill(255);
    paste(extendedMask, extended, { x: sides.left, y: sides.top, width: image.width, height: image.height }, mask);
    this.#replace({ image: extended, mask: extendedMask });
  }

  undo(): void {
    this.endStroke();
    const change = this.#undo.pop();
    if (change === undefined) return;
    this.#redo.push(change);
    this.#apply(change, 'before');
  }

  redo(): void {
    this.endStroke();
    const change = this.#redo.pop();
    if (change === undefined) return;
    this.#undo.push(change);
    this.#apply(change, 'after');
  }

  #apply(change: Change, side: 'before' | 'after'): void {
    if (change.kind === 'layers') this.#layers = change[side];
    else paste(this.mask, this.image, change.rect, change[side]);
  }

  #replace(after: Layers): void {
    this.endStroke();
    const before = this.#layers;
    this.#layers = after;
    this.#push({ kind: 'layers', before, after });
  }

  #push(change: Change): void {
    this.#undo.push(change);
    this.#redo = [];
    let bytes = this.#undo.reduce((sum, kept) => sum + bytesOf(kept), 0);
    while (bytes > UNDO_BYTES_MAX && this.#undo.length > 1) {
      const oldest = this.#undo.shift();
      bytes -= oldest === undefined ? 0 : bytesOf(oldest);
    }
  }
}

function bytesOf(change: Change): number {
  if (change.kind === 'stroke') return change.before.length + change.after.length;
  const { before, after } = change;
  return after.mask.length + (before.image === after.image ? 0 : after.image.data.length + before.image.data.length);
}
