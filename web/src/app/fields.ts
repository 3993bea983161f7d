//! Fields of the form: texts that keep the line breaks of a restored request, whole numbers, and lists of options.
import { fault } from '../engine/fault';

const U32_MAX = 2 ** 32 - 1;
/** Restored texts, whose line breaks a text field shows as line feeds. */
const exact = new Map<HTMLTextAreaElement, string>();

/** Fills in a text, which is read as it is until it is edited. */
export function setText(field: HTMLTextAreaElement, text: string): void {
  field.value = text;
  exact.set(field, text);
}

/** Returns the text of a field: the restored one, with its own line breaks, where it was not edited. */
export function readText(field: HTMLTextAreaElement): string {
  return isRestored(field) ? (exact.get(field) ?? field.value) : field.value;
}

/** Returns whether a field holds a restored text that was not edited. */
export function isRestored(field: HTMLTextAreaElement): boolean {
  return exact.get(field)?.replace(/\r\n?/g, '\n') === field.value;
}

/** Replaces the options after the first one, which stands for the default. */
export function setOptions(list: HTMLSelectElement, names: string[]): void {
  const selected = list.value;
  list.options.length = 1;
  list.append(...names.map((name) => new Option(name, name, false, name === selected)));
}

/** Selects a value, which is added where the list lacks it: a scheduler with options, for example. */
export function select(list: HTMLSelectElement, value: string): void {
  if (![...list.options].some((option) => option.value === value)) list.append(new Option(value, value));
  list.value = value;
}

/** Reads a field that is sent as `u32`. */
export function readU32(name: string, { value, valueAsNumber }: HTMLInputElement): number {
  if (Number.isInteger(valueAsNumber) && valueAsNumber >= 0 && valueAsNumber <= U32_MAX) return valueAsNumber;
  throw fault('bad_request', `${name} is ${value || 'not a number'}`, `enter a whole number from 0 to ${U32_MAX}`);
}
