//! The texts of the page. texts/en.json is the table of all keys; the other languages are chunks of their own, loaded when they are
//! selected. Faults come from the engine in English; the page adds a translated title.
import { element } from './dom';
import { formatPlain } from './format';
import english from './texts/en.json';

/** The texts of a language. `{name}` is a placeholder for a value. Elements of index.html name their text in `data-i18n`, their
    accessible name in `data-i18n-label` and their placeholder text in `data-i18n-placeholder`. */
export type Texts = Record<TextKey, string>;
export type TextKey = keyof typeof english;

const LOADERS: Record<string, () => Promise<{ default: Texts }>> = {
  de: () => import('./texts/de.json'),
  'zh-Hans': () => import('./texts/zh-Hans.json'),
  ja: () => import('./texts/ja.json'),
  es: () => import('./texts/es.json'),
};

/** The localStorage key of the selected language, which language.ts reads. */
const LANGUAGE_KEY = 'language';
const select = element('language', HTMLSelectElement);
let texts: Texts = english;

/** Returns a text in the current language, with `values` in place of its placeholders. */
export function t(key: TextKey, values: Record<string, string | number> = {}): string {
  return filled(texts[key], values);
}

/** Returns a text with `values` in place of its placeholders. */
export function filled(text: string, values: Record<string, string | number>): string {
  return text.replace(/\{(\w+)\}/g, (_, name: string) => {
    const value = values[name];
    return typeof value === 'number' ? formatPlain(value) : String(value);
  });
}

export interface LanguageHandlers {
  /** The user has selected another language. */
  onChange(): void;
  /** The texts of a language could not be loaded; the language before stays. */
  onFailed(text: string): void;
}

/** Shows the page in the language that language.ts has selected, and in those that the user selects. */
export async function startI18n({ onChange, onFailed }: LanguageHandlers): Promise<void> {
  let shown = 'en';
  const show = async (language: string): Promise<boolean> => {
    const { default: loaded } = (await LOADERS[language]?.()) ?? { default: english };
    // The user has selected another one meanwhile.
    if (select.value !== language) return false;
    texts = loaded;
    shown = document.documentElement.lang = language;
    translate();
    return true;
  };
  const failed = (): void => {
    const name = select.selectedOptions[0]?.textContent ?? select.value;
    select.value = document.documentElement.lang = shown;
    onFailed(t('languageUnavailable', { language: name }));
  };
  select.addEventListener('change', () => {
    const selected = select.value;
    show(selected).then((isShown) => {
      if (!isShown) return;
      try {
        localStorage.setItem(LANGUAGE_KEY, selected);
      } catch {
        // Without storage the language lasts until the window is closed.
      }
      onChange();
    }, failed);
  });
  select.value = document.documentElement.lang;
  if (select.value !== shown) await show(select.value).catch(failed);
}

function translate(): void {
  for (const translated of document.querySelectorAll<HTMLElement>('[data-i18n], [data-i18n-label], [data-i18n-placeholder]')) {
    const { i18n: text, i18nLabel: label, i18nPlaceholder: placeholder } = translated.dataset;
    if (text !== undefined) translated.textContent = t(checkedKey(text));
    if (label !== undefined) translated.setAttribute('aria-label', t(checkedKey(label)));
    if (placeholder !== undefined) translated.setAttribute('placeholder', t(checkedKey(placeholder)));
  }
}

/** Checks a key that an element of index.html names. */
function checkedKey(name: string): TextKey {
  if (!Object.hasOwn(english, name)) throw new Error(`index.html names the text ${name}, which does not exist`);
  return name as TextKey;
}
