//! The settings in an image file's metadata: those of this project, which `crates/model` writes (`image/metadata.rs`), and those of
//! other tools as far as a request has fields for them. Values are not checked here: the form and the engine do that.
import { isRecord } from '../engine/fault';
import { currentNames } from '../engine/former-names';
import type { GenerateRequest } from '../engine/protocol.gen';
import { readComfyUi } from './comfyui';
import { readTexts, storedSize } from './image-file';
import type { ImageMetadata } from './image-metadata';
import { fieldsOf, readInfotext } from './infotext';
import { hasSizeSuffix } from './size-suffix';

const OWN_KEYWORD = 'pixart';
const OWN_SOFTWARE = 'pixart-web';

/** Returns the settings in an image file; `undefined` where it holds none. The size is that of the image where no other is named. */
export async function readMetadata(file: Uint8Array): Promise<ImageMetadata | undefined> {
  const { texts } = await readTexts(file);
  const found = ownMetadata(texts.get(OWN_KEYWORD)) ?? foreignMetadata(texts);
  if (found === undefined) return undefined;
  const { width, height, hires_scale } = found.request;
  // A second pass changed the size.
  const size =
    hires_scale === undefined && width === undefined && height === undefined && !hasSizeSuffix(found.request.prompt ?? '')
      ? storedSize(file)
      : {};
  return { ...found, request: { ...found.request, ...size } };
}

/** Reads the JSON that this project writes into its files; `undefined` for any other text. */
export function ownMetadata(text: string | undefined): ImageMetadata | undefined {
  const json = parseJson(text);
  if (!isRecord(json) || !isRecord(json.request)) return undefined;
  const named = currentNames<Partial<GenerateRequest>>(json.request);
  const { seeds, image_index, num_images_per_prompt: count = 1, ...request } = named;
  const by = isRecord(json.generated_by) ? json.generated_by : isRecord(json.signature) ? json.signature : {};
  const textAt = (key: string): string | undefined => (typeof by[key] === 'string' ? by[key] : undefined);
  const loras = Array.isArray(by.loras) ? by.loras.filter(isRecord) : [];
  const files = Array.isArray(by.files) ? by.files.map(String) : request.strength === undefined ? [] : ['image'];
  // Older files of several images name the image's own seed beside the list of all, or do not say which image they are.
  const shared = count > 1 && seeds === undefined;
  return {
    software: OWN_SOFTWARE,
    request: { ...request, ...(shared && { num_images_per_prompt: count, image_index: image_index ?? 0 }) },
    files,
    ignored: [],
    ambiguous: shared && image_index === undefined,
    model: textAt('model'),
    model_hash: textAt('model_hash'),
    weight_format: textAt('weight_format') ?? textAt('precision'),
    loras: loras.map(({ name, scale }) => ({ name: String(name), scale: Number(scale) })),
    components: ['transformer', 'vae', 'text_encoder'].flatMap((name) => (textAt(name) === undefined ? [] : [`${name} ${textAt(name)}`])),
  };
}

/** The keywords under which tools store their settings. */
function foreignMetadata(texts: ReadonlyMap<string, string>): ImageMetadata | undefined {
  const comfy = readComfyUi(texts.get('prompt') ?? taggedText(texts, 'prompt:'), texts.get('workflow') ?? taggedText(texts, 'workflow:'));
  if (comfy !== undefined) return comfy;
  for (const keyword of ['parameters', 'UserComment', 'Comment', 'ImageDescription', 'Description']) {
    const text = texts.get(keyword) ?? '';
    const json = parseJson(text);
    const read = isRecord(json) ? fieldsOf(json, softwareOf(keyword, json, texts), texts.get('Description')) : readInfotext(text);
    if (read !== undefined) return read;
  }
  for (const [keyword, software] of [
    ['invokeai_metadata', 'InvokeAI'],
    ['sd-metadata', 'InvokeAI'],
    ['generation_data', 'TensorArt'],
  ] as const) {
    const json = parseJson(texts.get(keyword));
    if (isRecord(json)) return fieldsOf(json, software, undefined);
  }
  // One keyword for each setting.
  return fieldsOf(Object.fromEntries(texts), texts.get('Software') ?? '', undefined);
}

function softwareOf(keyword: string, json: Record<string, unknown>, texts: ReadonlyMap<string, string>): string {
  if (isRecord(json.sui_image_params)) return 'SwarmUI';
  return texts.get('Software') ?? (keyword === 'parameters' ? 'Fooocus' : '');
}

/** ComfyUI writes its graphs into WebP files as EXIF tags that begin with their name. */
function taggedText(texts: ReadonlyMap<string, string>, prefix: string): string | undefined {
  return [...texts.values()].find((text) => text.startsWith(prefix))?.slice(prefix.length);
}

function parseJson(text: string | undefined): unknown {
  try {
    return JSON.parse(text ?? '');
  } catch {
    // Not JSON: another tool's format.
    return undefined;
  }
}
