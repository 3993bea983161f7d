//! The worker: the only module that imports the wasm module, and the owner of the device. Runs one job at a time, in the order of
//! the requests. Contract: every job ends in exactly one reply or one `Fault`. After a panic, which leaves the wasm heap in an
//! unknown state, it replies with that fault only.
import init, { Engine } from '../../pkg/pixart_browser.js';
import { Checkpoints, tensorBytes } from '../checkpoints/checkpoint';
import { type PartSources, sourcesOf } from '../checkpoints/component-source';
import { freeStorageBytes, type Part, type StoredManifest } from '../checkpoints/convert';
import { provideLoras } from '../checkpoints/loras';
import { nameOfPlace } from '../checkpoints/place';
import { ProgressReporter } from '../checkpoints/progress';
import { PromptCache, promptKey, textEncoderId } from '../checkpoints/prompt-cache';
import { type Read, Store } from '../checkpoints/store';
import { encode } from './companion';
import { fault, faultOf, ignore, isFault, isRecord } from './fault';
import { fetchGolden } from './golden';
import type {
  DeviceKind,
  EngineEvent,
  EngineRequest,
  Fault,
  GenerateRequest,
  GenerationCost,
  LoadProgress,
  StorageBackend,
  StorageTask,
  TextEncoderLayer,
} from './protocol.gen';
import { messageFault, messageId } from './validate';
import { completeAdapters } from './webgpu';

/** A generation, a check, or (without an id) the loading of a checkpoint. */
interface Job {
  id: number | null;
  cancellation: AbortController;
  /** Set by the fault that ended the job: later events of it are dropped. */
  failed: boolean;
}

/** Local files of the user, under the name by which an `open` refers to them. */
export interface LocalFiles {
  kind: 'local_files';
  checkpoint: string;
  files: ReadonlyMap<string, File>;
}

type RequestOf<Kind extends EngineRequest['kind']> = Extract<EngineRequest, { kind: Kind }>;

const jobs = new Map<number, Job>();
let queue: Promise<void> = Promise.resolve();
let running: Job | undefined;
let opening: Promise<Engine> | undefined;
let engine: Engine | undefined;
let openingStore: Promise<Store> | undefined;
let openingPromptCache: Promise<PromptCache> | undefined;
/** A checkpoint on a device: where it is stored, its sources, and the manifest of its transformer and VAE. */
interface Loaded {
  device: Engine;
  store: Store;
  sources: PartSources;
  denoiser: StoredManifest;
}
/** The loaded model, or the reason that nothing can be generated. */
let loaded: Loaded | Fault = fault('bad_request', 'no checkpoint is open', 'open one first');
/** The identity of that text encoder, once it is stored: asked for once, not for every image. */
let text_encoder_id: string | undefined;
/** Folders of local files, by name. */
const local_files = new Map<string, ReadonlyMap<string, File>>();
/** The panic after which the wasm module is not called again. */
let crash: Fault | undefined;

self.onmessage = ({ data }: MessageEvent<EngineRequest | LocalFiles>) => {
  if (isLocalFiles(data)) return void local_files.set(data.checkpoint, data.files);
  const id = messageId(data);
  const refused = messageFault(data) ?? (id !== null && jobs.has(id) && data.kind !== 'cancel' ? idInUse(id) : undefined);
  if (refused !== undefined) post({ kind: 'fault', id, fault: refused });
  else receive(data);
};
self.onerror = (message, _source, _line, _column, error) => {
  handleCrash(error ?? message);
  return true;
};
self.onunhandledrejection = (event) => {
  event.preventDefault();
  // The browser aborted a transaction of its storage. The operation that it was for reports it.
  if (event.reason instanceof DOMException) return;
  handleCrash(event.reason);
};

function receive(request: EngineRequest): void {
  switch (request.kind) {
    case 'open':
      return enqueue(null, () => load(request));
    case 'set_loras':
      return enqueue(request.id, () => setLoras(request));
    case 'estimate':
      return enqueue(request.id, () => estimate(request));
    case 'generate':
      return enqueue(request.id, (job) => generate(request, [], undefined, job));
    case 'resume':
      return enqueue(request.request.id, (job) => generate(request.request, request.model_outputs, request.text_encoder_layer, job));
    case 'cancel': {
      jobs.get(request.id)?.cancellation.abort();
      if (crash === undefined) engine?.cancel(request.id);
      return;
    }
    case 'count_tokens':
      return countTokens(request);
    case 'check':
      return enqueue(request.id, () => check(request));
    case 'storage':
      return enqueue(request.id, () => runStorageTask(request.id, request.task, request.storage));
    default: {
      const missing: never = request;
      throw new Error(`unknown request ${JSON.stringify(missing)}`);
    }
  }
}

