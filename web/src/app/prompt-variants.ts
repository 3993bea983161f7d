//! Several prompts from one text: alternatives in braces, `a {red|blue} {cat|dog}`, and lines where the user asks for it. Pure.

/** The most prompts that are made of a text: where there are more, one more than this is returned. */
export const VARIANTS_MAX = 64;

/** Texts with more braces are taken as they are. */
const BRACES_MAX = 256;

interface Parsed {
  texts: string[];
  /** Where parsing stopped: at `|` or `}` inside of braces, behind the braces, or at the end. */
  end: number;
}

/** Returns the prompts of a text in order: those of the first line first, and in a line the last braces vary fastest. Braces without `|`
    stand for themselves, and so does what follows a backslash: `\{`, `\|`, `\}`. */
export function promptVariants(text: string, eachLine: boolean): string[] {
  const lines = eachLine ? text.split(/\r\n?|\n/).filter((line) => line.trim() !== '') : [];
  const variants = (lines.length === 0 ? [text] : lines).flatMap((line) => variantsOf(line).slice(0, VARIANTS_MAX + 1));
  return variants.slice(0, VARIANTS_MAX + 1);
}

function variantsOf(text: string): string[] {
  if (text.split('{').length > BRACES_MAX) return [text];
  /** Braces by their start: text behind braces that are no alternatives is not parsed again. */
  const known = new Map<number, Parsed | undefined>();

  const sequence = (start: number, inBraces: boolean): Parsed => {
    let texts = [''];
    let at = start;
    const append = (suffixes: readonly string[]): void => {
      texts = texts.flatMap((prefix) => suffixes.map((suffix) => prefix + suffix)).slice(0, VARIANTS_MAX + 1);
    };
    while (at < text.length) {
      const character = text.charAt(at);
      if (inBraces && (character === '|' || character === '}')) break;
      const braces = character === '{' ? alternatives(at) : undefined;
      const isEscape = character === '\\' && /[{|}]/.test(text.charAt(at + 1));
      append(braces?.texts ?? [isEscape ? text.charAt(at + 1) : character]);
      at = braces?.end ?? at + (isEscape ? 2 : 1);
    }
    return { texts, end: at };
  };

  /** Returns the alternatives of the braces at `start`; `undefined` where they are none. */
  const alternatives = (start: number): Parsed | undefined => {
    if (known.has(start)) return known.get(start);
    const texts: string[] = [];
    let at = start;
    let count = 0;
    do {
      const alternative = sequence(at + 1, true);
      texts.push(...alternative.texts);
      at = alternative.end;
      count += 1;
    } while (text.charAt(at) === '|');
    const found = text.charAt(at) === '}' && count > 1 ? { texts, end: at + 1 } : undefined;
    known.set(start, found);
    return found;
  };

  return sequence(0, false).texts;
}
