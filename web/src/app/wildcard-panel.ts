//! The wildcard lists in the settings: choose, write, import and delete. It is downloaded when it is first opened.
import { messageOf } from '../engine/fault';
import { element } from './dom';
import { t } from './i18n';
import { readLists, type WildcardLists, wildcardName, writeLists } from './wildcards';

/** The largest file that is read as a list. */
const LIST_BYTES_MAX = 1 << 20;

/** Connects the fields; `onChange` follows each change of a list. */
export function startWildcardPanel(onChange: () => void): void {
  const choice = element('wildcard-list', HTMLSelectElement);
  const name = element('wildcard-name', HTMLInputElement);
  const entries = element('wildcard-entries', HTMLTextAreaElement);
  const file = element('wildcard-file', HTMLInputElement);
  const status = element('wildcard-status', HTMLElement);
  let lists = readLists();

  const show = (selected: string): void => {
    const fresh = new Option(t('newWildcardList'), '');
    choice.replaceChildren(fresh, ...Object.keys(lists).map((list) => new Option(`__${list}__`, list)));
    choice.value = Object.hasOwn(lists, selected) ? selected : '';
    name.value = choice.value;
    entries.value = lists[choice.value] ?? '';
  };
  const store = (changed: WildcardLists, selected: string, text: string): void => {
    try {
      writeLists(changed);
    } catch (thrown) {
      status.textContent = t('wildcardNotStored', { why: messageOf(thrown) });
      return;
    }
    lists = changed;
    show(selected);
    status.textContent = text;
    onChange();
  };
  const save = (written: string, text: string): void => {
    const list = wildcardName(written);
    if (list === '') {
      status.textContent = t('wildcardNeedsName');
      name.focus();
      return;
    }
    store({ ...lists, [list]: text }, list, t('wildcardStored', { name: `__${list}__` }));
  };

  choice.addEventListener('change', () => {
    show(choice.value);
    status.textContent = '';
  });
  element('wildcard-save', HTMLButtonElement).addEventListener('click', () => save(name.value, entries.value));
  element('wildcard-delete', HTMLButtonElement).addEventListener('click', () => {
    const { [choice.value]: removed, ...others } = lists;
    if (removed !== undefined) store(others, '', t('wildcardDeleted', { name: `__${choice.value}__` }));
  });
  file.addEventListener('change', () => {
    const [chosen] = file.files ?? [];
    file.value = '';
    if (chosen === undefined) return;
    if (chosen.size > LIST_BYTES_MAX) status.textContent = t('textFileLarge', { name: chosen.name });
    else
      chosen.text().then(
        (text) => save(chosen.name.replace(/\.\w+$/, ''), text),
        () => (status.textContent = t('dropUnreadable', { name: chosen.name })),
      );
  });
  show('');
}
