//! The list of models: what is stored in this browser, what is downloaded or paused, and what is published, each as a card with its size,
//! licence, memory and the time of an image on this device.
import './models.css';
import { render } from 'preact';
import { useState } from 'preact/hooks';
import { FILE_PREFIX, FOLDER_PREFIX, nameOfPlace } from '../../checkpoints/place';
import type { LoadProgress, PromptCacheSize, StorageTask, StoredCheckpoint } from '../../engine/protocol.gen';
import { element } from '../dom';
import { formatBytes, formatDate, formatDuration } from '../format';
import { t } from '../i18n';
import { isDownload, isSameModel, type ModelSource, sourceOfStored } from '../stored-models';
import { DEFAULT_ENCODER, type Offer, offeredEncoders, offers } from './catalogue';

export interface ModelsState {
  stored: readonly StoredCheckpoint[];
  prompt_cache: PromptCacheSize;
  /** The model that is open or being opened, and what of it is being downloaded. */
  source: ModelSource;
  loading: LoadProgress | undefined;
  paused: PausedDownload | undefined;
  /** Multiply-accumulates a second of the device, where it was measured. */
  rate: number | undefined;
}

/** A download that the user has interrupted. */
export interface PausedDownload {
  source: ModelSource;
  loaded_bytes: number;
  total_bytes: number | null;
}

export interface ModelsHandlers {
  hub: string;
  onOpen(source: ModelSource): void;
  onOpenStored(entry: StoredCheckpoint): void;
  onPause(): void;
  onResume(paused: PausedDownload): void;
  /** Ends a paused download for good, and deletes what of it is stored. */
  onDiscard(paused: PausedDownload, stored: StoredCheckpoint | undefined): void;
  /** Verifies or deletes; resolves once it is done. */
  onTask(task: StorageTask): Promise<void>;
}

/** A model of the list: stored, published, or neither while it is being downloaded. */
interface Card {
  title: string;
  source: ModelSource | undefined;
  stored: StoredCheckpoint | undefined;
  offer: Offer | undefined;
}

const list = element('model-list', HTMLElement);
const encoder = element('catalogue-encoder', HTMLSelectElement);

/** Renders the list. */
export function renderModels(state: ModelsState, handlers: ModelsHandlers): void {
  renderEncoders(() => renderModels(state, handlers));
  const cards = cardsOf(state, offers(encoder.value, handlers.hub));
  render(
    <>
      {cards.map((card) => (
        <ModelCard key={card.stored?.checkpoint ?? card.offer?.model.name ?? card.title} card={card} state={state} handlers={handlers} />
      ))}
      {state.prompt_cache.prompts > 0 && <Prompts cache={state.prompt_cache} handlers={handlers} />}
    </>,
    list,
  );
}

function renderEncoders(onChange: () => void): void {
  const selected = encoder.options.length === 0 ? DEFAULT_ENCODER : encoder.value;
  const options = offeredEncoders().map(({ name, title, bytes }) => new Option(`${title}, ${formatBytes(bytes)}`, name));
  encoder.replaceChildren(...options, new Option(t('ownTextEncoder'), ''));
  encoder.value = selected;
  encoder.onchange = onChange;
}

/** Returns what is stored, then what is being downloaded, then what is published. */
function cardsOf({ stored, source, loading, paused }: ModelsState, published: readonly Offer[]): Card[] {
  const offerOf = (other: ModelSource): Offer | undefined => published.find((offer) => isSameModel(offer.source, other));
  const storedCards = stored.map((entry): Card => {
    const opened = entry.kind === 'model' ? sourceOfStored(entry) : undefined;
    const offer = opened && offerOf(opened);
    return { title: offer?.model.title ?? nameOf(entry.checkpoint), source: offer?.source ?? opened, stored: entry, offer };
  });
  const isListed = (other: ModelSource): boolean =>
    [...storedCards, ...published].some(({ source }) => source !== undefined && isSameModel(source, other));
  const downloading = [...(isDownload(source, loading) ? [source] : []), ...(paused ? [paused.source] : [])]
    .filter((other) => other.checkpoint !== '' && !isListed(other))
    .map((other): Card => ({ title: nameOf(other.checkpoint), source: other, stored: undefined, offer: undefined }));
  const others = published
    .filter((offer) => !storedCards.some((card) => card.offer === offer))
    .map((offer): Card => ({ title: offer.model.title, source: offer.source, stored: undefined, offer }));
  return [...storedCards, ...downloading, ...others];
}

function nameOf(checkpoint: string): string {
  return nameOfPlace(checkpoint.replace(/\/$/, '')) || checkpoint;
}

