//! One image on the whole screen, with its neighbours by arrow keys and by swiping.
import { useRef } from 'preact/hooks';
import type { GalleryEntry } from '../../gallery/schema';
import { formatDate } from '../format';
import { t } from '../i18n';
import { commandOf } from '../shortcuts';
import { Dialog } from './dialog';
import { IconButton } from './icon-button';
import { actionsOf, type GalleryHost } from './menu';
import type { GalleryStore } from './store';
import { focusActiveTile } from './tile';
import { Toast } from './toast';
import { useImage } from './use-image';

/** The distance in pixels from which a movement of a finger is a swipe. */
const SWIPE_MIN = 48;

export function Lightbox({ store, entry, host }: { store: GalleryStore; entry: GalleryEntry; host: GalleryHost }) {
  const { shown } = store.state();
  const { id, prompt, seed, created_at_millis, model, width, height } = entry;
  const url = useImage(store, id, host.onFailed);
  const start = useRef<{ x: number; y: number } | undefined>(undefined);
  const at = shown.findIndex((other) => other.id === id);
  const close = (): void => store.set({ opened: undefined, active: id });

  const onKeyDown = (event: KeyboardEvent): void => {
    const command = commandOf('lightbox', event);
    if (command === 'undo') store.undo();
    else if (command === 'previous') store.move(-1);
    else if (command === 'next') store.move(1);
    else if (command === 'first') store.move(-Infinity);
    else if (command === 'last') store.move(Infinity);
    else if (command === 'delete') store.remove([id]);
    else if (command === 'favourite') store.favour([id], !entry.favourite);
    else return;
    event.preventDefault();
  };
  const onPointerUp = ({ clientX, clientY }: PointerEvent): void => {
    if (start.current === undefined) return;
    const [x, y] = [clientX - start.current.x, clientY - start.current.y];
    start.current = undefined;
    if (Math.abs(x) > SWIPE_MIN && Math.abs(x) > Math.abs(y)) store.move(x < 0 ? 1 : -1);
    else if (y > SWIPE_MIN * 1.5) close();
  };

  const details = [
    `${t('seed')} ${seed}`,
    ...(width && height ? [`${width} × ${height}`] : []),
    ...(model ? [model] : []),
    formatDate(created_at_millis),
  ];
  return (
    <Dialog id="lightbox" label={t('imageViewer')} onClose={close} onGone={() => focusActiveTile(store)} onKeyDown={onKeyDown}>
      <div class="head">
        <p aria-live="polite">{t('positionOf', { at: at + 1, all: shown.length })}</p>
        <div class="tools">
          {actionsOf(store, entry, host).map(({ icon, label, pressed, run }) => (
            <IconButton key={icon} icon={icon} label={label} pressed={pressed} onClick={run} />
          ))}
          <IconButton icon="close" label={t('close')} onClick={close} />
        </div>
      </div>
      <div
        class="stage"
        onPointerDown={(event) => {
          start.current = event.pointerType === 'mouse' ? undefined : { x: event.clientX, y: event.clientY };
        }}
        onPointerUp={onPointerUp}
        onPointerCancel={() => (start.current = undefined)}
      >
        <IconButton icon="previous" class="step" label={t('previousImage')} disabled={at <= 0} onClick={() => store.move(-1)} />
        {url === 'gone' ? <p>{t('imageGone')}</p> : <img src={url ?? store.thumbnails.urlOf(entry)} alt={prompt} draggable={false} />}
        <IconButton icon="next" class="step" label={t('nextImage')} disabled={at >= shown.length - 1} onClick={() => store.move(1)} />
      </div>
      <div class="foot">
        <p class="prompt">{prompt}</p>
        <p class="details">{details.join(' · ')}</p>
      </div>
      <Toast store={store} />
    </Dialog>
  );
}
