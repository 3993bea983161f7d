//! The strip of the jobs that wait, of the images of this visit, and of the newest ones of the gallery.
import { render } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import type { ImageRequest } from '../engine/client';
import type { ImageResult } from '../engine/protocol.gen';
import { pngBlob } from '../gallery/files';
import { element } from './dom';
import { t } from './i18n';
import { Icon } from './icons';
import type { StoredThumbnail } from './image-store';
import type { Job } from './queue';

/** A generated image and what it was made from. */
export interface HistoryItem {
  id: number;
  image: ImageResult;
  prompt: string;
  request: ImageRequest;
}

export interface HistoryHandlers {
  onSelect(item: HistoryItem): void;
  onCancel(job: Job): void;
  /** An image of an earlier visit was chosen. */
  onOpen(id: StoredThumbnail['id']): void;
}

/** The images that are kept in memory. Older ones are in the gallery. */
export const HISTORY_MAX = 40;

const root = element('history', HTMLElement);

/** Shows the strip; `shown` is the image on the canvas, `earlier` are images of earlier visits. */
export function renderHistory(
  items: readonly HistoryItem[],
  earlier: readonly StoredThumbnail[],
  jobs: readonly Job[],
  shown: ImageResult | undefined,
  handlers: HistoryHandlers,
): void {
  const waiting = jobs.filter(({ is_running }) => !is_running);
  render(
    <>
      {waiting.length > 0 && (
        <ul aria-label={t('queue')} id="queue">
          {waiting.map((job, index) => (
            <li key={job.id} class="waiting" title={job.prompt} style={{ '--index': index }}>
              <span>{job.prompt}</span>
              {job.images > 1 && <small>{t('imagesOfJob', { count: job.images })}</small>}
              <button type="button" aria-label={t('removeFromQueue', { prompt: job.prompt })} onClick={() => handlers.onCancel(job)}>
                <Icon name="close" />
              </button>
            </li>
          ))}
        </ul>
      )}
      {items.length > 0 && (
        <ul aria-label={t('history')} id="history-list">
          {items.map((item, index) => (
            <li key={item.id} style={{ '--index': waiting.length + index }}>
              <button type="button" aria-pressed={item.image === shown} title={item.prompt} onClick={() => handlers.onSelect(item)}>
                <Thumbnail image={item.image} prompt={item.prompt} />
              </button>
            </li>
          ))}
        </ul>
      )}
      {earlier.length > 0 && (
        <ul aria-label={t('earlierImages')} id="earlier-list">
          {earlier.map(({ id, prompt, url }, index) => (
            <li key={id} style={{ '--index': waiting.length + items.length + index }}>
              <button type="button" title={prompt} onClick={() => handlers.onOpen(id)}>
                <img src={url} alt={prompt} width={64} height={64} />
              </button>
            </li>
          ))}
        </ul>
      )}
    </>,
    root,
  );
}

function Thumbnail({ image, prompt }: { image: ImageResult; prompt: string }) {
  const [url, setUrl] = useState<string>();
  useEffect(() => {
    const created = URL.createObjectURL(pngBlob(image.png));
    setUrl(created);
    return () => URL.revokeObjectURL(created);
  }, [image]);
  return <img src={url} alt={prompt} width={64} height={64} />;
}
