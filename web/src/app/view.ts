//! Renders the state: status, progress, preview, image, faults and the download estimate.

import type { AdapterInfo, Estimate, LoadProgress, PreviewImage } from '../engine/protocol.gen';
import { fileStem, pngBlob } from '../gallery/files';
import { element } from './dom';
import { formatBytes, formatDuration, formatPercent, formatRate } from './format';
import { t } from './i18n';
import type { State } from './state';

const generateButton = element('generate', HTMLButtonElement);
const cancelButton = element('cancel', HTMLButtonElement);
const restartButton = element('restart', HTMLButtonElement);
const device = element('device', HTMLSelectElement);
const status = element('status', HTMLElement);
const adapter = element('adapter', HTMLElement);
const whySlow = element('why-slow', HTMLButtonElement);
const progress = element('progress', HTMLProgressElement);
const faultAlert = element('fault', HTMLElement);
const faultTitle = element('fault-title', HTMLElement);
const faultWhat = element('fault-what', HTMLElement);
const faultRemedy = element('fault-remedy', HTMLElement);
const faultCode = element('fault-code', HTMLElement);
const figure = element('figure', HTMLElement);
const preview = element('preview', HTMLCanvasElement);
const imageElement = element('image', HTMLImageElement);
const caption = element('caption', HTMLElement);
const downloadLink = element('download', HTMLAnchorElement);
const imageActions = element('image-actions', HTMLElement);
const recordingLink = element('download-recording', HTMLAnchorElement);
const note = element('note', HTMLElement);
const notice = element('notice', HTMLElement);
const noticeText = element('notice-text', HTMLElement);
const useImageButton = element('use-image', HTMLButtonElement);
const openNamedModel = element('open-named-model', HTMLButtonElement);
const estimateGroup = element('estimate', HTMLElement);
const estimateLines = element('estimate-lines', HTMLElement);

/** Renders `state`. Parts that are costly to render are left alone where they are as in `before`. */
export function render(state: State, before: State, hasModel: boolean): void {
  const { phase, fault } = state;
  if (state.image !== before.image) renderImage(state);
  const shown = previewOf(state);
  if (shown !== previewOf(before)) renderPreview(shown);
  generateButton.disabled = phase !== 'ready' && phase !== 'generating';
  // Between two images of a job, too.
  cancelButton.hidden = phase !== 'generating' && runningJob(state.jobs) === undefined;
  status.textContent = ofJob(state) + statusText(state, hasModel);
  document.title = titleOf(state);
  if (state.estimate !== before.estimate) renderEstimate(state.estimate, state.adapter);
  adapter.textContent = adapterText(state);
  whySlow.hidden = !isSlow(state.adapter);
  adapter.classList.toggle('slow', state.adapter?.is_fallback_adapter === true);
  renderProgress(state, hasModel);
  renderCaption(state);
  note.hidden = state.note === undefined;
  note.textContent = state.note ?? '';
  notice.hidden = state.notice === undefined;
  noticeText.textContent = state.notice?.text ?? '';
  useImageButton.hidden = state.notice?.image === undefined;
  openNamedModel.hidden = state.notice?.model === undefined;
  openNamedModel.textContent = t('openNamedModel', { model: state.notice?.model ?? '' });
  faultAlert.hidden = fault === undefined;
  faultTitle.textContent = fault === undefined ? '' : t(`fault_${fault.code}`);
  faultWhat.textContent = fault?.what ?? '';
  faultRemedy.textContent = fault?.remedy ?? '';
  faultCode.textContent = fault?.code ?? '';
  restartButton.hidden = phase !== 'stopped' || fault?.code === 'no_webgpu';
  device.disabled = phase === 'generating';
  figure.setAttribute('aria-busy', String(phase === 'generating'));
}

