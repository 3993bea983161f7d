//! The texts of the explanations, which are loaded with them.
import { filled } from '../i18n';
import type english from '../texts/explain/en.json';

type Texts = Record<ExplainKey, string>;
export type ExplainKey = keyof typeof english;

const LOADERS: Record<string, () => Promise<{ default: Texts }>> = {
  en: () => import('../texts/explain/en.json'),
  de: () => import('../texts/explain/de.json'),
  'zh-Hans': () => import('../texts/explain/zh-Hans.json'),
  ja: () => import('../texts/explain/ja.json'),
  es: () => import('../texts/explain/es.json'),
};
let texts: Texts | undefined;

/** Loads the texts in the language of the page. */
export async function loadTexts(): Promise<void> {
  const language = document.documentElement.lang;
  const load = LOADERS[language];
  if (load === undefined) throw new Error(`there are no explanations in ${language}`);
  texts = (await load()).default;
}

/** Returns a text, with `values` in place of its placeholders. */
export function x(key: ExplainKey, values: Record<string, string | number> = {}): string {
  if (texts === undefined) throw new Error('the explanations are not loaded');
  return filled(texts[key], values);
}
