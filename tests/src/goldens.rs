//! Every golden variant of this repository, whole tensors at every tap: on the CPU, and in WGSL on the adapter that wgpu finds,
//! which may be a fallback adapter. Without an adapter the WGSL test fails unless `NO_GPU=1`.

use std::path::{Path, PathBuf};

use pixart_companion::device::{self, DeviceSpec, LoadedDevice};
use pixart_companion::golden;
use pixart_protocol::{TapRow, Verdict};
use pixart_verify::report;
use pixart_weights::Folder;

use crate::gpu;

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn rows(opened: &LoadedDevice, kind: DeviceSpec) -> Vec<TapRow> {
    println!("adapter: {}", opened.name);
    let variants = golden::variants(&goldens()).expect("variants are recorded");
    let tolerance = golden::tolerance(kind);
    let check =
        |(name, path): &(String, PathBuf)| golden::check(name, path, opened, tolerance).expect("files are read");
    variants.iter().flat_map(check).collect()
}

fn assert_all_pass(rows: &[TapRow]) {
    let failed: Vec<String> = rows.iter().filter(|row| row.verdict != Verdict::Pass).map(report::line).collect();
    assert!(failed.is_empty(), "{}\n{}", report::header(), failed.join("\n"));
    for part in ["t5.final", "out", "final_latents", "dec.conv_out", "enc.conv_out", "image.u8"] {
        assert!(rows.iter().any(|row| row.tap == part), "no variant records {part}");
    }
}

#[test]
fn every_tap_agrees_on_the_cpu() {
    let opened = device::open(DeviceSpec::Cpu).expect("the CPU is always there");
    assert_all_pass(&rows(&opened, DeviceSpec::Cpu));
}

#[test]
fn every_tap_agrees_in_wgsl() {
    let Some(opened) = gpu::opened() else { return };
    assert_all_pass(&rows(opened, DeviceSpec::Wgpu));
}

#[test]
fn a_changed_recording_fails() {
    let (name, path) = golden::variants(&goldens()).expect("variants are recorded").remove(0);
    let file = path.join("dit_step0.safetensors");
    let mut bytes = std::fs::read(file).expect("the recording exists");
    let last = bytes.len() - 1;
    bytes[last] ^= 0x40; // an exponent bit of the last number
    let mut folder = Folder::default();
    folder.insert("dit_step0.safetensors", bytes);
    for part in ["pipeline/transformer/config.json", "pipeline/transformer/diffusion_pytorch_model.safetensors"] {
        folder.insert(part, std::fs::read(path.join(part)).expect("the checkpoint exists"));
    }
    let opened = device::open(DeviceSpec::Cpu).expect("the CPU is always there");
    let check = pixart_verify::golden::check(&name, &folder, &opened.device, golden::tolerance(DeviceSpec::Cpu));
    let rows = futures_lite::future::block_on(check);
    let failed = |row: &&TapRow| matches!(row.verdict, Verdict::Fail { .. });
    let taps: Vec<&str> = rows.iter().filter(failed).map(|row| row.tap.as_str()).collect();
    // The recordings of the other stages are missing, so that these fail too.
    assert_eq!(taps.iter().filter(|tap| !["text", "sampling", "vae", "image"].contains(tap)).count(), 1, "{taps:?}");
}
