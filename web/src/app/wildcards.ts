//! Wildcards in prompts: `__name__` stands for an entry of the user's list of this name, chosen by the image's seed, as in Fooocus and in
//! Dynamic Prompts for AUTOMATIC1111. The lists are stored in this browser. The request holds the chosen words.

/** Lists by name: an entry a line. */
export type WildcardLists = Readonly<Record<string, string>>;

/** The localStorage key of the lists. */
const LISTS_KEY = 'wildcards';
/** A name: letters, digits, spaces and single underscores or dashes between them. */
const WILDCARD = /__([\p{L}\p{N}]+(?:[ _-][\p{L}\p{N}]+)*)__/gu;
/** How deep entries may name other lists. */
const DEPTH_MAX = 8;

export function readLists(): WildcardLists {
  try {
    const stored: unknown = JSON.parse(localStorage.getItem(LISTS_KEY) ?? '{}');
    const entries = typeof stored === 'object' && stored !== null ? Object.entries(stored) : [];
    return Object.fromEntries(entries.filter((entry): entry is [string, string] => typeof entry[1] === 'string'));
  } catch {
    // Without storage there are no lists.
    return {};
  }
}

/** Stores the lists; throws where the browser stores nothing. */
export function writeLists(lists: WildcardLists): void {
  localStorage.setItem(LISTS_KEY, JSON.stringify(lists));
}

/** Returns a name as it can be written between underscores; empty for one that has no letter or digit. */
export function wildcardName(text: string): string {
  return text
    .replace(/[^\p{L}\p{N}]+/gu, '-')
    .replace(/^-|-$/g, '')
    .toLowerCase();
}

/** Returns a text with an entry in place of each wildcard. The same seed chooses the same entries; what names no list stays as it is. */
export function withWildcards(text: string, lists: WildcardLists, seed: number): string {
  const random = mulberry32(seed);
  const replaced = (part: string, depth: number): string =>
    part.replace(WILDCARD, (written, name: string) => {
      const entries = entriesOf(lists, name);
      const chosen = entries[Math.floor(random() * entries.length)];
      if (chosen === undefined) return written;
      return depth < DEPTH_MAX ? replaced(chosen, depth + 1) : chosen;
    });
  return replaced(text, 1);
}

/** Returns the wildcards of a text that name no list. */
export function unknownWildcards(text: string, lists: WildcardLists): string[] {
  const names = [...text.matchAll(WILDCARD)].map(([, name = '']) => name);
  return [...new Set(names.filter((name) => entriesOf(lists, name).length === 0))];
}

function entriesOf(lists: WildcardLists, name: string): string[] {
  const list = Object.hasOwn(lists, name.toLowerCase()) ? lists[name.toLowerCase()] : undefined;
  return (list ?? '')
    .split(/\r\n?|\n/)
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
}

/** Returns numbers from 0 to 1 that look random and depend on the seed alone (Tommy Ettinger's Mulberry32). */
function mulberry32(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let bits = Math.imul(state ^ (state >>> 15), state | 1);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  };
}
