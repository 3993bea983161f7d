//! Messages that no client of this package sends: every one of wrong types, values or order gets one reply, the worker goes on, and
//! the next request generates the same image. The mutations are those of a fixed seed.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { useBrowser } from './fixture.mjs';

const ASSETS = fileURLToPath(new URL('../../web/dist/assets/', import.meta.url));
const WORKER = readdirSync(ASSETS).find((name) => name.startsWith('worker-') && name.endsWith('.js'));
const REPLY_MILLIS = 120_000;

const fixture = useBrowser({ flags: [] });
let page;
before(async () => {
  const { server, browser } = await fixture.started;
  const { url } = server;
  page = await browser.context.newPage();
  await page.goto(`${url}?device=wasm&checkpoint=`);
  await page.evaluate(startWorker, {
    url: `${url}assets/${WORKER}`,
    checkpoint: `${url}models/scenes/`,
    limit: REPLY_MILLIS,
  });
});

/** Starts a worker of its own in the page: `send(message, id)` resolves with the message that settles `id`. */
async function startWorker({ url, checkpoint, limit }) {
  const worker = new Worker(url, { type: 'module' });
  const waiting = new Map();
  const log = [];
  const settling = new Set(['estimated', 'ready', 'image', 'cancelled', 'tokens_counted', 'checked', 'stored_checkpoints', 'fault']);
  worker.onmessage = ({ data }) => {
    if (!settling.has(data.kind)) return;
    const id = data.kind === 'ready' ? null : data.id;
    log.push({ id, kind: data.kind });
    waiting.get(id)?.(data);
    waiting.delete(id);
  };
  const failed = new Promise((_, reject) => {
    worker.onerror = ({ message }) => reject(new Error(`the worker failed: ${message}`));
  });
  const send = (message, id) => {
    const reply = new Promise((resolve, reject) => {
      waiting.set(id, resolve);
      setTimeout(() => reject(new Error(`no reply to ${JSON.stringify(message)?.slice(0, 200)}`)), limit);
    });
    worker.postMessage(message);
    return Promise.race([reply, failed]);
  };
  const open = {
    kind: 'open',
    checkpoint,
    device: 'wasm',
    load_text_encoder: true,
    storage: 'memory',
    dtype: 'auto',
    memory_limit_bytes: null,
  };
  globalThis.border = { worker, send, log, open };
  // Each message before a checkpoint is open.
  for (const message of [
    { kind: 'generate', id: 1, prompt: 'a star' },
    { kind: 'storage', id: 2, task: { kind: 'list' }, storage: 'memory' },
  ])
    await send(message, message.id);
  const ready = await send(open, null);
  if (ready.kind !== 'ready') throw new Error(JSON.stringify(ready));
}

