//! Cost of a step (launches, pipelines, copies, bytes bound) and equality of batched and sequential guidance. Outputs are
//! compared with PyTorch's in the golden check; the weights here are random.

use futures_lite::future::block_on;

use burn::tensor::{Device, Tensor, TensorData};
use pixart_kernels::{KernelVariant, LaunchCounts, WeightFormat, count_launches};
use pixart_weights::Folder;

use super::{ADALN_CHUNKS, Dit, PATCH, Taps};
use crate::loading::config::{DitConfig, XL_2};
use crate::randn;
use crate::testing::{gpu, large, peak_memory, safetensors};

/// Launches of one block, and the bound for a step: 28 blocks, the embeddings and the output layer.
const BLOCK: u64 = 10;
const STEP_MOST: u64 = 340;
const PIPELINES_MOST: u64 = 12;
/// Bytes that a block of PixArt-XL/2 may bind for two captions of 256 tokens.
const BLOCK_BYTES_MOST: u64 = 200_000_000;

const CAPTION_TOKENS: usize = 6;
const Z: usize = 4;

#[derive(Clone, Copy)]
struct Size {
    heads: usize,
    head_channels: usize,
    layers: usize,
}

/// As deep as PixArt-XL/2.
const NARROW: Size = Size { heads: 2, head_channels: 8, layers: 28 };

/// A transformer whose caption channels equal its own.
fn checkpoint(Size { heads, head_channels, layers }: Size) -> Folder {
    let c = heads * head_channels;
    let config = serde_json::json!({
        "num_attention_heads": heads, "attention_head_dim": head_channels, "num_layers": layers, "in_channels": Z,
        "out_channels": 2 * Z, "caption_channels": c, "sample_size": 32, "patch_size": PATCH, "attention_bias": true,
        "activation_fn": "gelu-approximate", "norm_type": "ada_norm_single", "norm_elementwise_affine": false,
    });
    let mut folder = Folder::default();
    folder.insert("transformer/config.json", config.to_string().into_bytes());
    let shapes = DitConfig::read(&folder).expect("written above").inventory();
    folder.insert("transformer/diffusion_pytorch_model.safetensors", safetensors(shapes.into_iter().collect()));
    folder
}

fn random<const RANK: usize>(seed: u64, shape: [usize; RANK], device: &Device) -> Tensor<RANK> {
    Tensor::from_data(TensorData::new(randn(seed, shape.iter().product()), shape), device)
}

/// Runs one step for `b` captions and a latent of `side` rows and columns. Returns the output and the launch counts.
fn predicted(dit: &Dit, b: usize, side: usize, sequential: bool, device: &Device) -> (Vec<f32>, LaunchCounts) {
    let channels = dit.config().caption_channels;
    let embeds = random(3, [b, CAPTION_TOKENS, channels], device);
    let mask: Tensor<2> = Tensor::ones([b, CAPTION_TOKENS], device);
    let conditions = dit.prepare_conditioning(embeds, mask, [side, side], None, &mut Taps::off());
    let conditions = if sequential { conditions.split_cfg().into() } else { vec![conditions] };
    let latent = random(4, [1, Z, side, side], device);
    let step = || {
        let one = |conditions| dit.forward(latent.clone(), 500.0, conditions, &mut Taps::off());
        Tensor::cat(conditions.iter().map(one).collect(), 0)
    };
    let (out, counts) = count_launches(step);
    assert_eq!(out.dims(), [b, 2 * Z, side, side]);
    (out.into_data().try_into_vec().expect("f32 comes back"), counts)
}

fn assert_near(got: &[f32], want: &[f32], tolerance: f32, what: &str) {
    let largest = want.iter().fold(0.0_f32, |peak, value| peak.max(value.abs()));
    let off = got.iter().zip(want).map(|(got, want)| (got - want).abs()).fold(0.0_f32, f32::max);
    println!("{what}: {off} of {largest}");
    assert!(got.iter().all(|value| value.is_finite()), "{what}");
    assert!(got.len() == want.len() && off <= tolerance * largest && largest > 0.1, "{what}: {off} of {largest}");
}

#[test]
fn a_step_makes_the_expected_launches_and_no_copies() {
    let want = predicted(
        &block_on(Dit::load(&checkpoint(NARROW), &Device::flex())).expect("loads"),
        2,
        8,
        false,
        &Device::flex(),
    );
    assert_eq!(want.1, LaunchCounts::default(), "flex speaks no WGSL");
    let Some(device) = gpu(KernelVariant::RegisterTiled) else { return };
    let dit = block_on(Dit::load(&checkpoint(NARROW), &device)).expect("loads");
    let (got, step) = predicted(&dit, 2, 8, false, &device);
    println!("{step:?}");
    assert_near(&got, &want.0, 1e-4, "in WGSL");
    let shallow = block_on(Dit::load(&checkpoint(Size { layers: 1, ..NARROW }), &device)).expect("loads");
    let (_, one) = predicted(&shallow, 2, 8, false, &device);
    assert_eq!(step.dispatches - one.dispatches, 27 * BLOCK, "{step:?}");
    assert!(step.dispatches <= STEP_MOST && step.pipelines <= PIPELINES_MOST, "{step:?}");
    assert_eq!(step.copies, 0, "{step:?}");
}

