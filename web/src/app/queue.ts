//! The queue of generations. A job is what one press of Generate asks for: one image or several. Jobs run one after the other, and each
//! can be cancelled by itself.
import { ignore } from '../engine/fault';

export interface Job {
  id: number;
  prompt: string;
  images: number;
  /** Images that have ended, whether generated, refused or cancelled. */
  done: number;
  is_running: boolean;
}

/** Generates one image; resolves with `undefined` where it was cancelled. */
export type Task<T> = (signal: AbortSignal) => Promise<T | undefined>;

interface QueuedJob extends Job {
  cancellation: AbortController;
}

export class GenerationQueue<T> {
  #jobs: QueuedJob[] = [];
  #last: Promise<unknown> = Promise.resolve();
  #ids = 0;
  readonly #onChange: (jobs: readonly Job[]) => void;

  /** Calls `onChange` with the jobs that have not ended whenever one of them changes. */
  constructor(onChange: (jobs: readonly Job[]) => void) {
    this.#onChange = onChange;
  }

  /** Adds a job of at least one image. Returns the result of each, which the caller handles. `onStart` is called before the first. */
  add(prompt: string, tasks: readonly Task<T>[], onStart: () => void = () => {}): Promise<T | undefined>[] {
    this.#ids += 1;
    const job: QueuedJob = {
      id: this.#ids,
      prompt,
      images: tasks.length,
      done: 0,
      is_running: false,
      cancellation: new AbortController(),
    };
    this.#jobs.push(job);
    const results = tasks.map((task) => {
      const result = this.#last.then(() => this.#run(job, task, onStart));
      // The next image starts either way.
      this.#last = result.catch(ignore).then(() => this.#end(job));
      return result;
    });
    this.#report();
    return results;
  }

  /** Cancels the running job. */
  cancelRunning(): void {
    this.#jobs.find(({ is_running }) => is_running)?.cancellation.abort();
  }

  /** Cancels a job, which leaves the queue at once unless it is running. */
  cancel(id: number): void {
    const job = this.#jobs.find((job) => job.id === id);
    if (job === undefined) return;
    job.cancellation.abort();
    if (!job.is_running) this.#remove(job);
  }

  async #run(job: QueuedJob, task: Task<T>, onStart: () => void): Promise<T | undefined> {
    const { signal } = job.cancellation;
    if (signal.aborted) return undefined;
    if (!job.is_running) {
      job.is_running = true;
      onStart();
      this.#report();
    }
    return task(signal);
  }

  #end(job: QueuedJob): void {
    job.done += 1;
    if (job.done === job.images) this.#remove(job);
    else this.#report();
  }

  #remove(job: QueuedJob): void {
    if (!this.#jobs.includes(job)) return;
    this.#jobs = this.#jobs.filter((other) => other !== job);
    this.#report();
  }

  #report(): void {
    this.#onChange(this.#jobs.map(({ cancellation: _, ...job }) => job));
  }
}
