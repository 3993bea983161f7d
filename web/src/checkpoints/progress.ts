//! How fast bytes pass, and how long the rest will take. A rate is that of the last seconds, so that a pause shows.
import type { LoadProgress, LoadStage } from '../engine/protocol.gen';

const WINDOW_MILLIS = 5_000;
const PAUSE_MILLIS = 100;

/** Counts the bytes of one stage and tells `listen` now and then, and at the end. */
export class Meter {
  private loaded_bytes = 0;
  private told_millis = -Infinity;
  /** Moments of the last seconds, with what had passed by then. */
  private readonly moments: { millis: number; bytes: number }[] = [];

  constructor(
    private readonly stage: LoadStage,
    private total_bytes: number | null,
    private readonly listen: (loading: LoadProgress) => void,
    private readonly clock: () => number = () => performance.now(),
  ) {
    this.moments.push({ millis: clock(), bytes: 0 });
  }

  /** `bytes` of `file` have passed. */
  add(file: string, bytes: number): void {
    this.loaded_bytes += bytes;
    if (this.total_bytes !== null) this.total_bytes = Math.max(this.total_bytes, this.loaded_bytes);
    const millis = this.clock();
    this.moments.push({ millis, bytes: this.loaded_bytes });
    while (this.moments.length > 2 && (this.moments[1]?.millis ?? millis) < millis - WINDOW_MILLIS) this.moments.shift();
    if (millis - this.told_millis < PAUSE_MILLIS && this.loaded_bytes !== this.total_bytes) return;
    this.told_millis = millis;
    this.tell(file);
  }

  tell(file: string): void {
    const { stage, loaded_bytes, total_bytes } = this;
    const [first, last] = [this.moments[0], this.moments.at(-1)];
    const millis = (last?.millis ?? 0) - (first?.millis ?? 0);
    const bytes_per_second = millis > 0 ? (((last?.bytes ?? 0) - (first?.bytes ?? 0)) / millis) * 1000 : 0;
    const left = total_bytes === null ? null : total_bytes - loaded_bytes;
    const seconds_left = left === null || (bytes_per_second === 0 && left > 0) ? null : left === 0 ? 0 : left / bytes_per_second;
    this.listen({ stage, file, loaded_bytes, total_bytes, bytes_per_second, seconds_left });
  }
}
