//! The gallery on the page: filters, grid, lightbox, comparison, selection, import and export of images.
import './gallery.css';
import { render } from 'preact';
import type { Gallery } from '../../gallery/database';
import { element } from '../dom';
import { t } from '../i18n';
import { isOpen, onPanelToggle } from '../panels';
import { Comparison } from './compare';
import { Lightbox } from './lightbox';
import { type GalleryHost, TileMenu } from './menu';
import { createGalleryStore, type GalleryStore } from './store';
import { Toast } from './toast';
import { Filters, ListActions, SelectionActions } from './toolbar';
import { EmptyGallery, VirtualGrid } from './virtual-grid';

export interface GalleryView extends Pick<GalleryStore, 'insert' | 'favour'> {
  /** Renders again, in another language. */
  refresh(): void;
  /** Shows an image in the lightbox, once its entry is read. */
  open(id: number): void;
}

/** Shows `gallery` in #gallery-root, and reads it whenever its panel is open. */
export function startGalleryView(gallery: Gallery, host: GalleryHost): GalleryView {
  const root = element('gallery-root', HTMLElement);
  let scheduled = false;
  const refresh = (): void => {
    if (scheduled) return;
    scheduled = true;
    queueMicrotask(() => {
      scheduled = false;
      render(<GalleryPanel store={store} host={host} />, root);
    });
  };
  const store = createGalleryStore(gallery, refresh, host);
  // Another tab may have changed it since it was last open.
  const load = (): void => {
    if (!isOpen('gallery')) host.onClosed();
    else if (!document.hidden) store.load();
  };
  onPanelToggle('gallery', load);
  document.addEventListener('visibilitychange', load);
  load();
  takeDrops(root, store, host);
  refresh();
  const open = (id: number): void => {
    if (store.state().entries !== undefined) store.clearFilter();
    store.set({ opened: id, active: id });
  };
  return { insert: store.insert, favour: store.favour, refresh, open };
}

function GalleryPanel({ store, host }: { store: GalleryStore; host: GalleryHost }) {
  const { entries, shown, selecting, opened, compared, menu } = store.state();
  const entryOf = (id: number | undefined) => entries?.find((entry) => entry.id === id);
  const [lit, listed, left, right] = [opened, menu, compared?.[0], compared?.[1]].map(entryOf);
  if (entries === undefined) {
    return (
      <>
        <Filters store={store} />
        <p class="empty">{t('galleryLoading')}</p>
      </>
    );
  }
  return (
    <>
      <Filters store={store} />
      {selecting ? <SelectionActions store={store} host={host} /> : <ListActions store={store} host={host} />}
      {shown.length === 0 && <EmptyGallery isEmpty={entries.length === 0} onClear={() => store.clearFilter()} />}
      {shown.length > 0 && <VirtualGrid store={store} />}
      {listed && <TileMenu store={store} entry={listed} host={host} />}
      {lit && <Lightbox store={store} entry={lit} host={host} />}
      {left && right && <Comparison store={store} left={left} right={right} host={host} />}
      {!lit && <Toast store={store} />}
    </>
  );
}

/** Imports files that are dropped on the gallery. Anything else is the page's. */
function takeDrops(root: HTMLElement, store: GalleryStore, host: GalleryHost): void {
  const isOurs = ({ dataTransfer }: DragEvent): boolean =>
    [...(dataTransfer?.items ?? [])].some(({ kind, type }) => kind === 'file' && type.startsWith('image/'));
  const mark = (isOver: boolean): void => void root.classList.toggle('drop-target', isOver);
  root.addEventListener('dragover', (event) => {
    if (!isOurs(event)) return;
    event.preventDefault();
    event.stopPropagation();
    mark(true);
  });
  root.addEventListener('dragleave', () => mark(false));
  root.addEventListener('drop', (event) => {
    mark(false);
    if (!isOurs(event)) return;
    event.preventDefault();
    event.stopPropagation();
    store.importFiles([...(event.dataTransfer?.files ?? [])]).catch(host.onFailed);
  });
}
