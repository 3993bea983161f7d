//! Who reads the prompt: the part of the form that chooses it, and what a companion at the chosen address offers.
import { offered, servesPage, type Offer } from './companion';
import { element } from './dom';
import { fault, faultOf } from './fault';
import type { TextSource } from './protocol.gen';
import { t } from './i18n';

const tab = element('text-tab', HTMLInputElement);
const companion = element('text-companion', HTMLInputElement);
const url = element('companion-url', HTMLInputElement);
const token = element('companion-token', HTMLInputElement);
const stored = element('text-file', HTMLInputElement);
const file = element('embeddings-file', HTMLInputElement);
const pairing = element('companion-status', HTMLElement);

/** After so long a companion that was loading is asked again. */
const LOADING_MILLIS = 1_000;

let asking = new AbortController();

/** Begins with a companion at `address` where one is given, and looks for one where the page is from. */
export function beginText(address: string | null): void {
  companion.checked = address !== null;
  url.value = address || location.origin;
  for (const field of [tab, companion, stored, url, token]) field.addEventListener('change', () => void look());
  void look();
}

/** Whether this tab is to read prompts. */
export function readsHere(): boolean {
  return tab.checked;
}

/** What the form says; a file is read now. Rejects with a fault. */
export async function chosenText(): Promise<TextSource> {
  if (companion.checked) return { kind: 'companion', url: url.value, ...(token.value && { token: token.value }) };
  if (!stored.checked) return { kind: 'tab' };
  const chosen = file.files?.[0];
  if (chosen === undefined) throw fault('bad_request', 'no embeddings file is selected', 'select a file written by `pixart encode`');
  return { kind: 'file', bytes: new Uint8Array(await chosen.arrayBuffer()) };
}

/** Asks the chosen address, or where the page is from, what it has, and shows that. */
async function look(): Promise<void> {
  for (const field of [url, token]) field.disabled = !companion.checked;
  file.disabled = !stored.checked;
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  const at = companion.checked ? url.value : location.origin;
  if (!companion.checked && !(await servesPage(signal))) {
    if (!signal.aborted) pairing.textContent = '';
    return;
  }
  const said = await offered(at, token.value, signal).then(
    (models) => {
      if (models.length === 0) setTimeout(() => signal.aborted || void look(), LOADING_MILLIS);
      return models.length === 0 ? t('companionLoading', { at }) : t('companionModels', { at, models: models.map(words).join('; ') });
    },
    (thrown: unknown) => (companion.checked ? t('companionUnavailable', { what: faultOf(thrown).what }) : ''),
  );
  if (!signal.aborted) pairing.textContent = said;
}

function words({ id, device, draws }: Offer): string {
  return t(draws ? 'companionGenerates' : 'companionEncodes', { id, device });
}
