//! Prompts from a text file, and the lists of wildcards, whose fields are downloaded when they are first opened.
import { element } from './dom';
import { t } from './i18n';
import { loadPart, remarkOf } from './load-part';

/** The largest file of prompts. */
const FILE_BYTES_MAX = 1 << 20;

export interface PromptListHandlers {
  /** The user has chosen a file of prompts, one a line. */
  onPrompts(text: string): void;
  /** The lists of wildcards have changed. */
  onLists(): void;
  onRemark(text: string): void;
}

export function startPromptLists({ onPrompts, onLists, onRemark }: PromptListHandlers): void {
  const file = element('prompts-file', HTMLInputElement);
  file.addEventListener('change', () => {
    const [chosen] = file.files ?? [];
    // The same file can be chosen again.
    file.value = '';
    if (chosen === undefined) return;
    if (chosen.size > FILE_BYTES_MAX) return onRemark(t('textFileLarge', { name: chosen.name }));
    chosen.text().then(
      (text) => onPrompts(text.trim()),
      () => onRemark(t('dropUnreadable', { name: chosen.name })),
    );
  });
  const fold = element('several-prompts', HTMLDetailsElement);
  let isStarted = false;
  fold.addEventListener('toggle', () => {
    if (!fold.open || isStarted) return;
    isStarted = true;
    loadPart('lists of wildcards', () => import('./wildcard-panel')).then(
      ({ startWildcardPanel }) => startWildcardPanel(onLists),
      (thrown: unknown) => {
        isStarted = false;
        onRemark(remarkOf(thrown));
      },
    );
  });
}
