//! The files of generated images.

export function pngBlob(png: Uint8Array): Blob {
  return new Blob([new Uint8Array(png)], { type: 'image/png' });
}

/** Turns `text` into a file name without extension: lower-case letters and digits, with dashes between. */
function slug(text: string): string {
  const dashed = text.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, '-');
  return dashed.slice(0, 60).replace(/^-|-$/g, '') || 'image';
}

/** Returns the name of an image's file, without its ending. */
export function fileStem({ prompt, seed }: { prompt: string; seed: number }): string {
  return `${slug(prompt)}-${seed}`;
}
