//! Above the grid: filters, import, storage, and the actions on selected images.
import { useRef } from 'preact/hooks';
import { formatBytes } from '../format';
import { t } from '../i18n';
import { downloadContactSheet, downloadGrid, downloadImages } from './actions';
import type { GalleryHost } from './menu';
import { isFiltered, selectedEntries } from './state';
import type { GalleryStore } from './store';

interface ToolbarProps {
  store: GalleryStore;
  host: GalleryHost;
}

export function Filters({ store }: { store: GalleryStore }) {
  const { filter, entries = [] } = store.state();
  const models = [...new Set(entries.flatMap(({ model }) => (model ? [model] : [])))].sort();
  return (
    <search class="filters">
      <div class="search">
        <label for="gallery-search">{t('searchPrompts')}</label>
        <input
          id="gallery-search"
          type="search"
          value={filter.search}
          onInput={({ currentTarget }) => store.filter({ search: currentTarget.value })}
        />
      </div>
      <div>
        <label for="gallery-model">{t('filterModel')}</label>
        <select id="gallery-model" value={filter.model} onChange={({ currentTarget }) => store.filter({ model: currentTarget.value })}>
          <option value="">{t('allModels')}</option>
          {models.map((model) => (
            <option key={model} value={model}>
              {model}
            </option>
          ))}
        </select>
      </div>
      {(['from', 'until'] as const).map((end) => (
        <div key={end}>
          <label for={`gallery-${end}`}>{t(end === 'from' ? 'filterFrom' : 'filterUntil')}</label>
          <input
            id={`gallery-${end}`}
            type="date"
            value={filter[end]}
            onInput={({ currentTarget }) => store.filter({ [end]: currentTarget.value })}
          />
        </div>
      ))}
      <label class="check">
        <input
          id="favourites-only"
          type="checkbox"
          checked={filter.favouritesOnly}
          onChange={({ currentTarget }) => store.filter({ favouritesOnly: currentTarget.checked })}
        />{' '}
        <span>{t('favouritesOnly')}</span>
      </label>
    </search>
  );
}

export function ListActions({ store, host }: ToolbarProps) {
  const { entries = [], shown, filter, usage } = store.state();
  const picker = useRef<HTMLInputElement>(null);
  return (
    <div class="actions">
      <span id="gallery-count">{t('shownOfAll', { shown: shown.length, all: entries.length })}</span>
      {isFiltered(filter) && <Action text={t('clearFilters')} onClick={() => store.clearFilter()} />}
      <Action id="gallery-select" text={t('select')} disabled={shown.length === 0} onClick={() => store.set({ selecting: true })} />
      <Action
        id="gallery-export"
        text={t('downloadZip')}
        disabled={shown.length === 0}
        onClick={() => downloadImages(store, shown).catch(host.onFailed)}
      />
      <Action id="gallery-import" text={t('importPngs')} onClick={() => picker.current?.click()} />
      <input
        id="gallery-files"
        ref={picker}
        type="file"
        accept="image/png"
        multiple
        hidden
        onChange={({ currentTarget }) => {
          const files = [...(currentTarget.files ?? [])];
          // The same files can be chosen again.
          currentTarget.value = '';
          store.importFiles(files).catch(host.onFailed);
        }}
      />
      {usage !== undefined && (
        <span class="storage">
          <meter min={0} max={usage.quota_bytes} value={usage.used_bytes} aria-label={t('storageMeter')} />{' '}
          {t('storageUsed', { used: formatBytes(usage.used_bytes), quota: formatBytes(usage.quota_bytes) })}
        </span>
      )}
    </div>
  );
}

/** The actions on the selected images, in place of those on the list. */
export function SelectionActions({ store, host }: ToolbarProps) {
  const { shown, selected } = store.state();
  const entries = selectedEntries(store.state());
  const [first, second] = entries;
  const ids = entries.map(({ id }) => id);
  const isFavourite = entries.length > 0 && entries.every(({ favourite }) => favourite);
  const none = entries.length === 0;
  const attempt = (work: Promise<void>): void => void work.catch(host.onFailed);
  return (
    <div class="actions" role="toolbar" aria-label={t('selection')}>
      <span id="gallery-selected" role="status">
        {t('selectedCount', { count: selected.size })}
      </span>
      <Action text={t('selectAll')} onClick={() => store.set({ selected: new Set(shown.map(({ id }) => id)) })} />
      <Action text={t('favourite')} pressed={isFavourite} disabled={none} onClick={() => store.favour(ids, !isFavourite)} />
      <Action
        text={t('compare')}
        disabled={entries.length !== 2}
        // The older one is on the left.
        onClick={() => first && second && store.set({ compared: [second.id, first.id] })}
      />
      <Action text={t('downloadZip')} disabled={none} onClick={() => attempt(downloadImages(store, entries))} />
      <Action text={t('contactSheet')} disabled={none} onClick={() => attempt(downloadContactSheet(store, entries))} />
      <Action text={t('gridPng')} disabled={entries.length < 2} onClick={() => attempt(downloadGrid(store, entries))} />
      <Action text={t('delete')} disabled={none} onClick={() => store.remove(ids)} />
      <Action text={t('done')} onClick={() => store.deselect()} />
    </div>
  );
}

interface ActionProps {
  id?: string;
  text: string;
  pressed?: boolean;
  disabled?: boolean;
  onClick: () => void;
}

function Action({ id, text, pressed, disabled = false, onClick }: ActionProps) {
  return (
    <button id={id} type="button" aria-pressed={pressed} disabled={disabled} onClick={onClick}>
      {text}
    </button>
  );
}
