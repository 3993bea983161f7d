//! A short message at the bottom of the screen, with Undo after a deletion.
import { t } from '../i18n';
import type { GalleryStore } from './store';

export function Toast({ store }: { store: GalleryStore }) {
  const { toast, comparing } = store.state();
  return (
    <div
      class="gallery-toast"
      onPointerEnter={() => store.holdToast(true)}
      onPointerLeave={() => store.holdToast(false)}
      onFocusIn={() => store.holdToast(true)}
      onFocusOut={() => store.holdToast(false)}
    >
      <span role="status">{toast?.text ?? (comparing === undefined ? '' : t('chooseSecond'))}</span>
      {toast !== undefined && toast.deleted.length > 0 && (
        <button type="button" onClick={() => store.undo()}>
          {t('undo')}
        </button>
      )}
    </div>
  );
}
