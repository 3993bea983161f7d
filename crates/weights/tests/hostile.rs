//! Files from anywhere: safetensors, LoRAs, GGUF files and manifests are mutated at random, and whatever comes out is refused or read, without a
//! panic, without much more memory than the file takes, and without a path outside of the checkpoint.
//!
//! `HOSTILE_SECONDS` says how long each kind is tried, in place of a few thousand cases; `HOSTILE_SEED` begins elsewhere. What
//! once broke something belongs into `corpus/`, from whose files mutations begin.

#![expect(clippy::print_stdout, reason = "a run of minutes tells how many cases it tried")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

mod checks;

use checks::{is_gguf, is_lora, is_manifest, is_safetensors};

const CASES: u32 = 4_000;
/// Memory that a file may take while it is read: what its JSON becomes, and a copy of its numbers.
const BYTES_FOR_BYTE: usize = 64;
const BYTES_AT_LEAST: usize = 1 << 20;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// Counts what a thread has allocated.
struct Counting;

fn count(bytes: isize) {
    // A thread that ends has no counter any more.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.cast_signed() - layout.size().cast_signed());
        // SAFETY: the caller's promise.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `work` returns, and the most bytes that were live in it beyond those before.
fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get();
    PEAK.set(before);
    let done = work();
    (done, (PEAK.get() - before).unsigned_abs())
}

struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end.max(1)
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Tries mutations of the corpus's files that end in `extension`, and of `own`.
fn try_all(extension: &str, own: Vec<Vec<u8>>, mutate: fn(&mut Chance, &[u8]) -> Vec<u8>, read: fn(&[u8]) -> bool) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let kept = std::fs::read_dir(corpus).expect("the corpus is here").map(|entry| entry.expect("listed").path());
    let kept = kept.filter(|path| path.extension().is_some_and(|found| found == extension));
    let seeds: Vec<Vec<u8>> = kept.map(|path| std::fs::read(path).expect("it is read")).chain(own).collect();
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (seconds, seed) = (number("HOSTILE_SECONDS"), number("HOSTILE_SEED").unwrap_or(1));
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let began = Instant::now();
    let (mut cases, mut accepted) = (0_u32, 0_u32);
    let is_over = |cases: u32| match seconds {
        Some(seconds) => began.elapsed() > Duration::from_secs(seconds),
        None => cases >= CASES,
    };
    while !is_over(cases) {
        let mut bytes = chance.pick(&seeds).clone();
        for _ in 0..=chance.below(4) {
            bytes = mutate(&mut chance, &bytes);
        }
        let (is_read, peak) = peak_of(|| read(&bytes));
        let most = bytes.len() * BYTES_FOR_BYTE + BYTES_AT_LEAST;
        assert!(peak <= most, "{} bytes took {peak}: {:?}", bytes.len(), String::from_utf8_lossy(&bytes));
        cases += 1;
        accepted += u32::from(is_read);
    }
    println!("{extension}: {cases} cases, {accepted} of them read");
    assert!(accepted > 0 && accepted < cases, "{accepted} of {cases} were read");
}

const NUMBERS: [u64; 12] =
    [0, 1, 2, 3, 255, 256, 4096, u32::MAX as u64, 1 << 40, i64::MAX as u64, u64::MAX - 255, u64::MAX];

/// Changes bytes anywhere: one, some, a cut, a repetition, or a number of the text.
fn in_bytes(chance: &mut Chance, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.is_empty() {
        return vec![chance.next() as u8];
    }
    let at = chance.below(bytes.len());
    match chance.below(7) {
        0 => bytes[at] ^= 1 << chance.below(8),
        1 => bytes[at] = *chance.pick(b"{}[]\",:0919-.eE\\/\0\xff"),
        2 => bytes.truncate(at),
        3 => {
            let end = (at + chance.below(64)).min(bytes.len());
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece);
        }
        4 => drop(bytes.drain(at..(at + 1 + chance.below(16)).min(bytes.len()))),
        5 => {
            let digits = |byte: &u8| byte.is_ascii_digit();
            if let Some(first) = bytes[at..].iter().position(digits).map(|first| at + first) {
                let end = bytes[first..].iter().position(|byte| !digits(byte)).map_or(bytes.len(), |end| first + end);
                bytes.splice(first..end, chance.pick(&NUMBERS).to_string().into_bytes());
            }
        }
        _ => {
            // The header's length.
            let length = if chance.below(2) == 0 { *chance.pick(&NUMBERS) } else { bytes.len() as u64 };
            let end = bytes.len().min(8);
            bytes[..end].copy_from_slice(&length.to_le_bytes()[..end]);
        }
    }
    bytes
}

