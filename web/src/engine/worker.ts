//! The worker: the only importer of the wasm module, and the owner of the device. Does one job at a time, in the
//! order asked. Contract: every job ends in exactly one of its answers or one `Fault`; after a fault of the program
//! itself (a panic leaves the module's memory in an unknown state) it answers nothing but that fault.
import init, { Engine } from '../../pkg/pixart_browser.js';
import { Checkpoints, sourceOf, tensorBytes, type Kept, type Part } from '../checkpoints/checkpoint';
import { encode } from './companion';
import { roomLeft } from '../checkpoints/convert';
import { fault, faultOf } from './fault';
import { fetchGolden } from './golden';
import { Meter } from '../checkpoints/progress';
import type { GenerationCost, DeviceKind, EngineEvent, Fault, GenerateRequest, StorageTask, LoadProgress, EngineRequest, StorageBackend } from './protocol.gen';
import type { Source } from '../checkpoints/source';
import { Store, type Read } from '../checkpoints/store';

/** A picture, a check, or (without an id) the opening of a checkpoint. */
interface Job {
  id: number | null;
  stop: AbortController;
  /** Set by the fault that ended the job: whatever it still emits is dropped. */
  failed: boolean;
}

/** Files that the reader chose, under the address by which an `open` then names them. */
export interface Chosen {
  kind: 'chosen';
  checkpoint: string;
  files: ReadonlyMap<string, File>;
}

const jobs = new Map<number, Job>();
let queue: Promise<void> = Promise.resolve();
let running: Job | undefined;
let opening: Promise<Engine> | undefined;
let engine: Engine | undefined;
let keeping: Promise<Store> | undefined;
/** Where the checkpoint on the device is from. */
let loaded: Source | undefined;
/** Folders that the reader chose, by the address they were given. */
const chosen = new Map<string, ReadonlyMap<string, File>>();
/** Why pictures cannot be drawn; `undefined` once a checkpoint is on the device. */
let unloaded: Fault | undefined = fault('bad_request', 'no checkpoint is open', 'open one first');
/** The fault of the program after which the module is not called again. */
let broken: Fault | undefined;

self.onmessage = ({ data }: MessageEvent<EngineRequest | Chosen>) => {
  if (data.kind === 'chosen') chosen.set(data.checkpoint, data.files);
  else receive(data);
};
self.onerror = (message, _source, _line, _column, error) => {
  collapse(error ?? message);
  return true;
};
self.onunhandledrejection = (event) => {
  event.preventDefault();
  collapse(event.reason);
};

function receive(request: EngineRequest): void {
  switch (request.kind) {
    case 'open':
      return enqueue(null, () => open(request));
    case 'estimate':
      return enqueue(request.id, () => estimate(request));
    case 'generate':
      return enqueue(request.id, (job) => generate(request, [], job));
    case 'resume':
      return enqueue(request.request.id, (job) => generate(request.request, request.model_outputs, job));
    case 'cancel': {
      jobs.get(request.id)?.stop.abort();
      if (broken === undefined) engine?.cancel(request.id);
      return;
    }
    case 'check':
      return enqueue(request.id, () => check(request.id, request.variant, request.device));
    case 'storage':
      return enqueue(request.id, () => keep(request.id, request.task, request.storage));
    default: {
      const missing: never = request;
      throw new Error(`unknown request ${JSON.stringify(missing)}`);
    }
  }
}

function enqueue(id: number | null, work: (job: Job) => Promise<void>): void {
  if (broken !== undefined) return post({ kind: 'fault', id, fault: broken });
  const job: Job = { id, stop: new AbortController(), failed: false };
  if (id !== null) jobs.set(id, job);
  queue = queue.then(async () => {
    running = job;
    try {
      await work(job);
    } catch (thrown) {
      fail(job, faultOf(thrown));
    } finally {
      running = undefined;
      if (id !== null) jobs.delete(id);
    }
  });
}

async function estimate({ id, checkpoint, device: kind, load_text_encoder, storage, dtype, measure_above_bytes }: Extract<EngineRequest, { kind: 'estimate' }>): Promise<void> {
  const [device, store] = await Promise.all([openDevice(kind), openStore(storage)]);
  const source = sourceOf(checkpoint, chosen.get(checkpoint));
  const checkpoints = new Checkpoints(store, device, dtype, tellLoading);
  const survey = await checkpoints.survey(source, load_text_encoder ? ['draw', 'text'] : ['draw']);
  const known = { kind: 'estimated', id, download_bytes: survey.bytes, free_storage_bytes: (await roomLeft(store)) ?? null } as const;
  if (survey.bytes <= measure_above_bytes) return post({ ...known, bytes_per_second: null, generation_cost: null });
  const bytes_per_second = (await checkpoints.rate(source, survey)) ?? null;
  const generation_cost = (await device.estimate(survey.configs, survey.manifest, dtype === 'auto' ? null : dtype, load_text_encoder)) as GenerationCost;
  post({ ...known, bytes_per_second, generation_cost });
}

async function open({ checkpoint, device: kind, load_text_encoder, storage, dtype, memory_limit_bytes }: Extract<EngineRequest, { kind: 'open' }>): Promise<void> {
  const began_millis = performance.now();
  try {
    const [device, store] = await Promise.all([openDevice(kind, memory_limit_bytes), openStore(storage)]);
    const source = sourceOf(checkpoint, chosen.get(checkpoint));
    const checkpoints = new Checkpoints(store, device, dtype, tellLoading);
    let compiling: Promise<void> | undefined;
    const draw = await checkpoints.provide(source, 'draw', (configs, manifest) => {
      compiling ??= device.prewarm(configs, manifest);
      compiling.catch(() => 'awaited below');
    });
    const read = load_text_encoder ? await checkpoints.provide(source, 'text') : undefined;
    await compiling;
    const reader = uploading(store, [['draw', draw], ...(read === undefined ? [] : [['text', read] as const])]);
    await device.load(draw.text, reader, store.kind, read?.text, began_millis);
    loaded = source;
    unloaded = undefined;
  } catch (thrown) {
    unloaded = faultOf(thrown);
    throw unloaded;
  }
}

