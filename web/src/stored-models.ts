//! Checkpoints that the reader has: those that this browser keeps, as a list with what can be done about them, and folders
//! on this computer. Opens nothing.
import type { KeepTask, KeptCheckpoint } from './protocol.gen';
import { t } from './i18n';

/** A checkpoint to open; with `files`, the reader's. */
export interface Folder {
  checkpoint: string;
  files?: ReadonlyMap<string, File>;
}

/** How the names of chosen folders begin. */
const CHOSEN = 'folder:';

/** Says how much is kept and how much more may be, where the browser tells. */
export async function renderSpace(into: HTMLElement): Promise<void> {
  const { quota, usage = 0 } = (await navigator.storage?.estimate?.()) ?? {};
  const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(0);
  into.textContent = quota === undefined ? '' : t('storageUsage', { used: megabytes(usage), left: megabytes(quota - usage) });
}

/** The folder's address: as it is written, or that of a repository `owner/name@revision` of the model hub at `hub`. */
export function addressOf(checkpoint: string, hub: string): string {
  if (checkpoint === '') return '';
  const repository = /^([\w.-]+\/[\w.-]+?)(?:@([\w./-]+))?$/.exec(checkpoint);
  if (checkpoint.endsWith('/') || repository === null) return new URL(checkpoint.replace(/\/?$/, '/'), document.baseURI).href;
  const [, name, revision = 'main'] = repository;
  return new URL(`${name}/resolve/${revision}/`, hub).href;
}

/** Lists `kept` in `list`, each with its buttons. */
export function renderKept(
  list: HTMLElement,
  kept: readonly KeptCheckpoint[],
  ask: (task: KeepTask) => void,
  open: (checkpoint: string) => void,
): void {
  const button = (text: string, act: () => void): HTMLButtonElement => {
    const made = Object.assign(document.createElement('button'), { type: 'button', textContent: text });
    made.addEventListener('click', act);
    return made;
  };
  const rows = kept.map(({ checkpoint, store, bytes, missing, changed }) => {
    const row = document.createElement('li');
    const state = (missing > 0 ? t('shardsMissing', { count: missing }) : '') + (changed ? t('modelChanged') : '');
    row.append(`${checkpoint} · ${t('storedSize', { megabytes: (bytes / 1e6).toFixed(1), store })}${state} `);
    // What was chosen as a folder has to be chosen again: a page may not open it by itself.
    // Opening fetches what is missing.
    if (!checkpoint.startsWith(CHOSEN)) row.append(button(t(missing > 0 ? 'repair' : 'open'), () => open(checkpoint)));
    row.append(button(t('verify'), () => ask({ kind: 'verify', checkpoint })));
    row.append(button(t('delete'), () => ask({ kind: 'delete', checkpoint })));
    return row;
  });
  list.replaceChildren(...rows);
}

/** The folder of a directory picker; `undefined` where nothing was chosen. */
export function chosenFolder(files: FileList | null): Folder | undefined {
  return folderOf([...(files ?? [])].map((file) => [file.webkitRelativePath, file]));
}

/** The folder that was dropped on the page. */
export async function droppedFolder(transfer: DataTransfer | null): Promise<Folder | undefined> {
  const entries = [...(transfer?.items ?? [])].map((item) => item.webkitGetAsEntry());
  const found: [string, File][] = [];
  const walk = async (entry: FileSystemEntry): Promise<void> => {
    if (entry.isFile) {
      const file = await new Promise<File>((resolve, reject) => (entry as FileSystemFileEntry).file(resolve, reject));
      found.push([entry.fullPath.slice(1), file]);
      return;
    }
    const reader = (entry as FileSystemDirectoryEntry).createReader();
    for (;;) {
      const some = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
      if (some.length === 0) return;
      await Promise.all(some.map(walk));
    }
  };
  await Promise.all(entries.filter((entry) => entry !== null).map(walk));
  return folderOf(found);
}

/** Files by their path below the folder that was chosen, whose name stands first in `paths`. */
function folderOf(paths: [string, File][]): Folder | undefined {
  const [first] = paths;
  if (first === undefined) return undefined;
  const name = first[0].split('/')[0] ?? '';
  return { checkpoint: `${CHOSEN}${name}/`, files: new Map(paths.map(([path, file]) => [path.slice(name.length + 1), file])) };
}
