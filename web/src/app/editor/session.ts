//! The state of the editor and what changes it: the document, the view, the tool and its settings. Components render it; gestures and keys
//! call its actions.
import type { Limits } from '../../engine/protocol.gen';
import type { Shape } from '../shapes';
import { Brush } from './brush';
import { EditorCanvas } from './canvas';
import type { EditorDocument } from './document';
import {
  cropShapes,
  extensionStep,
  generatedSize,
  type ImagePlacement,
  largestRect,
  movedRect,
  type Point,
  resizedRect,
  snappedSides,
  toImage,
} from './geometry';
import type { Sides } from './infill';
import { type Dab, maskedShare, type Rect, type Size } from './mask';
import { sceneOf } from './scene';
import { Viewport } from './viewport';

export type Tool = 'brush' | 'eraser' | 'hand' | 'crop' | 'extend';
export type Side = keyof Sides;

export const NO_SIDES: Sides = { left: 0, top: 0, right: 0, bottom: 0 };
export const ZOOM_FACTOR = 1.25;
/** The room around the image for an extension, as a part of the image. */
const EXTENSION_ROOM = 0.35;

export interface SessionHost {
  /** Returns the sizes that the open model generates; `undefined` without one. */
  limits(): Limits | undefined;
  /** The image has another size or another shape: what is generated has, too. */
  onSize(size: Size): void;
  /** Something that components show has changed. */
  onChange(): void;
}

export class EditorSession {
  tool: Tool = 'brush';
  readonly brush = new Brush();
  /** Where the brush is, if it is over the image. */
  cursor: Point | undefined;
  /** The keyboard has put the brush down. */
  isBrushDown = false;
  /** The part of the image that is in the mask. */
  share = 0;
  /** The extension that is being dragged or typed, in whole steps. */
  pending: Sides = NO_SIDES;
  crop: { rect: Rect; shape: Shape } | undefined;
  document: EditorDocument | undefined;
  readonly viewport = new Viewport();
  canvas: EditorCanvas | undefined;
  readonly host: SessionHost;

  constructor(host: SessionHost) {
    this.host = host;
  }

  /** Edits another image, or none. */
  open(document: EditorDocument | undefined): void {
    this.document = document;
    this.#reset();
    if (document === undefined) return this.host.onChange();
    this.brush.fit(document.image);
    this.#showLayers();
  }

  /** Replaces the mask by that of a file. */
  setMask(mask: Uint8Array): void {
    this.document?.setMask(mask);
    this.#maskChanged();
  }

  /** Draws on another element. */
  attach(element: HTMLCanvasElement): void {
    this.canvas = new EditorCanvas(element, () => sceneOf(this));
    if (this.document !== undefined) this.canvas.setLayers(this.document);
    this.viewport.size = this.canvas.size;
    this.fit();
  }

  choose(tool: Tool): void {
    const before = this.tool;
    this.endBrush();
    this.tool = tool;
    this.pending = NO_SIDES;
    this.crop = undefined;
    const [shape] = cropShapes(this.host.limits());
    if (tool === 'crop' && shape !== undefined && this.document !== undefined)
      this.crop = { shape, rect: largestRect(this.document.image, shape) };
    // There is room for the handles, and none without them.
    if (before !== tool && (tool === 'extend' || before === 'extend')) this.fit();
    else this.#changed();
  }

  setBrush(change: { size?: number; softness?: number }): void {
    this.brush.set(change);
    this.#changed();
  }

  /** `[` and `]`. */
  stepBrush(direction: 1 | -1): void {
    this.brush.step(direction);
    this.#changed();
  }

