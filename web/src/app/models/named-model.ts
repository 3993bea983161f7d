//! The model that made an image, found by the names in the image's metadata: stored, published, or the page's own.
import { checkpointUrl } from '../../checkpoints/address';
import { COMPONENTS, FILE_PREFIX, FOLDER_PREFIX, nameOfPlace } from '../../checkpoints/place';
import type { StoredCheckpoint } from '../../engine/protocol.gen';
import type { ImageMetadata } from '../../gallery/image-metadata';
import { type ModelSource, sourceOfStored } from '../stored-models';
import { DEFAULT_ENCODER, offeredEncoders, offers } from './catalogue';

/** Returns the model of an image, with the text encoder that it names where there is one; `undefined` where no address of the model is known.
    Local folders are not opened by their name. */
export function modelOfImage(
  { model, components = [] }: ImageMetadata,
  stored: readonly StoredCheckpoint[],
  hub: string,
): ModelSource | undefined {
  if (!model) return undefined;
  const encoders = [DEFAULT_ENCODER, ...offeredEncoders().map(({ name }) => name)];
  const known: ModelSource[] = [
    ...stored.filter(({ kind }) => kind === 'model').map(sourceOfStored),
    ...encoders.flatMap((encoder) => offers(encoder, hub)).map(({ source }) => source),
    { checkpoint: checkpointUrl('models/scenes/', hub, document.baseURI) },
  ];
  const wanted = ofOneModel(components);
  const named = known.filter(
    (source) => !isLocal(source) && nameOf(source.checkpoint) === model && ofOneModel(componentsOf(source)) === wanted,
  );
  const encoder = components.find(isTextEncoder);
  return named.find((source) => encoder !== undefined && componentsOf(source).includes(encoder)) ?? named[0];
}

/** Returns the name of a checkpoint in the metadata of its images. */
function nameOf(checkpoint: string): string | undefined {
  return nameOfPlace(checkpoint).split('/').at(-1);
}

/** Returns the components that are in other places, in words. */
function componentsOf({ components = {} }: ModelSource): string[] {
  return COMPONENTS.flatMap((component) => {
    const place = components[component]?.place;
    return place === undefined ? [] : [`${component} ${nameOfPlace(place)}`];
  });
}

/** Returns those components that belong to one model: text encoders and tokenizers serve every model. */
function ofOneModel(components: readonly string[]): string {
  return components
    .filter((component) => !isTextEncoder(component) && !component.startsWith('tokenizer '))
    .sort()
    .join();
}

function isTextEncoder(component: string): boolean {
  return component.startsWith('text_encoder ');
}

function isLocal({ checkpoint, components = {} }: ModelSource): boolean {
  const places = [checkpoint, ...Object.values(components).map(({ place }) => place)];
  return places.some((place) => place.startsWith(FOLDER_PREFIX) || place.startsWith(FILE_PREFIX));
}
