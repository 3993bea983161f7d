//! Places of components: URLs of folders and files, and names of local files. Pure.
import type { ComponentPlaces } from '../engine/protocol.gen';

export type Component = keyof ComponentPlaces;

/** All components of a checkpoint. */
export const COMPONENTS = ['transformer', 'vae', 'text_encoder', 'tokenizer', 'scheduler'] as const satisfies readonly Component[];

/** Local files of the user, by the name of their place. */
export type LocalPlaces = ReadonlyMap<string, ReadonlyMap<string, File>>;

/** The prefixes of the names given to local folders, which end in `/`, and to single local files. */
export const FOLDER_PREFIX = 'folder:';
export const FILE_PREFIX = 'file:';

export function isLocalFile(place: string): boolean {
  return place.startsWith(FILE_PREFIX);
}

/** Returns a short name of a place, for the metadata of images: of a file, of a repository, or of a folder. */
export function nameOfPlace(place: string): string {
  const name = place.replace(/^(file|folder):|#[0-9a-f]*\/?$|\?.*$/g, '');
  const repository = /\/([^/]+\/[^/]+)\/resolve\/[^/]+\/$/.exec(name)?.[1];
  const last = repository ?? name.replace(/\/$/, '').split('/').at(-1) ?? name;
  try {
    return decodeURIComponent(last);
  } catch {
    return last;
  }
}
