//! Links that hold a whole request: the JSON of an image file's metadata in the fragment, which no server receives.
import { isRecord } from '../engine/fault';
import type { ImageMetadata } from './image-metadata';
import { ownMetadata } from './metadata';

const NAME = 'request';

/** Returns `page` with the settings in its fragment. */
export function linkOf(metadata: ImageMetadata, page: string): string {
  const { request, files, software, model, model_hash, weight_format, loras = [], components = [] } = metadata;
  const named = components.map((component) => component.split(' ', 1)[0] ?? '');
  const places = Object.fromEntries(components.map((component, at) => [named[at], component.slice((named[at]?.length ?? 0) + 1)]));
  const generated_by = {
    software,
    model,
    model_hash,
    weight_format,
    ...(files.length > 0 && { files }),
    ...(loras.length > 0 && { loras }),
    ...places,
  };
  const url = new URL(page);
  url.hash = `${NAME}=${base64Url(new TextEncoder().encode(JSON.stringify({ request, generated_by })))}`;
  return url.href;
}

/** Returns the settings in a fragment; `undefined` for any other fragment, and `damaged` for one that cannot be read. */
export function settingsOfFragment(fragment: string): ImageMetadata | 'damaged' | undefined {
  const [name, text = ''] = fragment.replace(/^#/, '').split('=', 2);
  if (name !== NAME) return undefined;
  try {
    const bytes = Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (char) => char.charCodeAt(0));
    const json = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    const found = ownMetadata(json);
    if (typeof found?.request.prompt !== 'string') return 'damaged';
    const { generated_by }: { generated_by?: unknown } = JSON.parse(json);
    return isRecord(generated_by) && typeof generated_by.software === 'string' ? { ...found, software: generated_by.software } : found;
  } catch {
    return 'damaged';
  }
}

function base64Url(bytes: Uint8Array): string {
  const text = btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(''));
  return text.replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '');
}
