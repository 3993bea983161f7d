//! A mask painted over the picture to draw over: what is covered is drawn anew.
import { element } from './dom';

const image = element('init-image', HTMLInputElement);
const painting = element('mask-editor', HTMLElement);
const under = element('mask-background', HTMLImageElement);
const canvas = element('mask-canvas', HTMLCanvasElement);
const brush = element('brush-size', HTMLInputElement);
let painted = false;
/** Where the pointer was, in the picture's pixels. */
let last: { x: number; y: number } | undefined;

image.addEventListener('change', begin);
element('clear-mask', HTMLButtonElement).addEventListener('click', clear);
canvas.addEventListener('pointerdown', (event) => {
  canvas.setPointerCapture(event.pointerId);
  last = undefined;
  stroke(event);
});
canvas.addEventListener('pointermove', (event) => {
  if (canvas.hasPointerCapture(event.pointerId)) stroke(event);
});

/** What was painted, white on black, of the picture's size; `undefined` where nothing was. */
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

/** Shows the chosen picture under an empty mask. */
async function begin(): Promise<void> {
  clear();
  URL.revokeObjectURL(under.src);
  const [file] = image.files ?? [];
  painting.hidden = file === undefined;
  if (file === undefined) return;
  under.src = URL.createObjectURL(file);
  // What this browser cannot read is told when it is to be drawn over.
  painting.hidden = await under.decode().then(() => false, () => true);
  [canvas.width, canvas.height] = [under.naturalWidth, under.naturalHeight];
}

function clear(): void {
  painted = false;
  canvas.getContext('2d')?.clearRect(0, 0, canvas.width, canvas.height);
}

/** A line to where the pointer is from where it was. */
function stroke({ offsetX, offsetY }: PointerEvent): void {
  const context = canvas.getContext('2d');
  if (context === null) return;
  const scale = canvas.width / canvas.clientWidth;
  const at = { x: offsetX * scale, y: offsetY * scale };
  const from = last ?? at;
  Object.assign(context, { strokeStyle: '#fff', lineCap: 'round', lineWidth: brush.valueAsNumber * scale });
  context.beginPath();
  context.moveTo(from.x, from.y);
  context.lineTo(at.x, at.y);
  context.stroke();
  [painted, last] = [true, at];
}
