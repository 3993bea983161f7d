//! Draws the image, the mask over it, and the brush. The only module of the editor that draws.
import type { EditorDocument } from './document';
import type { ImagePlacement, Point } from './geometry';
import type { Rect, Size } from './mask';

/** The colour of the mask, and its opacity where the mask is 255: clearly not of the image, which stays visible. */
const MASK_RGB = [236, 64, 122] as const;
const MASK_ALPHA = 150;
/** Pixels of the image are squares from this scale on. */
const SQUARES_SCALE = 3;

/** A ring that shows where the brush paints. */
export interface BrushRing extends Point {
  radius: number;
}

export interface Scene {
  document: EditorDocument;
  view: ImagePlacement;
  ring: BrushRing | undefined;
  /** The area that an extension adds, or that a crop leaves. */
  outline: Rect | undefined;
  /** Darkens what a crop removes. */
  isCrop: boolean;
}

export class EditorCanvas {
  readonly element: HTMLCanvasElement;
  readonly #scene: () => Scene | undefined;
  readonly #image = new OffscreenCanvas(1, 1);
  readonly #mask = new OffscreenCanvas(1, 1);
  #isScheduled = false;

  /** Draws `scene` at the next frame after `draw` was called. */
  constructor(element: HTMLCanvasElement, scene: () => Scene | undefined) {
    this.element = element;
    this.#scene = scene;
  }

  /** The size in CSS pixels. */
  get size(): Size {
    return { width: this.element.clientWidth, height: this.element.clientHeight };
  }

  /** Reads another image and its mask. */
  setLayers(document: EditorDocument): void {
    const { image } = document;
    for (const layer of [this.#image, this.#mask]) Object.assign(layer, { width: image.width, height: image.height });
    this.#image.getContext('2d')?.putImageData(image, 0, 0);
    this.setMask(document, { x: 0, y: 0, width: image.width, height: image.height });
  }

  /** Reads a part of the mask. */
  setMask({ mask, image }: EditorDocument, rect: Rect): void {
    if (rect.width > 0 && rect.height > 0) {
      const tinted = new ImageData(rect.width, rect.height);
      for (let row = 0, to = 0; row < rect.height; row += 1) {
        const from = (rect.y + row) * image.width + rect.x;
        for (let column = 0; column < rect.width; column += 1, to += 4) {
          const value = mask[from + column] ?? 0;
          if (value === 0) continue;
          tinted.data.set(MASK_RGB, to);
          tinted.data[to + 3] = (value * MASK_ALPHA) / 255;
        }
      }
      this.#mask.getContext('2d')?.putImageData(tinted, rect.x, rect.y);
    }
    this.draw();
  }

  draw(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    requestAnimationFrame(() => {
      this.#isScheduled = false;
      this.#drawNow();
    });
  }

  #drawNow(): void {
    const { element } = this;
    const context = element.getContext('2d');
    if (context === null) return;
    const { width, height } = this.size;
    const ratio = devicePixelRatio;
    const [wide, high] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (element.width !== wide || element.height !== high) Object.assign(element, { width: wide, height: high });
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, wide, high);
    const scene = this.#scene();
    if (scene === undefined) return;
    const { view, ring, outline, document, isCrop } = scene;
    const scale = view.scale * ratio;
    context.setTransform(scale, 0, 0, scale, view.x * ratio, view.y * ratio);
    context.imageSmoothingEnabled = view.scale < SQUARES_SCALE;
    context.imageSmoothingQuality = 'medium';
    context.drawImage(this.#image, 0, 0);
    context.imageSmoothingQuality = 'low';
    context.drawImage(this.#mask, 0, 0);
    if (outline !== undefined) {
      if (isCrop) shade(context, document.image, outline);
      lines(context, view.scale, () => context.strokeRect(outline.x, outline.y, outline.width, outline.height));
    }
    if (ring !== undefined) {
      lines(context, view.scale, () => {
        context.beginPath();
        context.arc(ring.x, ring.y, ring.radius, 0, 2 * Math.PI);
        context.stroke();
      });
    }
  }
}

function shade(context: CanvasRenderingContext2D, { width, height }: Size, hole: Rect): void {
  context.fillStyle = 'rgb(0 0 0 / 60%)';
  context.beginPath();
  context.rect(0, 0, width, height);
  context.rect(hole.x, hole.y, hole.width, hole.height);
  context.fill('evenodd');
}

/** Strokes in black and white: one of them is visible over any image. */
function lines(context: CanvasRenderingContext2D, scale: number, stroke: () => void): void {
  for (const [colour, width] of [
    ['rgb(0 0 0 / 70%)', 3],
    ['#fff', 1.25],
  ] as const) {
    context.strokeStyle = colour;
    context.lineWidth = width / scale;
    stroke();
  }
}
