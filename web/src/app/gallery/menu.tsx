//! The actions of one image: the menu of a tile, and the buttons of the lightbox.
import { useLayoutEffect, useRef } from 'preact/hooks';
import type { GalleryEntry } from '../../gallery/schema';
import { t } from '../i18n';
import type { IconName } from '../icons';
import { canShareFiles, copyImage, copyLink, download, fileOf, shareImage } from './actions';
import type { GalleryStore, GalleryStoreHandlers } from './store';

/** What the gallery asks of the page. */
export interface GalleryHost extends GalleryStoreHandlers {
  /** Fills in the form from an image file. */
  onReuse(image: File): void;
  /** The gallery was closed. */
  onClosed(): void;
}

export interface ImageAction {
  icon: IconName;
  label: string;
  /** The state of an action that turns something on and off. */
  pressed?: boolean;
  run: () => void;
}

/** Returns the actions of an image, without those of the list. */
export function actionsOf(store: GalleryStore, entry: GalleryEntry, host: GalleryHost): ImageAction[] {
  const withFile = (use: (file: File) => void): void => void fileOf(store.gallery, entry).then(use).catch(host.onFailed);
  return [
    {
      icon: 'reuse',
      label: t('reuseSettings'),
      run: () => {
        store.set({ opened: undefined });
        withFile(host.onReuse);
      },
    },
    { icon: 'star', label: t('favourite'), pressed: entry.favourite, run: () => store.favour([entry.id], !entry.favourite) },
    { icon: 'copy', label: t('copyImage'), run: () => void copyImage(store, entry) },
    { icon: 'link', label: t('copyLink'), run: () => void copyLink(store, entry) },
    ...(canShareFiles() ? [{ icon: 'share', label: t('shareImage'), run: () => void shareImage(store, entry) } as const] : []),
    { icon: 'download', label: t('downloadPng'), run: () => withFile((file) => download(file, file.name)) },
    { icon: 'trash', label: t('delete'), run: () => store.remove([entry.id]) },
  ];
}

/** The menu of the tile that `state.menu` names. */
export function TileMenu({ store, entry, host }: { store: GalleryStore; entry: GalleryEntry; host: GalleryHost }) {
  const menu = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const element = menu.current;
    const button = document.querySelector(`[data-id="${entry.id}"] .menu`);
    if (element === null || button === null) return;
    element.showPopover();
    const [{ right, bottom, top }, { width, height }] = [button.getBoundingClientRect(), element.getBoundingClientRect()];
    element.style.left = `${Math.max(4, Math.min(right - width, innerWidth - width - 4))}px`;
    element.style.top = `${Math.max(4, bottom + height > innerHeight ? top - height : bottom)}px`;
    element.querySelector('button')?.focus();
  }, [entry.id]);
  const close = (): void => {
    store.set({ menu: undefined });
    document.querySelector<HTMLElement>(`[data-id="${entry.id}"] .menu`)?.focus();
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    const items = [...(menu.current?.querySelectorAll('button') ?? [])];
    const at = items.indexOf(document.activeElement as HTMLButtonElement);
    const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
    if (event.key === 'Tab' || event.key === 'Escape') close();
    else if (next !== undefined) items.at(next % items.length)?.focus();
    else return;
    event.preventDefault();
  };
  const list = (): ImageAction[] => {
    const [reuse, favourite, ...others] = actionsOf(store, entry, host);
    const open: ImageAction = { icon: 'next', label: t('openImage'), run: () => store.set({ opened: entry.id }) };
    const compare: ImageAction = { icon: 'check', label: t('compare'), run: () => store.compareWith(entry.id) };
    const select: ImageAction = { icon: 'check', label: t('select'), run: () => store.select(entry.id, 'toggle') };
    return [open, ...(reuse ? [reuse] : []), ...(favourite ? [favourite] : []), compare, select, ...others];
  };
  return (
    <div
      ref={menu}
      class="gallery-menu"
      role="menu"
      aria-label={t('actionsOf', { prompt: entry.prompt })}
      popover="auto"
      onKeyDown={onKeyDown}
      onToggle={(event) => event.newState === 'closed' && store.set({ menu: undefined })}
    >
      {list().map(({ label, pressed, run }) => (
        <button
          key={label}
          type="button"
          tabIndex={-1}
          role="menuitem"
          onClick={() => {
            close();
            run();
          }}
        >
          {label}
          {pressed === true && ' ✓'}
        </button>
      ))}
    </div>
  );
}
