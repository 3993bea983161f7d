//! Progress of a stage of loading: bytes, rate and remaining time. The rate is that of the last seconds, so that a pause shows.
import type { LoadProgress, LoadStage } from '../engine/protocol.gen';

const WINDOW_MILLIS = 5_000;
const REPORT_INTERVAL_MILLIS = 100;

/** Counts the bytes of one stage; reports at intervals, and at the end. */
export class ProgressReporter {
  private loaded_bytes = 0;
  private reported_millis = -Infinity;
  /** Bytes loaded by moments of the last seconds. */
  private readonly samples: { millis: number; bytes: number }[] = [];

  constructor(
    private readonly stage: LoadStage,
    private total_bytes: number | null,
    private readonly onProgress: (progress: LoadProgress) => void,
    private readonly clock: () => number = () => performance.now(),
  ) {
    this.samples.push({ millis: clock(), bytes: 0 });
  }

  /** Adds `bytes` of `file`. */
  add(file: string, bytes: number): void {
    this.loaded_bytes += bytes;
    if (this.total_bytes !== null) this.total_bytes = Math.max(this.total_bytes, this.loaded_bytes);
    const millis = this.clock();
    this.samples.push({ millis, bytes: this.loaded_bytes });
    while (this.samples.length > 2 && (this.samples[1]?.millis ?? millis) < millis - WINDOW_MILLIS) this.samples.shift();
    if (millis - this.reported_millis < REPORT_INTERVAL_MILLIS && this.loaded_bytes !== this.total_bytes) return;
    this.reported_millis = millis;
    this.report(file);
  }

  report(file: string): void {
    const { stage, loaded_bytes, total_bytes } = this;
    const [first, last] = [this.samples[0], this.samples.at(-1)];
    const millis = (last?.millis ?? 0) - (first?.millis ?? 0);
    const bytes_per_second = millis > 0 ? (((last?.bytes ?? 0) - (first?.bytes ?? 0)) / millis) * 1000 : 0;
    const left_bytes = total_bytes === null ? null : total_bytes - loaded_bytes;
    const seconds_left =
      left_bytes === null || (bytes_per_second === 0 && left_bytes > 0) ? null : left_bytes === 0 ? 0 : left_bytes / bytes_per_second;
    this.onProgress({ stage, file, loaded_bytes, total_bytes, bytes_per_second, seconds_left });
  }
}