function isLocalFiles(data: unknown): data is LocalFiles {
  return isRecord(data) && data.kind === 'local_files' && typeof data.checkpoint === 'string' && data.files instanceof Map;
}

function idInUse(id: number): Fault {
  return fault('bad_request', `id ${id} belongs to a request that is not answered yet`, 'send another id');
}

function enqueue(id: number | null, run: (job: Job) => Promise<void>): void {
  if (crash !== undefined) return post({ kind: 'fault', id, fault: crash });
  const job: Job = { id, cancellation: new AbortController(), failed: false };
  if (id !== null) jobs.set(id, job);
  queue = queue.then(async () => {
    running = job;
    try {
      await run(job);
    } catch (thrown) {
      fail(job, faultOf(thrown));
    } finally {
      running = undefined;
      if (id !== null) jobs.delete(id);
    }
  });
}

async function estimate({
  id,
  checkpoint,
  device: kind,
  load_text_encoder,
  components = {},
  storage,
  dtype,
  measure_above_bytes,
}: RequestOf<'estimate'>): Promise<void> {
  const [device, store] = await Promise.all([openDevice(kind), openStore(storage)]);
  const sources = sourcesOf({ checkpoint, components }, local_files);
  const checkpoints = new Checkpoints(store, device, dtype, postProgress);
  const download = await checkpoints.estimateDownload(sources, partsOf(load_text_encoder));
  const known = {
    kind: 'estimated',
    id,
    download_bytes: download.bytes,
    free_storage_bytes: (await freeStorageBytes(store)) ?? null,
  } as const;
  if (download.bytes <= measure_above_bytes) return post({ ...known, bytes_per_second: null, generation_cost: null });
  const bytes_per_second = (await checkpoints.measureRate(download)) ?? null;
  const format = dtype === 'auto' ? null : dtype;
  const generation_cost = (await device.estimate(download.configs, download.manifest, format, load_text_encoder)) as GenerationCost;
  post({ ...known, bytes_per_second, generation_cost });
}

function partsOf(load_text_encoder: boolean): Part[] {
  return load_text_encoder ? ['denoiser', 'text_encoder'] : ['denoiser'];
}

async function load({
  checkpoint,
  device: kind,
  load_text_encoder,
  components = {},
  loras = [],
  storage,
  dtype,
  memory_limit_bytes,
}: RequestOf<'open'>): Promise<void> {
  const started_millis = performance.now();
  try {
    const [device, store] = await Promise.all([openDevice(kind, memory_limit_bytes), openStore(storage)]);
    const sources = sourcesOf({ checkpoint, components }, local_files);
    const checkpoints = new Checkpoints(store, device, dtype, postProgress);
    const adapters = await provideLoras(store, loras, local_files, postProgress);
    await checkpoints.check(sources, partsOf(load_text_encoder), adapters);
    let compilation: Promise<void> | undefined;
    const denoiser = await checkpoints.provide(sources.denoiser, 'denoiser', (configs, manifest) => {
      compilation ??= device.prewarm(configs, manifest);
      // Its rejection is thrown where it is awaited below.
      compilation.catch(ignore);
    });
    const text_encoder = load_text_encoder ? await checkpoints.provide(sources.text_encoder, 'text_encoder') : undefined;
    await compilation;
    const parts: (readonly [Part, StoredManifest])[] = [['denoiser', denoiser]];
    if (text_encoder !== undefined) parts.push(['text_encoder', text_encoder]);
    const { read, stopReporting } = uploadReader(store, parts);
    device.set_components(Object.fromEntries(Object.entries(components).map(([component, place]) => [component, nameOfPlace(place)])));
    await device.load(denoiser.text, read, store.kind, text_encoder?.text, started_millis, adapters);
    stopReporting();
    loaded = { device, store, sources, denoiser };
    text_encoder_id = text_encoder && (await textEncoderId(text_encoder.manifest));
  } catch (thrown) {
    loaded = faultOf(thrown);
    throw loaded;
  }
}

/** Merges other LoRAs into the loaded transformer, which is read from the store again. */
async function setLoras({ id, loras }: RequestOf<'set_loras'>): Promise<void> {
  const { device, store, denoiser } = loadedCheckpoint();
  const adapters = await provideLoras(store, loras, local_files, postProgress);
  const { read, stopReporting } = uploadReader(store, [['denoiser', denoiser]]);
  try {
    await device.set_loras(id, denoiser.text, read, adapters);
  } catch (thrown) {
    // A LoRA that does not fit leaves the checkpoint as it was.
    if (!device.is_loaded()) loaded = faultOf(thrown);
    throw thrown;
  }
  stopReporting();
}

