//! Shared by every implementation: CPU time of processes, and the row of a series of runs.
import { readdirSync, readFileSync } from 'node:fs';

/** Linux counts a process's time in hundredths of a second for programs (USER_HZ), whatever the kernel does. */
const TICK_MILLIS = 10;

/** The fields of /proc/PID/stat after the name, which may hold blanks and brackets; undefined once it has ended. */
function stat(pid) {
  try {
    const line = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return line.slice(line.lastIndexOf(')') + 2).split(' ');
  } catch (error) {
    if (['ENOENT', 'ESRCH'].includes(error.code)) return undefined;
    throw error;
  }
}

/** The processes that `pid` started itself. */
export function children(pid) {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.filter((child) => Number(stat(child)?.[1]) === Number(pid));
}

/** The processes below `pid` that Chromium started as `type`: `gpu-process`, or `renderer`. */
export function processes(pid, type) {
  return children(pid).flatMap((child) => {
    const words = readFileSync(`/proc/${child}/cmdline`, 'utf8').split(/[\0 ]/);
    return [...(words.includes(`--type=${type}`) ? [child] : []), ...processes(child, type)];
  });
}

/** Milliseconds of CPU time, user and kernel, that `pids` have used. */
export function cpuMillis(pids) {
  const ticks = pids
    .map(stat)
    .filter(Boolean)
    .map((fields) => Number(fields[11]) + Number(fields[12]));
  return TICK_MILLIS * ticks.reduce((total, count) => total + count, 0);
}

export function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * One implementation's row of one workload: `name` says which, `opening` is what was counted until the end of the first
 * run, `warm` in the last run, `runs` are those after the first, `accuracy` is the last output's distance from the
 * recorded one.
 */
export function row({ name, opening, first_ms, runs, warm, accuracy }) {
  const tenths = (value) => Math.round(10 * value) / 10;
  const wall = runs.map(({ ms }) => ms);
  return {
    ...name,
    place: 'browser',
    median_ms: tenths(median(wall)),
    spread_ms: tenths(Math.max(...wall) - Math.min(...wall)),
    cpu_ms: median(runs.map(({ cpu_ms }) => cpu_ms)),
    first_ms: tenths(first_ms),
    dispatches: warm.dispatches,
    submits: warm.submits,
    pipelines: opening.pipelines,
    pipeline_ms: tenths(opening.pipeline_ms),
    bytes: warm.bytes,
    peak_buffer_bytes: Math.max(opening.peak_buffer_bytes, warm.peak_buffer_bytes),
    max_abs: Number(accuracy.max_abs.toPrecision(3)),
    rel_l2: Number(accuracy.rel_l2.toPrecision(3)),
    runs: runs.length,
  };
}
