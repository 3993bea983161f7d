//! A slider over the image on the canvas: what it was made from, at the left of the divider.
import './before-after.css';
import type { ImageResult } from '../../engine/protocol.gen';
import { pngBlob } from '../../gallery/files';
import { element } from '../dom';
import { t } from '../i18n';

/** Shows the slider; returns what removes it. */
export function showBeforeAfter({ width, height }: ImageResult, before: Uint8Array): () => void {
  const frame = element('image-frame', HTMLElement);
  const url = URL.createObjectURL(pngBlob(before));
  const image = Object.assign(new Image(), { src: url, alt: t('initImage'), draggable: false });
  const slider = Object.assign(document.createElement('input'), { type: 'range', min: '0', max: '100', value: '50' });
  slider.setAttribute('aria-label', t('beforeAfterSlider'));
  const overlay = Object.assign(document.createElement('div'), { id: 'before-after' });
  overlay.style.setProperty('--ratio', String(width / height));
  const show = (): void => overlay.style.setProperty('--share', `${slider.value}%`);
  const follow = ({ clientX, target }: PointerEvent): void => {
    if (target === slider) return;
    const { left, width } = overlay.getBoundingClientRect();
    slider.valueAsNumber = (100 * (clientX - left)) / width;
    show();
  };
  slider.addEventListener('input', show);
  overlay.addEventListener('pointerdown', (event) => {
    if (event.target !== slider) overlay.setPointerCapture(event.pointerId);
    follow(event);
  });
  overlay.addEventListener('pointermove', (event) => overlay.hasPointerCapture(event.pointerId) && follow(event));
  const divider = Object.assign(document.createElement('span'), { className: 'divider' });
  overlay.append(image, divider, slider);
  show();
  frame.append(overlay);
  slider.focus();
  return () => {
    overlay.remove();
    URL.revokeObjectURL(url);
  };
}
