//! Settings that come from outside of the form: of dropped images, of gallery images, and of the link that the page was opened with. Where another
//! model made them, that one is offered, and they are restored again once it is open.
import { ignore } from '../engine/fault';
import type { StoredCheckpoint } from '../engine/protocol.gen';
import type { ImageMetadata } from '../gallery/image-metadata';
import { element } from './dom';
import { t } from './i18n';
import { loadPart, remarkOf } from './load-part';
import type { ModelSession } from './model-session';
import type { PageState } from './page-state';
import { isSameModel, type ModelSource } from './stored-models';

type Restore = typeof import('./restore');

export interface SettingsRestorer {
  /** Fills in the form from an image's metadata, or offers the image as input image. */
  restoreImage(image: File, bytes: Uint8Array): Promise<void>;
  /** Fills in the form from a text that AUTOMATIC1111 writes beside its images, where the user pastes one. */
  pasteInto(field: HTMLTextAreaElement): void;
  /** Fills in the form from the settings in the address, if it holds some. */
  restoreLink(): Promise<void>;
  /** Restores what the model that was just opened was opened for. */
  restorePending(): Promise<void>;
}

/** The last line of such a text. */
const INFOTEXT = /^Steps: \d+, /m;

interface NamedSettings {
  metadata: ImageMetadata;
  /** What the user knows them by. */
  name: string;
}

/** Calls `onRestored` whenever the form was filled in. */
export function startSettingsRestorer(page: PageState, model: ModelSession, hub: string, onRestored: () => void): SettingsRestorer {
  /** The model that the user may open, and that which is being opened, with the settings for it. */
  let offered: (NamedSettings & { source: ModelSource }) | undefined;
  let pending: typeof offered;

  const load = (): Promise<Restore> => loadPart('reader of settings', () => import('./restore'));
  const restoreSettings = (settings: NamedSettings, { restore, modelOfImage }: Restore): void => {
    const { metadata, name } = settings;
    const offer = (text: string, stored: readonly StoredCheckpoint[]): void => {
      const source = modelOfImage(metadata, stored, hub);
      // Another remark may be shown meanwhile.
      if (source === undefined || isSameModel(source, model.source()) || page.current().notice?.text !== text) return;
      offered = { ...settings, source };
      page.notify({ text, ...(metadata.model && { model: metadata.model }) });
    };
    const restored = (stored: readonly StoredCheckpoint[]): void => {
      const { text, isOfOtherModel } = restore(metadata, name, page.current().checkpoint, stored, model.source().components ?? {});
      page.notify({ text });
      if (!isOfOtherModel) return;
      offer(text, stored);
      // A model that is not in the list may be stored.
      if (page.current().notice?.model === undefined) model.storage({ kind: 'list' }).then((listed) => offer(text, listed), ignore);
    };
    restored(page.current().stored);
    // LoRAs that are not in the list may be stored. Without the list of what is stored they are named as missing.
    if ((metadata.loras ?? []).length > 0) model.storage({ kind: 'list' }).then(restored, ignore);
    onRestored();
  };
  element('open-named-model', HTMLButtonElement).addEventListener('click', () => {
    if (offered === undefined) return;
    page.show({ ...page.current(), notice: undefined });
    pending = offered;
    model.open(offered.source);
  });

  return {
    async restoreImage(image, bytes) {
      const { name } = image;
      const loaded = await load();
      const metadata = await loaded.readMetadata(bytes);
      // A graph or a text without a prompt is no request.
      if (metadata?.request.prompt !== undefined) restoreSettings({ metadata, name }, loaded);
      else page.notify({ text: t('noSettings', { name }), image });
    },
    pasteInto(field) {
      field.addEventListener('paste', (event) => {
        const text = event.clipboardData?.getData('text/plain') ?? '';
        if (!INFOTEXT.test(text)) return;
        event.preventDefault();
        load().then(
          (loaded) => {
            const metadata = loaded.readInfotext(text);
            if (metadata !== undefined) return restoreSettings({ metadata, name: t('pastedText') }, loaded);
            // A text that only looks like one is a prompt.
            field.setRangeText(text, field.selectionStart, field.selectionEnd, 'end');
            field.dispatchEvent(new Event('input', { bubbles: true }));
          },
          (thrown: unknown) => page.notify({ text: remarkOf(thrown) }),
        );
      });
    },
    async restoreLink() {
      if (location.hash.length < 2) return;
      try {
        const loaded = await load();
        const metadata = loaded.settingsOfFragment(location.hash);
        if (metadata === 'damaged') page.notify({ text: t('damagedLink') });
        else if (metadata !== undefined) restoreSettings({ metadata, name: t('sharedSettings') }, loaded);
      } catch (thrown) {
        page.notify({ text: remarkOf(thrown) });
      }
    },
    async restorePending() {
      const settings = pending;
      pending = undefined;
      if (settings === undefined || !isSameModel(settings.source, model.source())) return;
      restoreSettings(settings, await load());
    },
  };
}
