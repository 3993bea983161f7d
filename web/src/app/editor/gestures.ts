//! Pointers on the canvas. The mouse and the pen paint, a finger paints too, and two fingers move and scale the image. Once a pen was seen,
//! fingers only move it: the palm lies on the screen. The wheel scales around the pointer; with the space bar or the middle button
//! held, dragging moves the image.
import type { Point } from './geometry';
import type { EditorSession } from './session';

/** The lightest touch of a pen still paints. */
const PRESSURE_MIN = 0.1;
const WHEEL_FACTOR = 1.0016;
/** Pixels of a line, where the wheel reports lines. */
const WHEEL_LINE = 24;
/** The bit of a pen's other end in `buttons`. */
const ERASER_BUTTON = 32;

type Action = 'paint' | 'pan' | undefined;

/** Connects the canvas; returns what disconnects it. */
export function startGestures(session: EditorSession, element: HTMLCanvasElement, isSpaceHeld: () => boolean): () => void {
  /** The pointers that are down, where they were last. */
  const pointers = new Map<number, Point>();
  let action: Action;
  let painting: number | undefined;
  let isPenSeen = false;

  const pointOf = ({ clientX, clientY }: MouseEvent): Point => {
    const { left, top } = element.getBoundingClientRect();
    return { x: clientX - left, y: clientY - top };
  };
  const pressureOf = ({ pointerType, pressure }: PointerEvent): number => (pointerType === 'pen' ? Math.max(pressure, PRESSURE_MIN) : 1);
  const paints = (): boolean => session.tool === 'brush' || session.tool === 'eraser';

  const onDown = (event: PointerEvent): void => {
    if (event.pointerType === 'pen') isPenSeen = true;
    const isPan = event.button === 1 || isSpaceHeld() || !paints() || (event.pointerType === 'touch' && isPenSeen);
    if (event.button > 1 && event.button !== 5) return;
    element.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, pointOf(event));
    if (pointers.size > 1) {
      if (action === 'paint') session.cancelBrush();
      [action, painting] = ['pan', undefined];
      return;
    }
    // The page would scroll with the middle button.
    if (event.button === 1) event.preventDefault();
    action = isPan ? 'pan' : 'paint';
    if (action === 'pan') return;
    painting = event.pointerId;
    const erases = session.tool === 'eraser' || (event.buttons & ERASER_BUTTON) !== 0;
    session.beginBrush(session.toImage(pointOf(event)), pressureOf(event), erases);
  };

  const onMove = (event: PointerEvent): void => {
    const [at, before] = [pointOf(event), pointers.get(event.pointerId)];
    if (before === undefined) return session.hover(session.toImage(at));
    if (action === 'paint' && event.pointerId === painting) {
      const events = event.getCoalescedEvents?.() ?? [];
      for (const one of events.length > 0 ? events : [event]) session.moveBrush(session.toImage(pointOf(one)), pressureOf(one));
    } else if (action === 'pan') {
      const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
      if (other === undefined) session.pan({ x: at.x - before.x, y: at.y - before.y });
      else pinch(before, at, other);
    }
    pointers.set(event.pointerId, at);
  };

  /** One of two fingers has moved: the point between them stays between them. */
  const pinch = (before: Point, at: Point, other: Point): void => {
    const [old, now] = [Math.hypot(before.x - other.x, before.y - other.y), Math.hypot(at.x - other.x, at.y - other.y)];
    const middle = { x: (before.x + other.x) / 2, y: (before.y + other.y) / 2 };
    if (old > 8 && now > 8) session.zoom(now / old, middle);
    session.pan({ x: (at.x - before.x) / 2, y: (at.y - before.y) / 2 });
  };

  const onUp = (event: PointerEvent): void => {
    pointers.delete(event.pointerId);
    if (event.pointerId === painting) {
      painting = undefined;
      session.endBrush();
    }
    if (pointers.size === 0) action = undefined;
    if (event.pointerType === 'touch') session.hover(undefined);
  };

  const onCancel = (event: PointerEvent): void => {
    if (event.pointerId === painting) session.cancelBrush();
    onUp(event);
  };

  const onWheel = (event: WheelEvent): void => {
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? WHEEL_LINE : 1);
    // A pinch on a touchpad arrives as a small wheel with Control.
    session.zoom(WHEEL_FACTOR ** -(event.ctrlKey ? pixels * 6 : pixels), pointOf(event));
  };

  const stop = new AbortController();
  const { signal } = stop;
  element.addEventListener('pointerdown', onDown, { signal });
  element.addEventListener('pointermove', onMove, { signal });
  element.addEventListener('pointerup', onUp, { signal });
  element.addEventListener('pointercancel', onCancel, { signal });
  element.addEventListener('pointerleave', () => pointers.size === 0 && session.hover(undefined), { signal });
  element.addEventListener('wheel', onWheel, { signal, passive: false });
  element.addEventListener('contextmenu', (event) => event.preventDefault(), { signal });
  return () => stop.abort();
}
