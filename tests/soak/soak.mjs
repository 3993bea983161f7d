//! Long runs; prints one JSON line for each: images with changing models, downloads whose browser is killed, and a server under
//! changing load whose clients are killed. The caller judges the numbers.
//!
//!   node soak.mjs --chrome PATH --pixart PATH --minutes N [--seed N]
//!
//! A run of 120 minutes generates 300 images, kills the browser 40 times, and loads the server all the time; other lengths have
//! these in proportion. The moments are of seeded generators: a run is repeated with its seed.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { SCENES } from '../page/fixture.mjs';
import { restarts } from './downloads.mjs';
import { images } from './images.mjs';
import { serverLoad } from './server.mjs';

const FULL_MINUTES = 120;
const FULL = { images: 300, restarts: 40, server_seconds: FULL_MINUTES * 60 };

const { values: options } = parseArgs({
  options: {
    chrome: { type: 'string' },
    pixart: { type: 'string' },
    minutes: { type: 'string', default: String(FULL_MINUTES) },
    seed: { type: 'string', default: '7' },
  },
});
const part = Number(options.minutes) / FULL_MINUTES;
const scratch = mkdtempSync(join(tmpdir(), 'pixart-soak-'));
try {
  const packed = join(scratch, 'packed');
  execFileSync(options.pixart, ['pack', '--from', SCENES, '--to', packed, '--dtype', 'f32', '--shard-mib', '1']);
  // Of its own for each part: which of two that run at once is first is not known.
  const given = () => ({ ...options, packed, random: generator(Number(options.seed)) });
  const amount = (key, least) => Math.max(least, Math.round(FULL[key] * part));
  const run = async (what, part) => {
    const began = performance.now();
    console.log(JSON.stringify({ what, ...(await part()), seconds: Math.round((performance.now() - began) / 1000) }));
  };
  const browsers = async () => {
    // Each model is measured in two places at least.
    await run('images', () => images(given(), amount('images', 80)));
    await run('restarts', () => restarts(given(), amount('restarts', 3)));
  };
  await Promise.all([browsers(), run('server', () => serverLoad(given(), amount('server_seconds', 60)))]);
} finally {
  rmSync(scratch, { recursive: true });
}

/** Returns a generator of numbers from 0 to 1 (mulberry32). */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
