//! Shows the state: what the engine does, the picture as it arises, the picture. Asks for nothing.
import { element } from './dom';
import { pngFile, slug } from './files';
import type { Adapter, Estimate, Loading, Preview } from './protocol.gen';
import type { State } from './state';
import { t } from './i18n';

const draw = element('generate', HTMLButtonElement);
const cancel = element('cancel', HTMLButtonElement);
const restart = element('restart', HTMLButtonElement);
const device = element('device', HTMLSelectElement);
const status = element('status', HTMLElement);
const adapter = element('adapter', HTMLElement);
const progress = element('progress', HTMLProgressElement);
const alert = element('fault', HTMLElement);
const kind = element('fault-title', HTMLElement);
const what = element('fault-what', HTMLElement);
const remedy = element('fault-remedy', HTMLElement);
const code = element('fault-code', HTMLElement);
const figure = element('figure', HTMLElement);
const preview = element('preview', HTMLCanvasElement);
const picture = element('image', HTMLImageElement);
const caption = element('caption', HTMLElement);
const download = element('download', HTMLAnchorElement);
const recording = element('download-recording', HTMLAnchorElement);
const note = element('note', HTMLElement);
const estimate = element('estimate', HTMLElement);
const costs = element('estimate-lines', HTMLElement);

/** Shows `state` in place of `before`. */
export function render(state: State, before: State, hasCheckpoint: boolean): void {
  const { phase, fault: shown } = state;
  if (state.image !== before.image) renderPicture(state);
  if (state.progress?.preview !== before.progress?.preview) renderPreview(state.progress?.preview);
  draw.disabled = phase !== 'ready';
  cancel.hidden = phase !== 'drawing';
  draw.hidden = phase === 'drawing';
  status.textContent = statusText(state, hasCheckpoint);
  if (state.asking !== before.asking) renderEstimate(state.asking, state.adapter);
  adapter.textContent = adapterText(state);
  adapter.classList.toggle('slow', state.adapter?.software === true);
  renderProgress(state);
  note.hidden = state.note === undefined;
  note.textContent = state.note ?? '';
  alert.hidden = shown === undefined;
  kind.textContent = shown === undefined ? '' : t(`fault_${shown.code}`);
  what.textContent = shown?.what ?? '';
  remedy.textContent = shown?.remedy ?? '';
  code.textContent = shown?.code ?? '';
  restart.hidden = phase !== 'stopped' || shown?.code === 'no_webgpu';
  device.disabled = phase === 'drawing';
  figure.setAttribute('aria-busy', String(phase === 'drawing'));
}

/** What a checkpoint takes, for the reader to agree to. */
function renderEstimate(asking: Estimate | undefined, adapter: Adapter | undefined): void {
  estimate.hidden = asking === undefined;
  if (asking === undefined || asking.drawing === null) return;
  const { fetch_bytes, room_bytes, bytes_per_second, drawing } = asking;
  const [size, room] = [megabytes(fetch_bytes), room_bytes === null ? '' : t('estimateStorage', { room: megabytes(room_bytes) })];
  const rate = bytes_per_second === null ? '' : t('estimateTime', { time: duration(fetch_bytes / bytes_per_second), rate: megabytes(bytes_per_second) });
  const { size: side, steps, memory_bytes, seconds } = drawing;
  const lines = [
    t('estimateDownload', { size }) + rate + room,
    t('estimateMemory', { memory: megabytes(memory_bytes) }),
    t('estimateImage', { size: side, steps, time: duration(seconds) }),
    ...(room_bytes !== null && room_bytes < fetch_bytes ? [t('storageTooSmall')] : []),
    ...(adapter?.software === true || adapter?.backend === 'wasm' ? [t('slowWithoutGpu')] : []),
  ];
  costs.replaceChildren(...lines.map((line) => Object.assign(document.createElement('li'), { textContent: line })));
}

function renderProgress({ loading, progress: at, phase, asking }: State): void {
  progress.hidden = asking !== undefined || (phase !== 'opening' && phase !== 'drawing');
  if (loading !== undefined && loading.total_bytes !== null && loading.loaded_bytes < loading.total_bytes) {
    progress.max = loading.total_bytes;
    progress.value = loading.loaded_bytes;
  } else if (at?.stage === 'denoise' && at.steps > 0) {
    progress.max = at.steps;
    progress.value = at.step;
  } else {
    progress.removeAttribute('value');
  }
}

