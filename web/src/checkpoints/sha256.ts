//! SHA-256 of bytes, also in pages without `crypto.subtle`: those that come from another host by plain HTTP. FIPS 180-4.

/** Returns the SHA-256 in hexadecimal digits. */
export async function sha256Of(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  // TypeScript's DOM types take a secure context for granted.
  const subtle = crypto.subtle as SubtleCrypto | undefined;
  const hash = subtle === undefined ? sha256(bytes) : new Uint8Array(await subtle.digest('SHA-256', bytes));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Bytes of a block of the hash function, and its rounds. */
const BLOCK_BYTES = 64;
const ROUNDS = 64;

/** The first 32 fractional bits of the cube roots of the first primes, and of the square roots of the first eight. */
const PRIMES = primes(ROUNDS);
const ROUND_CONSTANTS = Int32Array.from(PRIMES, (prime) => fractionalBits(prime, 3n));
const INITIAL_STATE = Int32Array.from(PRIMES.slice(0, 8), (prime) => fractionalBits(prime, 2n));

/** Returns the SHA-256 without `crypto.subtle`. */
export function sha256(bytes: Uint8Array): Uint8Array {
  const whole = bytes.length - (bytes.length % BLOCK_BYTES);
  const rest = bytes.length - whole;
  const tail = new Uint8Array(rest + 9 > BLOCK_BYTES ? 2 * BLOCK_BYTES : BLOCK_BYTES);
  tail.set(bytes.subarray(whole));
  tail[rest] = 0x80;
  new DataView(tail.buffer).setBigUint64(tail.length - 8, BigInt(bytes.length) * 8n);
  const state = INITIAL_STATE.slice();
  const schedule = new Int32Array(ROUNDS);
  compress(state, schedule, bytes.subarray(0, whole));
  compress(state, schedule, tail);
  const hash = new Uint8Array(32);
  const view = new DataView(hash.buffer);
  state.forEach((word, index) => {
    view.setInt32(4 * index, word);
  });
  return hash;
}

/** Adds whole blocks to the state. */
function compress(state: Int32Array, w: Int32Array, blocks: Uint8Array): void {
  const view = new DataView(blocks.buffer, blocks.byteOffset, blocks.length);
  for (let begin = 0; begin < blocks.length; begin += BLOCK_BYTES) {
    for (let i = 0; i < 16; i += 1) w[i] = view.getInt32(begin + 4 * i);
    for (let i = 16; i < ROUNDS; i += 1) {
      const x = at(w, i - 15);
      const y = at(w, i - 2);
      const s0 = rotated(x, 7) ^ rotated(x, 18) ^ (x >>> 3);
      const s1 = rotated(y, 17) ^ rotated(y, 19) ^ (y >>> 10);
      w[i] = (((at(w, i - 16) + s0) | 0) + ((at(w, i - 7) + s1) | 0)) | 0;
    }
    let a = at(state, 0);
    let b = at(state, 1);
    let c = at(state, 2);
    let d = at(state, 3);
    let e = at(state, 4);
    let f = at(state, 5);
    let g = at(state, 6);
    let h = at(state, 7);
    for (let i = 0; i < ROUNDS; i += 1) {
      const s1 = rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25);
      const t1 = (((h + s1) | 0) + ((((e & f) ^ (~e & g)) + ((at(ROUND_CONSTANTS, i) + at(w, i)) | 0)) | 0)) | 0;
      const s0 = rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22);
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      h = g;
      g = f;
      f = e;
      e = (d + t1) | 0;
      d = c;
      c = b;
      b = a;
      a = (t1 + t2) | 0;
    }
    state[0] = at(state, 0) + a;
    state[1] = at(state, 1) + b;
    state[2] = at(state, 2) + c;
    state[3] = at(state, 3) + d;
    state[4] = at(state, 4) + e;
    state[5] = at(state, 5) + f;
    state[6] = at(state, 6) + g;
    state[7] = at(state, 7) + h;
  }
}

/** Returns a word whose index is in range. */
function at(words: Int32Array, index: number): number {
  return words[index] as number;
}

function rotated(word: number, bits: number): number {
  return (word >>> bits) | (word << (32 - bits));
}

function primes(count: number): bigint[] {
  const found: bigint[] = [];
  for (let number = 2n; found.length < count; number += 1n) if (found.every((prime) => number % prime !== 0n)) found.push(number);
  return found;
}

/** Returns the first 32 fractional bits of a root of `number`. */
function fractionalBits(number: bigint, degree: bigint): number {
  const scaled = number << (32n * degree);
  let root = 0n;
  for (let bit = 1n << 36n; bit > 0n; bit >>= 1n) if ((root | bit) ** degree <= scaled) root |= bit;
  return Number(root & 0xffffffffn) | 0;
}
