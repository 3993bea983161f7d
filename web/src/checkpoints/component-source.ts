//! Checkpoints whose components are in several places: each a diffusers folder, the component's own folder, or a single file, on a server
//! or local. Reads what the places hold; a component without a place of its own is the checkpoint's.
import { fault } from '../engine/fault';
import type { ComponentPlaces, Fault, StoredComposition } from '../engine/protocol.gen';
import type { Part } from './convert';
import type { RequestOptions } from './http';
import { type Component, isLocalFile, type LocalPlaces } from './place';
import { MANIFEST, mayBeManifest } from './revalidate';
import { type FileInfo, FilesSource, HttpSource, readFile, type Source, withoutSignature } from './source';

/** The source of each part of a checkpoint. */
export type PartSources = Record<Part, Source>;

/** The components that each part is made of. */
const PART_COMPONENTS: Record<'denoiser' | 'text_encoder', readonly Component[]> = {
  denoiser: ['transformer', 'vae', 'scheduler'],
  text_encoder: ['text_encoder', 'tokenizer'],
};
/** Files that stand alone: weights, a tokenizer or the configuration of a scheduler. */
const FILE = /^(.*\/)([^/?]+\.(?:gguf|safetensors|json|model))(\?.*)?$/i;
const WEIGHTS = /\.(gguf|safetensors)$/i;

/** A folder, or one file in it. */
interface Place {
  source: Source;
  file: string | undefined;
}

/** A file of a place. */
interface PlacedFile {
  source: Source;
  path: string;
}

/** Returns the source of each part of `checkpoint`, some components of which are in other places. */
export function sourcesOf({ checkpoint, components }: StoredComposition, local: LocalPlaces): PartSources {
  const denoiser = composed('denoiser', checkpoint, components, local);
  return { denoiser, vae_encoder: denoiser, text_encoder: composed('text_encoder', checkpoint, components, local) };
}

function composed(part: keyof typeof PART_COMPONENTS, checkpoint: string, components: ComponentPlaces, local: LocalPlaces): Source {
  const base = placeOf(checkpoint, local).source;
  const places = new Map<Component, Place>();
  for (const component of PART_COMPONENTS[part]) {
    const place = components[component];
    if (place !== undefined) places.set(component, placeOf(place, local));
  }
  return places.size === 0 ? base : new ComponentSource(base, places);
}

/** Opens a place: the URL of a folder, ending in `/`, or of a file, or the name of local files. */
export function placeOf(place: string, local: LocalPlaces): Place {
  const files = local.get(place);
  if (files !== undefined) return { source: new FilesSource(place, files), file: isLocalFile(place) ? [...files.keys()][0] : undefined };
  const [, folder, file, query = ''] = FILE.exec(place) ?? [];
  if (file === undefined) return { source: new HttpSource(place), file };
  return { source: new HttpSource(`${folder}${query}`), file: decodeURIComponent(file) };
}

export class ComponentSource implements Source {
  readonly name: string;
  readonly title: string;
  readonly composition: StoredComposition;
  /** Where the files that were found are, by their path here. */
  private readonly found = new Map<string, PlacedFile>();

  constructor(
    private readonly checkpoint: Source,
    private readonly places: ReadonlyMap<Component, Place>,
  ) {
    const named = [...places].map(([component, place]): [Component, string] => [component, nameOf(place)]);
    this.composition = { checkpoint: checkpoint.name, components: Object.fromEntries(named) };
    const { text_encoder } = this.composition.components;
    const others = named.filter(([component]) => component !== 'text_encoder').map(([component, name]) => ` + ${component} ${name}`);
    // A text encoder is the same one with every checkpoint.
    this.name = (text_encoder ?? checkpoint.name) + others.join('');
    this.title = places.get('text_encoder')?.source.title ?? checkpoint.title;
  }

  weightFiles(dir: string): string[] {
    const component = dir.slice(0, -1) as Component;
    const place = this.places.get(component);
    if (place === undefined) return this.checkpoint.weightFiles?.(dir) ?? [];
    if (place.file !== undefined) return WEIGHTS.test(place.file) ? [dir + place.file] : [];
    const nested = place.source.weightFiles?.(dir) ?? [];
    return nested.length > 0 ? nested : (place.source.weightFiles?.('') ?? []).map((path) => dir + path);
  }

