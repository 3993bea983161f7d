//! Frames over the canvas, which are dragged or moved by keys: the edges of an extension, and the frame of a crop.
import { useRef } from 'preact/hooks';
import type { TextKey } from '../i18n';
import { t } from '../i18n';
import type { EditorSession, Side } from './session';

const SIDES: readonly { side: Side; label: TextKey; outward: string; inward: string; axis: 'x' | 'y'; sign: 1 | -1 }[] = [
  { side: 'left', label: 'extendLeft', outward: 'ArrowLeft', inward: 'ArrowRight', axis: 'x', sign: -1 },
  { side: 'top', label: 'extendTop', outward: 'ArrowUp', inward: 'ArrowDown', axis: 'y', sign: -1 },
  { side: 'right', label: 'extendRight', outward: 'ArrowRight', inward: 'ArrowLeft', axis: 'x', sign: 1 },
  { side: 'bottom', label: 'extendBottom', outward: 'ArrowDown', inward: 'ArrowUp', axis: 'y', sign: 1 },
];
/** Steps of Page Up and Page Down. */
const PAGE_STEPS = 4;
/** How much the arrow keys move and resize a crop, as a part of the image's longer side. */
const CROP_STEP = 1 / 64;

/** Returns handlers of a drag, which is reported as the distance from its start in CSS pixels. */
function useDrag(onStart: () => void, onMove: (x: number, y: number) => void, onEnd: () => void) {
  const start = useRef<{ id: number; x: number; y: number } | undefined>(undefined);
  const end = (event: PointerEvent): void => {
    if (start.current?.id !== event.pointerId) return;
    start.current = undefined;
    onEnd();
  };
  return {
    onPointerDown: (event: PointerEvent & { currentTarget: HTMLElement }) => {
      if (event.button !== 0 || start.current !== undefined) return;
      event.stopPropagation();
      event.currentTarget.setPointerCapture(event.pointerId);
      start.current = { id: event.pointerId, x: event.clientX, y: event.clientY };
      onStart();
    },
    onPointerMove: (event: PointerEvent) => {
      if (start.current?.id === event.pointerId) onMove(event.clientX - start.current.x, event.clientY - start.current.y);
    },
    onPointerUp: end,
    onPointerCancel: end,
  };
}

export function ExtendHandles({ session }: { session: EditorSession }) {
  return (
    <>
      {SIDES.map((entry) => (
        <ExtendHandle key={entry.side} session={session} {...entry} />
      ))}
    </>
  );
}

function ExtendHandle({ session, side, label, outward, inward, axis, sign }: (typeof SIDES)[number] & { session: EditorSession }) {
  const before = useRef(0);
  const { document, view, pending } = session;
  const drag = useDrag(
    () => (before.current = session.pending[side]),
    (x, y) => session.setExtension(side, before.current + (sign * (axis === 'x' ? x : y)) / session.view.scale),
    () => session.applyExtension(),
  );
  if (document === undefined) return null;
  const { width, height } = document.image;
  const at = {
    left: { x: -pending.left, y: height / 2 },
    right: { x: width + pending.right, y: height / 2 },
    top: { x: width / 2, y: -pending.top },
    bottom: { x: width / 2, y: height + pending.bottom },
  }[side];
  const onKeyDown = (event: KeyboardEvent): void => {
    const step = session.extensionStep;
    const changes: Readonly<Record<string, number>> = {
      [outward]: step,
      [inward]: -step,
      PageUp: step * PAGE_STEPS,
      PageDown: -step * PAGE_STEPS,
    };
    const change = changes[event.key];
    if (change !== undefined || event.key === 'Home') {
      session.setExtension(side, change === undefined ? 0 : pending[side] + change);
      session.fit();
    } else if (event.key === 'Enter') session.applyExtension();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return (
    <div
      class={`handle ${axis}`}
      id={`extend-${side}`}
      role="slider"
      tabIndex={0}
      aria-label={t(label)}
      aria-orientation={axis === 'x' ? 'horizontal' : 'vertical'}
      aria-valuemin={0}
      aria-valuemax={axis === 'x' ? width : height}
      aria-valuenow={pending[side]}
      aria-valuetext={`${pending[side]} px`}
      style={{ transform: `translate(${view.x + at.x * view.scale}px, ${view.y + at.y * view.scale}px) translate(-50%, -50%)` }}
      onKeyDown={onKeyDown}
      {...drag}
    >
      {pending[side] > 0 && <span>{`+${pending[side]} px`}</span>}
    </div>
  );
}

export function CropFrame({ session }: { session: EditorSession }) {
  const { crop, view, document } = session;
  const before = useRef({ x: 0, y: 0, width: 0 });
  const start = (): void => {
    before.current = session.crop?.rect ?? before.current;
  };
  const move = useDrag(
    start,
    (x, y) => {
      const { rect } = session.crop ?? {};
      if (rect === undefined) return;
      const { scale } = session.view;
      session.moveCrop({ x: before.current.x + x / scale - rect.x, y: before.current.y + y / scale - rect.y });
    },
    () => {},
  );
  const resize = useDrag(
    start,
    (x) => session.resizeCrop(before.current.width + x / session.view.scale),
    () => {},
  );
  if (crop === undefined || document === undefined) return null;
  const { rect } = crop;
  const onKeyDown = (event: KeyboardEvent): void => {
    const step = event.shiftKey ? 1 : Math.max(Math.round(Math.max(document.image.width, document.image.height) * CROP_STEP), 1);
    const moves: Readonly<Record<string, { x: number; y: number }>> = {
      ArrowLeft: { x: -step, y: 0 },
      ArrowRight: { x: step, y: 0 },
      ArrowUp: { x: 0, y: -step },
      ArrowDown: { x: 0, y: step },
    };
    const by = moves[event.key];
    if (by !== undefined) session.moveCrop(by);
    else if (event.key === '+') session.resizeCrop(rect.width + step);
    else if (event.key === '-') session.resizeCrop(rect.width - step);
    else if (event.key === 'Enter') session.applyCrop();
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return (
    <div
      class="crop-frame"
      id="crop-frame"
      role="application"
      // biome-ignore lint/a11y/noNoninteractiveTabindex: it is moved with the keyboard.
      tabIndex={0}
      aria-roledescription={t('cropFrame')}
      aria-label={t('cropFrameAt', { x: rect.x, y: rect.y, width: rect.width, height: rect.height })}
      style={{
        transform: `translate(${view.x + rect.x * view.scale}px, ${view.y + rect.y * view.scale}px)`,
        width: `${rect.width * view.scale}px`,
        height: `${rect.height * view.scale}px`,
      }}
      onKeyDown={onKeyDown}
      {...move}
    >
      <span class="handle corner" {...resize} />
    </div>
  );
}
