//! Damaged checkpoints: the page names the file, tensor or key that is wrong, and the engine can be restarted.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { echoConsole, openBrowser, servePage, untilEngine } from './browser.mjs';
import { withHeader } from './safetensors.mjs';

const SCENES = new URL('../../web/models/scenes/', import.meta.url);
/** The tensor that is damaged. */
const TENSOR = 'adaln_single.linear.weight';
const TRANSFORMER = 'transformer/diffusion_pytorch_model.safetensors';

let server;
before(async () => {
  server = await servePage();
});
after(() => server.close());

describe('a checkpoint that cannot be used', () => {
  let browser;
  before(async () => {
    browser = await openBrowser();
  });
  after(() => browser.close());

  const transformer = readFileSync(new URL(TRANSFORMER, SCENES));
  const config = JSON.parse(readFileSync(new URL('transformer/config.json', SCENES), 'utf8'));
  const cases = [
    ['a_truncated_file', TRANSFORMER, transformer.subarray(0, transformer.length / 2), 'bad_weights', TRANSFORMER],
    ['a_file_of_noise', TRANSFORMER, Buffer.alloc(4096, 0xa5), 'bad_weights', TRANSFORMER],
    ['a_tensor_of_the_wrong_shape', TRANSFORMER, withHeader(transformer, transpose), 'bad_weights', TENSOR],
    ['a_tensor_of_the_wrong_dtype', TRANSFORMER, withHeader(transformer, retype), 'bad_weights', TENSOR],
    ['a_missing_tensor', TRANSFORMER, withHeader(transformer, rename), 'bad_weights', TENSOR],
    ['a_key_that_is_no_number', 'transformer/config.json', withKey(config, 'num_layers', 'many'), 'bad_config', 'num_layers'],
    ['a_missing_file', 'vae/config.json', undefined, 'network', 'vae/config.json'],
  ];
  for (const [name, path, body, code, named] of cases) {
    test(`${name}_is_named_in_the_fault_and_the_engine_can_be_restarted`, async () => {
      const damage = (route) => route.fulfill(body ? { body } : { status: 404 });
      const page = await openPage(browser, `**/models/scenes/${path}`, damage);
      await untilEngine(page);
      const fault = await page.evaluate(() => globalThis.pixart.state().fault);
      assert.equal(fault?.code, code);
      assert.ok(fault.what.includes(named), `${fault.what} names ${named}`);
      assert.equal(await page.innerText('#fault-what'), fault.what);
      await page.unroute(`**/models/scenes/${path}`);
      await page.click('#restart');
      await untilEngine(page);
      assert.equal(await page.evaluate(() => globalThis.pixart.state().phase), 'ready');
      await page.close();
    });
  }

  test('a_wasm_module_that_cannot_be_loaded_is_a_fault', async () => {
    const page = await openPage(browser, '**/*.wasm', (route) => route.abort());
    await untilEngine(page);
    assert.equal(await page.evaluate(() => globalThis.pixart.state().fault.code), 'internal');
    assert.ok(await page.isVisible('#restart'));
    await page.close();
  });
});

/** Opens the page without browser storage, with `answer` for the requests that match `pattern`. */
async function openPage({ context }, pattern, answer) {
  const page = await context.newPage();
  echoConsole(page);
  await page.route(pattern, answer);
  await page.goto(`${server.url}?store=memory`);
  return page;
}

function transpose(header) {
  header[TENSOR].shape.reverse();
}

/** I16 has the size of the F16 it replaces, so that nothing but the type is wrong. */
function retype(header) {
  assert.equal(header[TENSOR].dtype, 'F16');
  header[TENSOR].dtype = 'I16';
}

function rename(header) {
  header.something_else = header[TENSOR];
  delete header[TENSOR];
}

function withKey(config, key, value) {
  assert.ok(key in config);
  return Buffer.from(JSON.stringify({ ...config, [key]: value }));
}