  async info(path: string): Promise<FileInfo | undefined> {
    for (const candidate of this.candidates(path)) {
      const info = await candidate.source.info(candidate.path);
      if (info === undefined) continue;
      this.found.set(path, candidate);
      return info;
    }
    return undefined;
  }

  private candidates(path: string): PlacedFile[] {
    const [, component, name = ''] = /^([^/]+)\/(.*)$/.exec(path) ?? [];
    const encoder = this.places.get('text_encoder');
    const in_checkpoint = { source: this.checkpoint, path };
    if (component === undefined) {
      if (path !== MANIFEST) return [in_checkpoint];
      // A text encoder may be packed, with its tokenizer.
      return this.places.size === 1 && encoder?.file === undefined && encoder !== undefined ? [{ source: encoder.source, path }] : [];
    }
    const place = this.places.get(component as Component);
    if (place === undefined) {
      const has_tokenizer = component === 'tokenizer' && encoder !== undefined && encoder.file === undefined;
      return has_tokenizer ? [{ source: encoder.source, path }, in_checkpoint] : [in_checkpoint];
    }
    const { source, file } = place;
    // The component's own folder has no folder in it.
    if (file === undefined)
      return [
        { source, path },
        { source, path: name },
      ];
    const known_as = component === 'scheduler' ? 'scheduler_config.json' : file;
    if (name === known_as) return [{ source, path: file }];
    // The configuration beside replaced weights stays. That of a text encoder is derived from its shapes.
    return WEIGHTS.test(file) && component !== 'text_encoder' && name === 'config.json' ? [in_checkpoint] : [];
  }

  missing(...paths: string[]): Fault {
    const place = this.places.get(paths[0]?.split('/')[0] as Component);
    if (place === undefined || this.candidates(paths[0] ?? '')[0]?.source === this.checkpoint) return this.checkpoint.missing(...paths);
    return place.file === undefined ? place.source.missing(...paths) : place.source.missing(place.file);
  }

  read(path: string, begin: number, end: number): Promise<Uint8Array<ArrayBuffer>> {
    const { source, path: there } = this.found.get(path) ?? { source: this.checkpoint, path };
    return source.read(there, begin, end);
  }

  urlOf(path: string): string | undefined {
    const { source, path: there } = this.found.get(path) ?? { source: this.checkpoint, path };
    return source.urlOf?.(there);
  }

  isLocal(path: string): boolean {
    const { source, path: there } = this.found.get(path) ?? { source: this.checkpoint, path };
    return source.isLocal(there);
  }

  isSequential(): boolean {
    return [...this.found.values()].some(({ source }) => source.isSequential());
  }

  isImmutable(): boolean {
    return [...this.sources()].every((source) => source.isImmutable());
  }

  reopened(options: RequestOptions): Source {
    const places = [...this.places].map(
      ([component, { source, file }]) => [component, { source: source.reopened(options), file }] as const,
    );
    return new ComponentSource(this.checkpoint.reopened(options), new Map(places));
  }

  /** Throws a fault where a component would replace one of a packed checkpoint, or is one of a packed checkpoint. */
  async refusePacked(): Promise<void> {
    if (this.places.has('text_encoder') || this.places.has('tokenizer')) return;
    for (const source of this.sources()) {
      const bytes = await readFile(source, MANIFEST);
      if (bytes === undefined || !mayBeManifest(new TextDecoder().decode(bytes))) continue;
      const [component = 'transformer'] = this.places.keys();
      const remedy = 'name the diffusers folder that was packed, or pack the component with it';
      throw fault('bad_request', `the ${component} of a packed checkpoint cannot be replaced`, remedy);
    }
  }

  private sources(): Set<Source> {
    return new Set([this.checkpoint, ...[...this.places.values()].flatMap(({ source, file }) => (file === undefined ? [source] : []))]);
  }
}

function nameOf({ source, file }: Place): string {
  if (file === undefined || isLocalFile(source.name)) return source.name;
  return withoutSignature(source.urlOf?.(file) ?? source.name + file);
}
