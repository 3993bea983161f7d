//! Sources of a checkpoint's files: a folder on a server, or local files. Reads byte ranges and does not interpret them.
import { fault, ignore, messageOf } from '../engine/fault';
import type { Fault, StoredComposition } from '../engine/protocol.gen';
import {
  backoff,
  FileChangedError,
  type FileResponse,
  isRefusal,
  MAX_ATTEMPTS,
  networkFault,
  type Refusal,
  type RequestOptions,
  refusalFault,
  requestFile,
  stream,
} from './http';
import { bytesOf } from './identity';

/** Metadata of a file, known before it is read. */
export interface FileInfo {
  bytes: number;
  /** Changes whenever the file changes. */
  version: string;
}

export interface Source {
  /** Identifies the checkpoint among those stored. */
  readonly name: string;
  /** The name in messages, which ends in `/`. */
  readonly title: string;
  /** `undefined` where there is no such file. */
  info(path: string): Promise<FileInfo | undefined>;
  /** Returns the fault of a file that has to be there, under one of `paths`, after `info` found none. */
  missing(...paths: string[]): Fault;
  read(path: string, begin: number, end: number): Promise<Uint8Array<ArrayBuffer>>;
  /** Returns the address of a file, where it has one. */
  urlOf?(path: string): string | undefined;
  /** Returns whether a file is read, not downloaded. Known once `info` was called for it. */
  isLocal(path: string): boolean;
  /** Returns whether the name is that of the contents: they never change. */
  isImmutable(): boolean;
  /** Returns a source of the same files, which are requested with `options`. */
  reopened(options: RequestOptions): Source;
  /** The places of components, where there are several. */
  readonly composition?: StoredComposition;
  /** Returns the paths of weights in `dir`, which ends in `/`, whatever their names; a source that cannot list its files has none. */
  weightFiles?(dir: string): string[];
  /** Returns whether some file can only be read sequentially. Known once `info` was called for every file. */
  isSequential(): boolean;
}

/** Reads a small file whole; `undefined` where there is none. */
export async function readFile(source: Source, path: string): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const info = await source.info(path);
  return info === undefined ? undefined : source.read(path, 0, info.bytes);
}

/** The end of the names of files of weights, the bytes of their prefix (the header's length), and the format's longest header. */
const WEIGHTS = '.safetensors';
const GGUF = '.gguf';
const PREFIX_BYTES = 8;
const MAX_HEADER_BYTES = 100_000_000;
/** The address of a hub's commit, whose files never change. */
const COMMIT = /\/resolve\/[0-9a-f]{40}\//;

/** A folder at a URL that ends in `/`, or in `/?` and a query, which is sent with every file: a model hub's
    `<repo>/resolve/<revision>/`, or any other. */
export class HttpSource implements Source {
  readonly title: string;
  readonly name: string;
  private readonly versions = new Map<string, string>();
  private readonly sequential_files = new Map<string, SequentialReader>();
  private readonly refusals = new Map<string, Refusal>();
  /** Files for which the server sent a web page. */
  private readonly pages = new Set<string>();

  constructor(
    /** The URL with its signature, which is not stored. */
    readonly url: string,
    private readonly options: RequestOptions = {},
  ) {
    this.title = url.replace(/\?.*$/, '');
    this.name = withoutSignature(url);
  }

  urlOf(path: string): string {
    const query = this.url.slice(this.title.length);
    return this.title + path.split('/').map(encodeURIComponent).join('/') + query;
  }

