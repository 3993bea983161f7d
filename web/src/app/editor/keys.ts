//! The keys of the editor: shortcuts of its tools, and painting without a pointer.
import { commandOf, type ShortcutOf } from '../shortcuts';
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
  const { key, target, altKey } = event;
  if (session.document === undefined || altKey) return false;
  if (target instanceof HTMLCanvasElement && handleCanvasKey(session, event)) return true;
  if (key === 'Escape') return leave(session);
  const command = commandOf('editor', event);
  // A list chooses its entries by letters, and a button is pressed by Enter.
  if (command === undefined || command === 'paint' || (target instanceof HTMLSelectElement && isLetter(event))) return false;
  COMMANDS[command](session);
  return true;
}

const COMMANDS: Readonly<Record<Exclude<ShortcutOf<'editor'>, 'paint'>, (session: EditorSession) => void>> = {
  brush: (session) => session.choose('brush'),
  eraser: (session) => session.choose('eraser'),
  moveView: (session) => session.choose('hand'),
  crop: (session) => session.choose('crop'),
  extend: (session) => session.choose('extend'),
  smallerBrush: (session) => session.stepBrush(-1),
  largerBrush: (session) => session.stepBrush(1),
  invertMask: (session) => session.invert(),
  clearMask: (session) => session.fill(0),
  undo: (session) => session.undo(),
  redo: (session) => session.redo(),
  zoomIn: (session) => session.zoom(ZOOM_FACTOR),
  zoomOut: (session) => session.zoom(1 / ZOOM_FACTOR),
  fit: (session) => session.fit(),
  actualSize: (session) => session.actualSize(),
};

function isLetter({ key, ctrlKey, metaKey }: KeyboardEvent): boolean {
  return key.length === 1 && !ctrlKey && !metaKey;
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
  const { document, tool, brush } = session;
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
  const step = shiftKey ? 1 : Math.max(Math.round(brush.size * STEP_SHARE), 1);
  const within = (value: number, most: number): number => Math.min(Math.max(value, 0), most);
  const to = { x: within(at.x + arrow.x * step, width), y: within(at.y + arrow.y * step, height) };
  if (session.isBrushDown) session.moveBrush(to, 1);
  else session.hover(to);
  return true;
}
