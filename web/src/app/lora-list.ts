//! The list of LoRAs: each with a weight from 0 (off) to 2, and the ways to name one. The engine merges them before the next image.
import type { LocalPlaces } from '../checkpoints/place';
import { nameOfPlace } from '../checkpoints/place';
import type { LoraScale, LoraSource, StoredCheckpoint } from '../engine/protocol.gen';
import { element } from './dom';
import { formatNumber } from './format';
import { t } from './i18n';
import type { ModelPlace } from './model-place';

const SCALE_MAX = 2;
const SCALE_STEP = 0.05;

const details = element('loras', HTMLDetailsElement);
const list = element('lora-list', HTMLElement);
const url = element('lora-url', HTMLInputElement);

let loras: (LoraSource & Pick<ModelPlace, 'files'>)[] = [];

/** The LoRAs to generate with, and the local files among them. */
export interface SelectedLoras {
  loras: readonly LoraSource[];
  local: LocalPlaces;
}

/** Calls `onAdd` with the address that the user adds. */
export function startLoras(onAdd: (address: string) => void): void {
  element('add-lora', HTMLButtonElement).addEventListener('click', () => {
    if (url.value.trim() === '') return;
    onAdd(url.value);
    url.value = '';
  });
}

export function selectedLoras(): SelectedLoras {
  const local = new Map(loras.flatMap(({ source, files }) => (files === undefined ? [] : [[source, files] as const])));
  return { loras: loras.map(({ source, name, scale }) => ({ source, name, scale })), local };
}

/** Adds a LoRA with the weight 1; one of the same place is replaced. */
export function addLora({ place, files }: ModelPlace, scale = 1): void {
  const lora = { source: place, name: nameOfPlace(place), scale, ...(files && { files }) };
  loras = [...loras.filter(({ source }) => source !== place), lora];
  details.open = true;
  renderLoras();
}

export function removeLora(place: string): void {
  loras = loras.filter(({ source }) => source !== place);
  renderLoras();
}

export function clearLoras(): void {
  loras = [];
  renderLoras();
}

/** Sets the weights of an image: other LoRAs are off, and those that are stored are added. Returns the names of those that are neither. */
export function restoreLoras(wanted: readonly LoraScale[], stored: readonly StoredCheckpoint[]): string[] {
  const missing: string[] = [];
  loras = loras.map((lora) => ({ ...lora, scale: 0 }));
  for (const { name, scale } of wanted) {
    const isNamed = (other: string): boolean => stem(other) === stem(name);
    const known = loras.find((lora) => isNamed(lora.name));
    const kept = stored.find(({ kind, checkpoint, missing }) => kind === 'lora' && missing === 0 && isNamed(nameOfPlace(checkpoint)));
    if (known !== undefined) known.scale = scale;
    else if (kept !== undefined) addLora({ place: kept.checkpoint }, scale);
    else missing.push(`${name} (${scale})`);
  }
  renderLoras();
  return missing;
}

/** Returns a name without the end of the file's name, which other tools leave out. */
function stem(name: string): string {
  return name.replace(/\.safetensors$/i, '').toLowerCase();
}

/** Shows the list. */
export function renderLoras(): void {
  const items = loras.map((lora, index) => {
    const item = document.createElement('li');
    const id = `lora-scale-${index}`;
    const label = Object.assign(document.createElement('label'), { htmlFor: id, textContent: lora.name, title: lora.source });
    const slider = Object.assign(document.createElement('input'), {
      id,
      type: 'range',
      min: '0',
      max: String(SCALE_MAX),
      step: String(SCALE_STEP),
    });
    slider.valueAsNumber = lora.scale;
    const value = document.createElement('output');
    const show = (): void => {
      value.textContent = lora.scale === 0 ? t('loraOff') : formatNumber(lora.scale, 2);
    };
    slider.addEventListener('input', () => {
      lora.scale = slider.valueAsNumber;
      show();
    });
    const remove = Object.assign(document.createElement('button'), { type: 'button', textContent: t('remove') });
    remove.addEventListener('click', () => removeLora(lora.source));
    show();
    item.append(label, value, remove, slider);
    return item;
  });
  list.replaceChildren(...items);
}
