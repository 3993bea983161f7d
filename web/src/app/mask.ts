//! The mask editor: an inpaint mask painted over the input image. Painted areas are regenerated.
import { element } from './dom';

const initImage = element('init-image', HTMLInputElement);
const editor = element('mask-editor', HTMLElement);
const background = element('mask-background', HTMLImageElement);
const canvas = element('mask-canvas', HTMLCanvasElement);
const brushSize = element('brush-size', HTMLInputElement);
let painted = false;
/** The previous position of the pointer, in pixels of the image. */
let previous: { x: number; y: number } | undefined;

initImage.addEventListener('change', openEditor);
element('clear-mask', HTMLButtonElement).addEventListener('click', clearMask);
canvas.addEventListener('pointerdown', (event) => {
  canvas.setPointerCapture(event.pointerId);
  previous = undefined;
  paint(event);
});
canvas.addEventListener('pointermove', (event) => {
  if (canvas.hasPointerCapture(event.pointerId)) paint(event);
});

/** Returns the mask as a PNG of the image's size, white on black; `undefined` where nothing is painted. */
export async function paintedMask(): Promise<Uint8Array | undefined> {
  if (!painted) return undefined;
  const { width, height } = canvas;
  const mask = new OffscreenCanvas(width, height);
  const context = mask.getContext('2d');
  if (context === null) return undefined;
  context.fillRect(0, 0, width, height);
  context.drawImage(canvas, 0, 0);
  return new Uint8Array(await (await mask.convertToBlob({ type: 'image/png' })).arrayBuffer());
}

/** Shows the selected image below an empty mask. */
async function openEditor(): Promise<void> {
  clearMask();
  URL.revokeObjectURL(background.src);
  const [file] = initImage.files ?? [];
  editor.hidden = file === undefined;
  if (file === undefined) return;
  background.src = URL.createObjectURL(file);
  // An image that this browser cannot decode is reported when the request is made.
  editor.hidden = await background.decode().then(
    () => false,
    () => true,
  );
  [canvas.width, canvas.height] = [background.naturalWidth, background.naturalHeight];
}

function clearMask(): void {
  painted = false;
  canvas.getContext('2d')?.clearRect(0, 0, canvas.width, canvas.height);
}

/** Draws a line from the previous position of the pointer to its current one. */
function paint({ offsetX, offsetY }: PointerEvent): void {
  const context = canvas.getContext('2d');
  if (context === null) return;
  const scale = canvas.width / canvas.clientWidth;
  const to = { x: offsetX * scale, y: offsetY * scale };
  const from = previous ?? to;
  Object.assign(context, { strokeStyle: '#fff', lineCap: 'round', lineWidth: brushSize.valueAsNumber * scale });
  context.beginPath();
  context.moveTo(from.x, from.y);
  context.lineTo(to.x, to.y);
  context.stroke();
  [painted, previous] = [true, to];
}
