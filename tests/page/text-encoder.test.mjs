//! The text encoder in a tab whose device has no room for it: its blocks are streamed from storage, progress, cancellation and resumption
//! are by block, embeddings are stored, and every image is the one of a text encoder that stays on the device.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { useBrowser } from './fixture.mjs';

const ASSETS = fileURLToPath(new URL('../../web/dist/assets/', import.meta.url));
const WORKER = readdirSync(ASSETS).find((name) => name.startsWith('worker-') && name.endsWith('.js'));
const REPLY_MILLIS = 240_000;
const LAYERS = 2;
const SMALL = { prompt: 'a red circle', seed: 7, num_inference_steps: 1, guidance_scale: 4.5 };

/** Adds `globalThis.startWorker(open)` to a page: a worker with a checkpoint, and `run(message)`, which resolves with the events of
    a request up to the one that ends it. `onEvent` receives each of them. `globalThis.summaryOf` returns what tests assert of them. */
function defineStartWorker({ url, checkpoint, limit }) {
  globalThis.startWorker = async (options) => {
    const worker = new Worker(url, { type: 'module' });
    let receive;
    worker.onmessage = ({ data }) => receive?.(data);
    const ends = new Set(['ready', 'image', 'cancelled', 'stored_checkpoints', 'fault']);
    const run = (message, onEvent = () => {}) =>
      new Promise((resolve, reject) => {
        const events = [];
        setTimeout(() => reject(new Error(`no reply to ${message.kind}`)), limit);
        receive = (event) => {
          events.push(event);
          onEvent(event, worker);
          if (ends.has(event.kind)) resolve(events);
        };
        worker.postMessage(message);
      });
    const open = { kind: 'open', checkpoint, device: 'wasm', load_text_encoder: true, storage: 'indexeddb', dtype: 'auto' };
    const events = await run({ ...open, memory_limit_bytes: null, ...options });
    if (events.at(-1).kind !== 'ready') throw new Error(JSON.stringify(events.at(-1)));
    return { run, worker };
  };
  globalThis.summaryOf = (events) => {
    const last = events.at(-1);
    return {
      end: last.kind,
      what: last.fault?.what,
      png: last.png && [...last.png],
      plan: events.find(({ kind }) => kind === 'planned')?.plan ?? '',
      peak_bytes: events.find(({ kind }) => kind === 'planned')?.peak_bytes,
      layers: events
        .filter(({ kind }) => kind === 'text_encoder_layer')
        .map(({ layer, layers, is_streamed }) => ({ layer, layers, is_streamed })),
    };
  };
}

const fixture = useBrowser();

