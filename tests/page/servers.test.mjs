//! Servers as they are found: those that refuse what they lack, that answer with a web page, that hide headers from other origins.
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { openSettings } from './browser.mjs';
import { faultOf, SCENES, untilLoaded, useModelServer } from './fixture.mjs';
import { split } from './safetensors.mjs';

const PAGE = '<!doctype html><html lang="en"><title>app</title><script src="/app.js"></script></html>';
const exists = (path) => existsSync(join(SCENES, path));
const isWeights = (path) => path.endsWith('.safetensors');

describe('a server', () => {
  const fixture = useModelServer(() => SCENES);
  const sent = () => fixture.server.log.filter(({ path }) => isWeights(path)).reduce((sum, entry) => sum + entry.sent, 0);
  /** The page with the model server's checkpoint, its text encoder included. */
  const openWithText = async ({ browser }, query = '') => {
    const page = await browser.context.newPage();
    await page.goto(`${fixture.pageUrl}?device=wasm&store=memory&checkpoint=${encodeURIComponent(fixture.server.url + query)}`);
    await openSettings(page);
    return page;
  };

  for (const status of [401, 403, 404, 410]) {
    test(`that_answers_${status}_for_what_it_lacks_is_opened`, async (context) => {
      fixture.server.rule = ({ path }) => (exists(path) ? undefined : { status });
      await untilLoaded(await openWithText(context));
    });
  }

  for (const [status, remedy] of [
    [401, /login/],
    [403, /login or permission/],
    [410, /check the address/],
  ]) {
    test(`that_answers_${status}_for_everything_is_named_with_the_status`, async (context) => {
      fixture.server.rule = () => ({ status });
      const fault = await faultOf(await openWithText(context));
      assert.equal(fault.code, 'network');
      assert.match(fault.what, new RegExp(`${fixture.server.url}\\S+ answered ${status}$`));
      assert.match(fault.remedy, remedy);
    });
  }

  for (const [name, headers] of [
    ['text_html', { 'content-type': 'text/html; charset=utf-8' }],
    ['no_type', {}],
    ['octet_stream', { 'content-type': 'application/octet-stream' }],
  ]) {
    test(`that_sends_a_page_as_${name}_for_what_it_lacks_is_opened`, async (context) => {
      fixture.server.rule = ({ path }) => (exists(path) ? undefined : { body: PAGE, headers });
      await untilLoaded(await openWithText(context));
    });
  }

  test('that_sends_a_page_for_everything_is_named', async (context) => {
    fixture.server.rule = () => ({ body: PAGE, headers: { 'content-type': 'text/html' } });
    const fault = await faultOf(await openWithText(context));
    assert.deepEqual(fault, {
      code: 'network',
      what: `${fixture.server.url}transformer/config.json is a web page: the server answers with one for addresses that it does not have`,
      remedy: 'check the address of the checkpoint folder, or let the server answer 404 for files that it lacks',
    });
  });

  test('that_sends_a_page_beside_sharded_weights_is_opened', async (context) => {
    const stem = 'text_encoder/model';
    const parts = split(readFileSync(join(SCENES, `${stem}.safetensors`)));
    const files = {
      [`${stem}.safetensors.index.json`]: JSON.stringify({ weight_map: parts.weight_map }),
      ...Object.fromEntries(parts.files.map(([file, bytes]) => [`text_encoder/${file}`, bytes])),
    };
    fixture.server.rule = ({ path }) => {
      if (files[path] !== undefined) return { body: files[path], headers: { 'content-type': 'application/octet-stream' } };
      if (path !== `${stem}.safetensors` && exists(path)) return undefined;
      return { body: PAGE, headers: { 'content-type': 'text/html' } };
    };
    await untilLoaded(await openWithText(context));
  });

  for (const [name, rule] of [
    ['hides_all_headers', () => ({ headers: { 'access-control-expose-headers': '' } })],
    [
      'hides_headers_and_allows_no_HEAD',
      ({ method }) => ({ ...(method === 'HEAD' && { status: 405 }), headers: { 'access-control-expose-headers': '' } }),
    ],
    ['sends_no_length', () => ({ omit: ['content-length'], headers: { 'access-control-expose-headers': '' } })],
    ['sends_no_length_and_no_ranges', ({ path }) => ({ ranges: false, ...(!isWeights(path) && { omit: ['content-length'] }) })],
    ['compresses_small_files', ({ path }) => compressed(path)],
  ]) {
    test(`that_${name}_is_read`, async (context) => {
      fixture.server.rule = rule;
      await untilLoaded(await openWithText(context));
    });
  }

  for (const ranges of [true, false]) {
    test(`that_cuts_every_file_once_${ranges ? 'with' : 'without'}_ranges_is_read`, async (context) => {
      fixture.server.rule = ({ path, count }) => ({
        ranges,
        ...(exists(path) && count === 0 && { cut: isWeights(path) && !ranges ? 100_000 : 3 }),
      });
      await untilLoaded(await openWithText(context));
    });
  }

  test('that_needs_a_query_receives_it_with_every_file', async (context) => {
    const queries = new Set();
    const page = await context.browser.context.newPage();
    page.on('request', (request) => request.url().startsWith(fixture.server.url) && queries.add(new URL(request.url()).search));
    const url = `${fixture.server.url}model_index.json?X-Sig=a%2Fb&Expires=1`;
    await page.goto(`${fixture.pageUrl}?device=wasm&store=memory&checkpoint=${encodeURIComponent(url)}`);
    await untilLoaded(page);
    assert.deepEqual([...queries], ['?X-Sig=a%2Fb&Expires=1']);
  });

  test('whose_address_is_signed_is_stored_without_the_signature', async (context) => {
    for (const query of ['v=2&X-Amz-Signature=1&X-Amz-Expires=9', 'v=2&token=abc', 'sv=1&sig=x&v=2&se=3', 'v=2&Expires=1&Signature=y']) {
      const page = await openWithText(context, `?${query}`);
      await untilLoaded(page);
      const stored = await page.evaluate(() => globalThis.pixart.storage({ kind: 'list' }));
      assert.deepEqual([...new Set(stored.map(({ checkpoint }) => checkpoint))], [`${fixture.server.url}?v=2`], query);
      await page.close();
    }
  });

  test('that_has_the_manifest_of_a_web_app_beside_the_weights_is_opened', async (context) => {
    const body = JSON.stringify({ name: 'app', start_url: '.', icons: [{ src: 'icon.svg', sizes: 'any' }] });
    fixture.server.rule = ({ path }) => (path === 'manifest.json' ? { body } : undefined);
    await untilLoaded(await openWithText(context));
  });

  for (const [lacks, named] of [
    [/^tokenizer\//, 'tokenizer/tokenizer.json and no tokenizer/spiece.model'],
    [/^vae\/config/, 'vae/config.json'],
    [/^vae\/diffusion/, 'vae/diffusion_pytorch_model.safetensors'],
    [/^scheduler\//, 'scheduler/scheduler_config.json'],
    [/^text_encoder\/model/, 'text_encoder/model.safetensors'],
  ]) {
    test(`that_lacks_${named}_is_refused_before_weights_are_downloaded`, async (context) => {
      fixture.server.rule = ({ path }) => (lacks.test(path) ? { status: 404 } : undefined);
      const fault = await faultOf(await openWithText(context));
      const [component] = named.split('/');
      const option = { scheduler: '--scheduler-config', text_encoder: '--text-encoder' }[component] ?? `--${component}`;
      assert.deepEqual(fault, {
        code: 'network',
        what: `${fixture.server.url} has no ${named}`,
        remedy: `check the address of the checkpoint folder, or take its ${component} from another place: under Models, with ?${component}= in the address, or with ${option}`,
      });
      assert.ok(sent() < 100_000, `${sent()} bytes of weights`);
    });
  }

  test('that_lacks_a_shard_is_refused_before_weights_are_downloaded', async (context) => {
    const index = JSON.stringify({ weight_map: { a: 'model-00001-of-00002.safetensors', b: 'model-00002-of-00002.safetensors' } });
    fixture.server.rule = ({ path }) => {
      if (path === 'text_encoder/model.safetensors') return { status: 404 };
      if (path === 'text_encoder/model.safetensors.index.json') return { body: index };
      if (path === 'text_encoder/model-00001-of-00002.safetensors') return { from: 'text_encoder/model.safetensors' };
      return undefined;
    };
    const fault = await faultOf(await openWithText(context));
    assert.equal(fault.what, `${fixture.server.url} has no text_encoder/model-00002-of-00002.safetensors`);
    assert.ok(sent() < 100_000, `${sent()} bytes of weights`);
  });

  for (const [path, change, named] of [
    ['transformer/config.json', { num_layers: 5 }, 'transformer_blocks.4.'],
    ['transformer/config.json', { caption_channels: 128 }, 'caption_projection.linear_1.weight'],
    ['vae/config.json', { block_out_channels: [16, 32, 64, 128] }, 'decoder.'],
    ['text_encoder/config.json', { d_ff: 320 }, 'DenseReluDense'],
    ['text_encoder/config.json', { num_layers: 9 }, 'encoder.block.'],
  ]) {
    const [[key, value]] = Object.entries(change);
    test(`whose_${path}_has_the_${key}_${value}_of_another_model_is_refused_before_weights_are_downloaded`, async (context) => {
      const body = JSON.stringify({ ...JSON.parse(readFileSync(join(SCENES, path), 'utf8')), ...change });
      fixture.server.rule = (request) => (request.path === path ? { body } : undefined);
      const fault = await faultOf(await openWithText(context));
      assert.equal(fault.code, 'bad_weights', fault.what);
      assert.ok(fault.what.includes(named), fault.what);
      assert.ok(sent() < 100_000, `${sent()} bytes of weights`);
    });
  }

  test('whose_text_encoder_has_a_damaged_header_is_refused_before_weights_are_downloaded', async (context) => {
    fixture.server.rule = ({ path }) => (path.startsWith('text_encoder/model') ? { flip: 9 } : undefined);
    const fault = await faultOf(await openWithText(context));
    assert.equal(fault.code, 'bad_weights');
    assert.match(fault.what, /text_encoder\/model\.safetensors/);
    assert.ok(sent() < 100_000, `${sent()} bytes of weights`);
  });
});

/** A file as a server sends it that compresses text, whatever part of it is requested. */
function compressed(path) {
  if (isWeights(path) || !exists(path)) return undefined;
  const body = gzipSync(readFileSync(join(SCENES, path)));
  return { body, headers: { 'content-encoding': 'gzip', 'content-length': body.length } };
}
