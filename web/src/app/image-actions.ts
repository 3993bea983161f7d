//! The buttons near the image: what can be done with the image that is shown.
import type { ImageRequest } from '../engine/client';
import { fileStem, pngBlob } from '../gallery/files';
import { element } from './dom';
import { randomSeed, selectInitImage } from './form';
import type { HistoryItem } from './history';

/** How far "Vary a little" turns the initial noise towards another seed's. */
const VARIATION_STRENGTH = 0.2;

export interface ImageActions {
  /** Returns the image that is shown. */
  shown(): HistoryItem | undefined;
  generate(request: ImageRequest): void;
}

/** Connects the buttons. */
export function startImageActions({ shown, generate }: ImageActions): void {
  const onClick = (id: string, act: (item: HistoryItem) => void): void =>
    element(id, HTMLButtonElement).addEventListener('click', () => {
      const item = shown();
      if (item !== undefined) act(item);
    });
  onClick('again', ({ request }) => generate({ ...request, seed: randomSeed() }));
  onClick('vary', ({ request }) => generate({ ...request, variation_seed: randomSeed(), variation_strength: VARIATION_STRENGTH }));
  onClick('use-as-start', useAsStart);
  onClick('edit-part', (item) => {
    useAsStart(item);
    // The editor appears once the image is decoded.
    const editor = element('mask-editor', HTMLElement);
    const appeared = new MutationObserver(() => {
      if (editor.hidden) return;
      appeared.disconnect();
      editor.scrollIntoView({ block: 'nearest' });
    });
    appeared.observe(editor, { attributeFilter: ['hidden'] });
    editor.scrollIntoView({ block: 'nearest' });
  });
}

function useAsStart({ image: { png, seed }, prompt }: HistoryItem): void {
  const blob = pngBlob(png);
  selectInitImage(new File([blob], `${fileStem({ prompt, seed })}.png`, { type: blob.type }));
}
