//! The published models, from the catalogue in the tree: what each costs to download, the memory and the work that an image takes, and its
//! licence. Opening one composes its components from their repositories; the consent before the download shows storage and time.
import catalogue from '../../../../crates/weights/catalogue.json';
import { componentUrl } from '../../checkpoints/address';
import { COMPONENTS, type Component } from '../../checkpoints/place';
import type { Catalogue, CatalogueComponent, CatalogueModel } from '../../engine/protocol.gen';
import type { ModelPlace } from '../model-place';
import type { ModelSource } from '../stored-models';

const { models, text_encoders } = catalogue as Catalogue;
/** The text encoder that is offered first: the smallest whose numbers the device keeps. */
export const DEFAULT_ENCODER = 't5-xxl-q4_k_m';

/** A published model with the text encoder that is selected. */
export interface Offer {
  model: CatalogueModel;
  source: ModelSource;
  download_bytes: number;
}

export interface OfferedEncoder {
  name: string;
  title: string;
  bytes: number;
}

export function offeredEncoders(): OfferedEncoder[] {
  return text_encoders.map(({ name, title, component }) => ({ name, title, bytes: bytesOf(component) }));
}

/** Returns the models that a tab can read, with the text encoder of this name; with the model's own where none has it. */
export function offers(encoder: string, hub: string): Offer[] {
  const chosen = text_encoders.find(({ name }) => name === encoder)?.component;
  // Variants of a model's own text encoder are not chosen by their name.
  const offered = models.filter((model) => (chosen !== undefined || model.variant === null) && isReadable(model));
  return offered.map((model) => {
    const components = { ...model.components, ...(chosen && { text_encoder: chosen }) };
    const download_bytes = COMPONENTS.reduce((sum, component) => sum + bytesOf(components[component]), 0);
    return { model, source: sourceOf(model, components, hub), download_bytes };
  });
}

/** Returns the model with the places of those components that are not in its base repository. */
function sourceOf({ base, preset, macs, size }: CatalogueModel, components: CatalogueModel['components'], hub: string): ModelSource {
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
  return {
    checkpoint: componentUrl(base, hub, document.baseURI),
    components: Object.fromEntries(places),
    preset,
    work: { macs, size },
  };
}

/** Returns whether a tab can read the transformer, which is not a file of pickled tensors. */
function isReadable({ components }: CatalogueModel): boolean {
  return components.transformer.files.some(({ path }) => path.endsWith('.safetensors'));
}

function bytesOf({ files }: CatalogueComponent): number {
  return files.reduce((sum, { bytes }) => sum + bytes, 0);
}
