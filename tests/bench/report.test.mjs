//! The bench's own computations: distances, medians, and the CPU time of processes.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { children, cpuMillis, median, processes } from './report.mjs';
import { distance } from './tensors.mjs';

test('the_distance_of_a_tensor_from_itself_is_zero_and_from_another_is_not', () => {
  const expected = Float32Array.of(3, -4, 0);
  assert.deepEqual(distance(expected, expected), { max_abs: 0, rel_l2: 0 });
  assert.deepEqual(distance(Float32Array.of(3, -4, 5), expected), { max_abs: 5, rel_l2: 1 });
});

test('a_result_that_is_not_a_number_or_too_short_has_no_distance', () => {
  const { rel_l2, max_abs } = distance(Float32Array.of(NaN, 1), Float32Array.of(1, 1));
  assert.ok(Number.isNaN(rel_l2) && Number.isNaN(max_abs));
  assert.throws(() => distance(Float32Array.of(1), Float32Array.of(1, 1)), /1 numbers, not 2/);
});

test('the_median_is_the_middle_one_or_the_mean_of_both', () => {
  assert.equal(median([30, 1, 2]), 2);
  assert.equal(median([30, 1, 2, 4]), 3);
});

test('a_busy_process_spends_time_and_a_sleeping_one_does_not', async () => {
  const busy = spawn(process.execPath, ['-e', 'for (;;);', '--', '--type=busy']);
  const idle = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 60000)', '--', '--type=idle']);
  await Promise.all([once(busy, 'spawn'), once(idle, 'spawn')]);
  assert.deepEqual(processes(process.pid, 'busy'), [String(busy.pid)]);
  assert.deepEqual(processes(process.pid, 'idle'), [String(idle.pid)]);
  assert.ok([busy, idle].every(({ pid }) => children(process.pid).includes(String(pid))));
  await new Promise((resolve) => setTimeout(resolve, 500));
  const earlier = [busy, idle].map(({ pid }) => cpuMillis([pid]));
  await new Promise((resolve) => setTimeout(resolve, 2000));
  const spent = [busy, idle].map(({ pid }, at) => cpuMillis([pid]) - earlier[at]);
  for (const program of [busy, idle]) program.kill();
  assert.ok(spent[0] > 200 && spent[0] <= 4000, `busy: ${spent[0]} ms`);
  assert.ok(spent[1] < 100, `idle: ${spent[1]} ms`);
});
