//! The end of a prompt that chooses the size of the image.

/** Returns whether a prompt ends in `--ar H:W` or one of its other spellings (`crates/protocol`, prompt.rs), which choose the size. */
export function hasSizeSuffix(prompt: string): boolean {
  return /(^|\s)--(ar|aspect_ratio|hw)(\s|$)/.test(prompt);
}
