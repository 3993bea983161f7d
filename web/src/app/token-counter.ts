//! The token counter under the prompt: tokens of the typed prompt, and the part that the text encoder will not read.
import type { TokenCount, TokensCounted } from '../engine/protocol.gen';
import { element } from './dom';
import { t } from './i18n';

/** A pause in typing after which the tokens are counted. */
const PAUSE_MILLIS = 150;

const counter = element('token-counter', HTMLElement);
const truncated = element('truncated-prompt', HTMLElement);

/** Returns a function that counts the tokens of the form's prompts once it has not been called for a moment. */
export function startTokenCounter(count: () => Promise<Omit<TokensCounted, 'id'>>): () => void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let latest = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      latest += 1;
      const call = latest;
      // Values that cannot be counted are refused with a reason once they are submitted.
      const counted = await count().catch(() => ({ prompt: null, negative_prompt: null }));
      if (call === latest) renderTokenCounts(counted);
    }, PAUSE_MILLIS);
  };
}

function renderTokenCounts({ prompt, negative_prompt }: Omit<TokensCounted, 'id'>): void {
  counter.textContent = prompt === null ? '' : t('tokens', { tokens: prompt.tokens, max: prompt.max_tokens });
  counter.classList.toggle('exceeded', isTruncated(prompt));
  const cut: [TokenCount | null, 'notReadPrompt' | 'notReadNegativePrompt'][] = [
    [prompt, 'notReadPrompt'],
    [negative_prompt, 'notReadNegativePrompt'],
  ];
  const notes = cut.flatMap(([count, key]) => (count !== null && isTruncated(count) ? [t(key, { text: count.truncated })] : []));
  truncated.textContent = notes.join(' ');
  truncated.hidden = notes.length === 0;
}

function isTruncated(count: TokenCount | null): boolean {
  return count !== null && count.truncated !== '';
}
