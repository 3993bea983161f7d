//! The list of published models, from the catalogue in the tree: what each costs to download, the memory that an image takes, and its licence.
//! Opening one composes its components from their repositories; the consent before the download shows storage and time on this device.
import catalogue from '../../../crates/weights/catalogue.json';
import { componentUrl } from '../checkpoints/address';
import { COMPONENTS, type Component } from '../checkpoints/place';
import type { Catalogue, CatalogueComponent, CatalogueModel } from '../engine/protocol.gen';
import { element } from './dom';
import { formatBytes } from './format';
import { t } from './i18n';
import type { ModelPlace } from './model-place';
import type { ModelSource } from './stored-models';

const { models, text_encoders } = catalogue as Catalogue;
const list = element('catalogue-list', HTMLElement);
const encoder = element('catalogue-encoder', HTMLSelectElement);
/** The text encoder that is offered first: the smallest whose numbers the device keeps. */
const DEFAULT_ENCODER = 't5-xxl-q4_k_m';

/** Shows the list; calls `onOpen` with the model that the user opens. `hub` is the model hub. */
export function startCatalogue(hub: string, onOpen: (source: ModelSource) => void): void {
  encoder.replaceChildren(
    ...text_encoders.map(({ name, title, component }) => new Option(`${title}, ${formatBytes(bytesOf(component))}`, name)),
    new Option('', ''),
  );
  encoder.value = DEFAULT_ENCODER;
  encoder.addEventListener('change', () => renderCatalogue(hub, onOpen));
  renderCatalogue(hub, onOpen);
}

/** Shows the list with the selected text encoder, in the current language. */
export function renderCatalogue(hub: string, onOpen: (source: ModelSource) => void): void {
  const [own] = [...encoder.options].slice(-1);
  if (own !== undefined) own.textContent = t('ownTextEncoder');
  const chosen = text_encoders.find(({ name }) => name === encoder.value)?.component;
  // Variants of a model's own text encoder are not chosen by their name.
  const offered = models.filter((model) => (chosen !== undefined || model.variant === null) && isReadable(model));
  const items = offered.map((model) => {
    const components = { ...model.components, ...(chosen && { text_encoder: chosen }) };
    const bytes = COMPONENTS.reduce((sum, component) => sum + bytesOf(components[component]), 0);
    const item = document.createElement('li');
    item.append(
      `${model.title} · ${t('catalogueEntry', { size: formatBytes(bytes), memory: formatBytes(model.memory_bytes), license: model.license })} `,
    );
    const open = Object.assign(document.createElement('button'), { type: 'button', textContent: t('open') });
    open.setAttribute('aria-label', `${t('open')} ${model.title}`);
    open.addEventListener('click', () => onOpen(sourceOf(model, components, hub)));
    item.append(open);
    return item;
  });
  list.replaceChildren(...items);
}

/** Returns the model with the places of those components that are not in its base repository. */
function sourceOf({ base, preset }: CatalogueModel, components: CatalogueModel['components'], hub: string): ModelSource {
  const places = COMPONENTS.flatMap((component): [Component, ModelPlace][] => {
    const { repository, revision, files } = components[component];
    const [first] = files;
    const address = `${repository}@${revision}`;
    // A file that stands alone has no folder; a variant is a file of its own beside the usual one.
    const stands_alone = first !== undefined && files.length === 1 && !first.path.includes('/');
    const variant = files.find(({ path }) => /^vae\/.*\.fp16\.safetensors$/.test(path));
    if (stands_alone) return [[component, { place: componentUrl(`${address}/${first.path}`, hub, document.baseURI) }]];
    if (variant !== undefined) return [[component, { place: componentUrl(`${address}/${variant.path}`, hub, document.baseURI) }]];
    // A text encoder that was chosen for another model is replaced.
    return address === base && component !== 'text_encoder' ? [] : [[component, { place: componentUrl(address, hub, document.baseURI) }]];
  });
  return { checkpoint: componentUrl(base, hub, document.baseURI), components: Object.fromEntries(places), preset };
}

/** Returns whether a tab can read the transformer, which is not a file of pickled tensors. */
function isReadable({ components }: CatalogueModel): boolean {
  return components.transformer.files.some(({ path }) => path.endsWith('.safetensors'));
}

function bytesOf({ files }: CatalogueComponent): number {
  return files.reduce((sum, { bytes }) => sum + bytes, 0);
}
