//! Sources of a checkpoint's files: a folder on a server, or local files. Reads byte ranges and does not interpret them.
import { fault, ignore } from '../engine/fault';
import { type FileResponse, networkFault, requestFile, stream } from './http';

/** Metadata of a file, known before it is read. */
export interface FileInfo {
  bytes: number;
  /** Changes whenever the file changes. */
  version: string;
}

export interface Source {
  readonly name: string;
  /** `undefined` where there is no such file. */
  info(path: string): Promise<FileInfo | undefined>;
  read(path: string, begin: number, end: number): Promise<Uint8Array<ArrayBuffer>>;
  /** Returns whether some file can only be read sequentially. Known once `info` was called for every file. */
  isSequential(): boolean;
}

/** Reads a small file whole; `undefined` where there is none. */
export async function readFile(source: Source, path: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const info = await source.info(path);
  return info === undefined ? undefined : source.read(path, 0, info.bytes);
}

/** A folder at a URL that ends in `/`: a model hub's `<repo>/resolve/<revision>/`, or any other. */
export class HttpSource implements Source {
  private readonly versions = new Map<string, string>();
  private readonly sequential_files = new Map<string, SequentialReader>();

  constructor(readonly name: string) {}

  async info(path: string): Promise<FileInfo | undefined> {
    const url = this.name + path;
    const reply = await requestFile(url, 0, 8);
    if (reply === undefined) return undefined;
    const { version, supports_ranges } = reply.file;
    this.versions.set(path, version);
    if (supports_ranges) await reply.response.body?.cancel();
    let bytes = reply.file.bytes;
    if (bytes === undefined && supports_ranges) bytes = await contentLength(url);
    if (bytes === undefined) {
      // Without a length the file is small enough to be held in memory, or the download fails.
      const body = new Uint8Array(
        await reply.response.arrayBuffer().catch((thrown: unknown) => {
          throw networkFault(url, thrown);
        }),
      );
      this.sequential_files.set(path, new SequentialReader(url, undefined, body));
      return { bytes: body.length, version };
    }
    if (!supports_ranges) this.sequential_files.set(path, new SequentialReader(url, reply, new Uint8Array()));
    return { bytes, version };
  }

  async read(path: string, begin: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
    const url = this.name + path;
    const sequential = this.sequential_files.get(path);
    if (sequential !== undefined) return sequential.read(begin, end);
    const version = this.versions.get(path) ?? '';
    const reply = await requestFile(url, begin, end, version);
    if (reply === undefined) throw networkFault(url, 'the file is no longer there');
    const bytes = new Uint8Array(end - begin);
    let at = reply.begin - begin;
    await stream(url, reply, end, (chunk) => {
      const skipped = Math.max(0, -at);
      if (skipped < chunk.length) bytes.set(chunk.subarray(skipped), at + skipped);
      at += chunk.length;
    });
    return bytes;
  }

  isSequential(): boolean {
    return this.sequential_files.size > 0;
  }
}

/** A file on a server without Range requests: read once, in order. */
class SequentialReader {
  private queue: Promise<unknown> = Promise.resolve();
  private reader: ReadableStreamDefaultReader<Uint8Array> | undefined;
  private at = 0;

  constructor(
    private readonly url: string,
    private readonly first: FileResponse | undefined,
    private rest: Uint8Array,
  ) {}

  read(begin: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = this.queue.then(() => this.next(begin, end));
    // The caller handles the rejection.
    this.queue = bytes.catch(ignore);
    return bytes;
  }

  private async next(begin: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
    if (this.first === undefined) return this.rest.slice(begin, end) as Uint8Array<ArrayBuffer>;
    if (begin < this.at) throw fault('internal', `${this.url} was read backwards`, 'reload the page');
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
        if ((broken += 1) > 5) throw networkFault(this.url, thrown);
        await this.reopen();
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

  /** Requests the file again and skips to where the connection broke. */
  private async reopen(): Promise<void> {
    const reply = await requestFile(this.url, 0, undefined, this.first?.file.version);
    if (reply === undefined) throw networkFault(this.url, 'the file is no longer there');
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

/** Local files of a folder, by their path in it. */
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
    if (file === undefined) throw fault('network', `the folder has no ${path}`, 'choose the whole folder of a checkpoint');
    try {
      return new Uint8Array(await file.slice(begin, end).arrayBuffer());
    } catch (thrown) {
      throw networkFault(path, thrown);
    }
  }

  isSequential(): boolean {
    return false;
  }
}

/** Requests the length alone, for servers that do not report it with a part of the file. */
async function contentLength(url: string): Promise<number | undefined> {
  const head = await fetch(url, { method: 'HEAD' }).catch(() => undefined);
  const length = head?.ok ? head.headers.get('content-length') : null;
  return length === undefined || length === null ? undefined : Number(length);
}
