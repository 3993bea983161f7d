//! Fills in the form from an image's metadata, and names what the form cannot restore.
import { nameOfPlace } from '../checkpoints/place';
import type { Checkpoint, StoredCheckpoint } from '../engine/protocol.gen';
import type { ImageMetadata } from '../gallery/image-metadata';
import { applyRequest } from './form';
import { t } from './i18n';
import { hasInitImage } from './input-image';
import { restoreLoras } from './lora-list';
import type { ModelComponents } from './model-place';

export { readInfotext } from '../gallery/infotext';
export { readMetadata } from '../gallery/metadata';
export { settingsOfFragment } from '../gallery/share-link';
export { modelOfImage } from './models/named-model';

export interface Restored {
  /** Sentences about the result: what the file does not hold, and what has no field. */
  text: string;
  /** The image is of another model than the open one. */
  isOfOtherModel: boolean;
}

/** Fills in the form, and sets the LoRAs; `stored` ones are added, and `open` are the components in use. */
export function restore(
  metadata: ImageMetadata,
  name: string,
  checkpoint: Checkpoint | undefined,
  stored: readonly StoredCheckpoint[],
  open: ModelComponents,
): Restored {
  const { software, files, loras = [], components = [], ignored, model, model_hash, weight_format } = metadata;
  const isOwn = software === 'pixart-web';
  const { request, outside } = isOwn ? { request: metadata.request, outside: [] } : withinLimits(metadata.request, checkpoint);
  applyRequest(request, files, !isOwn);

  const sentences = [software === '' || isOwn ? t('restored', { name }) : t('restoredFrom', { name, software })];
  if (files.includes('image') && !hasInitImage()) sentences.push(t('needsInitImage'));
  if (files.includes('mask_image')) sentences.push(t('needsMask'));
  if (files.includes('latents')) sentences.push(t('needsLatents'));
  if (files.includes('text_encoder')) sentences.push(t('needsEmbeddings'));
  if (metadata.ambiguous) sentences.push(t('ambiguousImage', { images: request.num_images_per_prompt ?? 1 }));
  const used = Object.entries(open).map(([component, { place }]) => `${component} ${nameOfPlace(place)}`);
  const missing = [...restoreLoras(loras, stored).map((lora) => `LoRA ${lora}`), ...components.filter((named) => !used.includes(named))];
  if (missing.length > 0) sentences.push(t('withoutMerged', { merged: missing.join(', ') }));
  const others = [...outside, ...ignored];
  if (others.length > 0) sentences.push(t('ignoredSettings', { settings: others.join(', ') }));
  let isOfOtherModel = false;
  if (checkpoint !== undefined) {
    // Names of one model differ between a folder and a packed copy of it; hashes do not.
    const [theirs, ours] = isOwn && model_hash && checkpoint.model_hash ? [model_hash, checkpoint.model_hash] : [model, checkpoint.model];
    isOfOtherModel = Boolean(theirs && ours && theirs !== ours);
    if (isOfOtherModel) sentences.push(t('otherModel', { theirs: model || theirs || '', ours: checkpoint.model || ours || '' }));
    else if (weight_format !== undefined && weight_format !== checkpoint.weight_format)
      sentences.push(t('otherWeights', { theirs: weight_format, ours: checkpoint.weight_format }));
  }
  return { text: sentences.join(' '), isOfOtherModel };
}

/** Leaves out a size that the open model does not support: other tools' files are of other models. */
function withinLimits(request: ImageMetadata['request'], checkpoint: Checkpoint | undefined) {
  const { width, height, ...rest } = request;
  if (width === undefined || height === undefined || checkpoint === undefined) return { request, outside: [] };
  const { size_min, size_max, size_multiple, binned, native_size } = checkpoint.limits;
  const fits = [width, height].every((side) => side >= size_min && side <= size_max && (binned || side % size_multiple === 0));
  if (fits) return { request, outside: [] };
  return { request: { ...rest, width: native_size, height: native_size }, outside: [`size: ${width}x${height}`] };
}
