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
const [xAxis, yAxis] = (['x', 'y'] as const).map((axis) => {
  const field = element(`${axis}-axis`, HTMLSelectElement);
  field.append(...FIELDS.map(axisOption));
  return { field, values: element(`${axis}-axis-values`, HTMLInputElement) };
});

/** Shows an empty grid and returns its cells row by row; hides it and returns `undefined` where no axis is selected. Throws a `Fault`. */
export function startGrid(): Cell[] | undefined {
  const [columns, rows] = [readAxis(xAxis), readAxis(yAxis)];
  for (const { src } of table.querySelectorAll('img')) URL.revokeObjectURL(src);
  table.hidden = columns.field === undefined && rows.field === undefined;
  if (table.hidden) return undefined;
  const cells = rows.values.flatMap((y, row) =>
    columns.values.map((x, column) => ({ row, column, overrides: { ...override(columns.field, x), ...override(rows.field, y) } })),
  );
  if (cells.length > CELLS_MAX) throw fault('bad_request', `the X/Y grid has ${cells.length} images`, `use at most ${CELLS_MAX}`);
  const head = document.createElement('tr');
  head.append(document.createElement('td'), ...columns.values.map((value) => heading(columns.field, value, 'col')));
  table.replaceChildren(head);
  for (const value of rows.values) {
    const row = document.createElement('tr');
    row.append(heading(rows.field, value, 'row'), ...columns.values.map(() => document.createElement('td')));
    table.append(row);
  }
  return cells;
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
  const values = (axis?.values.value ?? '').split(',').map((value) => value.trim());
  return field === undefined ? { field, values: [''] } : { field, values };
}

function override(field: Field | undefined, value: string): Partial<ImageRequest> {
  if (field === undefined) return {};
  if (TEXT_FIELDS.has(field)) return { [field]: value };
  const number = Number(value);
  if (value !== '' && Number.isFinite(number)) return { [field]: number };
  throw fault('bad_request', `${field} is ${JSON.stringify(value)} in the X/Y grid`, 'enter numbers separated by commas');
}

function heading(field: Field | undefined, value: string, scope: 'col' | 'row'): HTMLElement {
  return Object.assign(document.createElement('th'), { scope, textContent: field === undefined ? '' : `${t(LABELS[field])} ${value}` });
}
