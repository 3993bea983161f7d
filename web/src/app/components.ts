//! The list of components that are in other places than the open model, and the ways to name one: address, file, drop.
import { classifyFile, classifyFolder } from '../checkpoints/classify';
import { fileContentId } from '../checkpoints/identity';
import { COMPONENTS, type Component, FILE_PREFIX, nameOfPlace } from '../checkpoints/place';
import type { ComponentPlaces } from '../engine/protocol.gen';
import { element } from './dom';
import { t } from './i18n';
import type { ModelComponents, ModelPlace } from './model-place';
import { type ModelSource, withIdentity } from './stored-models';

/** A dropped or chosen component or LoRA. */
export interface Classified {
  component: Component | 'lora';
  place: ModelPlace;
}

const list = element('component-list', HTMLElement);
const kind = element('component-kind', HTMLSelectElement);
const url = element('component-url', HTMLInputElement);

/** Calls `onAdd` with the component and the address that the user adds. */
export function startComponents(onAdd: (component: Component, address: string) => void): void {
  element('add-component', HTMLButtonElement).addEventListener('click', () => {
    const component = COMPONENTS.find((known) => known === kind.value);
    if (component === undefined || url.value.trim() === '') return;
    onAdd(component, url.value);
    url.value = '';
  });
}

/** Shows the components; calls `onRemove` to return to the model's own. */
export function renderComponents(components: ModelComponents, onRemove: (component: Component) => void): void {
  const items = COMPONENTS.flatMap((component) => {
    const place = components[component];
    if (place === undefined) return [];
    const item = document.createElement('li');
    item.append(`${t(`component_${component}`)}: ${nameOfPlace(place.place)} `);
    item.title = place.place;
    const remove = Object.assign(document.createElement('button'), { type: 'button', textContent: t('remove') });
    remove.addEventListener('click', () => onRemove(component));
    item.append(remove);
    return [item];
  });
  list.replaceChildren(...items);
}

/** Returns what a file of weights is, under a name that holds the identity of its contents; `undefined` for any other file. */
export async function classifiedFile(file: File): Promise<Classified | undefined> {
  const component = await classifyFile(file);
  if (component === undefined) return undefined;
  return { component, place: { place: `${FILE_PREFIX}${file.name}#${await fileContentId(file)}`, files: new Map([[file.name, file]]) } };
}

/** Returns what a folder without a whole model is. */
export async function classifiedFolder(source: ModelSource): Promise<Classified | undefined> {
  const component = await classifyFolder(source.files ?? new Map());
  if (component === undefined) return undefined;
  const { checkpoint: place, files = new Map() } = await withIdentity(source);
  return { component, place: { place, files } };
}

/** Returns the places of components, and the local files among them. */
export function placesOf(components: ModelComponents): { components: ComponentPlaces; local: Map<string, ReadonlyMap<string, File>> } {
  const places: ComponentPlaces = {};
  const local = new Map<string, ReadonlyMap<string, File>>();
  for (const component of COMPONENTS) {
    const found = components[component];
    if (found === undefined) continue;
    places[component] = found.place;
    if (found.files !== undefined) local.set(found.place, found.files);
  }
  return { components: places, local };
}
