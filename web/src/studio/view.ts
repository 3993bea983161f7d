//! The elements in the shadow root of `<pixart-studio>`.
import type { PreviewImage } from '../engine/index';
import { adoptStyles } from './styles';
import type { StudioTexts } from './texts';

/** The fields that have an element. */
const NUMBERS = ['seed', 'num_inference_steps', 'guidance_scale', 'width', 'height'] as const;
export type Input = 'prompt' | 'negative_prompt' | (typeof NUMBERS)[number];

export interface StudioView {
  form: HTMLFormElement;
  inputs: Record<Input, HTMLInputElement | HTMLTextAreaElement>;
  generate: HTMLButtonElement;
  cancel: HTMLButtonElement;
  consent: HTMLElement;
  consentText: HTMLElement;
  accept: HTMLButtonElement;
  decline: HTMLButtonElement;
  progress: HTMLProgressElement;
  status: HTMLElement;
  alert: HTMLElement;
  image: HTMLImageElement;
  preview: HTMLCanvasElement;
}

function create<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Record<string, unknown>,
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const { part, role, label, ...others } = properties;
  const element = Object.assign(document.createElement(tag), others);
  if (part !== undefined) element.setAttribute('part', String(part));
  if (role !== undefined) element.setAttribute('role', String(role));
  if (label !== undefined) element.setAttribute('aria-label', String(label));
  element.append(...children);
  return element;
}

/** Fills the shadow root, with the texts of one language. */
export function createView(root: ShadowRoot, texts: StudioTexts): StudioView {
  adoptStyles(root);
  const number = (name: (typeof NUMBERS)[number]): HTMLInputElement =>
    create('input', { type: 'number', name, step: name === 'guidance_scale' ? '0.1' : '1', min: '0', part: 'field' });
  const area = (name: Input, part: string): HTMLTextAreaElement => create('textarea', { name, rows: 2, part });
  const inputs = {
    prompt: area('prompt', 'prompt'),
    negative_prompt: area('negative_prompt', 'field'),
    ...(Object.fromEntries(NUMBERS.map((name) => [name, number(name)])) as Record<(typeof NUMBERS)[number], HTMLInputElement>),
  };
  const labelled = (name: Input, className = ''): HTMLLabelElement => create('label', { className }, texts[name], inputs[name]);
  const generate = create('button', { type: 'submit', part: 'generate' }, texts.generate);
  const cancel = create('button', { type: 'button', hidden: true, part: 'cancel' }, texts.cancel);
  const accept = create('button', { type: 'button' }, texts.download);
  const decline = create('button', { type: 'button' }, texts.decline);
  const consentText = create('span', {});
  const consent = create('div', { className: 'row', role: 'group', hidden: true }, consentText, accept, decline);
  const status = create('p', { role: 'status', part: 'status' });
  const progress = create('progress', { max: 1, value: 0, hidden: true, label: texts.loading });
  const alert = create('p', { role: 'alert', hidden: true, part: 'fault' });
  const image = create('img', { alt: '', hidden: true, part: 'image' });
  const preview = create('canvas', { hidden: true });
  preview.setAttribute('aria-hidden', 'true');
  const form = create(
    'form',
    { noValidate: true, part: 'form' },
    create('div', { className: 'frame', part: 'frame' }, image, preview),
    labelled('prompt'),
    create(
      'details',
      { part: 'settings' },
      create('summary', {}, texts.settings),
      create('div', { className: 'fields' }, labelled('negative_prompt', 'wide'), ...NUMBERS.map((name) => labelled(name))),
    ),
    consent,
    create('div', { className: 'row' }, generate, cancel, progress),
    status,
    alert,
  );
  root.replaceChildren(form);
  return { form, inputs, generate, cancel, consent, consentText, accept, decline, progress, status, alert, image, preview };
}

/** Shows what the image is like after a step. */
export function renderPreview(canvas: HTMLCanvasElement, { width, height, rgb }: PreviewImage): void {
  Object.assign(canvas, { width, height, hidden: false });
  const pixels = new ImageData(width, height);
  for (let at = 0; at < width * height; at += 1) {
    pixels.data.set(rgb.subarray(3 * at, 3 * at + 3), 4 * at);
    pixels.data[4 * at + 3] = 255;
  }
  canvas.getContext('2d')?.putImageData(pixels, 0, 0);
}
