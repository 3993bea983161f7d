//! A server under changing load, some of whose clients are killed: every other request is answered, the same request gives the same
//! image at the end as at the beginning, and memory does not grow.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import { createInterface } from 'node:readline';
import { setTimeout as after } from 'node:timers/promises';
import { SCENES } from '../page/fixture.mjs';

/** Clients at once, one number after another. */
const LOADS = [1, 16, 4, 64, 0, 128, 8, 32];
const ROUND_SECONDS = 240;
/** The server caches this many bytes of embeddings; it is full before memory is measured. */
const CACHE_BYTES = 128 << 20;
const BATCH = 8;
const IMAGE_PART = 0.1;
const KILLED_PART = 0.15;
const KILLED_MILLIS = 400;
const IMAGE = { prompt: 'a red circle on a blue background', seed: 7, num_inference_steps: 2, size: '64x64', response_format: 'b64_json' };

/** Loads `pixart serve` for `seconds`. */
export async function serverLoad({ pixart, random }, seconds) {
  const args = ['serve', '--api-only', '--listen', '127.0.0.1:0', '--checkpoint', SCENES];
  const child = spawn(pixart, args, { stdio: ['ignore', 'pipe', 'ignore'] });
  try {
    const [url] = await once(createInterface(child.stdout), 'line');
    while ((await fetch(`${url}readyz`)).status !== 200) await after(20);
    const image = async () => (await post(url, 'v1/images/generations', IMAGE)).text;
    const first = picture(await image());
    await fillCache(url);
    const counts = { answered: 0, busy: 0, killed: 0, failed: 0 };
    const memory = [];
    // Both halves have the same loads.
    const rounds = 2 * Math.max(1, Math.round(seconds / ROUND_SECONDS / 2));
    for (let round = 0; round < rounds; round += 1) {
      for (const clients of LOADS) {
        const until = Date.now() + (1000 * seconds) / rounds / LOADS.length;
        await Promise.all(Array.from({ length: clients }, () => client(url, until, counts, random)));
        while (Date.now() < until) await after(100);
        memory.push({ round, clients, kib: residentKib(child.pid) });
      }
    }
    const same = picture(await image()) === first;
    // The first half settles the allocator.
    const [settled, later] = [memory.slice(0, memory.length / 2), memory.slice(memory.length / 2)];
    const most = (part) => Math.max(...part.map(({ kib }) => kib));
    return {
      load_seconds: seconds,
      ...counts,
      same_image: same,
      alive: child.exitCode === null,
      memory_mib: Math.round(most(later) / 1024),
      memory_growth: Number((most(later) / most(settled) - 1).toFixed(4)),
      memory,
    };
  } finally {
    child.kill('SIGKILL');
  }
}

/** Encodes captions until their embeddings fill the server's cache. */
async function fillCache(url) {
  for (let [bytes, at] = [0, 0]; bytes < CACHE_BYTES; at += BATCH) {
    const captions = Array.from({ length: BATCH }, (_, index) => `star number ${at + index}`);
    const { status, text } = await post(url, 'v1/encode', { captions });
    if (status !== 200) throw new Error(`the server answers ${status}: ${text}`);
    bytes += JSON.parse(text).shape.reduce((product, length) => product * length, Float32Array.BYTES_PER_ELEMENT);
  }
}

/** A client that sends one request after another, and is killed in some. */
async function client(url, until, counts, random) {
  while (Date.now() < until) {
    const seed = Math.floor(random() * 2 ** 32);
    const isImage = random() < IMAGE_PART;
    const kill_millis = random() < KILLED_PART ? random() * KILLED_MILLIS : undefined;
    const [path, body] = isImage ? ['v1/images/generations', { ...IMAGE, seed }] : ['v1/encode', { captions: ['', `a star ${seed}`] }];
    try {
      const { status } = await post(url, path, body, kill_millis);
      if (status === 200) counts.answered += 1;
      else if (status === 429 || status === 503) {
        counts.busy += 1;
        await after(100);
      } else counts.failed += 1;
    } catch (error) {
      if (error.killed) counts.killed += 1;
      else counts.failed += 1;
    }
  }
}

/** Sends a request on a connection of its own, which is cut after `kill_millis` where that is given. */
function post(url, path, body, kill_millis) {
  return new Promise((resolve, reject) => {
    const sent = request(
      new URL(path, url),
      { method: 'POST', headers: { 'content-type': 'application/json' }, agent: false },
      async (reply) => {
        let text = '';
        try {
          for await (const chunk of reply) text += chunk;
          resolve({ status: reply.statusCode, text });
        } catch (error) {
          reject(error);
        }
      },
    );
    sent.on('error', reject);
    if (kill_millis !== undefined)
      setTimeout(() => sent.destroy(Object.assign(new Error('killed'), { killed: true })), kill_millis).unref();
    sent.end(JSON.stringify(body));
  });
}

const picture = (text) => JSON.parse(text).data[0].b64_json;

function residentKib(pid) {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]);
}