  async info(path: string): Promise<FileInfo | undefined> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.requestInfo(path);
      } catch (thrown) {
        if (!(thrown instanceof BrokenBody)) throw thrown;
        if (attempt >= (this.options.max_attempts ?? MAX_ATTEMPTS)) throw networkFault(this.urlOf(path), thrown);
        await new Promise((resolve) => setTimeout(resolve, backoff(attempt)));
      }
    }
  }

  private async requestInfo(path: string): Promise<FileInfo | undefined> {
    const url = this.urlOf(path);
    let reply: FileResponse | Refusal;
    try {
      reply = await requestFile(url, 0, PREFIX_BYTES, '', this.options);
    } catch (thrown) {
      // An empty file has no first byte.
      if (thrown instanceof FileChangedError) return { bytes: 0, version: '' };
      throw thrown;
    }
    if (isRefusal(reply)) {
      this.refusals.set(path, reply);
      return undefined;
    }
    const { version, supports_ranges } = reply.file;
    const reader = reply.response.body?.getReader();
    const first = (await reader?.read().catch(failBroken))?.value ?? new Uint8Array();
    if (isPage(reply.response, first)) {
      // What is left of the page is of no use.
      reader?.cancel().catch(ignore);
      this.pages.add(path);
      return undefined;
    }
    this.versions.set(path, version);
    if (supports_ranges) {
      // The eight bytes that were requested have arrived, or the server goes on with what nobody reads.
      reader?.cancel().catch(ignore);
      const bytes =
        reply.file.bytes ?? (await contentLength(url, this.options)) ?? (await lengthByHeader(path, (end) => this.read(path, 0, end)));
      if (bytes !== undefined) return { bytes, version };
      const whole = await requestFile(url, 0, undefined, version, this.options);
      if (isRefusal(whole)) throw refusalFault(url, whole);
      return this.infoOfWhole(path, version, new Uint8Array(), whole.response.body?.getReader());
    }
    if (path.endsWith(GGUF)) {
      reader?.cancel().catch(ignore);
      throw fault(
        'network',
        `the server of ${url} sends no parts of files`,
        'use a server that answers range requests, or choose the file from the disk',
      );
    }
    // Where a small file is compressed, its length is not that of the header. A large one is read while it arrives.
    if (reply.file.bytes === undefined || !path.endsWith(WEIGHTS)) return this.infoOfWhole(path, version, first, reader);
    this.sequential_files.set(path, new SequentialReader(url, reply, first, reader));
    return { bytes: reply.file.bytes, version };
  }

  /** Reads a file whole: without a length it is small enough to be held in memory, or the download fails. */
  private async infoOfWhole(
    path: string,
    version: string,
    first: Uint8Array<ArrayBuffer>,
    reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>> | undefined,
  ): Promise<FileInfo> {
    const url = this.urlOf(path);
    const parts = [first];
    const next = () => reader?.read().catch(failBroken);
    for (let part = await next(); part?.value !== undefined; part = await next()) parts.push(part.value);
    const body = new Uint8Array(await new Blob(parts).arrayBuffer());
    this.sequential_files.set(path, new SequentialReader(url, undefined, body));
    return { bytes: body.length, version };
  }

  missing(...paths: string[]): Fault {
    const page = paths.find((path) => this.pages.has(path));
    if (page !== undefined) {
      const what = `${this.title}${page} is a web page: the server answers with one for addresses that it does not have`;
      return fault('network', what, 'check the address of the checkpoint folder, or let the server answer 404 for files that it lacks');
    }
    const refused = paths.find((path) => this.refusals.get(path)?.status !== 404);
    const refusal = refused === undefined ? undefined : this.refusals.get(refused);
    if (refusal !== undefined) return refusalFault(this.title + refused, refusal);
    const remedy = `check the address of the checkpoint folder${orPlaceOf(paths)}`;
    return fault('network', `${this.title} has no ${paths.join(' and no ')}`, remedy);
  }

  async read(path: string, begin: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
    if (begin === end) return new Uint8Array();
    const url = this.urlOf(path);
    const sequential = this.sequential_files.get(path);
    if (sequential !== undefined) return sequential.read(begin, end);
    const version = this.versions.get(path) ?? '';
    const reply = await requestFile(url, begin, end, version, this.options);
    if (isRefusal(reply)) throw refusalFault(url, reply);
    const bytes = new Uint8Array(end - begin);
    let at = reply.begin - begin;
    await stream(url, reply, end, (chunk) => {
      const skipped = Math.max(0, -at);
      if (skipped < chunk.length) bytes.set(chunk.subarray(skipped), at + skipped);
      at += chunk.length;
    });
    return bytes;
  }

  isLocal(): boolean {
    return false;
  }

  isImmutable(): boolean {
    return COMMIT.test(this.title);
  }

  reopened(options: RequestOptions): Source {
    return new HttpSource(this.url, options);
  }

  isSequential(): boolean {
    return [...this.sequential_files.values()].some((file) => file.isSequential());
  }
}

/** Names of a signature's parameters: those of S3, Google, CloudFront and other hosts, and those of Azure beside its `sig`. */
const SIGNATURE = /^(x-(amz|goog|sig)(-.*)?|signature|expires|policy|key-pair-id|awsaccesskeyid|googleaccessid|sig|(access_?)?token)=/i;
const AZURE_SIGNATURE = /^(s[a-z]|spr|sk[a-z]+)=/;

/** Returns a URL without the parameters that sign it: they expire, are secret, and do not tell checkpoints apart. */
export function withoutSignature(url: string): string {
  const [address = '', query = ''] = url.split(/\?(.*)/);
  const parameters = query.split('&');
  const is_azure = parameters.some((parameter) => parameter.startsWith('sig='));
  const kept = parameters.filter((one) => one !== '' && !SIGNATURE.test(one) && !(is_azure && AZURE_SIGNATURE.test(one)));
  return kept.length > 0 ? `${address}?${kept.join('&')}` : address;
}