async function generate(
  request: GenerateRequest,
  model_outputs: Uint8Array[],
  text_encoder_layer: TextEncoderLayer | undefined,
  job: Job,
): Promise<void> {
  const { device } = loadedCheckpoint();
  let captions = device.prepare(request);
  const { signal } = job.cancellation;
  const embeds = signal.aborted ? undefined : await encodeOnCompanion(request, captions, device, signal);
  // The companion did not encode them: the tab does.
  if (embeds === undefined && request.text_encoder?.kind === 'companion')
    captions = device.prepare({ ...request, text_encoder: { kind: 'tab' } });
  const is_encoded_here = embeds === undefined && request.text_encoder?.kind !== 'file';
  if (is_encoded_here && !signal.aborted && !(await encodePrompts(device, request, captions, text_encoder_layer, signal)))
    return post({ kind: 'cancelled', id: request.id });
  const reads_image = request.image !== undefined || (request.hires_scale ?? null) !== null;
  if (reads_image && !device.has_vae_encoder() && !signal.aborted) {
    const { text, read } = await providePart(device, 'vae_encoder');
    await device.load_vae_encoder(text, read);
  }
  if (signal.aborted) return post({ kind: 'cancelled', id: request.id });
  await device.generate(request.id, embeds, model_outputs);
}

async function loadTextEncoder(device: Engine): Promise<void> {
  if (device.has_text_encoder()) return;
  const { text, read, stopReporting } = await providePart(device, 'text_encoder');
  await device.load_text_encoder(text, read);
  stopReporting();
}

/** Encodes the prompts of a prepared request in the tab; returns false where it was cancelled. Where the text encoder is not on the
    device, embeddings that are stored are used, and new ones are stored. */
async function encodePrompts(
  device: Engine,
  request: GenerateRequest,
  captions: readonly string[],
  layer: TextEncoderLayer | undefined,
  signal: AbortSignal,
): Promise<boolean> {
  const uses_cache = !device.is_text_encoder_resident();
  let keys = uses_cache ? await promptKeys(device, request, captions) : undefined;
  const cache = uses_cache ? await openPromptCache() : undefined;
  // A cache that cannot be read costs time, and nothing else.
  const stored = await Promise.all(captions.map((_, at) => keys && cache?.get(keys[at] ?? '').catch(() => undefined)));
  try {
    if (stored.includes(undefined)) {
      await loadTextEncoder(device);
      // It may have been stored just now.
      if (uses_cache) keys = await promptKeys(device, request, captions);
    }
    if (signal.aborted) return false;
    const entries = await device.encode(request.id, stored, layer);
    if (entries === undefined) return false;
    for (const [at, entry] of (entries as Uint8Array<ArrayBuffer>[]).entries()) {
      const key = keys?.[at];
      // A full storage costs the next image time, and this one nothing.
      if (key !== undefined && stored[at] === undefined) await cache?.put(key, entry).catch(ignore);
    }
  } catch (thrown) {
    if (signal.aborted) return false;
    throw thrown;
  }
  return true;
}

/** Returns the keys of prompts in the cache; `undefined` while the text encoder is not stored. */
async function promptKeys(device: Engine, { max_sequence_length }: GenerateRequest, captions: readonly string[]) {
  if (text_encoder_id === undefined) {
    const { store, sources } = loadedCheckpoint();
    const stored = await new Checkpoints(store, device, 'auto', postProgress).stored(sources.text_encoder, 'text_encoder');
    text_encoder_id = stored && (await textEncoderId(stored.manifest));
  }
  const text_encoder = text_encoder_id;
  return text_encoder && Promise.all(captions.map((caption) => promptKey(text_encoder, max_sequence_length, caption)));
}

async function openPromptCache(): Promise<PromptCache> {
  const is_persistent = openingStore !== undefined && (await openingStore).kind !== 'memory';
  return (openingPromptCache ??= PromptCache.open(is_persistent));
}

/** Stores a part of the loaded checkpoint that was not loaded with it, and returns a reader of its shards. */
async function providePart(device: Engine, part: Part): Promise<{ text: string } & UploadReader> {
  const { sources, store } = loadedCheckpoint();
  const stored = await new Checkpoints(store, device, 'auto', postProgress).provide(sources[part], part);
  // The server may have had another one since it was asked.
  if (part === 'text_encoder') text_encoder_id = await textEncoderId(stored.manifest);
  return { text: stored.text, ...uploadReader(store, [[part, stored]]) };
}

/** Returns the loaded checkpoint, or throws the reason that there is none. */
function loadedCheckpoint(): Loaded {
  if (isFault(loaded)) throw loaded;
  return loaded;
}

/** A reader of stored shards. It reports the progress of their upload until `stopReporting`, and fails once the running job is
    cancelled. */
interface UploadReader {
  read: Read;
  stopReporting: () => void;
}