/// Changes a number of 4 or 8 bytes anywhere after the version, or bytes.
fn in_gguf(chance: &mut Chance, bytes: &[u8]) -> Vec<u8> {
    if bytes.len() < 32 || chance.below(3) == 0 {
        return in_bytes(chance, bytes);
    }
    let mut bytes = bytes.to_vec();
    let at = 8 + chance.below(bytes.len() - 16);
    let size = *chance.pick(&[4, 8]);
    bytes[at..at + size].copy_from_slice(&chance.pick(&NUMBERS).to_le_bytes()[..size]);
    bytes
}

/// Changes a value of a JSON text, or its bytes.
fn in_json(chance: &mut Chance, bytes: &[u8]) -> Vec<u8> {
    let Ok(mut value) = serde_json::from_slice::<Value>(bytes) else { return in_bytes(chance, bytes) };
    if chance.below(8) == 0 {
        return in_bytes(chance, bytes);
    }
    let mut at = &mut value;
    loop {
        let stop = chance.below(4) == 0;
        let length = match at {
            Value::Array(list) => list.len(),
            Value::Object(map) => map.len(),
            _ => 0,
        };
        if stop || length == 0 {
            break;
        }
        let index = chance.below(length);
        at = match at {
            Value::Array(list) => &mut list[index],
            Value::Object(map) => map.values_mut().nth(index).expect("it has so many"),
            _ => unreachable!("it has parts"),
        };
    }
    let names =
        ["", "../up", "/etc/passwd", "a\\b", ".", "..", "a/../b", "transformer", "q8", "f32", "ünï", "a\0b", "C:x"];
    *at = match chance.below(8) {
        0 => json!(chance.pick(&NUMBERS)),
        1 => json!(chance.pick(&names)),
        2 => Value::Null,
        3 => json!([chance.pick(&NUMBERS), chance.pick(&NUMBERS)]),
        4 => json!(-1.5e308),
        5 => json!(at.as_u64().unwrap_or(7).wrapping_add(1)),
        6 => match at.clone() {
            Value::Array(mut list) if !list.is_empty() => {
                list.push(list[chance.below(list.len())].clone());
                Value::Array(list)
            }
            other => other,
        },
        _ => json!({}),
    };
    serde_json::to_vec(&value).expect("it is JSON")
}

fn safetensors() -> Vec<u8> {
    let header = json!({
        "a": { "dtype": "F32", "shape": [32, 8], "data_offsets": [0, 1024] },
        "b": { "dtype": "F16", "shape": [5], "data_offsets": [1024, 1034] },
        "c": { "dtype": "BF16", "shape": [2, 0, 3], "data_offsets": [1034, 1034] },
        "__metadata__": { "format": "pt" },
    });
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 1034]].concat()
}

/// A safetensors file of 8-bit floats, with ComfyUI's scales.
fn eight_bit_floats() -> Vec<u8> {
    let header = json!({
        "m.weight": { "dtype": "F8_E4M3", "shape": [8, 32], "data_offsets": [0, 256] },
        "m.scale_weight": { "dtype": "F32", "shape": [], "data_offsets": [256, 260] },
        "n.weight": { "dtype": "F8_E5M2", "shape": [5], "data_offsets": [260, 265] },
        "n.scale_weight": { "dtype": "F32", "shape": [1], "data_offsets": [265, 269] },
        "scaled_fp8": { "dtype": "F8_E4M3", "shape": [2], "data_offsets": [269, 271] },
    });
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0x3e; 271]].concat()
}

