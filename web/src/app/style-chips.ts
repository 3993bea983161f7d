//! The styles as chips: one of them is pressed, or none. A hidden field of the form holds its name.
import { element } from './dom';
import { t } from './i18n';

const field = element('style', HTMLInputElement);
const chips = element('styles', HTMLElement);
let offered: readonly string[] = [];

/** Returns the name of the selected style; empty without one. */
export function readStyle(): string {
  return field.value;
}

/** Selects a style, which is added where the engine does not offer it; an empty name is none. */
export function selectStyle(name: string): void {
  field.value = name;
  renderStyles();
}

/** Offers these styles. */
export function setStyles(names: readonly string[]): void {
  offered = names;
  renderStyles();
}

/** Shows the chips. */
export function renderStyles(): void {
  const names = ['', ...offered, ...(field.value === '' || offered.includes(field.value) ? [] : [field.value])];
  // Chips that stay keep the focus.
  const shown = [...chips.querySelectorAll('button')];
  const isSame = shown.length === names.length && shown.every(({ value }, at) => value === names[at]);
  const buttons = isSame ? shown : names.map(chipOf);
  for (const button of buttons) {
    if (button.value === '') button.textContent = t('noStyle');
    button.setAttribute('aria-pressed', String(button.value === field.value));
  }
  if (!isSame) chips.replaceChildren(...buttons);
}

function chipOf(name: string): HTMLButtonElement {
  const chip = Object.assign(document.createElement('button'), { type: 'button', value: name, textContent: name });
  chip.addEventListener('click', () => {
    selectStyle(name);
    // The number of tokens depends on it.
    field.dispatchEvent(new Event('input', { bubbles: true }));
  });
  return chip;
}
