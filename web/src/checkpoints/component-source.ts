//! A text encoder from another place than its checkpoint: a diffusers folder, its own folder, a packed one, or a single file. Its tokenizer
//! may be the checkpoint's.
import type { Fault } from '../engine/protocol.gen';
import { type FileInfo, HttpSource, type Source, withoutSignature } from './source';

const DIR = 'text_encoder/';
/** Files of weights that stand alone. */
const FILE = /^(.*\/)([^/?]+\.(?:gguf|safetensors))(\?.*)?$/i;

export class ComponentSource implements Source {
  readonly name: string;
  readonly title: string;
  private readonly component: HttpSource;
  /** The name of a single file; `undefined` for a folder. */
  private readonly file: string | undefined;
  /** Where the files that were found are, by their path here. */
  private readonly places = new Map<string, { source: Source; path: string }>();

  /** `url` is that of a folder, ending in `/`, or of a `.gguf` or `.safetensors` file. */
  constructor(
    private readonly checkpoint: Source,
    url: string,
  ) {
    const [, folder, file, query = ''] = FILE.exec(url) ?? [];
    this.file = file === undefined ? undefined : decodeURIComponent(file);
    this.name = withoutSignature(url);
    this.component = new HttpSource(file === undefined ? url : `${folder}${query}`);
    this.title = this.component.title;
  }

  /** Returns the paths of the weights in `dir` where they have no usual name. */
  weightFiles(dir: string): string[] {
    return this.file !== undefined && dir === DIR ? [DIR + this.file] : [];
  }

  async info(path: string): Promise<FileInfo | undefined> {
    for (const place of this.candidates(path)) {
      const info = await place.source.info(place.path);
      if (info === undefined) continue;
      this.places.set(path, place);
      return info;
    }
    return undefined;
  }

  private candidates(path: string): { source: Source; path: string }[] {
    const of = (source: Source, path: string) => ({ source, path });
    if (this.file !== undefined) {
      if (path === DIR + this.file) return [of(this.component, this.file)];
      return path.startsWith('tokenizer/') ? [of(this.checkpoint, path)] : [];
    }
    if (path.startsWith('tokenizer/')) return [of(this.component, path), of(this.checkpoint, path)];
    // The component's own folder has no folder in it.
    return path.startsWith(DIR) ? [of(this.component, path), of(this.component, path.slice(DIR.length))] : [of(this.component, path)];
  }

  missing(...paths: string[]): Fault {
    const is_tokenizer = paths.every((path) => path.startsWith('tokenizer/'));
    return (is_tokenizer ? this.checkpoint : this.component).missing(...paths);
  }

  read(path: string, begin: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
    const { source, path: there } = this.places.get(path) ?? { source: this.component, path };
    return source.read(there, begin, end);
  }

  urlOf(path: string): string {
    return this.component.urlOf(this.places.get(path)?.path ?? path);
  }

  isSequential(): boolean {
    return this.component.isSequential();
  }
}
