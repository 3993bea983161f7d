//! The keys of the editor: shortcuts of its tools, and painting without a pointer.
import type { Point } from './geometry';
import { type EditorSession, ZOOM_FACTOR } from './session';

/** How far the arrow keys move the brush, as a part of its size. */
const STEP_SHARE = 0.25;
/** How far they move the image, in CSS pixels. */
const PAN_STEP = 48;

const ARROWS: Readonly<Record<string, Point>> = {
  ArrowLeft: { x: -1, y: 0 },
  ArrowRight: { x: 1, y: 0 },
  ArrowUp: { x: 0, y: -1 },
  ArrowDown: { x: 0, y: 1 },
};

/** Handles a key that was pressed anywhere in the editor; returns whether it had a meaning. */
export function handleKey(session: EditorSession, event: KeyboardEvent): boolean {
  const { key, target, ctrlKey, metaKey, altKey, shiftKey } = event;
  if (session.document === undefined || altKey) return false;
  const letter = key.toLowerCase();
  if (ctrlKey || metaKey) {
    if (letter === 'z' && shiftKey) session.redo();
    else if (letter === 'z') session.undo();
    else if (letter === 'y') session.redo();
    else return false;
    return true;
  }
  if (target instanceof HTMLCanvasElement && handleCanvasKey(session, event)) return true;
  if (key === 'Escape') return leave(session);
  // A list chooses its entries by letters.
  if (target instanceof HTMLSelectElement) return false;
  const actions: Readonly<Record<string, () => void>> = {
    b: () => session.choose('brush'),
    e: () => session.choose('eraser'),
    h: () => session.choose('hand'),
    c: () => session.choose('crop'),
    x: () => session.choose('extend'),
    i: () => session.invert(),
    '[': () => session.stepBrush(-1),
    ']': () => session.stepBrush(1),
    '0': () => session.fit(),
    '1': () => session.actualSize(),
    '+': () => session.zoom(ZOOM_FACTOR),
    '=': () => session.zoom(ZOOM_FACTOR),
    '-': () => session.zoom(1 / ZOOM_FACTOR),
    delete: () => session.fill(0),
  };
  const act = actions[letter];
  act?.();
  return act !== undefined;
}

/** Leaves a tool that has changed nothing yet. */
function leave(session: EditorSession): boolean {
  if (session.isBrushDown) session.endBrush();
  else if (session.tool === 'crop' || session.tool === 'extend') session.choose('brush');
  else return false;
  return true;
}

/** Arrow keys move the brush, or the image with any other tool; Enter puts the brush down and lifts it. */
function handleCanvasKey(session: EditorSession, { key, shiftKey }: KeyboardEvent): boolean {
  const { document, tool, brushSize } = session;
  const arrow = ARROWS[key];
  if (document === undefined) return false;
  if (tool !== 'brush' && tool !== 'eraser') {
    if (arrow === undefined) return false;
    session.pan({ x: -arrow.x * PAN_STEP, y: -arrow.y * PAN_STEP });
    return true;
  }
  const { width, height } = document.image;
  const at = session.cursor ?? { x: width / 2, y: height / 2 };
  if (key === 'Enter') {
    if (session.isBrushDown) session.endBrush();
    else {
      session.beginBrush(at, 1);
      session.setBrushDown();
    }
    return true;
  }
  if (arrow === undefined) return false;
  const step = shiftKey ? 1 : Math.max(Math.round(brushSize * STEP_SHARE), 1);
  const within = (value: number, most: number): number => Math.min(Math.max(value, 0), most);
  const to = { x: within(at.x + arrow.x * step, width), y: within(at.y + arrow.y * step, height) };
  if (session.isBrushDown) session.moveBrush(to, 1);
  else session.hover(to);
  return true;
}
