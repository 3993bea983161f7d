//! The icons, as paths of inline SVG in a square of 24: strokes in the colour of the text beside them.
const PATHS = {
  logo: 'M4 4h6v6H4zM14 4h6v6h-6zM4 14h6v6H4zM17 14l1 2 2 1-2 1-1 2-1-2-2-1 2-1z',
  again: 'M20 11a8 8 0 1 0-2.3 6.6M20 5v6h-6',
  brush: 'M14 6l4 4M4 20c0-3 1-5 3-5s3 2 2 4-3 1-5 1M9 15L18.5 4.5a1.8 1.8 0 0 1 2.5 2.5L11 17',
  close: 'M6 6l12 12M18 6L6 18',
  download: 'M12 4v11M7 11l5 5 5-5M5 20h14',
  gallery: 'M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z',
  generate: 'M12 3l2 6 6 2-6 2-2 6-2-6-6-2 6-2zM19 17l.7 1.8 1.8.7-1.8.7L19 22l-.7-1.8-1.8-.7 1.8-.7z',
  heart: 'M12 20s-7-4.6-7-9.6A3.9 3.9 0 0 1 12 8a3.9 3.9 0 0 1 7 2.4c0 5-7 9.6-7 9.6z',
  model: 'M12 3l8 4.5v9L12 21l-8-4.5v-9zM4 7.5l8 4.5 8-4.5M12 12v9',
  record: 'M5 4h14v16H5zM9 4v16M12 8h4M12 12h4',
  settings: 'M4 7h9M17 7h3M4 17h3M11 17h9M15 5v4M9 15v4',
  vary: 'M3 8c3-4 6-4 9 0s6 4 9 0M3 16c3-4 6-4 9 0s6 4 9 0',
  start: 'M4 5h11v9H4zM4 12l3-3 4 5M18 12v8M14 16l4-4 4 4',
} as const;

export type IconName = keyof typeof PATHS;

/** An icon beside a text, or inside of a button with a label. */
export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

/** Draws the icons of index.html, which names them in `data-icon`. */
export function startIcons(): void {
  for (const svg of document.querySelectorAll<SVGElement>('svg[data-icon]')) {
    svg.setAttribute('viewBox', '0 0 24 24');
    const path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
    path.setAttribute('d', PATHS[checkedName(svg.dataset.icon)]);
    svg.replaceChildren(path);
  }
}

function checkedName(name = ''): IconName {
  if (!Object.hasOwn(PATHS, name)) throw new Error(`index.html names the icon ${name}, which does not exist`);
  return name as IconName;
}
