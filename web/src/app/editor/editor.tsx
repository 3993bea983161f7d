//! The editor of the input image: its mask, its crop and its extension. It is downloaded when it is first opened.
import './editor.css';
import { render } from 'preact';
import { useLayoutEffect, useRef } from 'preact/hooks';
import { decodeImage } from '../../gallery/read-image';
import { element } from '../dom';
import { formatPercent } from '../format';
import { t } from '../i18n';
import { EditorDocument } from './document';
import { CropFrame, ExtendHandles } from './frames';
import { startGestures } from './gestures';
import { EditorIcon } from './icons';
import { handleKey } from './keys';
import { EditorSession, type SessionHost } from './session';
import { Toolbar, ToolOptions, ZoomButtons } from './toolbar';

/** The parts of the page that the editor uses. */
export interface EditorHost extends Omit<SessionHost, 'onChange'> {
  /** Selects a file as input image, or none. */
  onFile(file: File | undefined): void;
  onFailed(thrown: unknown): void;
}

/** The fields of a request that the editor has changed. */
export interface EditedImage {
  image: Promise<Uint8Array> | undefined;
  mask: Promise<Uint8Array> | undefined;
}

export interface Editor {
  /** Edits a file, with a mask from a file. */
  open(file: File | undefined, mask: File | undefined): Promise<void>;
  /** Returns what it has made of this file, as it is now. */
  read(file: File): EditedImage | undefined;
  /** Renders again, in another language. */
  refresh(): void;
  focus(): void;
}

/** The longest side that is edited. An image is sent as it is unless it is cropped or extended. */
const SIDE_MAX = 3072;

/** Shows the editor in #editor-root. */
export function startEditor(host: EditorHost): Editor {
  const root = element('editor-root', HTMLElement);
  const strength = element('strength', HTMLInputElement);
  let isScheduled = false;
  let opened: File | undefined;
  let isSpaceHeld = false;

  const refresh = (): void => {
    if (isScheduled) return;
    isScheduled = true;
    queueMicrotask(() => {
      isScheduled = false;
      const field = {
        value: strength.value || strength.placeholder,
        set: (value: string) => {
          strength.value = value;
          refresh();
        },
      };
      render(<EditorPanel session={session} host={host} strength={field} isSpaceHeld={() => isSpaceHeld} />, root);
    });
  };
  const session = new EditorSession({ ...host, onChange: refresh });
  strength.addEventListener('input', refresh);
  root.addEventListener('keydown', (event) => {
    if (event.key === ' ' && event.target instanceof HTMLCanvasElement) {
      isSpaceHeld = true;
      event.preventDefault();
    } else if (handleKey(session, event)) {
      event.preventDefault();
      event.stopPropagation();
    }
  });
  for (const [target, type] of [
    [document, 'keyup'],
    [window, 'blur'],
  ] as const)
    target.addEventListener(type, (event) => {
      if (!(event instanceof KeyboardEvent) || event.key === ' ') isSpaceHeld = false;
    });
  takeDrops(root, host);
  refresh();
  return {
    async open(file, mask) {
      if (file !== opened || file === undefined) {
        opened = file;
        session.open(undefined);
        if (file === undefined) return;
        const image = scaledDown(
          await decodeImage(file).catch((thrown: unknown) => {
            opened = undefined;
            throw thrown;
          }),
        );
        // Another file was chosen meanwhile.
        if (opened !== file) return;
        session.open(new EditorDocument(image));
      }
      if (mask === undefined || session.document === undefined) return;
      session.setMask(maskOf(await decodeImage(mask), session.document.image));
    },
    read(file) {
      const { document } = session;
      if (file !== opened || document === undefined) return undefined;
      const isMasked = document.mask.some((value) => value > 0);
      return {
        image: document.isImageEdited ? pngOf(document.image) : undefined,
        mask: isMasked ? pngOf(greyImage(document.mask, document.image)) : undefined,
      };
    },
    refresh,
    focus: () => root.querySelector('canvas')?.focus(),
  };
}

interface EditorPanelProps {
  session: EditorSession;
  host: EditorHost;
  strength: { value: string; set(value: string): void };
  isSpaceHeld: () => boolean;
}

function EditorPanel({ session, host, strength, isSpaceHeld }: EditorPanelProps) {
  if (session.document === undefined) {
    return (
      <div class="editor-empty">
        <p>{t('editorEmpty')}</p>
        <FileButton host={host} />
      </div>
    );
  }
  return (
    <>
      <Toolbar session={session} onRemove={() => host.onFile(undefined)} />
      <Stage session={session} isSpaceHeld={isSpaceHeld} />
      <ToolOptions session={session} strength={strength} />
      <p class="editor-status" role="status">
        {statusOf(session)}
      </p>
    </>
  );
}

