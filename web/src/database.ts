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
  unfinished: { key: string; value: Omit<Unfinished, 'said'> };
  /** What each step of a tab's unfinished picture said, by tab and step. */
  said: { key: [string, number]; value: Uint8Array };
}

const DATABASE = 'pixart-web gallery';
const DAY_MILLIS = 86_400_000;
/** How often a picture at work is written down. */
const PAUSE_MILLIS = 500;

export class Gallery {
  private constructor(private readonly database: IDBPDatabase<Schema>) {}

  static async open(): Promise<Gallery> {
    const database = await openDB<Schema>(DATABASE, 2, {
      upgrade(database, before) {
        if (before === 0) database.createObjectStore('drawn', { keyPath: 'id', autoIncrement: true });
        // Before version 2 each had all its steps in it.
        else database.deleteObjectStore('unfinished');
        database.createObjectStore('unfinished', { keyPath: 'tab' });
        database.createObjectStore('said');
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
    const own = fresh.find((one) => one.tab === tab);
    return own && { ...own, said: await this.database.getAll('said', steps(tab)) };
  }

  async forget(tab: string): Promise<void> {
    const transaction = this.database.transaction(['unfinished', 'said'], 'readwrite');
    const [unfinished, said] = [transaction.objectStore('unfinished'), transaction.objectStore('said')];
    await Promise.all([unfinished.delete(tab), said.delete(steps(tab)), transaction.done]);
  }

  /** Writes down what a tab is at, now and then: each step once. */
  diary({ said: before, ...unfinished }: Unfinished): { step(said: Uint8Array): void; end(): Promise<void> } {
    const fresh = [...before];
    let [written, written_millis, ended] = [0, -Infinity, false];
    let writing: Promise<unknown> = Promise.resolve();
    const put = async (): Promise<void> => {
      const transaction = this.database.transaction(['unfinished', 'said'], 'readwrite');
      const said = transaction.objectStore('said');
      // Of a picture that this tab was at before.
      if (written === 0) await said.delete(steps(unfinished.tab));
      const puts = fresh.splice(0).map((step) => said.put(step, [unfinished.tab, written++]));
      await Promise.all([transaction.objectStore('unfinished').put(unfinished), ...puts, transaction.done]);
    };
    return {
      step: (said) => {
        fresh.push(said);
        if (performance.now() - written_millis < PAUSE_MILLIS) return;
        written_millis = performance.now();
        // What cannot be written can only not be gone on with from there; what follows would leave a gap.
        writing = writing.then(() => (ended ? undefined : put())).catch(() => (ended = true));
      },
      end: async () => {
        ended = true;
        await writing;
        await this.forget(unfinished.tab);
      },
    };
  }
}

/** The keys of what the steps of a tab's picture said, in their order. */
function steps(tab: string): IDBKeyRange {
  return IDBKeyRange.bound([tab, 0], [tab, Infinity]);
}

function isOld({ begun_at }: Pick<Unfinished, 'begun_at'>): boolean {
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
