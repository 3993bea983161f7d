//! The X/Y grid: one image for each value, or pair of values, of one or two fields of the request.
import type { ImageRequest } from '../engine/client';
import { fault } from '../engine/fault';
import type { ImageResult as GeneratedImage } from '../engine/protocol.gen';
import { pngBlob } from '../gallery/files';
import { element } from './dom';
import { type TextKey, t } from './i18n';

/** The fields that an axis can vary, with their labels. */
const LABELS = {
  num_inference_steps: 'steps',
  guidance_scale: 'guidanceScale',
  seed: 'seed',
  strength: 'strength',
  scheduler: 'scheduler',
  style: 'style',
  prompt: 'prompt',
  negative_prompt: 'negativePrompt',
} as const satisfies Partial<Record<keyof ImageRequest, TextKey>>;
type Field = keyof typeof LABELS;
const FIELDS = Object.keys(LABELS) as Field[];
const TEXT_FIELDS: ReadonlySet<Field> = new Set<Field>(['scheduler', 'style', 'prompt', 'negative_prompt']);
const CELLS_MAX = 64;

interface Axis {
  field: Field | undefined;
  values: readonly string[];
}

export interface Cell {
  row: number;
  column: number;
  /** The fields of the request that the axes set. */
  overrides: Partial<ImageRequest>;
}

const table = element('grid', HTMLTableElement);
const frame = element('grid-frame', HTMLElement);
const [xAxis, yAxis] = (['x', 'y'] as const).map((axis) => {
  const field = element(`${axis}-axis`, HTMLSelectElement);
  field.append(...FIELDS.map(axisOption));
  return { field, values: element(`${axis}-axis-values`, HTMLInputElement) };
});

export interface Grid {
  columns: Axis;
  rows: Axis;
  /** Row by row. */
  cells: readonly Cell[];
}

/** Returns the grid; `undefined` where no axis is selected. Throws a `Fault`. */
export function readGrid(): Grid | undefined {
  const [columns, rows] = [readAxis(xAxis), readAxis(yAxis)];
  if (columns.field === undefined && rows.field === undefined) return undefined;
  const cells = rows.values.flatMap((y, row) =>
    columns.values.map((x, column) => ({ row, column, overrides: { ...override(columns.field, x), ...override(rows.field, y) } })),
  );
  if (cells.length > CELLS_MAX) throw fault('bad_request', `the X/Y grid has ${cells.length} images`, `use at most ${CELLS_MAX}`);
  return { columns, rows, cells };
}

/** Shows a grid without images. */
export function showGrid({ columns, rows }: Grid): void {
  hideGrid();
  frame.hidden = table.hidden = false;
  const head = document.createElement('tr');
  head.append(document.createElement('td'), ...columns.values.map((value) => heading(columns.field, value, 'col')));
  table.replaceChildren(head);
  for (const value of rows.values) {
    const row = document.createElement('tr');
    row.append(heading(rows.field, value, 'row'), ...columns.values.map(() => document.createElement('td')));
    table.append(row);
  }
}

export function hideGrid(): void {
  for (const { src } of table.querySelectorAll('img')) URL.revokeObjectURL(src);
  table.replaceChildren();
  frame.hidden = table.hidden = true;
}

/** Shows an image in its cell. */
export function fillCell({ row, column }: Cell, { png, width, height }: GeneratedImage, prompt: string): void {
  const image = Object.assign(new Image(), { alt: prompt, width, height });
  image.src = URL.createObjectURL(pngBlob(png));
  table.rows[row + 1]?.cells[column + 1]?.replaceChildren(image);
}

/** Returns an entry of an axis, which is translated together with the elements of index.html. */
function axisOption(field: Field): HTMLOptionElement {
  const option = new Option(t(LABELS[field]), field);
  option.dataset.i18n = LABELS[field];
  return option;
}

function readAxis(axis: { field: HTMLSelectElement; values: HTMLInputElement } | undefined): Axis {
  const field = FIELDS.find((name) => name === axis?.field.value);
  if (field === undefined) return { field, values: [''] };
  const values = csvValues(axis?.values.value ?? '');
  if (values !== undefined) return { field, values };
  const what = `the values of ${field} in the X/Y grid have a quotation mark that is not closed, or text beside it`;
  throw fault('bad_request', what, 'write a value with commas as "a, b", and a quotation mark inside it twice: "say ""hi"""');
}

/** Splits a line of CSV (RFC 4180): a value in quotation marks may hold commas, and quotation marks written twice. Returns `undefined` for
    a quotation mark that is not closed, or text beside a quoted value. A quotation mark inside a plain value stands for itself. */
function csvValues(line: string): string[] | undefined {
  const values: string[] = [];
  const value = /\s*(?:"((?:[^"]|"")*)"\s*|([^\s",][^,]*|))(,|$)/y;
  for (;;) {
    const match = value.exec(line);
    if (match === null) return undefined;
    const [, quoted, plain = '', end] = match;
    values.push(quoted === undefined ? plain.trim() : quoted.replaceAll('""', '"'));
    if (end === '') return values;
  }
}

function override(field: Field | undefined, value: string): Partial<ImageRequest> {
  if (field === undefined) return {};
  // An empty scheduler or style is the default.
  if (value === '' && (field === 'scheduler' || field === 'style')) return { [field]: undefined };
  if (TEXT_FIELDS.has(field)) return { [field]: value };
  const number = Number(value);
  const isWhole = field === 'seed' || field === 'num_inference_steps';
  if (value !== '' && (isWhole ? Number.isInteger(number) && number >= 0 && number < 2 ** 32 : Number.isFinite(number)))
    return { [field]: number };
  throw fault(
    'bad_request',
    `${field} is \`${value}\` in the X/Y grid`,
    isWhole ? 'enter whole numbers separated by commas' : 'enter numbers separated by commas',
  );
}

function heading(field: Field | undefined, value: string, scope: 'col' | 'row'): HTMLElement {
  return Object.assign(document.createElement('th'), { scope, textContent: field === undefined ? '' : `${t(LABELS[field])} ${value}` });
}