#[test]
fn sequential_guidance_gives_the_output_of_batched_guidance() {
    let devices = [Some(Device::flex()), gpu(KernelVariant::RegisterTiled)];
    for device in devices.into_iter().flatten() {
        let dit = block_on(Dit::load(&checkpoint(Size { layers: 3, ..NARROW }), &device)).expect("loads");
        let [(batched, _), (sequential, _)] =
            [false, true].map(|sequential| predicted(&dit, 2, 8, sequential, &device));
        let half = batched.len() / 2;
        assert!(batched[..half] != batched[half..], "the captions give different outputs");
        assert_near(&sequential, &batched, 1e-6, "sequential");
    }
}

#[test]
fn quantised_weights_change_the_output_by_their_rounding_error_only() {
    let size = Size { heads: 4, head_channels: 16, layers: 3 };
    let devices = [Some(Device::flex()), gpu(KernelVariant::RegisterTiled)];
    for device in devices.into_iter().flatten() {
        let predict = |format| {
            let dit = block_on(Dit::load_as(&checkpoint(size), format, &device)).expect("loads");
            predicted(&dit, 2, 8, false, &device).0
        };
        let full = predict(WeightFormat::F32);
        for (format, tolerance) in [
            (WeightFormat::F16, 2e-3),
            (WeightFormat::Q8, 2e-2),
            (WeightFormat::Q4Affine, 0.4),
            (WeightFormat::Q4, 0.4),
        ] {
            let small = predict(format);
            assert!(small != full, "{format} weights are not used");
            assert_near(&small, &full, tolerance, &format!("{format}"));
        }
    }
}

#[test]
fn f16_activations_change_the_output_by_their_rounding_error_only() {
    let devices = [Some(Device::flex()), gpu(KernelVariant::RegisterTiled)];
    for device in devices.into_iter().flatten() {
        let size = Size { heads: 4, head_channels: 16, layers: 3 };
        let dit = || block_on(Dit::load(&checkpoint(size), &device)).expect("loads");
        let (full, _) = predicted(&dit(), 2, 8, false, &device);
        let (half, _) = predicted(&dit().with_f16_activations(), 2, 8, false, &device);
        assert!(half != full, "nothing was stored in half format");
        assert_near(&half, &full, 5e-3, "activations in half format");
    }
}

/// Runs one block of PixArt-XL/2 on `b` captions and a latent of `side` rows and columns. Returns output and counts.
fn block(b: usize, side: usize, sequential: bool, device: &Device) -> (Vec<f32>, LaunchCounts) {
    let size = Size { heads: XL_2.heads, head_channels: XL_2.head_channels, layers: 1 };
    let dit = block_on(Dit::load(&checkpoint(size), device)).expect("loads");
    let (c, t) = (XL_2.channels(), (side / PATCH).pow(2));
    let mask: Tensor<2> = Tensor::ones([b, CAPTION_TOKENS], device);
    let embeds = random(3, [b, CAPTION_TOKENS, c], device);
    let conditions = dit.prepare_conditioning(embeds, mask, [side, side], None, &mut Taps::off());
    let conditions = if sequential { conditions.split_cfg().into() } else { vec![conditions] };
    let rows = b / conditions.len();
    let x = random(5, [rows, t, c], device);
    let modulation = random(6, [1, rows, ADALN_CHUNKS, c], device);
    let run = || {
        let one = |conditions| dit.blocks[0].forward(x.clone(), &modulation, conditions, 0, &mut Taps::off());
        let out: Vec<Tensor<3>> = conditions.iter().map(one).collect();
        Tensor::cat(out.into_iter().map(|out| out.narrow(1, 0, 1)).collect(), 0)
    };
    let (out, counts) = count_launches(run);
    (out.into_data().try_into_vec().expect("f32 comes back"), counts)
}

#[test]
fn a_block_of_xl_binds_at_most_200_mb() {
    let Some(device) = gpu(KernelVariant::RegisterTiled) else { return };
    let (_, counts) = block(2, 32, false, &device);
    println!("{counts:?}");
    assert!(counts.dispatches == BLOCK && counts.bytes <= BLOCK_BYTES_MOST, "{counts:?}");
}

#[test]
fn a_block_of_xl_runs_at_1024_px_with_sequential_guidance() {
    if !large("a block of 4096 tokens") {
        return;
    }
    let Some(device) = gpu(KernelVariant::RegisterTiled) else { return };
    let (out, counts) = block(2, 128, true, &device);
    println!("{counts:?} {:?} {}", device.memory_pool_usage(), peak_memory());
    assert_eq!(counts.dispatches, 2 * BLOCK);
    assert!(out.len() == 2 * XL_2.channels() && out.iter().all(|value| value.is_finite()));
    assert!(out.iter().any(|value| value.abs() > 0.1), "nothing was computed");
}