/// A GGUF file with an array of texts and tensors of several types.
fn gguf() -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    // Name, sides, number of the type, bytes.
    let tensors: [(&str, &[u64], u32, usize); 6] = [
        ("enc.blk.0.attn_q.weight", &[32, 8], 8, 272),
        ("enc.blk.0.attn_k.weight", &[32, 8], 2, 144),
        ("blocks.0.attn.qkv.weight", &[256, 3], 12, 432),
        ("token_embd.weight", &[4, 3], 1, 24),
        ("enc.output_norm.weight", &[4], 0, 16),
        ("y_embedder.y_proj.fc1.bias", &[6], 30, 12),
    ];
    let mut file = [&b"GGUF"[..], &3_u32.to_le_bytes(), &6_u64.to_le_bytes(), &2_u64.to_le_bytes()].concat();
    file.extend([text("tokenizer.ggml.tokens"), 9_u32.to_le_bytes().to_vec(), 8_u32.to_le_bytes().to_vec()].concat());
    file.extend([2_u64.to_le_bytes().to_vec(), text("<pad>"), text("</s>")].concat());
    file.extend([text("general.alignment"), 4_u32.to_le_bytes().to_vec(), 32_u32.to_le_bytes().to_vec()].concat());
    let mut offset = 0_usize;
    for (name, sides, kind, bytes) in tensors {
        file.extend([text(name), (sides.len() as u32).to_le_bytes().to_vec()].concat());
        sides.iter().for_each(|side| file.extend(side.to_le_bytes()));
        file.extend([&kind.to_le_bytes()[..], &(offset as u64).to_le_bytes()].concat());
        offset += bytes.next_multiple_of(32);
    }
    let data = file.len().next_multiple_of(32);
    file.resize(data + offset, 0x2e);
    file
}

fn manifest() -> Vec<u8> {
    let hash = "0123456789abcdef".repeat(4);
    let shard = |index: u32, bytes: u64| json!({ "file": format!("t-{index:05}.bin"), "bytes": bytes, "sha256": hash });
    let tensor = |name: &str, dtype: &str, transposed: bool, shape: &[usize], offset: u64, bytes: u64| json!({ "name": name, "dtype": dtype, "transposed": transposed, "shape": shape, "offset": offset, "bytes": bytes });
    let tensors = [
        tensor("a", "q8", true, &[16, 64], 0, 1088),
        tensor("b", "f16", false, &[64], 1280, 128),
        tensor("c", "q4", true, &[8, 32], 1536, 144),
        tensor("d", "f32", true, &[3, 5], 1792, 60),
    ];
    let section = json!({
        "name": "t", "dir": "transformer", "shard_bytes": 1024, "shards": [shard(0, 1024), shard(1, 1024)],
        "tensors": tensors,
    });
    let manifest = json!({
        "format": "pixart-pack", "version": 2, "pipeline": "", "weight_format": "q8", "license": "", "source": "",
        "configs": { "transformer/config.json": "{}" }, "sections": [section],
    });
    manifest.to_string().into_bytes()
}

#[test]
fn safetensors_from_anywhere_are_read_or_refused() {
    assert!(is_safetensors(&safetensors()));
    assert!(is_safetensors(&eight_bit_floats()));
    try_all("safetensors", vec![safetensors(), eight_bit_floats()], in_bytes, is_safetensors);
}

#[test]
fn loras_from_anywhere_are_merged_or_refused() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/lycoris");
    let kinds = std::fs::read_dir(golden).expect("recorded").map(|entry| entry.expect("listed").path());
    let loras: Vec<Vec<u8>> =
        kinds.map(|kind| std::fs::read(kind.join("adapter.safetensors")).expect("it is read")).collect();
    assert!(loras.len() == 13 && loras.iter().all(|lora| is_lora(lora)));
    try_all("lora", loras, in_bytes, is_lora);
}

#[test]
fn gguf_files_from_anywhere_are_read_or_refused() {
    assert!(is_gguf(&gguf()));
    try_all("gguf", vec![gguf()], in_gguf, is_gguf);
}

#[test]
fn manifests_from_anywhere_are_read_or_refused() {
    assert!(is_manifest(&manifest()));
    try_all("json", vec![manifest()], in_json, is_manifest);
}

#[test]
fn memory_is_counted() {
    let (length, peak) = peak_of(|| vec![0_u8; 3 << 20].len());
    assert!(length == 3 << 20 && (3 << 20..4 << 20).contains(&peak), "{peak}");
}
