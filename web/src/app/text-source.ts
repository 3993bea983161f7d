//! The part of the form that selects what encodes the prompt, and the status of the companion at the entered URL.
import { type CompanionModel, isServedByCompanion, listModels } from '../engine/companion';
import { fault, faultOf } from '../engine/fault';
import type { TextEncoderSource } from '../engine/protocol.gen';
import { element } from './dom';
import { t } from './i18n';

const tab = element('text-tab', HTMLInputElement);
const companion = element('text-companion', HTMLInputElement);
const url = element('companion-url', HTMLInputElement);
const token = element('companion-token', HTMLInputElement);
const fromFile = element('text-file', HTMLInputElement);
const file = element('embeddings-file', HTMLInputElement);
const status = element('companion-status', HTMLElement);

/** The interval at which a loading companion is asked again. */
const RETRY_MILLIS = 1_000;

let pending = new AbortController();

/** Selects the companion at `address` where one is given, and looks for the companion that serves this page. */
export function startTextSource(address: string | null): void {
  companion.checked = address !== null;
  url.value = address || location.origin;
  for (const field of [tab, companion, fromFile, url, token]) field.addEventListener('change', () => void refreshStatus());
  void refreshStatus();
}

/** Returns whether this tab encodes prompts. */
export function encodesInTab(): boolean {
  return tab.checked;
}

/** Returns the URL of the companion that encodes prompts, if one does. */
export function selectedCompanion(): string | undefined {
  return companion.checked ? url.value : undefined;
}

/** Returns to this tab as the text source where a file is selected: its embeddings belong to another prompt. */
export function unselectFile(): void {
  if (!fromFile.checked) return;
  tab.checked = true;
  void refreshStatus();
}

/** Returns the selected text source, with the contents of its file. Rejects with a `Fault`. */
export async function readTextSource(): Promise<TextEncoderSource> {
  if (companion.checked) return { kind: 'companion', url: url.value, ...(token.value && { token: token.value }) };
  if (!fromFile.checked) return { kind: 'tab' };
  const selected = file.files?.[0];
  if (selected === undefined) throw fault('bad_request', 'no embeddings file is selected', 'select a file written by `pixart encode`');
  return { kind: 'file', bytes: new Uint8Array(await selected.arrayBuffer()) };
}

/** Shows the models of the selected companion, or of the one that serves this page. */
async function refreshStatus(): Promise<void> {
  for (const field of [url, token]) field.disabled = !companion.checked;
  file.disabled = !fromFile.checked;
  pending.abort();
  pending = new AbortController();
  const { signal } = pending;
  const at = companion.checked ? url.value : location.origin;
  if (!companion.checked && !(await isServedByCompanion(signal))) {
    if (!signal.aborted) status.textContent = '';
    return;
  }
  const text = await listModels(at, token.value, signal).then(
    (models) => {
      if (models.length === 0) setTimeout(() => signal.aborted || void refreshStatus(), RETRY_MILLIS);
      return models.length === 0 ? t('companionLoading', { at }) : t('companionModels', { at, models: models.map(describe).join('; ') });
    },
    (thrown: unknown) => (companion.checked ? t('companionUnavailable', { what: faultOf(thrown).what }) : ''),
  );
  if (!signal.aborted) status.textContent = text;
}

function describe({ id, device, generates_images }: CompanionModel): string {
  return t(generates_images ? 'companionGenerates' : 'companionEncodes', { id, device });
}
