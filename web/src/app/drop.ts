//! Files that are dropped on the page or pasted. Fields keep what browsers do by themselves: a file input takes files, a text field takes text.
//! Whatever else is dropped is answered with a sentence and changes nothing.
import { isFault } from '../engine/fault';
import { type Classified, classifiedFile, classifiedFolder } from './components';
import { type TextKey, t } from './i18n';
import { loadPart, remarkOf } from './load-part';
import { droppedFolder, folderName, isCheckpoint, type ModelSource } from './stored-models';

export interface DropHandlers {
  /** An image file. */
  onImage(file: File, bytes: Uint8Array): Promise<void>;
  /** A folder with a checkpoint. */
  onFolder(source: ModelSource): void;
  /** A component of a model, or a LoRA. */
  onComponent(classified: Classified, name: string): void;
  /** Something that nothing can be done with. */
  onRefused(why: string): void;
}

/** The largest file that is read as an image. */
const IMAGE_BYTES_MAX = 1 << 28;

/** Handles drops on the page, and images that are pasted. */
export function startDrop(handlers: DropHandlers): void {
  const take = (event: DragEvent): boolean => {
    if (isFieldsOwn(event)) return false;
    event.preventDefault();
    return true;
  };
  document.addEventListener('paste', (event) => takePasted(event, handlers));
  document.addEventListener('dragover', take);
  document.addEventListener('drop', (event) => {
    if (!take(event)) return;
    // The transfer can be read during the event only.
    const { files, types } = event.dataTransfer ?? { files: [], types: [] };
    const folder = droppedFolder(event.dataTransfer);
    const unreadable = t('dropUnreadable', { name: files[0]?.name ?? '' });
    receive([...files], types, folder, handlers).catch((thrown: unknown) =>
      handlers.onRefused(isFault(thrown) ? remarkOf(thrown) : unreadable),
    );
  });
}

/** Takes an image from the clipboard. Text beside it belongs to a text field. */
function takePasted(event: ClipboardEvent, handlers: DropHandlers): void {
  const [file] = event.clipboardData?.files ?? [];
  const types = event.clipboardData?.types ?? [];
  if (event.defaultPrevented || file === undefined || !file.type.startsWith('image/')) return;
  const isText = event.target instanceof Element && event.target.matches('input, textarea') && types.includes('text/plain');
  if (isText) return;
  event.preventDefault();
  const unreadable = t('dropUnreadable', { name: file.name });
  receive([file], types, Promise.resolve(undefined), handlers).catch((thrown: unknown) =>
    handlers.onRefused(isFault(thrown) ? remarkOf(thrown) : unreadable),
  );
}

async function receive(
  files: readonly File[],
  types: readonly string[],
  folder: ReturnType<typeof droppedFolder>,
  { onImage, onFolder, onComponent, onRefused }: DropHandlers,
): Promise<void> {
  const refuse = (key: TextKey, values = {}): void => onRefused(`${t(key, values)} ${t('droppable')}`);
  const source = await folder;
  const [file, another] = files;
  if (source !== undefined) {
    if (isCheckpoint(source)) return onFolder(source);
    const classified = await classifiedFolder(source);
    if (classified !== undefined) return onComponent(classified, folderName(source));
    return refuse('dropNoCheckpoint', { name: folderName(source) });
  }
  if (file === undefined) {
    if (types.includes('text/uri-list')) return refuse('dropLink');
    return refuse(types.includes('text/plain') || types.includes('text/html') ? 'dropText' : 'dropNothing');
  }
  if (another !== undefined) return refuse('dropSeveral', { count: files.length });
  const { name } = file;
  const classified = await classifiedFile(file);
  if (classified !== undefined) return onComponent(classified, name);
  if (/\.(safetensors|ckpt|pth?|gguf|bin)$/i.test(name)) return refuse('dropWeights', { name });
  const start = new Uint8Array(await file.slice(0, 16).arrayBuffer());
  const { imageFormat } = await loadPart('image reader', () => import('../gallery/image-file'));
  if (imageFormat(start) === undefined) return refuse(file.type.startsWith('image/') ? 'dropUnknownImage' : 'dropNoImage', { name });
  if (file.size > IMAGE_BYTES_MAX) return refuse('dropLarge', { name });
  await onImage(file, new Uint8Array(await file.arrayBuffer()));
}

/** Returns whether the browser itself takes the drop: files on a file input, text on a text field. */
function isFieldsOwn({ target, dataTransfer }: DragEvent): boolean {
  const field = target instanceof Element ? target.closest('input, textarea') : null;
  const hasFiles = dataTransfer?.types.includes('Files') ?? false;
  if (field instanceof HTMLTextAreaElement) return !hasFiles && !field.disabled && !field.readOnly;
  if (!(field instanceof HTMLInputElement) || field.disabled) return false;
  if (field.type === 'file') return hasFiles;
  return !hasFiles && ['text', 'search', 'url', 'number', 'password'].includes(field.type) && !field.readOnly;
}