for (const device of ['wasm', 'webgpu'])
  describe(device, () => {
    let page;
    /** The image of a text encoder on the device, and the plan's bytes without it. */
    let expected;
    /** Opens a worker of the page on this device, and runs `requests` one after the other. */
    const runAll = (requests, options = {}) =>
      page.evaluate(
        async ({ requests, options }) => {
          const { run, worker } = await globalThis.startWorker(options);
          const summaries = [];
          for (const request of requests) summaries.push(globalThis.summaryOf(await run(request)));
          worker.terminate();
          return summaries;
        },
        { requests, options: { device, ...options } },
      );
    const generate = (id, changes = {}) => ({ kind: 'generate', id, ...SMALL, ...changes });
    const streamed = (changes = {}) => ({ memory_limit_bytes: expected.peak_bytes + 1000, ...changes });
    const ALL_LAYERS = Array.from({ length: LAYERS }, (_, at) => ({ layer: at + 1, layers: LAYERS, is_streamed: true }));

    before(async () => {
      page = await fixture.browser.context.newPage();
      page.setDefaultTimeout(REPLY_MILLIS);
      await page.goto(`${fixture.server.url}?device=wasm&checkpoint=`);
      await page.evaluate(defineStartWorker, {
        url: `${fixture.server.url}assets/${WORKER}`,
        checkpoint: `${fixture.server.url}models/scenes/`,
        limit: REPLY_MILLIS,
      });
      [expected] = await runAll([generate(1), { kind: 'storage', id: 2, task: { kind: 'delete_prompts' }, storage: 'indexeddb' }]);
      assert.equal(expected.end, 'image', expected.what);
      assert.match(expected.plan, /text encoder on the device/);
    });

    test('a_streamed_text_encoder_gives_the_same_image_and_each_prompt_is_encoded_once', async () => {
      const [first, seed, negative, back] = await runAll(
        [generate(1), generate(2, { seed: 8, guidance_scale: 3 }), generate(3, { negative_prompt: 'blurry' }), generate(4)],
        streamed(),
      );
      assert.match(first.plan, /text encoder streamed by layer/);
      assert.deepEqual(first.layers, ALL_LAYERS);
      assert.deepEqual(first.png, expected.png);
      assert.deepEqual(seed.layers, [], 'another seed and guidance need no text encoder');
      assert.deepEqual(negative.layers, ALL_LAYERS, 'a new negative prompt is encoded');
      assert.notDeepEqual(negative.png, expected.png);
      assert.deepEqual([back.layers, back.png], [[], expected.png]);
    });

    test('a_stored_prompt_needs_no_text_encoder_after_a_reload_and_can_be_deleted', async () => {
      const storage = (id, kind) => ({ kind: 'storage', id, task: { kind }, storage: 'indexeddb' });
      const [again] = await runAll([generate(1)], streamed({ load_text_encoder: false }));
      assert.deepEqual([again.layers, again.png], [[], expected.png]);
      assert.doesNotMatch(again.plan, /text encoder/, 'it was not even opened');
      const size = await page.evaluate(
        async ({ list, deletion }) => {
          const { run, worker } = await globalThis.startWorker({});
          const sizes = [(await run(list)).at(-1).prompt_cache, (await run(deletion)).at(-1).prompt_cache];
          worker.terminate();
          return sizes;
        },
        { list: storage(1, 'list'), deletion: storage(2, 'delete_prompts') },
      );
      assert.equal(size[0].prompts, 3, 'the prompt and two negative prompts');
      assert.ok(size[0].bytes > 3 * 64 * 4, `${size[0].bytes} bytes`);
      assert.deepEqual(size[1], { prompts: 0, bytes: 0 });
      const [encoded] = await runAll([generate(1)], streamed({ load_text_encoder: false }));
      assert.deepEqual([encoded.layers, encoded.png], [ALL_LAYERS, expected.png]);
    });

    test('an_interrupted_text_encoder_resumes_at_its_layer_with_the_same_image', async () => {
      const resumed = await page.evaluate(
        async ({ request, options }) => {
          const { run, worker } = await globalThis.startWorker(options);
          await run({ kind: 'storage', id: 1, task: { kind: 'delete_prompts' }, storage: 'indexeddb' });
          const cancelled = await run({ ...request, id: 2 }, (event, sender) => {
            if (event.kind === 'text_encoder_layer') sender.postMessage({ kind: 'cancel', id: 2 });
          });
          const layer = cancelled.find(({ kind }) => kind === 'text_encoder_layer');
          const { kind, ...rest } = request;
          const wrong = { ...layer, hidden_state: layer.hidden_state.slice(4) };
          const refused = await run({ kind: 'resume', request: { ...rest, id: 3 }, model_outputs: [], text_encoder_layer: wrong });
          const resumed = await run({ kind: 'resume', request: { ...rest, id: 4 }, model_outputs: [], text_encoder_layer: layer });
          worker.terminate();
          return [cancelled, refused, resumed].map(globalThis.summaryOf);
        },
        { request: generate(2), options: { device, ...streamed() } },
      );
      const [cancelled, refused, whole] = resumed;
      assert.equal(cancelled.end, 'cancelled');
      assert.equal(refused.end, 'fault');
      assert.match(refused.what, /the hidden state after layer 1 of the text encoder has \d+ bytes/);
      assert.deepEqual(whole.layers, ALL_LAYERS.slice(1), 'only the layers that were left are applied');
      assert.deepEqual(whole.png, expected.png);
    });
  });
