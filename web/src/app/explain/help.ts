//! A sentence and the default below each setting, for as long as the user wants them.
import type { Checkpoint } from '../../engine/protocol.gen';
import { formatPlain } from '../format';
import { type ExplainKey, x } from './texts';

/** The settings that have a sentence: the last element of each group is followed by it. */
const SETTINGS: Record<string, readonly string[]> = {
  eachLine: ['each-line'],
  promptsFile: ['prompts-file'],
  wildcards: ['wildcard-list', 'wildcard-name', 'wildcard-entries', 'wildcard-file'],
  negativePrompt: ['negative-prompt'],
  size: ['width', 'height'],
  seed: ['seed'],
  randomSeed: ['random-seed'],
  numImages: ['num-images'],
  preset: ['preset'],
  steps: ['steps'],
  guidanceScale: ['guidance-scale'],
  scheduler: ['scheduler'],
  style: ['style', 'styles'],
  variationSeed: ['variation-seed'],
  variationStrength: ['variation-strength'],
  hiresScale: ['hires-scale'],
  hiresStrength: ['hires-strength'],
  hiresSteps: ['hires-steps'],
  initImage: ['init-image'],
  maskImage: ['mask-image'],
  strength: ['strength'],
  loras: ['lora-url', 'lora-file'],
  grid: ['x-axis', 'x-axis-values', 'y-axis', 'y-axis-values'],
  textEncoder: ['text-tab', 'text-companion', 'text-file'],
  device: ['device'],
  promptWeighting: ['prompt-weighting'],
  record: ['record'],
  notify: ['notify'],
  language: ['language'],
};

/** Shows a sentence below each setting, or removes them all. */
export function renderHelp(isShown: boolean, checkpoint: Checkpoint | undefined): void {
  for (const help of document.querySelectorAll('.setting-help')) help.remove();
  for (const [name, ids] of Object.entries(SETTINGS)) {
    const fields = ids.flatMap((id) => document.getElementById(id) ?? []);
    const id = `help-${name}`;
    for (const field of fields) {
      if (isShown) field.setAttribute('aria-describedby', id);
      else field.removeAttribute('aria-describedby');
    }
    const last = fields.at(-1);
    if (!isShown || last === undefined) continue;
    const text = `${x(`help_${name}` as ExplainKey)} ${x('default', { value: defaultOf(name, fields[0], checkpoint) })}`;
    const help = Object.assign(document.createElement('p'), { id, className: 'setting-help', textContent: text });
    (last.closest('label.check') ?? last).after(help);
  }
}

/** Returns the default of a setting: the open model's, or that of the form. */
function defaultOf(name: string, field: HTMLElement | undefined, checkpoint: Checkpoint | undefined): string {
  const { preset, limits } = checkpoint ?? {};
  if (name === 'size' && limits !== undefined) return `${formatPlain(limits.native_size)} × ${formatPlain(limits.native_size)}`;
  if (name === 'preset' && preset !== undefined) return preset.name;
  if (name === 'steps' && preset !== undefined) return formatPlain(preset.num_inference_steps);
  if (name === 'guidanceScale' && preset !== undefined) return formatPlain(preset.guidance_scale);
  if (name === 'language') return x('defaultLanguage');
  if (name === 'textEncoder') return x('defaultTextEncoder');
  if (name === 'hiresSteps') return x('defaultHiresSteps');
  if (name === 'style' || name === 'promptsFile' || name === 'wildcards') return x('none');
  if (name === 'loras' || name === 'initImage' || name === 'maskImage') return x('none');
  if (field instanceof HTMLSelectElement) return (field.options[0]?.textContent ?? '').trim() || x('none');
  if (field instanceof HTMLInputElement && field.type === 'checkbox') return x(field.defaultChecked ? 'on' : 'off');
  if (field instanceof HTMLInputElement) return formatPlain(Number(field.defaultValue || field.placeholder));
  return x('none');
}