function ModelCard({ card, state, handlers }: { card: Card; state: ModelsState; handlers: ModelsHandlers }) {
  const { title, source, stored, offer } = card;
  const isCurrent = source !== undefined && isSameModel(source, state.source);
  const isLoading = isCurrent && isDownload(state.source, state.loading);
  const paused = source !== undefined && state.paused !== undefined && isSameModel(source, state.paused.source) ? state.paused : undefined;
  return (
    <li class={isCurrent ? 'current' : ''}>
      <h3>
        {stored !== undefined && stored.kind !== 'model' && `${t(`stored_${stored.kind}`)}: `}
        {title}
        {isCurrent && !isLoading && <span class="badge">{t('cardOpen')}</span>}
      </h3>
      {stored !== undefined && <p class="place">{stored.checkpoint}</p>}
      <Facts card={card} rate={state.rate} />
      {stored !== undefined && <StoredState entry={stored} />}
      {isLoading && state.loading !== undefined && <Progress loaded={state.loading.loaded_bytes} total={state.loading.total_bytes} />}
      {paused !== undefined && <Progress loaded={paused.loaded_bytes} total={paused.total_bytes} isPaused />}
      <div class="actions">
        {isLoading && <Action verb="pause" title={title} onClick={handlers.onPause} />}
        {paused !== undefined && !isLoading && (
          <>
            <Action verb="resumeDownload" title={title} onClick={() => handlers.onResume(paused)} />
            <Action verb="discard" title={title} onClick={() => handlers.onDiscard(paused, stored)} />
          </>
        )}
        {stored === undefined && offer !== undefined && !isLoading && paused === undefined && (
          <Action verb="open" title={title} onClick={() => handlers.onOpen(offer.source)} />
        )}
        {stored !== undefined && !isLoading && paused === undefined && <StoredActions card={card} entry={stored} handlers={handlers} />}
      </div>
    </li>
  );
}

function Facts({ card: { stored, offer }, rate }: { card: Card; rate: number | undefined }) {
  const { model } = offer ?? {};
  const bytes = stored?.bytes ?? offer?.download_bytes;
  const seconds = model === undefined || rate === undefined ? undefined : model.macs / rate;
  const facts = [
    ['cardSize', bytes === undefined ? '–' : formatBytes(bytes)],
    ['cardLicense', model?.license ?? '–'],
    ['cardMemory', model === undefined ? '–' : formatBytes(model.memory_bytes)],
    ['cardTime', seconds === undefined ? '–' : formatDuration(seconds)],
  ] as const;
  return (
    <dl>
      {facts.map(([key, value]) => (
        <div key={key}>
          <dt>{t(key)}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

function StoredState({ entry: { storage, saved_at, missing, changed } }: { entry: StoredCheckpoint }) {
  return (
    <p class={missing > 0 || changed ? 'state warn' : 'state'}>
      {t('storedIn', { store: storage, date: formatDate(saved_at) })}
      {missing > 0 && t('shardsMissing', { count: missing })}
      {changed && t('modelChanged')}
    </p>
  );
}

function StoredActions({ card, entry, handlers }: { card: Card; entry: StoredCheckpoint; handlers: ModelsHandlers }) {
  const [isBusy, setBusy] = useState(false);
  const { checkpoint, kind, composition, missing } = entry;
  const places = [checkpoint, ...Object.values(composition?.components ?? {})];
  // A local folder has to be selected again: a page may not open it by itself. Opening downloads missing shards.
  const isLocal = places.some((place) => place.startsWith(FOLDER_PREFIX) || place.startsWith(FILE_PREFIX));
  const open = (): void => (card.offer === undefined ? handlers.onOpenStored(entry) : handlers.onOpen(card.offer.source));
  const run = (task: StorageTask): void => {
    setBusy(true);
    handlers.onTask(task).finally(() => setBusy(false));
  };
  return (
    <>
      {(!isLocal || (kind === 'lora' && missing === 0)) && (
        <Action verb={missing > 0 ? 'repair' : kind === 'model' ? 'open' : 'use'} title={card.title} onClick={open} />
      )}
      <Action verb="verify" title={card.title} isDisabled={isBusy} onClick={() => run({ kind: 'verify', checkpoint })} />
      <Action verb="delete" title={card.title} isDisabled={isBusy} onClick={() => run({ kind: 'delete', checkpoint })} />
    </>
  );
}

interface ActionProps {
  verb: 'open' | 'use' | 'repair' | 'verify' | 'delete' | 'pause' | 'resumeDownload' | 'discard';
  title: string;
  isDisabled?: boolean;
  onClick: () => void;
}

function Action({ verb, title, isDisabled = false, onClick }: ActionProps) {
  return (
    <button type="button" aria-label={`${t(verb)} ${title}`} disabled={isDisabled} onClick={onClick}>
      {t(verb)}
    </button>
  );
}

function Progress({ loaded, total, isPaused = false }: { loaded: number; total: number | null; isPaused?: boolean }) {
  const of = total === null ? '' : ` / ${formatBytes(total)}`;
  const text = `${formatBytes(loaded)}${of}`;
  return (
    <p class="state">
      <progress max={total ?? undefined} value={total === null ? undefined : loaded} aria-label={t('loading_fetch')} />
      {isPaused ? t('pausedAt', { size: text }) : text}
    </p>
  );
}

function Prompts({ cache: { prompts, bytes }, handlers }: { cache: PromptCacheSize; handlers: ModelsHandlers }) {
  return (
    <li>
      <p class="state">{t('storedPrompts', { count: prompts, size: formatBytes(bytes) })}</p>
      <div class="actions">
        <button type="button" onClick={() => void handlers.onTask({ kind: 'delete_prompts' })}>
          {t('delete')}
        </button>
      </div>
    </li>
  );
}