function uploadReader(store: Store, parts: readonly (readonly [Part, StoredManifest])[]): UploadReader {
  const total_bytes = parts.reduce((bytes, [part, { manifest }]) => bytes + tensorBytes(manifest, part), 0);
  const progress = new ProgressReporter('upload', total_bytes, postProgress);
  const manifests = new Map(parts.map(([, { text, manifest }]) => [text, manifest]));
  let is_reporting = true;
  const read = store.reader([...manifests.values()], (file, bytes) => is_reporting && progress.add(file, bytes));
  return {
    read: (file, begin, end) => {
      if (running?.id != null && running.cancellation.signal.aborted) throw fault('internal', 'the request was cancelled', 'send it again');
      return read(file, begin, end);
    },
    stopReporting: () => (is_reporting = false),
  };
}

async function runStorageTask(id: number, task: StorageTask, storage: StorageBackend): Promise<void> {
  const store = await openStore(storage);
  if (task.kind === 'verify') {
    await store.verify(task.checkpoint);
    const { composition } = (await store.list()).find(({ checkpoint }) => checkpoint === task.checkpoint) ?? {};
    const sources = sourcesOf(composition ?? { checkpoint: task.checkpoint, components: {} }, local_files);
    if (engine !== undefined) await new Checkpoints(store, engine, 'auto', postProgress).checkForUpdate(sources);
  }
  if (task.kind === 'delete') await store.delete(task.checkpoint);
  const cache = await openPromptCache();
  if (task.kind === 'delete_prompts') await cache.clear();
  post({ kind: 'stored_checkpoints', id, checkpoints: await store.list(), prompt_cache: await cache.size() });
}

function postProgress(progress: LoadProgress): void {
  post({ kind: 'loading', ...progress });
}

function openStore(storage: StorageBackend): Promise<Store> {
  const store = (openingStore ??= Store.open(storage));
  store.catch(() => (openingStore = undefined));
  return store;
}

/** Returns the prompt's embeddings from the request's companion; `undefined` where the tab encodes the prompt. */
async function encodeOnCompanion(request: GenerateRequest, captions: string[], device: Engine, signal: AbortSignal) {
  const { text_encoder, max_sequence_length } = request;
  const length = max_sequence_length === undefined ? {} : { max_sequence_length };
  if (text_encoder?.kind !== 'companion') return undefined;
  try {
    return await encode(text_encoder, { captions, ...length }, signal);
  } catch (thrown) {
    if (signal.aborted) return undefined;
    const reason = faultOf(thrown);
    if (reason.code !== 'companion' && reason.code !== 'busy') throw reason;
    // Where the tab cannot load a text encoder either, the companion's fault is the cause.
    await loadTextEncoder(device).catch(() => {
      throw reason;
    });
    post({ kind: 'note', id: request.id, text: `${reason.what}: this tab encoded the prompt itself` });
    return undefined;
  }
}

/** Replies at once, also while an image is generated: nothing is computed on the device. */
function countTokens({ id, request }: RequestOf<'count_tokens'>): void {
  if (crash !== undefined) return post({ kind: 'fault', id, fault: crash });
  if (engine === undefined) return post({ kind: 'tokens_counted', id, prompt: null, negative_prompt: null });
  try {
    post(engine.count_tokens(id, request) as EngineEvent);
  } catch (thrown) {
    post({ kind: 'fault', id, fault: faultOf(thrown) });
  }
}

async function check({ id, variant, device: kind }: RequestOf<'check'>): Promise<void> {
  const device = await openDevice(kind);
  const files = await fetchGolden(variant);
  const name = variant.split('/').at(-2) ?? variant;
  await device.check(id, name, files);
}

/** Opens the device, at the first call. */
function openDevice(kind: DeviceKind, memory_limit_bytes: number | null = null): Promise<Engine> {
  opening ??= init().then(async () => {
    completeAdapters();
    return (engine = await Engine.open(emit, kind, memory_limit_bytes));
  });
  return opening;
}

/** Receives the engine's events. A fault without an id is the GPU's; it ends the running job. */
function emit(event: EngineEvent): void {
  if (event.kind === 'fault') return fail(running, event.fault);
  if (!running?.failed) post(event);
}

function fail(job: Job | undefined, reason: Fault): void {
  if (job?.failed) return;
  post({ kind: 'fault', id: job?.id ?? null, fault: reason });
  if (job === undefined) return;
  job.failed = true;
  job.cancellation.abort();
  if (job.id !== null && crash === undefined) engine?.cancel(job.id);
}

/** Handles an error that nothing awaits: a panic in the wasm module, whose promise never settles. */
function handleCrash(thrown: unknown): void {
  const { what } = faultOf(thrown);
  crash = fault('internal', `the engine stopped: ${what}`, 'restart it; the console holds the details');
  fail(running, crash);
  for (const job of jobs.values()) fail(job, crash);
}

function post(event: EngineEvent): void {
  self.postMessage(event);
}
