// The hub of these tests answers as the real one.
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { startHub } from './hub.mjs';

const WEIGHTS = Buffer.from(Array.from({ length: 1000 }, (_, index) => index % 251));
let folder, hub;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'pixart-hub-'));
  await mkdir(join(folder, 'owner/name/vae'), { recursive: true });
  await writeFile(join(folder, 'owner/name/vae/config.json'), '{}');
  await writeFile(join(folder, 'owner/name/vae/weights.safetensors'), WEIGHTS);
  hub = await startHub(folder);
});

after(async () => {
  hub.close();
  await rm(folder, { recursive: true });
});

test('a repository lists its commit and files, to pages of any origin', async () => {
  const response = await fetch(`${hub.endpoint}/api/models/owner/name/revision/main`, { headers: { origin: 'http://page' } });
  assert.equal(response.headers.get('access-control-allow-origin'), 'http://page');
  const { sha, siblings } = await response.json();
  assert.match(sha, /^[0-9a-f]{40}$/);
  assert.deepEqual(siblings, [{ rfilename: 'vae/config.json' }, { rfilename: 'vae/weights.safetensors' }]);
});

test('a small file is sent by the hub, and a large one by a signed address that is good for one transfer', async () => {
  const small = await fetch(`${hub.endpoint}/owner/name/resolve/main/vae/config.json`, { redirect: 'manual' });
  assert.deepEqual([small.status, await small.text()], [200, '{}']);
  assert.match(small.headers.get('etag'), /^"[0-9a-f]{40}"$/);
  const url = `${hub.endpoint}/owner/name/resolve/main/vae/weights.safetensors`;
  const redirect = await fetch(url, { redirect: 'manual' });
  assert.deepEqual([redirect.status, redirect.headers.get('x-linked-size')], [302, '1000']);
  const signed = redirect.headers.get('location');
  assert.notEqual(new URL(signed).host, new URL(url).host);
  assert.match(redirect.headers.get('x-linked-etag'), /^"[0-9a-f]{64}"$/);
  assert.deepEqual(Buffer.from(await (await fetch(signed)).arrayBuffer()), WEIGHTS);
  assert.equal((await fetch(signed)).status, 403);
});

test('ranges are followed through the redirect, and none beyond the end', async () => {
  const url = `${hub.endpoint}/owner/name/resolve/main/vae/weights.safetensors`;
  const part = await fetch(url, { headers: { range: 'bytes=10-19' } });
  assert.deepEqual([part.status, part.headers.get('content-range')], [206, 'bytes 10-19/1000']);
  assert.deepEqual(Buffer.from(await part.arrayBuffer()), WEIGHTS.subarray(10, 20));
  const beyond = await fetch(url, { headers: { range: 'bytes=1000-' } });
  assert.deepEqual([beyond.status, beyond.headers.get('content-range')], [416, 'bytes */1000']);
});

test('what is not there, and paths that leave the repository, are not found', async () => {
  for (const path of ['/owner/other/resolve/main/a', '/owner/name/resolve/v2/vae/config.json', '/api/models/owner/other', '/x'])
    assert.equal((await fetch(hub.endpoint + path)).status, 404, path);
  assert.equal((await fetch(`${hub.endpoint}/owner/name/resolve/main/%2e%2e%2f%2e%2e%2fx`)).status, 404);
});