/** A file on a server without Range requests: read once, in order, or in memory. */
class SequentialReader {
  private queue: Promise<unknown> = Promise.resolve();
  private at = 0;

  constructor(
    private readonly url: string,
    private readonly first: FileResponse | undefined,
    private rest: Uint8Array,
    private reader?: ReadableStreamDefaultReader<Uint8Array> | undefined,
  ) {}

  /** Returns whether the file arrives while it is read; otherwise it is in memory. */
  isSequential(): boolean {
    return this.first !== undefined;
  }

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
    if (isRefusal(reply)) throw refusalFault(this.url, reply);
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
  readonly title: string;

  constructor(
    readonly name: string,
    private readonly files: ReadonlyMap<string, File>,
  ) {
    this.title = name.startsWith('file:') ? '' : name.replace(/^folder:|#[0-9a-f]*(?=\/$)/g, '');
  }

  async info(path: string): Promise<FileInfo | undefined> {
    const file = this.files.get(path);
    return file && { bytes: file.size, version: `${file.size} ${file.lastModified}` };
  }

  missing(...paths: string[]): Fault {
    const remedy = `choose the whole folder of a checkpoint, which holds transformer, vae and scheduler${orPlaceOf(paths)}`;
    return fault('network', `the folder ${this.title} has no ${paths.join(' and no ')}`, remedy);
  }

  async read(path: string, begin: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
    const file = this.files.get(path);
    if (file === undefined) throw this.missing(path);
    return bytesOf(path, file.slice(begin, end));
  }

  weightFiles(dir: string): string[] {
    return [...this.files.keys()].filter((path) => path.startsWith(dir) && /^[^/.][^/]*\.(gguf|safetensors)$/.test(path.slice(dir.length)));
  }

  isLocal(): boolean {
    return true;
  }

  isImmutable(): boolean {
    return true;
  }

  reopened(): Source {
    return this;
  }

  isSequential(): boolean {
    return false;
  }
}

/** Returns the end of a remedy for a component that is missing: a checkpoint may have it in another place. */
function orPlaceOf([path = '']: readonly string[]): string {
  const component = path.split('/')[0] ?? '';
  if (!/^(transformer|vae|text_encoder|tokenizer|scheduler)$/.test(component)) return '';
  const option = component === 'scheduler' ? 'scheduler-config' : component.replace('_', '-');
  return `, or take its ${component} from another place: under Models, with ?${component}= in the address, or with --${option}`;
}

/** Requests the length alone, for servers that do not report it with a part of the file to pages of another origin. */
async function contentLength(url: string, { signal = null }: RequestOptions): Promise<number | undefined> {
  const head = await fetch(url, { method: 'HEAD', cache: 'no-store', signal }).catch(() => undefined);
  const length = head?.ok ? head.headers.get('content-length') : null;
  return length === undefined || length === null ? undefined : Number(length);
}

/** Returns the length of a safetensors file by its header, for servers that do not report it. */
async function lengthByHeader(path: string, readUpTo: (end: number) => Promise<Uint8Array<ArrayBuffer>>): Promise<number | undefined> {
  if (!path.endsWith(WEIGHTS)) return undefined;
  const header_bytes = Number(new DataView((await readUpTo(PREFIX_BYTES)).buffer).getBigUint64(0, true));
  if (header_bytes > MAX_HEADER_BYTES) return undefined;
  try {
    const text = new TextDecoder().decode((await readUpTo(PREFIX_BYTES + header_bytes)).subarray(PREFIX_BYTES));
    const tensors = Object.values(JSON.parse(text) as Record<string, { data_offsets?: [number, number] }>);
    return tensors.reduce((end, { data_offsets }) => Math.max(end, PREFIX_BYTES + header_bytes + (data_offsets?.[1] ?? 0)), 0);
  } catch {
    // The engine names what is wrong with the header.
    return undefined;
  }
}

/** Returns whether a response is a web page: some servers send one for every address. The bytes of weights are never all text. */
function isPage(response: Response, first: Uint8Array): boolean {
  if (/^(text\/html|application\/xhtml)/.test(response.headers.get('content-type') ?? '')) return true;
  return /^(\u{feff})?\s*<[!?a-z][\x20-\x7e\s]*$/iu.test(
    new TextDecoder('utf-8', { ignoreBOM: true }).decode(first.subarray(0, PREFIX_BYTES)),
  );
}

/** The connection broke while a body was read. */
class BrokenBody extends Error {}

function failBroken(thrown: unknown): never {
  throw new BrokenBody(messageOf(thrown));
}
