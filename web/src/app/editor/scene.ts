//! The scene on the editor's canvas: the image with its mask, the ring of the brush, and the outline of a crop or an extension.
import type { Brush } from './brush';
import type { EditorDocument } from './document';
import type { ImagePlacement, Point } from './geometry';
import type { Sides } from './infill';
import type { Rect } from './mask';

/** The part of the editor's state that is drawn. */
export interface EditorView {
  document: EditorDocument | undefined;
  view: ImagePlacement;
  tool: string;
  brush: Brush;
  cursor: Point | undefined;
  pending: Sides;
  crop: { rect: Rect } | undefined;
}

/** Returns the scene; `undefined` without an image. */
export function sceneOf({ document, view, pending, crop, cursor, tool, brush }: EditorView) {
  if (document === undefined) return undefined;
  const { width, height } = document.image;
  const extension = {
    x: -pending.left,
    y: -pending.top,
    width: width + pending.left + pending.right,
    height: height + pending.top + pending.bottom,
  };
  const paints = tool === 'brush' || tool === 'eraser';
  return {
    document,
    view,
    ring: paints && cursor !== undefined ? { ...cursor, radius: Math.max(brush.size / 2, 0.75) } : undefined,
    outline: tool === 'extend' ? extension : crop?.rect,
    isCrop: tool === 'crop',
  };
}
