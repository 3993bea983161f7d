//! A grid that renders the rows on the screen. It scrolls with whatever holds it: the page, or a panel.
import { useLayoutEffect, useRef, useState } from 'preact/hooks';
import type { GalleryEntry } from '../../gallery/schema';
import { t } from '../i18n';
import { commandOf, type ShortcutOf } from '../shortcuts';
import type { GalleryStore } from './store';
import { Tile } from './tile';

/** The least width of a tile, and the space between two, in pixels. */
const TILE_MIN = 144;
const GAP = 8;
/** Rows above and below the screen that are rendered, too. */
const OVERSCAN_ROWS = 2;

interface Layout {
  columns: number;
  tile: number;
  /** The rendered rows, up to and without `end`. */
  first: number;
  end: number;
}

const MOVES: Partial<Record<ShortcutOf<'grid'>, (layout: Layout) => number>> = {
  left: () => -1,
  right: () => 1,
  up: ({ columns }) => -columns,
  down: ({ columns }) => columns,
  pageUp: ({ columns, tile }) => -columns * Math.max(1, Math.floor(innerHeight / tile) - 1),
  pageDown: ({ columns, tile }) => columns * Math.max(1, Math.floor(innerHeight / tile) - 1),
  first: () => -Infinity,
  last: () => Infinity,
};

export function VirtualGrid({ store }: { store: GalleryStore }) {
  const state = store.state();
  const { shown, active } = state;
  const list = useRef<HTMLUListElement>(null);
  const [layout, setLayout] = useState<Layout>({ columns: 1, tile: TILE_MIN, first: 0, end: 0 });
  /** The tile that the keyboard has moved to. */
  const moved = useRef<number | undefined>(undefined);

  useLayoutEffect(() => {
    let frame = 0;
    const measure = (): void => {
      frame = 0;
      if (list.current !== null) setLayout((before) => updated(before, list.current as HTMLUListElement));
    };
    const schedule = (): void => {
      frame ||= requestAnimationFrame(measure);
    };
    const observer = new ResizeObserver(measure);
    if (list.current !== null) observer.observe(list.current);
    // Scrolling does not bubble; whichever element scrolls is seen on its way down.
    document.addEventListener('scroll', schedule, { capture: true, passive: true });
    window.addEventListener('resize', schedule);
    return () => {
      cancelAnimationFrame(frame);
      observer.disconnect();
      document.removeEventListener('scroll', schedule, { capture: true });
      window.removeEventListener('resize', schedule);
    };
  }, []);
  /** The tile that the keyboard has deleted, until it is gone: the focus then goes to the one in its place. */
  const deleted = useRef<number | undefined>(undefined);
  useLayoutEffect(() => {
    if (deleted.current !== undefined && !shown.some(({ id }) => id === deleted.current)) {
      deleted.current = undefined;
      moved.current = active;
    }
    if (moved.current === undefined) return;
    list.current?.querySelector<HTMLElement>(`[data-id="${moved.current}"] .tile`)?.focus();
    moved.current = undefined;
  });

  const { columns, tile, first, end } = layout;
  const pitch = tile + GAP;
  const activeAt = Math.max(
    0,
    shown.findIndex(({ id }) => id === active),
  );
  const onKeyDown = (event: KeyboardEvent): void => {
    const entry = shown[activeAt];
    const command = commandOf('grid', event);
    const step = command && MOVES[command]?.(layout);
    if (entry === undefined) return;
    if (step !== undefined) {
      const next = shown[Math.min(Math.max(activeAt + step, 0), shown.length - 1)];
      if (next === undefined) return;
      event.preventDefault();
      moved.current = next.id;
      if (event.shiftKey) {
        if (state.anchor === undefined) store.set({ anchor: entry.id });
        store.select(next.id, 'range');
      } else store.set({ active: next.id });
    } else if (isTile(event.target) && command !== undefined && onTileCommand(command, store, entry)) {
      event.preventDefault();
      if (command === 'delete') deleted.current = entry.id;
    }
  };

  return (
    <ul
      id="gallery-list"
      ref={list}
      style={{ height: `${Math.max(0, Math.ceil(shown.length / columns) * pitch - GAP)}px` }}
      onKeyDown={onKeyDown}
    >
      {rendered(shown.length, layout, activeAt).map((at) => {
        const entry = shown[at] as GalleryEntry;
        const place = { x: (at % columns) * pitch, y: Math.floor(at / columns) * pitch, side: tile };
        return <Tile key={entry.id} store={store} entry={entry} place={place} at={at} all={shown.length} isActive={at === activeAt} />;
      })}
    </ul>
  );

  /** Returns the positions of the rendered tiles. That with the focus is always one of them. */
  function rendered(count: number, { columns }: Layout, activeAt: number): number[] {
    const [from, to] = [Math.min(first * columns, count), Math.min(end * columns, count)];
    const positions = Array.from({ length: to - from }, (_, at) => from + at);
    if (activeAt >= count) return positions;
    if (activeAt < from) return [activeAt, ...positions];
    return activeAt >= to ? [...positions, activeAt] : positions;
  }
}

function isTile(target: EventTarget | null): boolean {
  return target instanceof Element && target.classList.contains('tile');
}

/** Returns whether the command was one for a tile. */
function onTileCommand(command: ShortcutOf<'grid'>, store: GalleryStore, entry: GalleryEntry): boolean {
  const { selecting, selected, shown } = store.state();
  const ids = selected.has(entry.id) ? [...selected] : [entry.id];
  if (command === 'delete') store.remove(ids);
  else if (command === 'favourite') store.favour(ids, !entry.favourite);
  else if (command === 'select') store.select(entry.id, 'toggle');
  else if (command === 'selectAll') store.set({ selecting: true, selected: new Set(shown.map(({ id }) => id)) });
  else if (command === 'undo') store.undo();
  else if (command === 'deselect' && selecting) store.deselect();
  else return false;
  return true;
}

/** Returns the layout for the place of the list on the screen; `before` where it is the same. */
function updated(before: Layout, list: HTMLUListElement): Layout {
  const { top, width } = list.getBoundingClientRect();
  if (width === 0) return before;
  const columns = Math.max(2, Math.floor((width + GAP) / (TILE_MIN + GAP)));
  const tile = (width - GAP * (columns - 1)) / columns;
  const pitch = tile + GAP;
  const first = Math.max(0, Math.floor(-top / pitch) - OVERSCAN_ROWS);
  const end = Math.max(first, Math.ceil((innerHeight - top) / pitch) + OVERSCAN_ROWS);
  const same = before.columns === columns && before.tile === tile && before.first === first && before.end === end;
  return same ? before : { columns, tile, first, end };
}

/** Says that nothing is listed, and what to do. */
export function EmptyGallery({ isEmpty, onClear }: { isEmpty: boolean; onClear: () => void }) {
  if (isEmpty) return <p class="empty">{t('galleryEmpty')}</p>;
  return (
    <p class="empty">
      {t('galleryNoMatch')}{' '}
      <button type="button" onClick={onClear}>
        {t('clearFilters')}
      </button>
    </p>
  );
}