test('every_malformed_message_gets_one_reply_and_the_next_image_is_unchanged', async () => {
  const { sent, wrong, same } = await page.evaluate(async () => {
    const { send, log, open, worker } = globalThis.border;
    const small = { prompt: 'a red circle', width: 64, height: 64, num_inference_steps: 1, seed: 7 };
    let id = 100;
    const image = async () => {
      id += 1;
      const { kind, png, fault } = await send({ kind: 'generate', id, ...small }, id);
      if (kind !== 'image') throw new Error(JSON.stringify(fault));
      return png;
    };
    const before = await image();
    const bytes = new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10, 0, 0, 0, 13]);
    const values = () => [
      undefined,
      null,
      true,
      false,
      -1,
      0,
      1,
      0.5,
      NaN,
      Infinity,
      1e308,
      2 ** 32,
      2 ** 53,
      '',
      'auto',
      '\ud800',
      '\u{10ffff}\0',
      '../../..',
      'x'.repeat(1_000_000),
      [],
      [1],
      [-1, NaN],
      {},
      { kind: 'x' },
      { kind: 'file', bytes },
      new Uint8Array(),
      bytes,
      new Float32Array(3),
      new Map(),
      new Date(0),
    ];
    const templates = [
      {
        kind: 'estimate',
        checkpoint: open.checkpoint,
        device: 'wasm',
        load_text_encoder: false,
        storage: 'memory',
        dtype: 'auto',
        measure_above_bytes: 1e12,
      },
      {
        kind: 'generate',
        ...small,
        negative_prompt: 'a',
        seeds: [1],
        prompt_weighting: true,
        hires_scale: 1.5,
        hires_strength: 0.5,
        hires_steps: 2,
        variation_seed: 1,
        variation_strength: 0.5,
        timesteps: [500],
        sigmas: [1],
        guidance_scale: 3,
        pag_scale: 1,
        eta: 0,
        pag_adaptive_scale: 0,
        pag_applied_layers: [1],
        num_images_per_prompt: 1,
        output_type: 'png',
        clean_caption: true,
        use_resolution_binning: true,
        max_sequence_length: 20,
        scheduler: 'euler',
        style: 'photo',
        image: bytes,
        mask_image: bytes,
        strength: 1,
        latents: bytes,
        text_encoder: { kind: 'tab' },
        record: false,
      },
      { kind: 'count_tokens', request: { id: 1, ...small } },
      { kind: 'check', variant: 'nowhere/', device: 'wasm' },
      { kind: 'storage', task: { kind: 'list' }, storage: 'memory' },
    ];
    const wrong = [];
    let sent = 0;
    const expectOne = async (message, own) => {
      const at = log.length;
      const reply = await send(message, own);
      sent += 1;
      const replies = log.slice(at).filter((entry) => entry.id === own);
      if (replies.length !== 1) wrong.push(`${replies.length} replies to ${message?.kind}`);
      if (reply.kind === 'fault' && ['internal', 'device_lost'].includes(reply.fault.code))
        wrong.push(`${message?.kind}: ${reply.fault.what}`);
    };
    for (const message of [
      undefined,
      null,
      3,
      'open',
      [],
      {},
      { kind: 5 },
      { kind: 'constructor' },
      { kind: 'resume' },
      { kind: 'local_files' },
    ])
      await expectOne(message, null);
    for (const template of templates) {
      for (const field of Object.keys(template)) {
        if (field === 'kind') continue;
        for (const value of values()) {
          id += 1;
          // A field that is alone with its value: fields that exclude each other would hide it.
          const base = template.kind === 'generate' ? { kind: 'generate', ...small } : template;
          const message = { ...base, id, [field]: value };
          if (field === 'mask_image' || field === 'strength') message.image = bytes;
          await expectOne(message, id);
        }
      }
    }
    for (const value of values()) {
      id += 1;
      await expectOne({ kind: 'resume', request: { id, ...small }, model_outputs: value }, id);
      worker.postMessage({ kind: 'cancel', id: value });
      await expectOne({ ...open, memory_limit_bytes: 'much', checkpoint: value }, null);
    }
    const after = await image();
    return { sent, wrong, same: after.length === before.length && after.every((byte, at) => byte === before[at]) };
  });
  console.log(`${sent} messages`);
  assert.deepEqual(wrong, []);
  assert.ok(sent > 500, `${sent} messages`);
  assert.ok(same, 'the image after them differs');
});

test('ids_that_are_in_use_and_cancellations_at_any_moment_end_in_one_reply', async () => {
  const outcomes = await page.evaluate(async () => {
    const { send, log, worker } = globalThis.border;
    const small = { prompt: 'a red circle', width: 64, height: 64, num_inference_steps: 6, seed: 7 };
    const outcomes = [];
    for (let millis = 0; millis < 400; millis += 20) {
      const id = 900_000 + millis;
      const at = log.length;
      const reply = send({ kind: 'generate', id, ...small }, id);
      setTimeout(() => worker.postMessage({ kind: 'cancel', id }), millis);
      outcomes.push((await reply).kind);
      const extra = log.slice(at).filter((entry) => entry.id === id).length;
      if (extra !== 1) outcomes.push(`${extra} replies`);
    }
    const twice = [1, 2].map(() => ({ kind: 'generate', id: 950_000, ...small }));
    const at = log.length;
    const first = send(twice[0], 950_000);
    worker.postMessage(twice[1]);
    await first;
    await send({ kind: 'generate', id: 950_001, ...small }, 950_001);
    outcomes.push(...log.slice(at).map(({ id, kind }) => `${id} ${kind}`));
    return outcomes;
  });
  const last = outcomes.splice(-3);
  assert.deepEqual(
    [...new Set(outcomes)].filter((outcome) => !['cancelled', 'image'].includes(outcome)),
    [],
  );
  assert.ok(outcomes.includes('cancelled'), 'none was cancelled in time');
  assert.deepEqual(last.sort(), ['950000 fault', '950000 image', '950001 image']);
});
