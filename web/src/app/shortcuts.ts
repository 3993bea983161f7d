//! The keyboard shortcuts: one table that binds them and that the list behind `?` shows.

/** The keys of each command, by where they work. `Ctrl` is the command key of a Mac, too; a space is `Space`. */
export const SHORTCUTS = {
  page: { generate: ['Ctrl+Enter'], shortcuts: ['?'], closePanel: ['Escape'] },
  grid: {
    left: ['ArrowLeft'],
    right: ['ArrowRight'],
    up: ['ArrowUp'],
    down: ['ArrowDown'],
    pageUp: ['PageUp'],
    pageDown: ['PageDown'],
    first: ['Home'],
    last: ['End'],
    select: ['Space'],
    selectAll: ['Ctrl+a'],
    favourite: ['f'],
    delete: ['Delete', 'Backspace'],
    undo: ['Ctrl+z'],
    deselect: ['Escape'],
  },
  lightbox: {
    previous: ['ArrowLeft'],
    next: ['ArrowRight'],
    first: ['Home'],
    last: ['End'],
    favourite: ['f'],
    delete: ['Delete', 'Backspace'],
    undo: ['Ctrl+z'],
    close: ['Escape'],
  },
  editor: {
    brush: ['b'],
    eraser: ['e'],
    smallerBrush: ['['],
    largerBrush: [']'],
    moveView: ['h'],
    crop: ['c'],
    extend: ['x'],
    invertMask: ['i'],
    clearMask: ['Delete'],
    undo: ['Ctrl+z'],
    redo: ['Ctrl+Shift+z', 'Ctrl+y'],
    zoomIn: ['+', '='],
    zoomOut: ['-'],
    fit: ['0'],
    actualSize: ['1'],
    paint: ['Enter'],
  },
} as const satisfies Record<string, Record<string, readonly string[]>>;

export type ShortcutScope = keyof typeof SHORTCUTS;
export type ShortcutOf<S extends ShortcutScope> = keyof (typeof SHORTCUTS)[S];

/** Returns the command that the pressed keys have in `scope`. */
export function commandOf<S extends ShortcutScope>(scope: S, event: KeyboardEvent): ShortcutOf<S> | undefined {
  const { key, ctrlKey, metaKey, shiftKey } = event;
  const modifiers = ctrlKey || metaKey ? `Ctrl+${shiftKey ? 'Shift+' : ''}` : '';
  // A letter is the same with Shift or with Caps Lock.
  const pressed = modifiers + (key === ' ' ? 'Space' : key.length === 1 ? key.toLowerCase() : key);
  const commands = Object.entries<readonly string[]>(SHORTCUTS[scope]);
  return commands.find(([, keys]) => keys.includes(pressed))?.[0] as ShortcutOf<S> | undefined;
}

/** Returns whether the keys that are pressed are text for the focused element. */
export function isTyping({ target }: Event): boolean {
  return (
    target instanceof HTMLElement &&
    (target.isContentEditable || target.matches('textarea, select, input:not([type="checkbox"], [type="radio"], [type="range"])'))
  );
}
