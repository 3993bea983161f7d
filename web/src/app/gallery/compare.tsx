//! Two images under a slider, and the settings in which they differ.
import { useEffect, useState } from 'preact/hooks';
import type { GalleryEntry } from '../../gallery/schema';
import { differing, type Settings } from '../../gallery/settings';
import { t } from '../i18n';
import { readSettings } from './actions';
import { Dialog } from './dialog';
import { IconButton } from './icon-button';
import type { GalleryHost } from './menu';
import type { GalleryStore } from './store';
import { focusActiveTile } from './tile';
import { useImage } from './use-image';

interface ComparisonProps {
  store: GalleryStore;
  left: GalleryEntry;
  right: GalleryEntry;
  host: GalleryHost;
}

export function Comparison({ store, left, right, host }: ComparisonProps) {
  const [share, setShare] = useState(50);
  const [settings, setSettings] = useState<readonly [Settings, Settings]>();
  const urls = [useImage(store, left.id, host.onFailed), useImage(store, right.id, host.onFailed)];
  useEffect(() => {
    Promise.all([readSettings(store.gallery, left), readSettings(store.gallery, right)]).then(setSettings, host.onFailed);
  }, [left.id, right.id]);
  const close = (): void => store.set({ compared: undefined });
  return (
    <Dialog id="comparison" label={t('comparison')} onClose={close} onGone={() => focusActiveTile(store)}>
      <div class="head">
        <p>{t('comparison')}</p>
        <div class="tools">
          <IconButton icon="close" label={t('close')} onClick={close} />
        </div>
      </div>
      <div class="scroll">
        <div class="slider" style={{ '--share': `${share}%` }}>
          <img src={urls[1]} alt={`${t('rightImage')}: ${right.prompt}`} draggable={false} />
          <img src={urls[0]} alt={`${t('leftImage')}: ${left.prompt}`} draggable={false} />
          <span class="divider" aria-hidden="true" />
          <input
            type="range"
            min="0"
            max="100"
            value={share}
            aria-label={t('compareSlider')}
            onInput={({ currentTarget }) => setShare(currentTarget.valueAsNumber)}
          />
        </div>
        {settings && <SettingsTable settings={settings} />}
      </div>
    </Dialog>
  );
}

function SettingsTable({ settings }: { settings: readonly [Settings, Settings] }) {
  const [all, setAll] = useState(false);
  const different = differing(settings);
  const names = all ? [...new Set(settings.flatMap((one) => [...one.keys()]))] : different;
  return (
    <section class="settings-compared" aria-label={t('differingSettings')}>
      <label>
        <input type="checkbox" checked={all} onChange={() => setAll(!all)} /> {t('allSettings')}
      </label>
      {names.length === 0 ? (
        <p>{t('noDifference')}</p>
      ) : (
        <table>
          <caption>{t('differingSettings')}</caption>
          <thead>
            <tr>
              {[t('setting'), t('leftImage'), t('rightImage')].map((text) => (
                <th key={text} scope="col">
                  {text}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {names.map((name) => (
              <tr key={name} class={different.includes(name) ? 'differs' : ''}>
                <th scope="row">{name}</th>
                <td>{settings[0].get(name) ?? t('notSet')}</td>
                <td>{settings[1].get(name) ?? t('notSet')}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </section>
  );
}