async function generate(request: GenerateRequest, model_outputs: Uint8Array[], job: Job): Promise<void> {
  if (unloaded !== undefined) throw unloaded;
  const device = opened();
  device.validate(request);
  const embeds = job.stop.signal.aborted ? undefined : await embedsFor(request, device, job);
  if (embeds === undefined && request.text_encoder?.kind !== 'file' && !job.stop.signal.aborted) await loadText(device);
  if (request.image !== undefined && !device.has_vae_encoder() && !job.stop.signal.aborted) {
    const { text, reader } = await providePart(device, 'encode');
    await device.load_vae_encoder(text, reader);
  }
  if (job.stop.signal.aborted) return post({ kind: 'cancelled', id: request.id });
  await device.generate(request, embeds, model_outputs);
}

/** The text encoder, unless it is there. */
async function loadText(device: Engine): Promise<void> {
  if (device.has_text_encoder()) return;
  const { text, reader } = await providePart(device, 'text');
  await device.load_text_encoder(text, reader);
}

/** A part of the checkpoint on the device that was not loaded with it. */
async function providePart(device: Engine, part: Part): Promise<{ text: string; reader: Read }> {
  if (loaded === undefined || keeping === undefined) throw fault('bad_request', 'no checkpoint is open', 'open one first');
  const store = await keeping;
  const kept = await new Checkpoints(store, device, 'auto', tellLoading).provide(loaded, part);
  return { text: kept.text, reader: uploading(store, [[part, kept]]) };
}

/** Reads what is kept for the device, and tells how far that is. */
function uploading(store: Store, kept: readonly (readonly [Part, Kept])[]): Read {
  const total = kept.reduce((bytes, [part, { manifest }]) => bytes + tensorBytes(manifest, part), 0);
  const meter = new Meter('upload', total, tellLoading);
  const manifests = new Map(kept.map(([, { text, manifest }]) => [text, manifest]));
  return store.reader([...manifests.values()], (file, bytes) => meter.add(file, bytes));
}

async function keep(id: number, task: StorageTask, where: StorageBackend): Promise<void> {
  const store = await openStore(where);
  if (task.kind === 'verify') {
    await store.verify(task.checkpoint);
    if (engine !== undefined) await new Checkpoints(store, engine, 'auto', tellLoading).compare(sourceOf(task.checkpoint, chosen.get(task.checkpoint)));
  }
  if (task.kind === 'delete') await store.delete(task.checkpoint);
  post({ kind: 'stored_checkpoints', id, checkpoints: await store.list() });
}

function tellLoading(loading: LoadProgress): void {
  post({ kind: 'loading', ...loading });
}

function openStore(where: StorageBackend): Promise<Store> {
  const opening = (keeping ??= Store.open(where));
  opening.catch(() => (keeping = undefined));
  return opening;
}

async function embedsFor(request: GenerateRequest, device: Engine, job: Job) {
  const { text_encoder, max_sequence_length } = request;
  const tokens = max_sequence_length === undefined ? {} : { max_sequence_length };
  if (text_encoder?.kind !== 'companion') return undefined;
  try {
    return await encode(text_encoder, { captions: device.captions(request), ...tokens }, job.stop.signal);
  } catch (thrown) {
    if (job.stop.signal.aborted) return undefined;
    const reason = faultOf(thrown);
    if (reason.code !== 'companion' && reason.code !== 'busy') throw reason;
    // Where this tab has no text encoder, what the companion said is why there is no picture.
    await loadText(device).catch(() => {
      throw reason;
    });
    post({ kind: 'note', id: request.id, text: `${reason.what}: this tab read the prompt itself` });
    return undefined;
  }
}

async function check(id: number, variant: string, kind: DeviceKind): Promise<void> {
  const device = await openDevice(kind);
  const files = await fetchGolden(variant);
  const name = variant.split('/').at(-2) ?? variant;
  await device.check(id, name, files);
}

/** The device, opened at the first call. */
function openDevice(kind: DeviceKind, memory_limit_bytes: number | null = null): Promise<Engine> {
  opening ??= init().then(async () => (engine = await Engine.open(emit, kind, memory_limit_bytes)));
  return opening;
}

function opened(): Engine {
  if (engine === undefined) throw fault('internal', 'a checkpoint is loaded, and no device is open', 'reload the page');
  return engine;
}

/** Hears the engine. A fault without an id is the GPU's own; the job at work is the one it spoils. */
function emit(event: EngineEvent): void {
  if (event.kind === 'fault') return fail(running, event.fault);
  if (!running?.failed) post(event);
}

function fail(job: Job | undefined, reason: Fault): void {
  if (job?.failed) return;
  post({ kind: 'fault', id: job?.id ?? null, fault: reason });
  if (job === undefined) return;
  job.failed = true;
  job.stop.abort();
  if (job.id !== null && broken === undefined) engine?.cancel(job.id);
}

/** An error that nothing awaited: a panic inside the module, whose promise then never settles. */
function collapse(thrown: unknown): void {
  const { what } = faultOf(thrown);
  broken = fault('internal', `the engine stopped: ${what}`, 'restart it; the console holds the details');
  fail(running, broken);
  for (const job of jobs.values()) fail(job, broken);
}

function post(event: EngineEvent): void {
  self.postMessage(event);
}
