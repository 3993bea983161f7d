//! Pictures that were drawn, and the one that a tab is at, in a database of this browser. Knows nothing of the page.
import { openDB, type DBSchema, type IDBPDatabase } from 'idb';
import type { Picture } from './client';

export interface Drawn {
  id: number;
  prompt: string;
  seed: number;
  favourite: boolean;
  /** Milliseconds since 1970. */
  drawn_at: number;
  /** The file, which says how it was drawn. */
  png: Blob;
}

/** A picture that was being drawn when its tab went away. */
export interface Unfinished {
  /** Of the tab, which keeps its name when it is loaded again. */
  tab: string;
  checkpoint: string;
  picture: Picture;
  said: Uint8Array[];
  begun_at: number;
}

interface Schema extends DBSchema {
  drawn: { key: number; value: Drawn };
  unfinished: { key: string; value: Unfinished };
}

const DATABASE = 'pixart-web gallery';
const DAY_MILLIS = 86_400_000;
/** How often a picture at work is written down. */
const PAUSE_MILLIS = 500;

export class Gallery {
  private constructor(private readonly database: IDBPDatabase<Schema>) {}

  static async open(): Promise<Gallery> {
    const database = await openDB<Schema>(DATABASE, 1, {
      upgrade(database) {
        database.createObjectStore('drawn', { keyPath: 'id', autoIncrement: true });
        database.createObjectStore('unfinished', { keyPath: 'tab' });
      },
    });
    return new Gallery(database);
  }

  /** The newest first. */
  async all(): Promise<Drawn[]> {
    return (await this.database.getAll('drawn')).reverse();
  }

  async add(drawn: Omit<Drawn, 'id'>): Promise<void> {
    // The key is made by the database.
    await this.database.add('drawn', drawn as Drawn);
  }

  async put(drawn: Drawn): Promise<void> {
    await this.database.put('drawn', drawn);
  }

  async delete(id: number): Promise<void> {
    await this.database.delete('drawn', id);
  }

  /** What the tab of this name was at; what others left behind a day ago is forgotten. */
  async unfinished(tab: string): Promise<Unfinished | undefined> {
    const left = await this.database.getAll('unfinished');
    const [old, fresh] = [left.filter(isOld), left.filter((one) => !isOld(one))];
    await Promise.all(old.map((one) => this.forget(one.tab)));
    return fresh.find((one) => one.tab === tab);
  }

  async forget(tab: string): Promise<void> {
    await this.database.delete('unfinished', tab);
  }

  /** Writes down what a tab is at, now and then. */
  diary(unfinished: Unfinished): { step(said: Uint8Array): void; end(): Promise<void> } {
    let [written_millis, ended] = [-Infinity, false];
    let writing: Promise<unknown> = Promise.resolve();
    const write = (): void => {
      written_millis = performance.now();
      // What cannot be written can only not be gone on with.
      writing = writing.then(() => (ended ? undefined : this.database.put('unfinished', unfinished))).catch(() => undefined);
    };
    return {
      step: (said) => {
        unfinished.said.push(said);
        if (performance.now() - written_millis > PAUSE_MILLIS) write();
      },
      end: async () => {
        ended = true;
        await writing;
        await this.forget(unfinished.tab);
      },
    };
  }
}

function isOld({ begun_at }: Unfinished): boolean {
  return begun_at < Date.now() - DAY_MILLIS;
}

/** This tab's name, which it keeps when it is loaded again, where it may keep anything. */
export function tabName(): string {
  const fresh = crypto.getRandomValues(new Uint32Array(4)).join('-');
  try {
    const name = sessionStorage.getItem('tab') ?? fresh;
    sessionStorage.setItem('tab', name);
    return name;
  } catch {
    return fresh;
  }
}
