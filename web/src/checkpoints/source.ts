//! Where a checkpoint's files come from: a folder on a server, or files that the reader chose. Reads pieces of them and
//! knows nothing of what they hold.
import { fault } from '../engine/fault';
import { ask, stream, unreachable, type Reply } from './http';

/** What is known of a file before it is read. */
export interface FileInfo {
  bytes: number;
  /** Another one means that the file is another one. */
  version: string;
}

export interface Source {
  readonly name: string;
  /** `undefined` where there is no such file. */
  info(path: string): Promise<FileInfo | undefined>;
  read(path: string, begin: number, end: number): Promise<Uint8Array<ArrayBuffer>>;
  /** Whether some file can only be read from its beginning to its end. Known once `info` was asked for all. */
  inFileOrder(): boolean;
}

/** The whole of a small file; `undefined` where there is none. */
export async function whole(source: Source, path: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const info = await source.info(path);
  return info === undefined ? undefined : source.read(path, 0, info.bytes);
}

/** A folder under an address that ends in `/`: a model hub's `<repo>/resolve/<revision>/`, or any other. */
export class HttpSource implements Source {
  private readonly versions = new Map<string, string>();
  private readonly sequences = new Map<string, Sequence>();

  constructor(readonly name: string) {}

  async info(path: string): Promise<FileInfo | undefined> {
    const url = this.name + path;
    const reply = await ask(url, 0, 8);
    if (reply === undefined) return undefined;
    const { version, ranges } = reply.described;
    this.versions.set(path, version);
    if (ranges) await reply.response.body?.cancel();
    let bytes = reply.described.bytes;
    if (bytes === undefined && ranges) bytes = await lengthOf(url);
    if (bytes === undefined) {
      // A reply that does not tell its length is small enough to be counted, or it is refused.
      const body = new Uint8Array(await reply.response.arrayBuffer().catch((thrown: unknown) => { throw unreachable(url, thrown); }));
      this.sequences.set(path, new Sequence(url, undefined, body));
      return { bytes: body.length, version };
    }
    if (!ranges) this.sequences.set(path, new Sequence(url, reply, new Uint8Array()));
    return { bytes, version };
  }

  async read(path: string, begin: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
    const url = this.name + path;
    const sequence = this.sequences.get(path);
    if (sequence !== undefined) return sequence.read(begin, end);
    const version = this.versions.get(path) ?? '';
    const reply = await ask(url, begin, end, version);
    if (reply === undefined) throw unreachable(url, 'it is gone');
    const bytes = new Uint8Array(end - begin);
    let at = reply.begin - begin;
    await stream(url, reply, end, (chunk) => {
      const skipped = Math.max(0, -at);
      if (skipped < chunk.length) bytes.set(chunk.subarray(skipped), at + skipped);
      at += chunk.length;
    });
    return bytes;
  }

  inFileOrder(): boolean {
    return this.sequences.size > 0;
  }
}

/** A file of a server that sends whole files only: read once, in order, by whoever asks for the next piece. */
class Sequence {
  private turn: Promise<unknown> = Promise.resolve();
  private reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  private at = 0;

  constructor(
    private readonly url: string,
    private readonly first: Reply | undefined,
    private rest: Uint8Array,
  ) {}

  read(begin: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
    const mine = this.turn.then(() => this.next(begin, end));
    this.turn = mine.catch(() => 'told to whom it concerns');
    return mine;
  }

  private async next(begin: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
    if (this.first === undefined) return this.rest.slice(begin, end) as Uint8Array<ArrayBuffer>;
    if (begin < this.at) throw fault('internal', `${this.url} was to be read backwards`, 'reload the page');
    const bytes = new Uint8Array(end - begin);
    for (let broken = 0; this.at < end; ) {
      try {
        this.reader ??= this.first.response.body?.getReader();
        if (this.rest.length === 0) {
          const part = await this.reader?.read();
          if (part?.value === undefined) throw new TypeError(`it ended at byte ${this.at}`);
          this.rest = part.value;
        }
      } catch (thrown) {
        if ((broken += 1) > 5) throw unreachable(this.url, thrown);
        await this.again();
        continue;
      }
      const piece = this.rest.subarray(0, end - this.at);
      this.rest = this.rest.subarray(piece.length);
      const from = Math.max(0, begin - this.at);
      if (from < piece.length) bytes.set(piece.subarray(from), this.at + from - begin);
      this.at += piece.length;
    }
    return bytes;
  }

  /** Opens the file anew and reads on to where it broke off. */
  private async again(): Promise<void> {
    const reply = await ask(this.url, 0, undefined, this.first?.described.version);
    if (reply === undefined) throw unreachable(this.url, 'it is gone');
    this.reader = reply.response.body?.getReader();
    this.rest = new Uint8Array();
    for (let at = 0; at < this.at; ) {
      const part = await this.reader?.read();
      if (part?.value === undefined) throw new TypeError(`it ended at byte ${at}`);
      at += part.value.length;
      this.rest = part.value.subarray(part.value.length - Math.max(0, at - this.at));
    }
  }
}

/** Files of a folder that the reader chose, by their path in it. */
export class FilesSource implements Source {
  constructor(
    readonly name: string,
    private readonly files: ReadonlyMap<string, File>,
  ) {}

  async info(path: string): Promise<FileInfo | undefined> {
    const file = this.files.get(path);
    return file && { bytes: file.size, version: `${file.size} ${file.lastModified}` };
  }

  async read(path: string, begin: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
    const file = this.files.get(path);
    if (file === undefined) throw fault('network', `the chosen folder has no ${path}`, 'choose the whole folder of a checkpoint');
    try {
      return new Uint8Array(await file.slice(begin, end).arrayBuffer());
    } catch (thrown) {
      throw unreachable(path, thrown);
    }
  }

  inFileOrder(): boolean {
    return false;
  }
}

/** The length that a server tells without the file, for those that hide it where they send a part. */
async function lengthOf(url: string): Promise<number | undefined> {
  const head = await fetch(url, { method: 'HEAD' }).catch(() => undefined);
  const length = head?.ok ? head.headers.get('content-length') : null;
  return length === undefined || length === null ? undefined : Number(length);
}
