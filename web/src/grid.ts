//! Pictures over the values of one or two fields: which they are, and the table that they fill.
import type { Picture } from './client';
import { element } from './dom';
import { fault } from './fault';
import { t, type TextKey } from './i18n';
import { pngFile } from './files';
import type { Image as Drawn } from './protocol.gen';

/** The fields that an axis can vary, with their labels. */
const LABELS = {
  steps: 'steps',
  guidance: 'guidanceScale',
  seed: 'seed',
  strength: 'strength',
  scheduler: 'scheduler',
  style: 'style',
  prompt: 'prompt',
  negative_prompt: 'negativePrompt',
} as const satisfies Partial<Record<keyof Picture, TextKey>>;
type Field = keyof typeof LABELS;
const FIELDS = Object.keys(LABELS) as Field[];
const NAMES: ReadonlySet<Field> = new Set<Field>(['scheduler', 'style', 'prompt', 'negative_prompt']);
/** The most pictures of one table. */
const CELLS_MAX = 64;

interface Axis {
  field: Field | undefined;
  values: readonly string[];
}

/** One picture of a table. */
export interface Cell {
  row: number;
  column: number;
  changed: Partial<Picture>;
}

const table = element('grid', HTMLTableElement);
const [across, down] = (['x', 'y'] as const).map((axis) => {
  const field = element(`${axis}-axis`, HTMLSelectElement);
  field.append(...FIELDS.map(axisOption));
  return { field, values: element(`${axis}-axis-values`, HTMLInputElement) };
});

/** The pictures that the form asks for, row by row, in a table that waits for them; `undefined` where it asks for none. Throws
    a fault. */
export function cells(): Cell[] | undefined {
  const [columns, rows] = [axisOf(across), axisOf(down)];
  for (const url of table.querySelectorAll('img')) URL.revokeObjectURL(url.src);
  table.hidden = columns.field === undefined && rows.field === undefined;
  if (table.hidden) return undefined;
  const made = rows.values.flatMap((low, row) =>
    columns.values.map((high, column) => ({ row, column, changed: { ...changed(columns.field, high), ...changed(rows.field, low) } })),
  );
  if (made.length > CELLS_MAX) throw fault('bad_request', `the X/Y grid has ${made.length} images`, `use at most ${CELLS_MAX}`);
  const head = document.createElement('tr');
  head.append(document.createElement('td'), ...columns.values.map((value) => heading(columns.field, value, 'col')));
  table.replaceChildren(head);
  for (const value of rows.values) {
    const row = document.createElement('tr');
    row.append(heading(rows.field, value, 'row'), ...columns.values.map(() => document.createElement('td')));
    table.append(row);
  }
  return made;
}

/** Puts a picture where it belongs. */
export function fillCell({ row, column }: Cell, { png, width, height }: Drawn, prompt: string): void {
  const picture = Object.assign(new Image(), { alt: prompt, width, height });
  picture.src = URL.createObjectURL(pngFile(png));
  table.rows[row + 1]?.cells[column + 1]?.replaceChildren(picture);
}

/** Returns an entry of an axis, translated together with the elements of index.html. */
function axisOption(field: Field): HTMLOptionElement {
  const option = new Option(t(LABELS[field]), field);
  option.dataset.i18n = LABELS[field];
  return option;
}

function axisOf(axis: { field: HTMLSelectElement; values: HTMLInputElement } | undefined): Axis {
  const field = FIELDS.find((name) => name === axis?.field.value);
  const values = (axis?.values.value ?? '').split(',').map((value) => value.trim());
  return field === undefined ? { field, values: [''] } : { field, values };
}

function changed(field: Field | undefined, value: string): Partial<Picture> {
  if (field === undefined) return {};
  if (NAMES.has(field)) return { [field]: value };
  const number = Number(value);
  if (value !== '' && Number.isFinite(number)) return { [field]: number };
  throw fault('bad_request', `${field} is ${JSON.stringify(value)} in the X/Y grid`, 'enter numbers separated by commas');
}

function heading(field: Field | undefined, value: string, scope: 'col' | 'row'): HTMLElement {
  return Object.assign(document.createElement('th'), { scope, textContent: field === undefined ? '' : `${t(LABELS[field])} ${value}` });
}