function renderEstimate(estimate: Estimate | undefined, adapter: AdapterInfo | undefined): void {
  estimateGroup.hidden = estimate === undefined;
  if (estimate === undefined || estimate.generation_cost === null) return;
  const { download_bytes, free_storage_bytes, bytes_per_second, generation_cost } = estimate;
  const storage = free_storage_bytes === null ? '' : t('estimateStorage', { room: formatBytes(free_storage_bytes) });
  const time =
    bytes_per_second === null
      ? ''
      : t('estimateTime', { time: formatDuration(download_bytes / bytes_per_second), rate: formatRate(bytes_per_second) });
  const { size, num_inference_steps: steps, memory_bytes, seconds } = generation_cost;
  const lines = [
    t('estimateDownload', { size: formatBytes(download_bytes) }) + time + storage,
    t('estimateMemory', { memory: formatBytes(memory_bytes) }),
    t('estimateImage', { size, steps, time: formatDuration(seconds) }),
    ...(free_storage_bytes !== null && free_storage_bytes < download_bytes ? [t('storageTooSmall')] : []),
    ...(isSlow(adapter) ? [t('slowWithoutGpu')] : []),
  ];
  estimateLines.replaceChildren(...lines.map((line) => Object.assign(document.createElement('li'), { textContent: line })));
}

/** Returns whether images are generated without a GPU. */
function isSlow(adapter: AdapterInfo | undefined): boolean {
  return adapter?.is_fallback_adapter === true || adapter?.backend === 'wasm';
}

function runningJob(jobs: State['jobs']): State['jobs'][number] | undefined {
  return jobs.find(({ is_running }) => is_running);
}

/** Returns which image of the running job is generated, where it has several. */
function ofJob({ jobs, phase }: State): string {
  const job = runningJob(jobs);
  return job === undefined || job.images === 1 || phase !== 'generating'
    ? ''
    : t('imageOfJob', { image: job.done + 1, images: job.images });
}

/** Returns the part of the running job that is done, from 0 to 1; `undefined` before the first step. */
function doneOf({ jobs, progress: generation }: State): number | undefined {
  const job = runningJob(jobs);
  const steps = generation?.total_steps ?? 0;
  const ofImage = generation === undefined || steps === 0 ? 0 : generation.step / steps;
  if (job === undefined || (job.images === 1 && ofImage === 0)) return undefined;
  return Math.min((job.done + ofImage) / job.images, 1);
}

/** Returns the title of the window, which shows the progress while the user is elsewhere. */
function titleOf(state: State): string {
  const done = doneOf(state);
  return state.phase !== 'generating' || done === undefined ? 'pixart-web' : `${formatPercent(done)} · pixart-web`;
}

function renderProgress(state: State, hasModel: boolean): void {
  const { loading, progress: generation, layer, phase, estimate, jobs } = state;
  progress.hidden = estimate !== undefined || !(phase === 'opening' ? hasModel : phase === 'generating');
  if (loading !== undefined && loading.total_bytes !== null && loading.loaded_bytes < loading.total_bytes) {
    progress.max = loading.total_bytes;
    progress.value = loading.loaded_bytes;
  } else if (phase === 'generating' && (runningJob(jobs)?.images ?? 0) > 1) {
    progress.max = 1;
    progress.value = doneOf(state) ?? 0;
  } else if (generation?.stage === 'denoise' && generation.total_steps > 0) {
    progress.max = generation.total_steps;
    progress.value = generation.step;
  } else if (generation?.stage === 'text' && layer !== undefined) {
    progress.max = layer.layers;
    progress.value = layer.layer;
  } else {
    progress.removeAttribute('value');
  }
}

