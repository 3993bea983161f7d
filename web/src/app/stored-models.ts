//! Models by what they are opened from: URL, model hub repository, local folder; and the storage that is left for them.

import { contentIdOf } from '../checkpoints/identity';
import { COMPONENTS, type Component, FOLDER_PREFIX } from '../checkpoints/place';
import { withoutSignature } from '../checkpoints/source';
import type { LoadProgress, StoredCheckpoint } from '../engine/protocol.gen';
import { formatBytes } from './format';
import { t } from './i18n';
import type { ModelComponents } from './model-place';

/** A checkpoint to open: its URL, or a name for the user's `files`. */
export interface ModelSource {
  checkpoint: string;
  files?: ReadonlyMap<string, File>;
  /** Components in other places. */
  components?: ModelComponents;
  /** The preset to begin with, where the model's files do not tell it. */
  preset?: string;
  /** The cost of an image of a published model. */
  work?: ModelWork;
}

/** Multiply-accumulates of an image of `size` pixels a side. */
export interface ModelWork {
  macs: number;
  size: number;
}

/** Shows how much of the browser's storage is used and available, where the browser reports it. */
export async function renderStorageUsage(into: HTMLElement): Promise<void> {
  const { quota, usage = 0 } = (await navigator.storage?.estimate?.()) ?? {};
  into.textContent = quota === undefined ? '' : t('storageUsage', { used: formatBytes(usage), left: formatBytes(quota - usage) });
}

/** Returns whether two sources are one model. Their text encoders may differ: they are stored apart. */
export function isSameModel(left: ModelSource, right: ModelSource): boolean {
  const isSamePlace = (component: Component): boolean => left.components?.[component]?.place === right.components?.[component]?.place;
  const own = COMPONENTS.filter((component) => component !== 'text_encoder' && component !== 'tokenizer');
  return withoutSignature(left.checkpoint) === withoutSignature(right.checkpoint) && own.every(isSamePlace);
}

/** Returns whether what is loaded comes over the network: a folder of safetensors is converted while it is downloaded. */
export function isDownload({ files }: ModelSource, loading: LoadProgress | undefined): loading is LoadProgress {
  return loading?.stage === 'fetch' || (loading?.stage === 'convert' && files === undefined);
}

/** Returns the model that a stored entry opens. */
export function sourceOfStored({ checkpoint, composition }: StoredCheckpoint): ModelSource {
  const components = Object.entries(composition?.components ?? {}).map(([component, place]) => [component, { place }]);
  return { checkpoint: composition?.checkpoint ?? checkpoint, components: Object.fromEntries(components) as ModelComponents };
}

/** Returns the folder selected in a directory picker. */
export function pickedFolder(files: FileList | null): ModelSource | undefined {
  return folderOf([...(files ?? [])].map((file) => [file.webkitRelativePath, file]));
}

/** Returns the name that the user knows a local folder by. */
export function folderName({ checkpoint }: ModelSource): string {
  return checkpoint.replace(/^folder:|\/$/g, '');
}

/** Returns whether a folder looks like a checkpoint: packed, or with the network that every checkpoint has. */
export function isCheckpoint({ files }: ModelSource): boolean {
  return files?.has('manifest.json') === true || files?.has('transformer/config.json') === true;
}

/** Returns the folder dropped on the page; `undefined` where something else, or more than one thing, was dropped. */
export async function droppedFolder(transfer: DataTransfer | null): Promise<ModelSource | undefined> {
  // Some items, of a drag that holds text too, are no entries.
  const entries = [...(transfer?.items ?? [])].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  if (entries.length !== 1 || entries[0]?.isDirectory !== true) return undefined;
  const found: [string, File][] = [];
  const walk = async (entry: FileSystemEntry): Promise<void> => {
    if (entry.isFile) {
      const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
      found.push([entry.fullPath.slice(1), file]);
      return;
    }
    const reader = (entry as FileSystemDirectoryEntry).createReader();
    for (;;) {
      const batch = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
      if (batch.length === 0) return;
      await Promise.all(batch.map(walk));
    }
  };
  await Promise.all(entries.map(walk));
  return found.length === 0 ? { checkpoint: `${FOLDER_PREFIX}${entries[0].name}/`, files: new Map() } : folderOf(found);
}

/** Returns local files under a name that holds the identity of their contents: other folders have the same name. */
export async function withIdentity({ checkpoint, files = new Map() }: ModelSource): Promise<ModelSource> {
  const name = checkpoint.replace(/(#[0-9a-f]*)?\/$/, '');
  return { checkpoint: `${name}#${await contentIdOf(files)}/`, files };
}

/** Returns the files by their path inside the folder, whose name is the first part of each path; or inside the only checkpoint
    somewhere in it. */
function folderOf(paths: [string, File][]): ModelSource | undefined {
  const [first] = paths;
  if (first === undefined) return undefined;
  const roots = paths.flatMap(([path]) => /^(.*\/)(?:transformer\/config|manifest)\.json$/.exec(path)?.[1] ?? []);
  const selected = `${first[0].split('/')[0]}/`;
  const [only = selected, another] = new Set(roots);
  const root = another === undefined ? only : selected;
  const files = paths.filter(([path]) => path.startsWith(root)).map(([path, file]): [string, File] => [path.slice(root.length), file]);
  return { checkpoint: `${FOLDER_PREFIX}${root.split('/').at(-2)}/`, files: new Map(files) };
}
