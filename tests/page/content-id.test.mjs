//! Hashes of bytes and identities of files, without a browser.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';

const WEB = fileURLToPath(new URL('../../web/', import.meta.url));
const MIB = 1 << 20;
const WEIGHTS = 'transformer/diffusion_pytorch_model.safetensors';

let server;
let sha256;
let contentIdOf;
before(async () => {
  const { createServer } = await import(pathToFileURL(createRequire(`${WEB}package.json`).resolve('vite')).href);
  server = await createServer({ root: WEB, configFile: false, logLevel: 'error', server: { middlewareMode: true, ws: false } });
  ({ sha256 } = await server.ssrLoadModule('/src/checkpoints/sha256.ts'));
  ({ contentIdOf } = await server.ssrLoadModule('/src/checkpoints/identity.ts'));
});
after(() => server.close());

const file = (bytes, lastModified = 1) => new File([bytes], 'a', { lastModified });
const idOf = (files) => contentIdOf(new Map(Object.entries(files)));

test('the_hash_without_crypto_subtle_is_sha256_at_every_padding', () => {
  for (const length of [...Array(130).keys(), 1000, 4096]) {
    const bytes = Uint8Array.from({ length }, (_, at) => at * 7 + length);
    assert.equal(Buffer.from(sha256(bytes)).toString('hex'), createHash('sha256').update(bytes).digest('hex'), `${length} bytes`);
  }
});

test('an_identity_is_that_of_contents_and_not_of_dates_up_to_32_mib', async () => {
  const bytes = new Uint8Array(MIB);
  const changed = bytes.slice();
  changed[MIB / 2 + 1] = 1;
  const identity = await idOf({ [WEIGHTS]: file(bytes) });
  assert.match(identity, /^[0-9a-f]{12}$/);
  assert.equal(await idOf({ [WEIGHTS]: file(bytes, 2) }), identity);
  assert.notEqual(await idOf({ [WEIGHTS]: file(changed) }), identity);
  assert.notEqual(await idOf({ 'vae/diffusion_pytorch_model.safetensors': file(bytes) }), identity);
  assert.notEqual(await idOf({ [WEIGHTS]: file(bytes), 'vae/config.json': file('{}') }), identity);
  assert.equal(await idOf({ [WEIGHTS]: file(bytes), 'README.md': file('x'), '.git/a': file('y'), 'vae/.DS_Store': file('z') }), identity);
});

test('the_identity_of_a_large_file_changes_with_its_size_its_date_and_its_samples', async () => {
  const bytes = new Uint8Array(40 * MIB);
  const changed = bytes.slice();
  changed[100] = 1;
  const files = [file(bytes), file(bytes, 2), file(bytes.subarray(1)), file(changed)];
  const identities = await Promise.all(files.map((weights) => idOf({ [WEIGHTS]: weights })));
  assert.equal(new Set(identities).size, files.length);
  assert.equal(await idOf({ [WEIGHTS]: file(bytes) }), identities[0]);
});

test('a_packed_checkpoint_is_known_by_its_manifest', async () => {
  const identity = await idOf({ 'manifest.json': file('{}'), 'a.bin': file('1') });
  assert.equal(await idOf({ 'manifest.json': file('{}', 2) }), identity);
  assert.notEqual(await idOf({ 'manifest.json': file('{ }') }), identity);
});

test('weights_count_beside_a_manifest_of_something_else', async () => {
  for (const manifest of ['{"name":"app"}', '<!doctype html>', '']) {
    const [one, other] = await Promise.all(['1', '2'].map((bytes) => idOf({ 'manifest.json': file(manifest), [WEIGHTS]: file(bytes) })));
    assert.notEqual(one, other, manifest);
  }
});