function statusText({ phase, loading, compiling, progress: generation, layer, image, estimate }: State, hasModel: boolean): string {
  switch (phase) {
    case 'opening':
      if (estimate !== undefined) return t('awaitingConfirmation');
      if (!hasModel) return t('noModel');
      if (loading?.loaded_bytes === loading?.total_bytes && compiling !== undefined && compiling.compiled < compiling.shaders)
        return t('compiling', { at: compiling.compiled + 1, all: compiling.shaders });
      return loading === undefined ? t('initializing') : loadingText(loading);
    case 'generating': {
      if (generation === undefined) return loading === undefined ? t('starting') : loadingText(loading);
      const { stage, step, total_steps: steps, step_millis } = generation;
      if (stage === 'text' && layer !== undefined)
        return t(layer.is_streamed ? 'layerStreamed' : 'layerOf', { layer: layer.layer, layers: layer.layers });
      if (stage !== 'denoise' || steps === 0) return t(`stage_${stage}`);
      const left = step_millis === undefined ? '' : t('timeLeft', { time: formatDuration(((steps - step) * step_millis) / 1e3, 1) });
      return t('stepOf', { step, steps }) + (generation.pass > 1 ? t('secondPass') : '') + left;
    }
    case 'ready':
      return image === undefined ? t('ready') : t('lastImage', { time: formatDuration(image.millis.total / 1e3, 1) });
    case 'stopped':
      return t('stopped');
    default: {
      const missing: never = phase;
      return missing;
    }
  }
}

/** The component that a file belongs to, by its folder. */
const COMPONENT = /^(transformer|vae|text_encoder)\//;

function loadingText({ stage, file, loaded_bytes, total_bytes, bytes_per_second, seconds_left }: LoadProgress): string {
  if (stage === 'wait') return t('loading_wait');
  const of = total_bytes === null ? '' : ` / ${formatBytes(total_bytes)}`;
  const rate = bytes_per_second > 0 ? `, ${formatRate(bytes_per_second)}` : '';
  const left = seconds_left === null || seconds_left < 1 ? '' : t('timeLeft', { time: formatDuration(seconds_left, 0) });
  const component = COMPONENT.exec(file)?.[1] as 'transformer' | 'vae' | 'text_encoder' | undefined;
  const part = component === undefined ? '' : ` · ${t(`component_${component}`)}`;
  return `${t(`loading_${stage}`)}${part}: ${formatBytes(loaded_bytes)}${of}${rate}${left}`;
}

function adapterText({ adapter, plan }: State): string {
  if (adapter === undefined) return '';
  const { name, backend, is_fallback_adapter, reason } = adapter;
  return `${name} (${backend})${is_fallback_adapter ? t('fallbackAdapter') : ''}: ${reason}${plan === undefined ? '' : ` · ${plan}`}`;
}

function previewOf({ progress: generation, hides_preview }: State): PreviewImage | undefined {
  return hides_preview ? undefined : generation?.preview;
}

/** Shows the preview over the previous image. */
function renderPreview(shown: PreviewImage | undefined): void {
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

/** Describes the image, or what the preview is of. */
function renderCaption(state: State): void {
  const { image, image_prompt, prompt } = state;
  const isLive = previewOf(state) !== undefined;
  caption.hidden = image === undefined && !isLive;
  if (isLive) caption.textContent = prompt;
  else if (image !== undefined)
    caption.textContent = t('caption', { prompt: image_prompt, seed: image.seed, steps: image.num_inference_steps });
}

function renderImage({ image, image_prompt: prompt }: State): void {
  URL.revokeObjectURL(imageElement.src);
  URL.revokeObjectURL(recordingLink.href);
  for (const part of [imageElement, downloadLink, imageActions]) part.hidden = image === undefined;
  figure.hidden = image === undefined;
  if (image === undefined) return;
  const { png, width, height, seed, recording } = image;
  const url = URL.createObjectURL(pngBlob(png));
  Object.assign(imageElement, { src: url, alt: prompt, width, height });
  const stem = fileStem({ prompt, seed });
  Object.assign(downloadLink, { href: url, download: `${stem}.png` });
  recordingLink.hidden = recording === null;
  if (recording !== null) recordingLink.href = URL.createObjectURL(new Blob([new Uint8Array(recording)]));
  recordingLink.download = `${stem}.safetensors`;
}
