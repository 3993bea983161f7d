//! The icons of the editor, as those of the page.
const PATHS = {
  actual: 'M5 8l2-1v10M12 10h.01M12 14h.01M17 8l2-1v10',
  apply: 'M5 12l5 5L20 7',
  brush: 'M14 6l4 4M4 20c0-3 1-5 3-5s3 2 2 4-3 1-5 1M9 15L18.5 4.5a1.8 1.8 0 0 1 2.5 2.5L11 17',
  clear: 'M5 5h14v14H5zM9 9l6 6M15 9l-6 6',
  crop: 'M7 2v15h15M2 7h15v15',
  eraser: 'M8 19l-4-4a1.4 1.4 0 0 1 0-2l8-8a1.4 1.4 0 0 1 2 0l6 6a1.4 1.4 0 0 1 0 2l-6 6zM20 19H8M8 9l8 8',
  extend: 'M8 8h8v8H8zM12 5V2M12 22v-3M5 12H2M22 12h-3M10 4l2-2 2 2M10 20l2 2 2-2M4 10l-2 2 2 2M20 10l2 2-2 2',
  fill: 'M5 5h14v14H5zM5 14l9-9M5 19L19 5M10 19l9-9',
  fit: 'M4 9V4h5M15 4h5v5M20 15v5h-5M9 20H4v-5',
  hand: 'M8 12V6.5a1.5 1.5 0 0 1 3 0V11M11 10V4.5a1.5 1.5 0 0 1 3 0V11M14 10V6a1.5 1.5 0 0 1 3 0v8c0 4-2 7-6 7-3 0-4.500-1.500-6-4l-2-4c1-1.500 3-1 5 1',
  invert: 'M5 5h14v14H5zM5 19L19 5v14z',
  image: 'M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15 9h.01',
  minus: 'M5 12h14',
  plus: 'M5 12h14M12 5v14',
  redo: 'M15 5l5 5-5 5M20 10h-9a6 6 0 0 0 0 12h2',
  trash: 'M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13',
  undo: 'M9 5l-5 5 5 5M4 10h9a6 6 0 0 1 0 12h-2',
} as const;

export type EditorIconName = keyof typeof PATHS;

export function EditorIcon({ name }: { name: EditorIconName }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}