function statusText({ phase, loading, compiling, progress: at, image, asking }: State, hasCheckpoint: boolean): string {
  switch (phase) {
    case 'opening':
      if (asking !== undefined) return t('awaitingConfirmation');
      if (!hasCheckpoint) return t('noModel');
      if (loading?.loaded_bytes === loading?.total_bytes && compiling !== undefined && compiling.compiled < compiling.shaders)
        return t('compiling', { at: compiling.compiled + 1, all: compiling.shaders });
      return loading === undefined ? t('initializing') : loadingText(loading);
    case 'drawing': {
      if (at === undefined) return loading === undefined ? t('starting') : loadingText(loading);
      if (at.stage !== 'denoise' || at.steps === 0) return t(`stage_${at.stage}`);
      const left = at.step_millis === undefined ? '' : t('timeLeft', { seconds: seconds((at.steps - at.step) * at.step_millis) });
      return t('stepOf', { step: at.step, steps: at.steps }) + left;
    }
    case 'ready':
      return image === undefined ? t('ready') : t('lastImage', { seconds: seconds(image.millis.total) });
    case 'stopped':
      return t('stopped');
    default: {
      const missing: never = phase;
      return missing;
    }
  }
}

/** How far a checkpoint is on its way, in words. */
function loadingText({ stage, loaded_bytes, total_bytes, bytes_per_second, seconds_left }: Loading): string {
  if (stage === 'wait') return t('loading_wait');
  const of = total_bytes === null ? '' : ` / ${megabytes(total_bytes)}`;
  const rate = bytes_per_second > 0 ? `, ${megabytes(bytes_per_second)} MB/s` : '';
  const left = seconds_left === null || seconds_left < 1 ? '' : t('timeLeft', { seconds: Math.round(seconds_left) });
  return `${t(`loading_${stage}`)}: ${megabytes(loaded_bytes)}${of} MB${rate}${left}`;
}

function adapterText({ adapter: shown, plan }: State): string {
  if (shown === undefined) return '';
  const { name, backend, software, why } = shown;
  return `${name} (${backend})${software ? t('fallbackAdapter') : ''}: ${why}${plan === undefined ? '' : ` · ${plan}`}`;
}

/** The picture so far, over the one before it. */
function renderPreview(shown: Preview | undefined): void {
  preview.hidden = shown === undefined;
  if (shown === undefined) return;
  figure.hidden = false;
  const { width, height, rgb } = shown;
  Object.assign(preview, { width, height });
  const pixels = new ImageData(width, height);
  for (let at = 0; at < width * height; at += 1) {
    pixels.data.set(rgb.subarray(3 * at, 3 * at + 3), 4 * at);
    pixels.data[4 * at + 3] = 255;
  }
  preview.getContext('2d')?.putImageData(pixels, 0, 0);
}

function renderPicture({ image, prompt: drawn }: State): void {
  URL.revokeObjectURL(picture.src);
  URL.revokeObjectURL(recording.href);
  for (const part of [picture, caption, download]) part.hidden = image === undefined;
  figure.hidden = image === undefined;
  if (image === undefined) return;
  const url = URL.createObjectURL(pngFile(image.png));
  picture.src = url;
  picture.alt = drawn;
  picture.width = image.width;
  picture.height = image.height;
  caption.textContent = t('caption', { prompt: drawn, seed: image.seed, steps: image.steps });
  download.href = url;
  download.download = `${slug(drawn)}-${image.seed}.png`;
  recording.hidden = image.recording === null;
  if (image.recording !== null) recording.href = URL.createObjectURL(new Blob([new Uint8Array(image.recording)]));
  recording.download = `${slug(drawn)}-${image.seed}.safetensors`;
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(bytes < 1e9 ? 1 : 0);
}

/** Seconds, minutes or hours, as exact as an estimate is. */
function duration(seconds: number): string {
  const [value, unit] = seconds < 90 ? [seconds, 's'] : seconds < 5400 ? [seconds / 60, 'min'] : [seconds / 3600, 'h'];
  return `${value.toFixed(value < 10 ? 1 : 0)} ${unit}`;
}

function seconds(millis: number): string {
  return (millis / 1e3).toFixed(1);
}
