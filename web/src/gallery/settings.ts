//! The settings of an image as names and values, and what differs between images.
import type { ImageMetadata } from './image-metadata';

/** Settings by name, in words. */
export type Settings = ReadonlyMap<string, string>;

/** Returns the settings of an image file, in the order of a request. */
export function settingsOf(metadata: ImageMetadata | undefined): Settings {
  if (metadata === undefined) return new Map();
  const { request, model, model_hash, weight_format, loras = [], components = [], software } = metadata;
  const rows: [string, unknown][] = [
    ...Object.entries(request),
    ['model', model],
    ['model_hash', model_hash],
    ['weight_format', weight_format],
    ['loras', loras.map(({ name, scale }) => `${name}: ${scale}`).join(', ')],
    ['components', components.join(', ')],
    ['software', software],
  ];
  return new Map(
    rows.filter(([, value]) => value !== undefined && value !== null && value !== '').map(([name, value]) => [name, textOf(value)]),
  );
}

/** Returns the names of the settings that are not the same in all of these. */
export function differing(all: readonly Settings[]): string[] {
  const names = new Set(all.flatMap((settings) => [...settings.keys()]));
  return [...names].filter((name) => new Set(all.map((settings) => settings.get(name))).size > 1);
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}