function Stage({ session, isSpaceHeld }: { session: EditorSession; isSpaceHeld: () => boolean }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useLayoutEffect(() => {
    const element = canvas.current;
    if (element === null) return;
    session.attach(element);
    const stop = startGestures(session, element, isSpaceHeld);
    const resized = new ResizeObserver(() => session.resize());
    resized.observe(element);
    return () => {
      stop();
      resized.disconnect();
    };
  }, []);
  return (
    <div class="editor-stage">
      {/* biome-ignore lint/a11y/noInteractiveElementToNoninteractiveRole: it takes keys of its own. */}
      <canvas
        id="editor-canvas"
        ref={canvas}
        class={session.tool}
        tabIndex={0}
        role="application"
        aria-label={t('editorCanvas')}
        aria-describedby="editor-keys"
        onBlur={() => session.isBrushDown && session.endBrush()}
      />
      {session.tool === 'extend' && <ExtendHandles session={session} />}
      {session.tool === 'crop' && <CropFrame session={session} />}
      <ZoomButtons session={session} />
      <p id="editor-keys" hidden>
        {t('editorKeys')}
      </p>
    </div>
  );
}

function FileButton({ host }: { host: EditorHost }) {
  return (
    <label class="file-button">
      <EditorIcon name="image" /> {t('chooseImage')}
      <input
        type="file"
        id="editor-file"
        class="visually-hidden"
        accept="image/*"
        onChange={({ currentTarget }) => host.onFile(currentTarget.files?.[0])}
      />
    </label>
  );
}

function statusOf(session: EditorSession): string {
  const { document, generatedSize, share, isBrushDown } = session;
  if (document === undefined) return '';
  const { width, height } = document.image;
  const parts = [`${width} × ${height} px`];
  if (generatedSize !== undefined && (generatedSize.width !== width || generatedSize.height !== height))
    parts.push(t('generatedAt', { width: generatedSize.width, height: generatedSize.height }));
  // A little that is painted is not 0 %.
  const percent = share > 0 && share < 0.01 ? `< ${formatPercent(0.01)}` : formatPercent(share);
  parts.push(share === 0 ? t('maskEmpty') : t('maskShare', { percent }));
  if (isBrushDown) parts.push(t('brushDown'));
  return parts.join(' · ');
}

/** Takes images that are dropped on the editor as input image. Anything else is the page's. */
function takeDrops(root: HTMLElement, host: EditorHost): void {
  const isOurs = ({ dataTransfer }: DragEvent): boolean =>
    [...(dataTransfer?.items ?? [])].some(({ kind, type }) => kind === 'file' && type.startsWith('image/'));
  root.addEventListener('dragover', (event) => {
    if (!isOurs(event)) return;
    event.preventDefault();
    event.stopPropagation();
  });
  root.addEventListener('drop', (event) => {
    if (!isOurs(event)) return;
    event.preventDefault();
    event.stopPropagation();
    host.onFile(event.dataTransfer?.files[0]);
  });
}

/** Returns an image that is small enough to be edited. */
function scaledDown(image: ImageData): ImageData {
  const scale = SIDE_MAX / Math.max(image.width, image.height);
  if (scale >= 1) return image;
  return scaledTo(image, Math.max(Math.round(image.width * scale), 1), Math.max(Math.round(image.height * scale), 1));
}

function scaledTo(image: ImageData, width: number, height: number): ImageData {
  const [from, to] = [canvasOf(image), contextOf(width, height)];
  to.imageSmoothingQuality = 'high';
  to.drawImage(from, 0, 0, width, height);
  return to.getImageData(0, 0, width, height);
}

/** Returns the luma of a mask file, at the size of the image. */
function maskOf(file: ImageData, { width, height }: ImageData): Uint8Array {
  const { data } = file.width === width && file.height === height ? file : scaledTo(file, width, height);
  const luma = (at: number): number => 0.299 * (data[at] ?? 0) + 0.587 * (data[at + 1] ?? 0) + 0.114 * (data[at + 2] ?? 0);
  return Uint8Array.from({ length: width * height }, (_, pixel) => Math.round(luma(pixel * 4)));
}

function greyImage(mask: Uint8Array, { width, height }: ImageData): ImageData {
  const image = new ImageData(width, height);
  for (let pixel = 0; pixel < mask.length; pixel += 1) {
    const value = mask[pixel] ?? 0;
    image.data.set([value, value, value, 255], pixel * 4);
  }
  return image;
}

/** Encodes an opaque image, as it is when this is called. */
async function pngOf(image: ImageData): Promise<Uint8Array> {
  const blob = await canvasOf(image).convertToBlob({ type: 'image/png' });
  return new Uint8Array(await blob.arrayBuffer());
}

function canvasOf(image: ImageData): OffscreenCanvas {
  const context = contextOf(image.width, image.height);
  context.putImageData(image, 0, 0);
  return context.canvas;
}

function contextOf(width: number, height: number): OffscreenCanvasRenderingContext2D {
  const context = new OffscreenCanvas(width, height).getContext('2d');
  if (context === null) throw new Error(`a canvas of ${width} × ${height} pixels has no 2D context`);
  return context;
}
