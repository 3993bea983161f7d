//! Short names for what the wasm module imports. wasm-bindgen's names hold 16 hexadecimal digits each, which no compression shortens:
//! 3.4 kB of the page and as much of the module. Contract: the module imports functions only, under names that are words of JavaScript.
//! The short ones are longer than those that the minifier makes.

const IMPORT_SECTION = 2;
const FUNCTION = 0;
/** Of a section's and a name's length, in LEB128. */
const HEADER_BYTES = 8;

/** Returns the module with short names of imports, and the long names with their short ones. */
export function withShortImports(module: Uint8Array): { module: Uint8Array; names: Map<string, string> } {
  const names = new Map<string, string>();
  const parts: Uint8Array[] = [module.subarray(0, HEADER_BYTES)];
  for (let at = HEADER_BYTES; at < module.length; ) {
    const size = readLeb(module, at + 1);
    const end = size.end + size.value;
    const isImports = module[at] === IMPORT_SECTION;
    if (isImports) {
      const body = shortSection(module.subarray(size.end, end), names);
      parts.push(Uint8Array.of(IMPORT_SECTION, ...leb(body.length)), body);
    } else parts.push(module.subarray(at, end));
    at = end;
  }
  return { module: Buffer.concat(parts), names };
}

/** Returns a text of the module's script with the short names. */
export function renameWords(script: string, names: ReadonlyMap<string, string>): string {
  return script.replace(/[\w$]+/g, (word) => names.get(word) ?? word);
}

function shortSection(section: Uint8Array, names: Map<string, string>): Uint8Array {
  const count = readLeb(section, 0);
  const parts: Uint8Array[] = [section.subarray(0, count.end)];
  let at = count.end;
  for (let index = 0; index < count.value; index += 1) {
    const from = readLeb(section, at);
    const name = readLeb(section, from.end + from.value);
    const kind = name.end + name.value;
    if (section[kind] !== FUNCTION) throw new Error(`import ${index} of the wasm module is of kind ${section[kind]}, not a function`);
    const long = new TextDecoder().decode(section.subarray(name.end, kind));
    const short = names.get(long) ?? `i$${names.size}`;
    names.set(long, short);
    const type = readLeb(section, kind + 1);
    parts.push(section.subarray(at, from.end + from.value), Uint8Array.of(short.length), new TextEncoder().encode(short));
    parts.push(section.subarray(kind, type.end));
    at = type.end;
  }
  return Buffer.concat(parts);
}

function readLeb(bytes: Uint8Array, start: number): { value: number; end: number } {
  let value = 0;
  for (let at = start, shift = 0; ; at += 1, shift += 7) {
    const byte = bytes[at];
    if (byte === undefined) throw new Error('the wasm module ends inside of a number');
    value += (byte & 127) * 2 ** shift;
    if (byte < 128) return { value, end: at + 1 };
  }
}

function leb(value: number): number[] {
  return value < 128 ? [value] : [(value % 128) + 128, ...leb(Math.floor(value / 128))];
}
