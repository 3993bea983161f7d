//! The buttons near the image: what can be done with the image that is shown.
import type { ImageResult } from '../engine/protocol.gen';
import { pngBlob, slug } from '../gallery/files';
import { element } from './dom';
import { selectInitImage } from './form';

export interface ImageActions {
  /** Returns the image that is shown, and its prompt. */
  image(): ImageResult | undefined;
  prompt(): string;
  /** Generates it again with a new seed. */
  again(): void;
}

/** Connects the buttons. */
export function startImageActions({ image, prompt, again }: ImageActions): void {
  const useAsStart = (): boolean => {
    const shown = image();
    if (shown === undefined) return false;
    const blob = pngBlob(shown.png);
    selectInitImage(new File([blob], `${slug(prompt())}-${shown.seed}.png`, { type: blob.type }));
    return true;
  };
  element('again', HTMLButtonElement).addEventListener('click', again);
  element('use-as-start', HTMLButtonElement).addEventListener('click', useAsStart);
  element('edit-part', HTMLButtonElement).addEventListener('click', () => {
    if (!useAsStart()) return;
    // The editor appears once the image is decoded.
    const editor = element('mask-editor', HTMLElement);
    const shown = new MutationObserver(() => {
      shown.disconnect();
      editor.scrollIntoView({ block: 'nearest' });
    });
    shown.observe(editor, { attributeFilter: ['hidden'] });
    editor.scrollIntoView({ block: 'nearest' });
  });
}
