//! Times parts of the networks on this computer, with the weights and inputs that `tests/oracle/export_onnx.py` wrote.

use std::path::Path;
use std::time::Instant;

use futures_lite::future::block_on;
use pixart_model::{KernelVariant, LaunchCounts, Workload, count_launches};
use pixart_weights::Folder;
use serde::Serialize;

use crate::Error;
use crate::device::{self, Kind};

/// One workload's times, as `tests/bench` prints those of browsers.
#[derive(Debug, Serialize)]
pub struct Row {
    pub workload: String,
    pub implementation: &'static str,
    /// `native`, as opposed to a browser.
    pub place: &'static str,
    pub device: String,
    pub threads: usize,
    pub median_ms: f64,
    pub spread_ms: f64,
    /// Processor time of all threads, which other programs disturb least.
    pub cpu_ms: f64,
    pub first_ms: f64,
    pub runs: usize,
    /// Launches of our shaders, their different texts, and the bytes bound; 0 on the processor.
    pub dispatches: u64,
    pub pipelines: u64,
    pub bytes: u64,
    /// Most memory that the process has held, the checkpoint's bytes included, where the system tells.
    pub peak_buffer_bytes: Option<u64>,
    /// Distance of the last run's output from PyTorch's.
    pub max_abs: f64,
    pub rel_l2: f64,
}

/// Runs that a GPU is given before its numbers are read, as blocks and steps of a picture are: their mean is one time.
const TOGETHER: u32 = 20;

/// One run: wall and processor time in milliseconds, what was launched, and the result.
struct Run {
    wall: f64,
    cpu: f64,
    counts: LaunchCounts,
    output: Vec<f32>,
}

/// Runs workload `name` of the folder `models` once, and then `runs` times.
///
/// # Errors
/// No device, or a file or tensor that is missing or of another shape, by name.
pub fn bench(models: &Path, name: &str, kind: Kind, variant: Option<KernelVariant>, runs: usize) -> Result<Row, Error> {
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
    let first = once(&workload, 1)?;
    let together =
        if kind == Kind::Wgpu && KernelVariant::current() == KernelVariant::WorkgroupTiled { TOGETHER } else { 1 };
    let mut timed = (0..runs.max(1)).map(|_| once(&workload, together)).collect::<Result<Vec<_>, _>>()?;
    let (max_abs, rel_l2) = distance(&timed[timed.len() - 1].output, workload.want());
    let middle = timed.len() / 2;
    timed.sort_by(|a, b| a.cpu.total_cmp(&b.cpu));
    let cpu_ms = timed[middle].cpu;
    timed.sort_by(|a, b| a.wall.total_cmp(&b.wall));
    let implementation = match (kind, KernelVariant::current()) {
        (_, KernelVariant::BurnReference) => "burn-reference",
        (Kind::Cpu, _) => "ours-cpu",
        (Kind::Wgpu, _) => "ours",
        (Kind::Vulkan | Kind::Cuda(_), _) => "burn",
    };
    Ok(Row {
        workload: name.to_owned(),
        implementation,
        place: "native",
        device: opened.name,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        median_ms: timed[middle].wall,
        spread_ms: timed[timed.len() - 1].wall - timed[0].wall,
        cpu_ms,
        first_ms: first.wall,
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
    /// Microseconds that all threads of the process have run (POSIX).
    safe fn clock() -> std::ffi::c_long;
}

/// Runs it `together` times and waits for the numbers of the last.
fn once(workload: &Workload, together: u32) -> Result<Run, Error> {
    let (wall, cpu) = (Instant::now(), clock());
    (1..together).for_each(|_| drop(workload.run()));
    let (output, counts) = count_launches(|| workload.run().into_data());
    let failed = |error| Error::Device { doing: "running a workload", why: format!("{error:?}") };
    // A device is waited for when its numbers are looked at, not before.
    let output = output.try_into_vec().map_err(failed)?;
    let (wall, cpu) = (wall.elapsed().as_secs_f64() * 1e3, (clock() - cpu) as f64 / 1e3);
    let runs = f64::from(together);
    Ok(Run { wall: wall / runs, cpu: cpu / runs, counts, output })
}

/// The largest absolute difference, and the norm of all differences over that of `want`; infinite where lengths differ.
fn distance(got: &[f32], want: &[f32]) -> (f64, f64) {
    if got.len() != want.len() {
        return (f64::INFINITY, f64::INFINITY);
    }
    let (mut largest, mut squares, mut whole) = (0.0_f64, 0.0, 0.0);
    for (got, want) in got.iter().zip(want) {
        let (difference, want) = (f64::from(got - want), f64::from(*want));
        // NaN is no difference that max would keep.
        largest = if difference.is_nan() { f64::INFINITY } else { largest.max(difference.abs()) };
        squares += difference * difference;
        whole += want * want;
    }
    (largest, (squares / whole).sqrt())
}

/// The process's peak resident memory, as Linux tells it.
#[must_use]
pub fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn a_distance_is_relative_to_what_was_wanted() {
        assert_eq!(distance(&[3.0, 4.0], &[3.0, 4.0]), (0.0, 0.0));
        assert_eq!(distance(&[3.0, 9.0], &[3.0, 4.0]), (5.0, 1.0));
    }

    #[test]
    fn nan_and_another_length_are_infinitely_far() {
        assert_eq!(distance(&[f32::NAN, 4.0], &[3.0, 4.0]).0, f64::INFINITY);
        assert_eq!(distance(&[3.0], &[3.0, 4.0]).1, f64::INFINITY);
    }
}
