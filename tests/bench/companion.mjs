//! A companion under load, measured from outside: `companion.mjs --pixart PATH --checkpoint DIR [--seconds 60]
//! [--clients 200]` prints one JSON line for each of: many clients at once, connections that never finish their headers,
//! bodies that are not valid requests, and SIGTERM while it works.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import { createRequire } from 'node:module';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as after } from 'node:timers/promises';
import { parseArgs } from 'node:util';

const autocannon = createRequire(new URL('../../web/package.json', import.meta.url))('autocannon');
const { values: options } = parseArgs({
  options: {
    pixart: { type: 'string' },
    checkpoint: { type: 'string' },
    seconds: { type: 'string', default: '60' },
    clients: { type: 'string', default: '200' },
  },
});
const seconds = Number(options.seconds);
const clients = Number(options.clients);
/** Memory is compared with that at this second. */
const SETTLED_SECONDS = Math.min(20, seconds / 3);
const SLOW = 500;
const JSON_HEADERS = { 'content-type': 'application/json' };

for (const measure of [load, slowHeaders, badBodies, terminated]) {
  const companion = await start();
  try {
    console.log(JSON.stringify({ measured: measure.name, ...(await measure(companion)) }));
  } finally {
    companion.child.kill('SIGKILL');
  }
}

/** `pixart serve`, once it is ready. */
async function start() {
  const args = ['serve', '--api-only', '--listen', '127.0.0.1:0', '--checkpoint', options.checkpoint];
  const child = spawn(options.pixart, args, { stdio: ['ignore', 'pipe', 'ignore'] });
  const exited = once(child, 'exit').then(([code, signal]) => signal ?? code);
  const [url] = await once(createInterface(child.stdout), 'line');
  while ((await fetch(`${url}readyz`)).status !== 200) await after(20);
  return { child, url, exited };
}

/** Many clients at once, with prompts that are not in the cache. */
async function load({ child, url }) {
  const memory = [];
  const health = [];
  let running = true;
  const watch = (async () => {
    for (let second = 0; running; second += 1) {
      memory.push({ second, kib: residentKib(child.pid) });
      await after(1000);
    }
  })();
  const probe = (async () => {
    while (running) {
      const began = performance.now();
      const { status } = await fetch(`${url}healthz`);
      health.push(status === 200 ? performance.now() - began : Infinity);
      await after(20);
    }
  })();
  const result = await autocannon({
    url: `${url}v1/encode`,
    method: 'POST',
    headers: JSON_HEADERS,
    body: JSON.stringify({ captions: ['', 'the [<id>] of a red circle'] }),
    idReplacement: true,
    connections: clients,
    duration: seconds,
    workers: 1,
  });
  running = false;
  await Promise.all([watch, probe]);
  const statuses = Object.fromEntries(Object.entries(result.statusCodeStats ?? {}).map(([status, { count }]) => [status, count]));
  const after_settling = memory.filter(({ second }) => second >= SETTLED_SECONDS).map(({ kib }) => kib);
  health.sort((a, b) => a - b);
  return {
    clients,
    seconds,
    statuses,
    errors: result.errors + result.timeouts,
    encoded_per_second: Math.round((statuses['200'] ?? 0) / seconds),
    healthz_requests: health.length,
    healthz_p99_ms: Math.round(health[Math.floor(health.length * 0.99)] * 10) / 10,
    memory_settled_mib: Math.round(after_settling[0] / 1024),
    memory_end_mib: Math.round(after_settling.at(-1) / 1024),
    memory_most_mib: Math.round(Math.max(...after_settling) / 1024),
  };
}

/** Connections that never finish their headers. */
async function slowHeaders({ url }) {
  const { port } = new URL(url);
  let open = 0;
  const sockets = await Promise.all(
    Array.from({ length: SLOW }, async () => {
      const socket = connect(Number(port), '127.0.0.1');
      socket.on('error', () => 'closed below');
      await once(socket, 'connect');
      open += 1;
      socket.on('close', () => (open -= 1));
      socket.resume();
      socket.write('POST /v1/encode HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ');
      return socket;
    }),
  );
  const established = open;
  const began = performance.now();
  const reply = await fetch(`${url}v1/encode`, { method: 'POST', headers: JSON_HEADERS, body: '{"captions": ["a star"]}' });
  const served_ms = Math.round(performance.now() - began);
  const patience = performance.now() + 20_000;
  while (open > 0 && performance.now() < patience) await after(100);
  const closed_after_s = Math.round((performance.now() - began) / 100) / 10;
  for (const socket of sockets) socket.destroy();
  return { connections: SLOW, established, served: reply.status, served_ms, left_open: open, closed_after_s };
}

/** Bodies that are too long, no JSON, or end too early. */
async function badBodies({ url }) {
  const post = (body) => fetch(`${url}v1/encode`, { method: 'POST', headers: JSON_HEADERS, body }).then(({ status }) => status);
  const { port } = new URL(url);
  const cut = async (ends) => {
    const socket = connect({ port: Number(port), host: '127.0.0.1', allowHalfOpen: true });
    socket.write('POST /v1/encode HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"cap');
    if (ends) socket.end();
    let answer = '';
    socket.on('data', (bytes) => (answer += bytes));
    socket.on('error', () => 'no answer, then');
    await Promise.race([once(socket, 'data'), once(socket, 'close'), after(30_000)]);
    socket.destroy();
    return Number(answer.split(' ')[1] ?? 0);
  };
  return {
    oversized: await post(' '.repeat(600 * 1024)),
    malformed: await post('{"captions": ['),
    stalled: await cut(false),
    truncated: await cut(true),
    still_serves: await post('{"captions": ["a star"]}'),
  };
}

/** SIGTERM while encodings and images are in progress and more are requested. */
async function terminated({ child, url, exited }) {
  const count = { answered: 0, refused: 0, not_connected: 0, lost: 0 };
  let sending = true;
  const one = (path, body) =>
    new Promise((resolve) => {
      let connected = false;
      const sent = request(new URL(path, url), { method: 'POST', headers: JSON_HEADERS, agent: false }, (response) => {
        response.resume();
        response.on('end', () => resolve(response.complete ? (response.statusCode === 200 ? 'answered' : 'refused') : 'lost'));
        response.on('error', () => resolve('lost'));
      });
      sent.on('socket', (socket) => socket.on('connect', () => (connected = true)));
      sent.on('error', () => resolve(connected ? 'lost' : 'not_connected'));
      sent.end(JSON.stringify(body));
    });
  const client = async (index) => {
    while (sending) {
      const body = index < 4 ? { prompt: 'a star', num_inference_steps: 5, seed: index } : { captions: [`star ${index} ${Math.random()}`] };
      count[await one(index < 4 ? 'v1/images/generations' : 'v1/encode', body)] += 1;
      if (count.not_connected > 0) return;
    }
  };
  const all = Array.from({ length: 48 }, (_, index) => client(index));
  await after(2000);
  child.kill('SIGTERM');
  const ended = await Promise.race([exited, after(90_000, 'still running')]);
  sending = false;
  await Promise.all(all);
  return { ...count, exit: ended };
}

function residentKib(pid) {
  const line = readFileSync(`/proc/${pid}/status`, 'utf8')
    .split('\n')
    .find((line) => line.startsWith('VmRSS:'));
  return Number(line?.match(/\d+/)?.[0]);
}