  beginBrush(at: Point, pressure: number, erases = this.tool === 'eraser'): void {
    const { document } = this;
    if (document === undefined) return;
    this.cursor = at;
    this.canvas?.setMask(document, document.beginStroke(this.#dab(at, pressure), this.brush.softness, erases));
  }

  moveBrush(at: Point, pressure: number): void {
    const { document } = this;
    this.cursor = at;
    if (document !== undefined) this.canvas?.setMask(document, document.continueStroke(this.#dab(at, pressure), this.brush.softness));
  }

  endBrush(): void {
    this.isBrushDown = false;
    this.document?.endStroke();
    this.#measure();
    this.#changed();
  }

  /** Leaves the brush down: the arrow keys paint. */
  setBrushDown(): void {
    this.isBrushDown = true;
    this.#changed();
  }

  /** Takes back the running stroke: a second finger shows that the first one does not paint. */
  cancelBrush(): void {
    this.document?.cancelStroke();
    this.#maskChanged();
  }

  /** Moves the ring of the brush; without a point the pointer has left. */
  hover(at: Point | undefined): void {
    this.cursor = at;
    this.canvas?.draw();
  }

  invert(): void {
    this.document?.invert();
    this.#maskChanged();
  }

  fill(value: 0 | 255): void {
    this.document?.fill(value);
    this.#maskChanged();
  }

  undo(): void {
    this.#travel((document) => document.undo());
  }

  redo(): void {
    this.#travel((document) => document.redo());
  }

  setCrop(change: { rect?: Rect; shape?: Shape }): void {
    const { document, crop } = this;
    if (document === undefined || crop === undefined) return;
    const { shape = crop.shape } = change;
    this.crop = { shape, rect: change.rect ?? largestRect(document.image, shape) };
    this.#changed();
  }

  moveCrop(by: Point): void {
    if (this.crop !== undefined && this.document !== undefined) this.setCrop({ rect: movedRect(this.crop.rect, this.document.image, by) });
  }

  resizeCrop(width: number): void {
    const { crop, document } = this;
    if (crop !== undefined && document !== undefined) this.setCrop({ rect: resizedRect(crop.rect, document.image, crop.shape, width) });
  }

  applyCrop(): void {
    const { crop, document } = this;
    if (crop === undefined || document === undefined) return;
    document.crop(crop.rect);
    const { width, height } = crop.shape;
    this.choose('brush');
    this.#showLayers();
    // The shape that was chosen is one that the model generates.
    this.host.onSize({ width, height });
  }

  /** Sets the extension at a side, in pixels of the image, rounded to whole steps. */
  setExtension(side: Side, pixels: number): void {
    const { document } = this;
    if (document === undefined) return;
    this.pending = snappedSides({ ...this.pending, [side]: pixels }, document.image, this.host.limits());
    this.#changed();
  }

  get extensionStep(): number {
    return this.document === undefined ? 1 : extensionStep(this.host.limits(), this.document.image);
  }

  applyExtension(): void {
    const { document, pending } = this;
    this.pending = NO_SIDES;
    if (document === undefined || Object.values(pending).every((pixels) => pixels === 0)) return this.#changed();
    document.extend(pending);
    this.#showLayers();
  }

  get view(): ImagePlacement {
    return this.viewport.view;
  }

  /** The canvas has another size: the view stays in its middle. */
  resize(): void {
    const { viewport, canvas } = this;
    if (canvas === undefined) return;
    const before = viewport.size;
    viewport.size = canvas.size;
    if (before === undefined || viewport.isFitted) this.fit();
    else this.pan({ x: (canvas.size.width - before.width) / 2, y: (canvas.size.height - before.height) / 2 });
  }

  /** Shows the whole image, with room around it for an extension. */
  fit(): void {
    const { document, pending } = this;
    if (document !== undefined) {
      const { width, height } = document.image;
      const room = (pixels: number, side: number): number => Math.max(pixels * 1.1, side * EXTENSION_ROOM);
      const { left, top, right, bottom } = pending;
      const sides = { left: room(left, width), top: room(top, height), right: room(right, width), bottom: room(bottom, height) };
      this.viewport.fit(document.image, this.tool === 'extend' ? sides : NO_SIDES);
    }
    this.#changed();
  }

  actualSize(): void {
    if (this.document !== undefined) this.viewport.actualSize(this.document.image);
    this.#changed();
  }

  zoom(factor: number, at?: Point): void {
    if (this.document !== undefined) this.viewport.zoom(this.document.image, factor, at);
    this.#changed();
  }

  pan(by: Point): void {
    if (this.document !== undefined) this.viewport.pan(this.document.image, by);
    this.#changed();
  }

  toImage(at: Point): Point {
    return toImage(this.view, at);
  }

  /** The size that the model generates from the image. */
  get generatedSize(): Size | undefined {
    return this.document && generatedSize(this.host.limits(), this.document.image);
  }

  #dab({ x, y }: Point, pressure: number): Dab {
    return { x, y, radius: (this.brush.size / 2) * pressure };
  }

  #travel(step: (document: EditorDocument) => void): void {
    const { document } = this;
    if (document === undefined) return;
    this.isBrushDown = false;
    const { image } = document;
    step(document);
    if (document.image === image) return this.#maskChanged();
    this.choose(this.tool);
    this.#showLayers();
  }

  #maskChanged(): void {
    const { document } = this;
    if (document !== undefined) this.canvas?.setMask(document, { x: 0, y: 0, width: document.image.width, height: document.image.height });
    this.#measure();
    this.#changed();
  }

  /** Shows an image of another size. */
  #showLayers(): void {
    const { document } = this;
    if (document === undefined) return;
    this.canvas?.setLayers(document);
    this.brush.limit(document.image);
    const size = this.generatedSize;
    if (size !== undefined) this.host.onSize(size);
    this.#measure();
    this.fit();
  }

  #measure(): void {
    this.share = this.document === undefined ? 0 : maskedShare(this.document.mask);
  }

  #reset(): void {
    [this.pending, this.crop, this.cursor, this.isBrushDown] = [NO_SIDES, undefined, undefined, false];
    if (this.tool === 'crop' || this.tool === 'extend') this.tool = 'brush';
  }

  #changed(): void {
    this.canvas?.draw();
    this.host.onChange();
  }
}
