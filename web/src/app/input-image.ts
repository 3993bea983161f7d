//! The input image of image-to-image: the file that is selected, its preview in the settings, and what the editor makes of it.
import type { ImageRequest } from '../engine/client';
import { fault } from '../engine/fault';
import { element } from './dom';
import type { Editor, EditorHost } from './editor/editor';
import { loadPart } from './load-part';
import { isOpen, onPanelToggle, openPanel } from './panels';

const initImage = element('init-image', HTMLInputElement);
const maskImage = element('mask-image', HTMLInputElement);
const preview = element('init-image-preview', HTMLElement);
const thumbnail = element('init-image-thumbnail', HTMLImageElement);
const openButton = element('open-editor', HTMLButtonElement);

let editor: Promise<Editor> | undefined;
/** The editor, once it is downloaded. */
let loaded: Editor | undefined;

export type InputImageHost = Pick<EditorHost, 'limits' | 'onSize' | 'onFailed'>;

/** Connects the fields of the input image, and the editor, which is downloaded when it is first opened. */
export function startInputImage(host: InputImageHost): void {
  const startEditor = async (): Promise<Editor> => {
    const { startEditor } = await loadPart('editor', () => import('./editor/editor'));
    loaded = startEditor({ ...host, onFile: selectInitImage });
    return loaded;
  };
  const open = async (): Promise<void> => {
    editor ??= startEditor();
    const opened = await editor.catch((thrown: unknown) => {
      // It can be downloaded later.
      editor = undefined;
      throw thrown;
    });
    const mask = maskImage.files?.[0];
    await opened.open(initImage.files?.[0], mask);
    // There is one mask: from here on it is the editor's.
    if (mask !== undefined && maskImage.files?.[0] === mask) setFiles(maskImage, undefined);
    opened.focus();
  };
  const onOpen = (): void => {
    if (isOpen('editor')) open().catch(host.onFailed);
  };
  onPanelToggle('editor', onOpen);
  initImage.addEventListener('change', () => {
    showPreview().catch(host.onFailed);
    onOpen();
  });
  maskImage.addEventListener('change', onOpen);
  // Before the page takes it as any other image.
  document.addEventListener('paste', (event) => takePasted(event), { capture: true });
  element('edit-init-image', HTMLButtonElement).addEventListener('click', () => openPanel('editor'));
}

/** Returns the fields of a request that are read from the files and from the editor, as they are now. Rejects with a `Fault`. */
export async function readInputImage(): Promise<Pick<ImageRequest, 'image' | 'mask_image'>> {
  const [file] = initImage.files ?? [];
  const edited = file && loaded?.read(file);
  const [image, mask_image] = await Promise.all([
    edited?.image ?? readImage(initImage),
    readImage(maskImage).then((mask) => mask ?? edited?.mask),
  ]);
  if (image === undefined && mask_image !== undefined)
    throw fault('bad_request', 'a mask is selected, and no input image', 'choose the input image too, or remove the mask');
  return { ...(image && { image }), ...(mask_image && { mask_image }) };
}

/** Returns whether an input image is selected. */
export function hasInitImage(): boolean {
  return (initImage.files?.length ?? 0) > 0;
}

/** Selects an input image, as its field does, or none. */
export function selectInitImage(file: File | undefined): void {
  setFiles(initImage, file);
}

/** Removes the files that a restored request does not have. */
export function keepFiles(files: readonly string[]): void {
  if (!files.includes('image')) setFiles(initImage, undefined);
  if (!files.includes('mask_image')) setFiles(maskImage, undefined);
}

/** Renders the editor in another language. */
export function refreshEditor(): void {
  loaded?.refresh();
}

/** Takes a pasted image while the editor is open. */
function takePasted(event: ClipboardEvent): void {
  const [file] = event.clipboardData?.files ?? [];
  if (!isOpen('editor') || file === undefined || !file.type.startsWith('image/')) return;
  event.preventDefault();
  selectInitImage(file);
}

/** Reads a selected image file; `undefined` without one. Rejects with a `Fault`. */
async function readImage({ files }: HTMLInputElement): Promise<Uint8Array | undefined> {
  const file = files?.[0];
  if (file === undefined) return undefined;
  const { readAsPng } = await loadPart('image reader', () => import('../gallery/read-image'));
  return readAsPng(file);
}

/** Selects a file, or none, and lets the page know. */
function setFiles(field: HTMLInputElement, file: File | undefined): void {
  if (file === undefined && field.value === '') return;
  const transfer = new DataTransfer();
  if (file !== undefined) transfer.items.add(file);
  field.files = transfer.files;
  field.dispatchEvent(new Event('change'));
}

async function showPreview(): Promise<void> {
  URL.revokeObjectURL(thumbnail.src);
  const [file] = initImage.files ?? [];
  // An image that is selected changes every image that is generated.
  openButton.classList.toggle('has-image', file !== undefined);
  openButton.title = file?.name ?? '';
  preview.hidden = true;
  if (file === undefined) return;
  thumbnail.src = URL.createObjectURL(file);
  // An image that this browser cannot decode is reported when the request is made.
  const isDecoded = await thumbnail.decode().then(
    () => true,
    () => false,
  );
  if (initImage.files?.[0] === file) preview.hidden = !isDecoded;
}
