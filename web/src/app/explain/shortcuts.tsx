//! The list of keyboard shortcuts, from the table that binds them.
import { SHORTCUTS, type ShortcutScope } from '../shortcuts';
import { type ExplainKey, x } from './texts';

/** How keys are written; others as they are. */
const KEY_TEXTS: Readonly<Record<string, string>> = {
  ArrowLeft: '←',
  ArrowRight: '→',
  ArrowUp: '↑',
  ArrowDown: '↓',
  PageUp: 'PgUp',
  PageDown: 'PgDn',
  Escape: 'Esc',
};
const COMMAND_KEY = /Mac|iPhone|iPad/.test(navigator.platform) ? '⌘' : 'Ctrl';

export function Shortcuts() {
  return (
    <>
      {(Object.keys(SHORTCUTS) as ShortcutScope[]).map((scope) => (
        <table key={scope}>
          <caption>{x(`scope_${scope}`)}</caption>
          <tbody>
            {Object.entries<readonly string[]>(SHORTCUTS[scope]).map(([command, keys]) => (
              <tr key={command}>
                <th scope="row">{x(`shortcut_${command}` as ExplainKey)}</th>
                <td>
                  {keys.map((key) => (
                    <span key={key} class="keys">
                      {(key === '+' ? [key] : key.split('+')).map((part) => (
                        <kbd key={part}>
                          {part === 'Ctrl' ? COMMAND_KEY : (KEY_TEXTS[part] ?? (part.length === 1 ? part.toUpperCase() : part))}
                        </kbd>
                      ))}
                    </span>
                  ))}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      ))}
    </>
  );
}
