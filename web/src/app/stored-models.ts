//! The list of models stored in this browser, and the ways to name another one: URL, model hub repository, local folder.

import { contentIdOf } from '../checkpoints/identity';
import { FILE_PREFIX, FOLDER_PREFIX } from '../checkpoints/place';
import type { PromptCacheSize, StorageTask, StoredCheckpoint } from '../engine/protocol.gen';
import { formatBytes, formatDate } from './format';
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
}

/** Shows how much of the browser's storage is used and available, where the browser reports it. */
export async function renderStorageUsage(into: HTMLElement): Promise<void> {
  const { quota, usage = 0 } = (await navigator.storage?.estimate?.()) ?? {};
  into.textContent = quota === undefined ? '' : t('storageUsage', { used: formatBytes(usage), left: formatBytes(quota - usage) });
}

/** Shows `stored` and the size of the prompt cache in `list`. Calls `onTask` to verify or delete an entry, and `onOpen` to open one. */
export function renderStoredModels(
  list: HTMLElement,
  stored: readonly StoredCheckpoint[],
  { prompts, bytes }: PromptCacheSize,
  onTask: (task: StorageTask) => void,
  onOpen: (entry: StoredCheckpoint) => void,
): void {
  const button = (text: string, onClick: () => void): HTMLButtonElement => {
    const created = Object.assign(document.createElement('button'), { type: 'button', textContent: text });
    created.addEventListener('click', onClick);
    return created;
  };
  const items = stored.map((entry) => {
    const { checkpoint, kind, composition, storage, bytes, missing, changed, saved_at } = entry;
    const places = [checkpoint, ...Object.values(composition?.components ?? {})];
    const item = document.createElement('li');
    const state = (missing > 0 ? t('shardsMissing', { count: missing }) : '') + (changed ? t('modelChanged') : '');
    const size = t('storedSize', { size: formatBytes(bytes), store: storage });
    const date = formatDate(saved_at);
    const what = kind === 'model' ? '' : `${t(`stored_${kind}`)}: `;
    item.append(`${what}${checkpoint} · ${size} · ${date}${state} `);
    // A local folder has to be selected again: a page may not open it by itself. Opening downloads missing shards.
    const is_local = places.some((place) => place.startsWith(FOLDER_PREFIX) || place.startsWith(FILE_PREFIX));
    const verb = kind === 'model' ? 'open' : 'use';
    if (!is_local || (kind === 'lora' && missing === 0)) item.append(button(t(missing > 0 ? 'repair' : verb), () => onOpen(entry)));
    item.append(button(t('verify'), () => onTask({ kind: 'verify', checkpoint })));
    item.append(button(t('delete'), () => onTask({ kind: 'delete', checkpoint })));
    return item;
  });
  if (prompts > 0) {
    const item = document.createElement('li');
    item.append(t('storedPrompts', { count: prompts, size: formatBytes(bytes) }));
    item.append(button(t('delete'), () => onTask({ kind: 'delete_prompts' })));
    items.push(item);
  }
  list.replaceChildren(...items);
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
