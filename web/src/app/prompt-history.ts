//! The prompts that were requested in this browser, newest first, in a list behind a button of the prompt bar.
import { element } from './dom';

const PROMPTS_KEY = 'prompts';
const PROMPTS_MAX = 50;

const button = element('open-prompts', HTMLButtonElement);
const popover = element('prompts', HTMLElement);
const list = element('prompt-list', HTMLElement);
/** Without storage the list lasts until the window is closed. */
let prompts: readonly string[] = storedPrompts();

/** Calls `onChoose` with the prompt that the user chooses. */
export function startPromptHistory(onChoose: (prompt: string) => void): void {
  popover.addEventListener('beforetoggle', ({ newState }) => {
    if (newState !== 'open') return;
    list.replaceChildren(
      ...prompts.map((prompt, at) => {
        const choice = Object.assign(document.createElement('button'), { type: 'button', textContent: prompt, autofocus: at === 0 });
        choice.addEventListener('click', () => {
          popover.hidePopover();
          onChoose(prompt);
        });
        const item = document.createElement('li');
        item.append(choice);
        return item;
      }),
    );
  });
  element('clear-prompts', HTMLButtonElement).addEventListener('click', () => {
    popover.hidePopover();
    store([]);
  });
  button.disabled = prompts.length === 0;
}

/** Puts a prompt in front. */
export function recordPrompt(prompt: string): void {
  if (prompt.trim() !== '') store([prompt, ...prompts.filter((other) => other !== prompt)].slice(0, PROMPTS_MAX));
}

function store(changed: readonly string[]): void {
  prompts = changed;
  try {
    localStorage.setItem(PROMPTS_KEY, JSON.stringify(changed));
  } catch {
    // The browser stores nothing for this page.
  }
  button.disabled = prompts.length === 0;
}

function storedPrompts(): string[] {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(PROMPTS_KEY) ?? '[]');
    return Array.isArray(stored) ? stored.filter((prompt) => typeof prompt === 'string') : [];
  } catch {
    // There is no storage, or another page has written there.
    return [];
  }
}
