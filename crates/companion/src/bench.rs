//! Benchmarks of parts of the networks, with the weights and inputs that `tests/oracle/export_onnx.py` wrote.

use std::path::Path;
use std::time::Instant;

use futures_lite::future::block_on;
use pixart_model::{KernelVariant, LaunchCounts, Workload, count_launches};
use pixart_weights::Folder;
use serde::Serialize;

use crate::Error;
use crate::device::{self, DeviceSpec};

/// Timings of a workload, in the format that `tests/bench` prints for browsers.
#[derive(Debug, Serialize)]
pub struct BenchResult {
    pub workload: String,
    pub implementation: &'static str,
    /// `native`, as opposed to a browser.
    pub place: &'static str,
    pub device: String,
    pub threads: usize,
    pub median_ms: f64,
    pub spread_ms: f64,
    /// CPU time of all threads, which other programs disturb least.
    pub cpu_ms: f64,
    pub first_ms: f64,
    pub runs: usize,
    /// Dispatches of our shaders, distinct pipelines, and bytes bound; 0 on the CPU.
    pub dispatches: u64,
    pub pipelines: u64,
    pub bytes: u64,
    /// Peak resident memory of the process, the checkpoint included, where the system reports it.
    pub peak_buffer_bytes: Option<u64>,
    /// Largest difference of the last run's output from PyTorch's.
    pub max_abs: f64,
    /// Norm of the difference over the norm of PyTorch's output.
    pub rel_l2: f64,
}

/// Runs submitted to a GPU before its output is read, as the blocks of an image are; a timing is their mean.
const RUNS_PER_READBACK: u32 = 20;

/// A run: wall and CPU time in milliseconds, counts of dispatches, and the output.
struct TimedRun {
    wall_ms: f64,
    cpu_ms: f64,
    counts: LaunchCounts,
    output: Vec<f32>,
}

/// Runs the workload `name` of the folder `models` once to warm up, and then `runs` times.
///
/// # Errors
/// No device, or a file or tensor that is missing or of another shape, by name.
pub fn bench(
    models: &Path,
    name: &str,
    kind: DeviceSpec,
    variant: Option<KernelVariant>,
    runs: usize,
) -> Result<BenchResult, Error> {
    let opened = device::open(kind)?;
    if let Some(variant) = variant {
        variant.make_current();
    }
    let workload = {
        let mut folder = Folder::default();
        let weights = format!("{}.safetensors", Workload::kind(name));
        for file in [format!("{name}.io.safetensors"), weights] {
            let path = models.join(&file);
            folder.insert(file, std::fs::read(&path).map_err(|source| Error::Read { path, source })?);
        }
        block_on(Workload::load(name, &folder, &opened.device))?
    };
    let first = timed_run(&workload, 1)?;
    let runs_per_readback = if kind == DeviceSpec::Wgpu && KernelVariant::current() == KernelVariant::WorkgroupTiled {
        RUNS_PER_READBACK
    } else {
        1
    };
    let mut timed = (0..runs.max(1)).map(|_| timed_run(&workload, runs_per_readback)).collect::<Result<Vec<_>, _>>()?;
    let (max_abs, rel_l2) = max_abs_and_rel_l2(&timed[timed.len() - 1].output, workload.expected());
    let middle = timed.len() / 2;
    timed.sort_by(|a, b| a.cpu_ms.total_cmp(&b.cpu_ms));
    let cpu_ms = timed[middle].cpu_ms;
    timed.sort_by(|a, b| a.wall_ms.total_cmp(&b.wall_ms));
    let implementation = match (kind, KernelVariant::current()) {
        (_, KernelVariant::BurnReference) => "burn-reference",
        (DeviceSpec::Cpu, _) => "ours-cpu",
        (DeviceSpec::Wgpu, _) => "ours",
        (DeviceSpec::Vulkan | DeviceSpec::Cuda(_), _) => "burn",
    };
    Ok(BenchResult {
        workload: name.to_owned(),
        implementation,
        place: "native",
        device: opened.name,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        median_ms: timed[middle].wall_ms,
        spread_ms: timed[timed.len() - 1].wall_ms - timed[0].wall_ms,
        cpu_ms,
        first_ms: first.wall_ms,
        runs: timed.len(),
        dispatches: first.counts.dispatches,
        pipelines: first.counts.pipelines,
        bytes: first.counts.bytes,
        peak_buffer_bytes: peak_bytes(),
        max_abs,
        rel_l2,
    })
}

unsafe extern "C" {
    /// CPU time of all threads of the process in microseconds (POSIX).
    safe fn clock() -> std::ffi::c_long;
}

/// Runs `workload` `count` times, reads the last output and returns the mean time of a run.
fn timed_run(workload: &Workload, count: u32) -> Result<TimedRun, Error> {
    let (wall, cpu) = (Instant::now(), clock());
    (1..count).for_each(|_| drop(workload.run()));
    let (output, counts) = count_launches(|| workload.run().into_data());
    let failed = |error: burn::tensor::DataError| Error::Device { doing: "running a workload", why: error.to_string() };
    // ReadFuture the output waits for the device.
    let output = output.try_into_vec().map_err(failed)?;
    let (wall, cpu) = (wall.elapsed().as_secs_f64() * 1e3, (clock() - cpu) as f64 / 1e3);
    let runs = f64::from(count);
    Ok(TimedRun { wall_ms: wall / runs, cpu_ms: cpu / runs, counts, output })
}

/// Largest absolute difference, and norm of the difference over the norm of `expected`; infinite where lengths differ.
fn max_abs_and_rel_l2(actual: &[f32], expected: &[f32]) -> (f64, f64) {
    if actual.len() != expected.len() {
        return (f64::INFINITY, f64::INFINITY);
    }
    let (mut largest, mut squares, mut whole) = (0.0_f64, 0.0, 0.0);
    for (actual, expected) in actual.iter().zip(expected) {
        let (difference, expected) = (f64::from(actual - expected), f64::from(*expected));
        // `f64::max` ignores NaN.
        largest = if difference.is_nan() { f64::INFINITY } else { largest.max(difference.abs()) };
        squares += difference * difference;
        whole += expected * expected;
    }
    (largest, (squares / whole).sqrt())
}

/// Peak resident memory of the process, as Linux reports it.
#[must_use]
pub fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::max_abs_and_rel_l2;

    #[test]
    fn the_l2_difference_is_relative_to_the_expected_output() {
        assert_eq!(max_abs_and_rel_l2(&[3.0, 4.0], &[3.0, 4.0]), (0.0, 0.0));
        assert_eq!(max_abs_and_rel_l2(&[3.0, 9.0], &[3.0, 4.0]), (5.0, 1.0));
    }

    #[test]
    fn nan_and_another_length_are_infinitely_different() {
        assert_eq!(max_abs_and_rel_l2(&[f32::NAN, 4.0], &[3.0, 4.0]).0, f64::INFINITY);
        assert_eq!(max_abs_and_rel_l2(&[3.0], &[3.0, 4.0]).1, f64::INFINITY);
    }
}
