//! The style of `<pixart-studio>`, as a sheet that the shadow root adopts: a strict content security policy allows it.

const CSS = `
:host {
  --accent: var(--pixart-accent, light-dark(#3b46c4, #a3acff));
  --on-accent: var(--pixart-on-accent, light-dark(#ffffff, #12143a));
  --card: var(--pixart-background, light-dark(#ffffff, #191a1f));
  --field: var(--pixart-field, light-dark(#f7f7f9, #222329));
  --ink: var(--pixart-text, light-dark(#1b1c20, #ececf0));
  --soft: var(--pixart-soft, light-dark(#595d68, #a3a7b3));
  --line: var(--pixart-line, light-dark(#dcdde3, #2f3139));
  --warn: var(--pixart-warn, light-dark(#9a3412, #ffb38a));
  --round: var(--pixart-radius, 0.5rem);
  display: block;
  max-width: 32rem;
  color: var(--ink);
  font: var(--pixart-font, 15px / 1.45 system-ui, sans-serif);
}
:host([hidden]), [hidden] { display: none !important; }
* { box-sizing: border-box; }
form { display: grid; grid-template-columns: minmax(0, 1fr); gap: 0.75rem; padding: 0.75rem; background: var(--card); border: 1px solid var(--line); border-radius: calc(1.75 * var(--round)); }
.frame { display: grid; aspect-ratio: 1; overflow: hidden; background: var(--field); border-radius: var(--round); }
.frame > * { grid-area: 1 / 1; width: 100%; height: 100%; object-fit: contain; }
canvas { image-rendering: auto; filter: blur(2px); }
p { min-height: 1.45em; margin: 0; color: var(--soft); overflow-wrap: anywhere; }
p[role='alert'] { min-height: 0; color: var(--warn); }
label, summary { font-size: 0.85rem; color: var(--soft); }
summary { cursor: pointer; }
.fields { display: grid; grid-template-columns: repeat(auto-fill, minmax(8rem, 1fr)); gap: 0.5rem; padding-top: 0.5rem; }
.wide { grid-column: 1 / -1; }
textarea, input { display: block; width: 100%; margin-top: 0.25rem; padding: 0.4rem 0.55rem; font: inherit; color: var(--ink); background: var(--field); border: 1px solid var(--line); border-radius: var(--round); resize: vertical; }
.row { display: flex; flex-wrap: wrap; gap: 0.5rem; align-items: center; }
progress { flex: 1; min-width: 4rem; accent-color: var(--accent); }
button { padding: 0.4rem 0.9rem; font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line); border-radius: var(--round); cursor: pointer; }
button[type='submit'] { font-weight: 600; color: var(--on-accent); background: var(--accent); border-color: transparent; }
button:disabled { opacity: 0.55; cursor: default; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
`;

let sheet: CSSStyleSheet | undefined;

/** Lets `root` adopt the sheet, which all elements share. */
export function adoptStyles(root: ShadowRoot): void {
  if (sheet === undefined) {
    sheet = new CSSStyleSheet();
    sheet.replaceSync(CSS);
  }
  root.adoptedStyleSheets = [sheet];
}
