//! The buttons near the image: what can be done with the image that is shown.
import type { ImageRequest } from '../engine/client';
import type { Limits } from '../engine/protocol.gen';
import { fileStem, pngBlob } from '../gallery/files';
import { element } from './dom';
import { randomSeed, useInitImage } from './form';
import type { HistoryItem } from './history';
import { selectInitImage } from './input-image';
import { loadPart } from './load-part';
import { openPanel } from './panels';

/** How far "Vary a little" turns the initial noise towards another seed's. */
const VARIATION_STRENGTH = 0.2;
/** How much "Larger" scales an image, and the largest scale of a request (`crates/protocol`, request.rs). */
const LARGER_SCALE = 2;
const HIRES_SCALE_MAX = 4;

export interface ImageActions {
  /** Returns the image that is shown. */
  shown(): HistoryItem | undefined;
  /** Returns the sizes that the open model generates; `undefined` without one. */
  limits(): Limits | undefined;
  generate(request: ImageRequest): void;
  favour(item: HistoryItem): void;
  onFailed(thrown: unknown): void;
}

const largerButton = element('larger', HTMLButtonElement);
const favourButton = element('favour', HTMLButtonElement);
const compareButton = element('compare-input', HTMLButtonElement);
/** The slider over an image, and what removes it. */
let compared: { item: HistoryItem; remove: () => void } | undefined;

/** Connects the buttons. */
export function startImageActions({ shown, limits, generate, favour, onFailed }: ImageActions): void {
  const onClick = (id: string, act: (item: HistoryItem) => void): void =>
    element(id, HTMLButtonElement).addEventListener('click', () => {
      const item = shown();
      if (item !== undefined) act(item);
    });
  onClick('again', ({ request }) => generate({ ...request, seed: randomSeed() }));
  onClick('vary', ({ request }) => generate({ ...request, variation_seed: randomSeed(), variation_strength: VARIATION_STRENGTH }));
  onClick('larger', (item) => {
    const hires_scale = largerScale(item, limits());
    // Steps of two sizes are no recording.
    if (hires_scale !== undefined) generate({ ...item.request, hires_scale, record: false });
  });
  onClick('use-as-start', (item) => useInitImage(fileOf(item)));
  onClick('edit-part', (item) => {
    selectInitImage(fileOf(item));
    openPanel('editor');
  });
  onClick('favour', favour);
  onClick('compare-input', (item) => {
    const wasCompared = compared?.item === item;
    endComparison();
    if (!wasCompared) compare(item).catch(onFailed);
    compareButton.setAttribute('aria-pressed', String(compared !== undefined));
  });
}

/** Offers what can be done with this image; `isFavourite` is undefined for one that is not in the gallery. */
export function renderImageActions(item: HistoryItem | undefined, isFavourite: boolean | undefined, limits: Limits | undefined): void {
  largerButton.hidden = item === undefined || largerScale(item, limits) === undefined;
  if (compared !== undefined && compared.item !== item) endComparison();
  favourButton.hidden = isFavourite === undefined;
  favourButton.setAttribute('aria-pressed', String(isFavourite === true));
  compareButton.hidden = item?.request.image === undefined;
  compareButton.setAttribute('aria-pressed', String(compared !== undefined));
}

/** Returns the scale of a second pass that makes the image larger; `undefined` where the model generates no larger one. */
function largerScale({ image, request }: HistoryItem, limits: Limits | undefined): number | undefined {
  if (limits === undefined) return undefined;
  const before = request.hires_scale ?? 1;
  const side = Math.max(image.width, image.height) / before;
  const scale = Math.floor(Math.min(before * LARGER_SCALE, HIRES_SCALE_MAX, limits.size_max / side) * 100) / 100;
  return scale > before ? scale : undefined;
}

async function compare(item: HistoryItem): Promise<void> {
  const { image, request } = item;
  if (request.image === undefined) return;
  const started = { item, remove: () => {} };
  compared = started;
  const { showBeforeAfter } = await loadPart('comparison', () => import('./editor/before-after')).catch((thrown: unknown) => {
    endComparison();
    throw thrown;
  });
  // Another image is shown meanwhile.
  if (compared === started) started.remove = showBeforeAfter(image, request.image);
}

function endComparison(): void {
  compared?.remove();
  compared = undefined;
}

function fileOf({ image: { png, seed }, prompt }: HistoryItem): File {
  const blob = pngBlob(png);
  return new File([blob], `${fileStem({ prompt, seed })}.png`, { type: blob.type });
}
