//! Safetensors folders, converted into a real browser's store: from servers of every kind, a model hub, and a local folder.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { faultOf, MIB, SCENES, untilLoaded, useModelServer } from './fixture.mjs';
import { startModelServer } from './model-server.mjs';
import { split } from './safetensors.mjs';

describe('a folder of safetensors', () => {
  const fixture = useModelServer(() => SCENES);
  const weights = () => fixture.server.log.filter(({ path }) => path.endsWith('.safetensors'));
  const total = () => weights().reduce((sum, entry) => sum + entry.sent, 0);
  const files = ['transformer', 'vae'].map((dir) => join(SCENES, dir, 'diffusion_pytorch_model.safetensors'));
  const bytes = files.reduce((sum, file) => sum + statSync(file).size, 0);

  test('is_converted_once_and_opened_again_after_a_request_for_its_versions', async (context) => {
    const page = await fixture.openPage(context);
    await untilLoaded(page);
    assert.ok(total() < bytes * 1.02, `${total()} of ${bytes} bytes`);
    fixture.server.reset();
    await page.reload();
    await untilLoaded(page);
    assert.deepEqual(
      weights().filter(({ sent }) => sent > 8),
      [],
    );
  });

  test('a_server_without_range_requests_is_read_in_order', async (context) => {
    fixture.server.rule = ({ path, count }) => ({ ranges: false, ...(path.endsWith('.safetensors') && count === 1 && { cut: MIB }) });
    await untilLoaded(await fixture.openPage(context));
  });

  test('a_cut_connection_is_resumed_with_a_range_request', async (context) => {
    let cuts = 0;
    fixture.server.rule = ({ path, begin }) => {
      if (!path.endsWith('.safetensors') || begin === 0 || cuts > 8) return undefined;
      cuts += 1;
      return { cut: 100_000 };
    };
    await untilLoaded(await fixture.openPage(context));
    assert.equal(cuts, 9);
  });

  test('a_file_that_changed_between_two_visits_is_converted_again', async (context) => {
    let stop = false;
    fixture.server.rule = ({ path }) => (stop && path.startsWith('vae/diffusion') ? { status: 403 } : undefined);
    stop = true;
    const page = await fixture.openPage(context);
    const fault = await faultOf(page);
    assert.equal(fault.code, 'network');
    assert.match(fault.what, /answered 403/);
    fixture.server.log = [];
    fixture.server.rule = () => ({ etag: '"two"' });
    await page.click('#restart');
    await untilLoaded(page);
    assert.ok(total() >= bytes, 'everything is downloaded again');
  });

  test('a_hub_repository_is_opened_by_name_and_revision_through_redirects', async (context) => {
    const prefix = 'owner/name/resolve/v2/';
    fixture.server.rule = ({ path }) => {
      if (path.startsWith('blobs/')) return { from: path.slice('blobs/'.length) };
      if (!path.startsWith(prefix)) return { status: 404 };
      const file = path.slice(prefix.length);
      return file.endsWith('.safetensors') ? { status: 302, headers: { location: `/blobs/${file}` } } : { from: file };
    };
    const page = await context.browser.context.newPage();
    await page.goto(`${fixture.pageUrl}?device=wasm&companion=&hub=${encodeURIComponent(fixture.server.url)}&checkpoint=owner/name@v2`);
    await untilLoaded(page);
    assert.ok(fixture.server.log.some(({ path, begin }) => path.startsWith('blobs/') && begin > 0));
  });

  test('sharded_safetensors_are_found_through_their_index', async (context) => {
    const stem = 'transformer/diffusion_pytorch_model';
    const parts = split(readFileSync(join(SCENES, `${stem}.safetensors`)));
    const files = {
      [`${stem}.safetensors.index.json`]: Buffer.from(JSON.stringify({ weight_map: parts.weight_map })),
      ...Object.fromEntries(parts.files.map(([name, bytes]) => [`transformer/${name}`, bytes])),
    };
    const page = await context.browser.context.newPage();
    await page.route('**/transformer/*.safetensors*', (route) => {
      const body = files[new URL(route.request().url()).pathname.slice(1)];
      const headers = { 'access-control-allow-origin': '*', ...(body && { 'content-length': `${body.length}` }) };
      return route.fulfill(body ? { body, headers } : { status: 404, headers });
    });
    await page.goto(fixture.url());
    await untilLoaded(page);
  });

  test('loading_progress_is_monotonic_and_ends_at_its_total', async (context) => {
    const page = await context.browser.context.newPage();
    await page.goto(`${fixture.pageUrl}?checkpoint=`);
    const events = await page.evaluate(async (url) => {
      const frame = document.createElement('iframe');
      frame.src = url;
      document.body.append(frame);
      const seen = new Map();
      for (const end = Date.now() + 60_000; Date.now() < end; await new Promise((resolve) => setTimeout(resolve, 1))) {
        const state = frame.contentWindow?.pixart?.state();
        if (state?.loading) seen.set(JSON.stringify(state.loading), state.loading);
        if (state && state.phase !== 'opening') break;
      }
      return [...seen.values()];
    }, fixture.url());
    const stages = [...new Set(events.map(({ stage }) => stage))];
    assert.deepEqual(stages, ['convert', 'upload']);
    for (const stage of stages) {
      const rows = events.filter((row) => row.stage === stage);
      rows.reduce((before, { loaded_bytes }) => (assert.ok(loaded_bytes >= before), loaded_bytes), 0);
      for (const { loaded_bytes, total_bytes, bytes_per_second, seconds_left } of rows) {
        assert.ok(loaded_bytes <= total_bytes && bytes_per_second >= 0 && (seconds_left === null || seconds_left >= 0));
      }
    }
  });

  test('a_local_folder_is_opened_without_a_request', async (context) => {
    const page = await context.browser.context.newPage();
    await page.goto(`${fixture.pageUrl}?device=wasm&companion=&checkpoint=&store=memory`);
    await page.locator('#models').evaluate((fold) => (fold.open = true));
    await page.setInputFiles('#model-folder', SCENES);
    await page.waitForFunction(() => ['ready', 'stopped'].includes(globalThis.pixart.state().phase));
    await untilLoaded(page);
    assert.deepEqual(fixture.server.log, []);
  });
});

test('the_test_server_cuts_flips_and_ignores_ranges_as_its_rule_says', async () => {
  const own = await startModelServer(SCENES);
  try {
    const url = `${own.url}README.md`;
    const whole = readFileSync(join(SCENES, 'README.md'));
    const part = await fetch(url, { headers: { range: 'bytes=10-19' } });
    assert.deepEqual([part.status, Buffer.from(await part.arrayBuffer())], [206, whole.subarray(10, 20)]);
    own.rule = () => ({ cut: 5 });
    await assert.rejects(fetch(url).then((reply) => reply.arrayBuffer()));
    own.rule = () => ({ flip: 3, ranges: false });
    const flipped = await fetch(url, { headers: { range: 'bytes=10-19' } });
    const bytes = Buffer.from(await flipped.arrayBuffer());
    assert.deepEqual([flipped.status, bytes.length, bytes[3] ^ whole[3]], [200, whole.length, 1]);
    assert.ok(readdirSync(SCENES).length > 0 && own.log.length === 3);
  } finally {
    own.close();
  }
});
