//! Sheets of images as one PNG, drawn with an OffscreenCanvas: a contact sheet, or a grid with labelled columns and rows.

/** Pixels of a sheet's cell, of the line under an image, and between cells. */
const CELL = 256;
const LINE = 22;
const GAP = 8;
const FONT = '14px system-ui, sans-serif';
/** The most images of a sheet: 16 by 16 stay below the largest canvas of every browser. */
export const SHEET_IMAGES_MAX = 256;

export interface SheetCell {
  /** Absent where a grid has no image for a pair of values. */
  image: Blob | undefined;
  caption: string;
}

/** Returns a contact sheet. */
export function contactSheet(cells: readonly SheetCell[]): Promise<Blob> {
  const columns = Math.ceil(Math.sqrt(cells.length));
  const rows = Array.from({ length: Math.ceil(cells.length / columns) }, (_, row) => cells.slice(row * columns, (row + 1) * columns));
  return draw({ columns: Array.from({ length: columns }, () => ''), rows: rows.map((cells) => ({ label: '', cells })) });
}

/** Returns a grid with a heading for each column and row; that of a row may have several lines. */
export async function draw(sheet: {
  columns: readonly string[];
  rows: readonly { label: string; cells: readonly SheetCell[] }[];
}): Promise<Blob> {
  const { columns, rows } = sheet;
  const head = columns.some((label) => label !== '') ? LINE + GAP : 0;
  const hasCaptions = rows.some(({ cells }) => cells.some(({ caption }) => caption !== ''));
  const side = sideFor(rows.flatMap(({ label }) => label.split('\n')));
  const high = CELL + (hasCaptions ? LINE : 0);
  const canvas = new OffscreenCanvas(side + columns.length * (CELL + GAP) + GAP, head + rows.length * (high + GAP) + GAP);
  const context = canvas.getContext('2d');
  if (context === null) throw new Error('this browser has no canvas in two dimensions');
  context.fillStyle = '#ffffff';
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = '#1e2024';
  context.font = FONT;
  context.textBaseline = 'middle';
  const write = (text: string, x: number, y: number, width: number): void => context.fillText(fitted(context, text, width), x, y);
  const xOf = (column: number): number => side + GAP + column * (CELL + GAP);
  for (const [column, label] of columns.entries()) write(label, xOf(column), head / 2 + GAP / 2, CELL);
  for (const [row, { label, cells }] of rows.entries()) {
    const y = head + GAP + row * (high + GAP);
    for (const [line, text] of label.split('\n').entries()) write(text, GAP, y + CELL / 2 + line * LINE, side - GAP);
    for (const [column, { image, caption }] of cells.entries()) {
      write(caption, xOf(column), y + CELL + LINE / 2, CELL);
      if (image === undefined) continue;
      const bitmap = await createImageBitmap(image);
      const scale = CELL / Math.max(bitmap.width, bitmap.height);
      const [wide, tall] = [bitmap.width * scale, bitmap.height * scale];
      context.drawImage(bitmap, xOf(column) + (CELL - wide) / 2, y + (CELL - tall) / 2, wide, tall);
      bitmap.close();
    }
  }
  return canvas.convertToBlob({ type: 'image/png' });
}

/** Returns the width of the column of headings: none, half a cell, or a cell for long ones. */
function sideFor(lines: readonly string[]): number {
  const context = new OffscreenCanvas(1, 1).getContext('2d');
  if (context === null || lines.every((line) => line === '')) return 0;
  context.font = FONT;
  return lines.every((line) => context.measureText(line).width <= CELL / 2 - GAP) ? CELL / 2 : CELL;
}

/** Returns the part of a text that fits into `width`, with an ellipsis where it is cut. */
function fitted(context: OffscreenCanvasRenderingContext2D, text: string, width: number): string {
  if (context.measureText(text).width <= width) return text;
  let end = text.length;
  while (end > 0 && context.measureText(`${text.slice(0, end)}…`).width > width) end = Math.min(end - 1, Math.floor(end * 0.95));
  return `${text.slice(0, end)}…`;
}
