//! The icons, as paths of inline SVG in a square of 24: strokes in the colour of the text beside them.
const PATHS = {
  logo: 'M4 4h6v6H4zM14 4h6v6h-6zM4 14h6v6H4zM17 14l1 2 2 1-2 1-1 2-1-2-2-1 2-1z',
  again: 'M20 11a8 8 0 1 0-2.3 6.6M20 5v6h-6',
  brush: 'M14 6l4 4M4 20c0-3 1-5 3-5s3 2 2 4-3 1-5 1M9 15L18.5 4.5a1.8 1.8 0 0 1 2.5 2.5L11 17',
  clock: 'M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM12 8v4l3 2',
  check: 'M5 12l5 5L20 7',
  close: 'M6 6l12 12M18 6L6 18',
  compare: 'M4 5h16v14H4zM12 3v18M7 10l-1 2 1 2M17 10l1 2-1 2',
  copy: 'M9 9h11v11H9zM5 15H4V4h11v1',
  download: 'M12 4v11M7 11l5 5 5-5M5 20h14',
  gallery: 'M4 4h7v7H4zM13 4h7v7h-7zM4 13h7v7H4zM13 13h7v7h-7z',
  generate: 'M12 3l2 6 6 2-6 2-2 6-2-6-6-2 6-2zM19 17l.7 1.8 1.8.7-1.8.7L19 22l-.7-1.8-1.8-.7 1.8-.7z',
  help: 'M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zM9.5 9.5a2.5 2.5 0 1 1 3.5 2.3c-.7.3-1 .8-1 1.7M12 17h.01',
  heart: 'M12 20s-7-4.6-7-9.6A3.9 3.9 0 0 1 12 8a3.9 3.9 0 0 1 7 2.4c0 5-7 9.6-7 9.6z',
  larger: 'M4 12v8h8M4 20l7-7M20 12V4h-8M20 4l-7 7',
  link: 'M10 14a4 4 0 0 0 6 0l3-3a4 4 0 0 0-6-6l-1 1M14 10a4 4 0 0 0-6 0l-3 3a4 4 0 0 0 6 6l1-1',
  lock: 'M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3M12 14.5v2',
  model: 'M12 3l8 4.5v9L12 21l-8-4.5v-9zM4 7.5l8 4.5 8-4.5M12 12v9',
  more: 'M5 12h.01M12 12h.01M19 12h.01',
  next: 'M9 5l7 7-7 7',
  previous: 'M15 5l-7 7 7 7',
  record: 'M5 4h14v16H5zM9 4v16M12 8h4M12 12h4',
  reuse: 'M4 12a8 8 0 0 1 14-5l2 2M20 4v5h-5M20 12a8 8 0 0 1-14 5l-2-2M4 20v-5h5',
  settings: 'M4 7h9M17 7h3M4 17h3M11 17h9M15 5v4M9 15v4',
  share: 'M12 15V4M8 8l4-4 4 4M5 12v8h14v-8',
  star: 'M12 3.5l2.6 5.3 5.9.9-4.2 4.1 1 5.8-5.3-2.8-5.3 2.8 1-5.8L3.5 9.7l5.9-.9z',
  start: 'M4 5h11v9H4zM4 12l3-3 4 5M18 12v8M14 16l4-4 4 4',
  trash: 'M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13',
  vary: 'M3 8c3-4 6-4 9 0s6 4 9 0M3 16c3-4 6-4 9 0s6 4 9 0',
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
