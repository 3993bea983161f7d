//! One image of the grid: its thumbnail, with actions while the pointer or the focus is on it.
import type { GalleryEntry } from '../../gallery/schema';
import { t } from '../i18n';
import { Icon } from '../icons';
import { IconButton } from './icon-button';
import type { GalleryStore } from './store';

interface TileProps {
  store: GalleryStore;
  entry: GalleryEntry;
  place: { x: number; y: number; side: number };
  /** The position in the list, and its length. */
  at: number;
  all: number;
  /** Tab reaches this tile; arrow keys reach the others. */
  isActive: boolean;
}

/** Moves the focus to the active tile, once a dialog over it has closed. */
export function focusActiveTile(store: GalleryStore): void {
  requestAnimationFrame(() => document.querySelector<HTMLElement>(`[data-id="${store.state().active}"] .tile`)?.focus());
}

export function Tile({ store, entry, place, at, all, isActive }: TileProps) {
  const { id, prompt, seed, favourite } = entry;
  const { selecting, selected, comparing, menu } = store.state();
  const url = store.thumbnails.urlOf(entry);
  const isSelected = selected.has(id);
  const onClick = (event: MouseEvent): void => {
    if (comparing !== undefined) store.compareWith(id);
    else if (event.shiftKey) store.select(id, 'range');
    else if (event.ctrlKey || event.metaKey || selecting) store.select(id, 'toggle');
    else store.set({ opened: id, active: id, anchor: id });
  };
  const onContextMenu = (event: MouseEvent): void => {
    event.preventDefault();
    // A long press.
    if (event instanceof PointerEvent && event.pointerType === 'touch') store.select(id, 'toggle');
    else store.set({ active: id, menu: id });
  };
  return (
    <li
      data-id={id}
      class={`${isSelected ? 'selected' : ''} ${favourite ? 'is-favourite' : ''} ${comparing === id ? 'comparing' : ''}`}
      aria-setsize={all}
      aria-posinset={at + 1}
      style={{ width: `${place.side}px`, height: `${place.side}px`, transform: `translate(${place.x}px, ${place.y}px)` }}
    >
      <button
        type="button"
        class="tile"
        tabIndex={isActive ? 0 : -1}
        aria-label={`${prompt} · ${seed}`}
        aria-pressed={selecting ? isSelected : undefined}
        onClick={onClick}
        onContextMenu={onContextMenu}
        onFocus={() => isActive || store.set({ active: id })}
      >
        {url !== undefined && <img src={url} alt="" draggable={false} decoding="async" />}
        {selecting && <span class="mark">{isSelected && <Icon name="check" />}</span>}
      </button>
      <p aria-hidden="true">
        {prompt} · {seed}
      </p>
      <IconButton
        icon="star"
        class="favourite"
        label={`${t('favourite')}: ${prompt}`}
        pressed={favourite}
        focusable={isActive}
        onClick={() => store.favour([id], !favourite)}
      />
      <button
        type="button"
        class="icon-button menu"
        aria-label={t('actionsOf', { prompt })}
        title={t('actionsOf', { prompt })}
        aria-haspopup="menu"
        aria-expanded={menu === id}
        tabIndex={isActive ? 0 : -1}
        onClick={() => store.set({ menu: menu === id ? undefined : id, active: id })}
      >
        <Icon name="more" />
      </button>
    </li>
  );
}
