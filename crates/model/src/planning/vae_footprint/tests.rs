//! Cost of decoding (launches, pipelines, copies, bytes bound) and equality of strips and whole decoding. Outputs are compared
//! with PyTorch's in the golden check; the weights here are random.

use futures_lite::future::block_on;
use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use pixart_kernels::{KernelVariant, LaunchCounts, count_launches};
use pixart_weights::Folder;

use super::{VaeFootprint, decode};
use crate::Taps;
use crate::loading::config::{VaeConfig, sd_vae};
use crate::randn;
use crate::testing::{gpu, large, peak_memory, safetensors};
use crate::vae::{DecodeMode, Vae};

/// As `block_out_channels` says, from the picture inwards.
type Widths = [usize; 4];

/// Stable Diffusion's VAE, which PixArt uses, and a small one of the same proportions.
const FULL: (Widths, usize) = ([128, 256, 512, 512], 32);
const SMALL: (Widths, usize) = ([16, 32, 64, 64], 4);
const LAYERS: usize = 2;
const Z: usize = 4;

/// Launches of decoding one image.
const DISPATCHES: u64 = 99;
/// Convolution, affine map, attention, moments, moments merged, and the rest of group norm.
const PIPELINES: u64 = 6;

/// Every tensor's shape of a checkpoint, by name.
fn shapes((widths, _): (Widths, usize)) -> BTreeMap<String, Vec<usize>> {
    let mut shapes = BTreeMap::new();
    let mut put = |name: String, shape: &[usize]| {
        shapes.insert(format!("{name}.bias"), vec![shape[0]]);
        shapes.insert(format!("{name}.weight"), shape.to_vec());
    };
    let resnet = |put: &mut dyn FnMut(String, &[usize]), at: String, i: usize, o: usize| {
        put(format!("{at}.norm1"), &[i]);
        put(format!("{at}.conv1"), &[o, i, 3, 3]);
        put(format!("{at}.norm2"), &[o]);
        put(format!("{at}.conv2"), &[o, o, 3, 3]);
        if i != o {
            put(format!("{at}.conv_shortcut"), &[o, i, 1, 1]);
        }
    };
    let widest = widths[3];
    put("quant_conv".into(), &[2 * Z, 2 * Z, 1, 1]);
    put("post_quant_conv".into(), &[Z, Z, 1, 1]);
    let reversed = [widths[3], widths[2], widths[1], widths[0]];
    for (side, layers, widths, [inputs, outputs]) in
        [("encoder.down", LAYERS, widths, [3, 2 * Z]), ("decoder.up", LAYERS + 1, reversed, [Z, 3])]
    {
        let (coder, direction) = side.split_once('.').expect("written above");
        put(format!("{coder}.conv_in"), &[widths[0], inputs, 3, 3]);
        put(format!("{coder}.conv_norm_out"), &[widths[3]]);
        put(format!("{coder}.conv_out"), &[outputs, widths[3], 3, 3]);
        for at in 0..2 {
            resnet(&mut put, format!("{coder}.mid_block.resnets.{at}"), widest, widest);
        }
        put(format!("{coder}.mid_block.attentions.0.group_norm"), &[widest]);
        for name in ["to_q", "to_k", "to_v", "to_out.0"] {
            put(format!("{coder}.mid_block.attentions.0.{name}"), &[widest, widest]);
        }
        for block in 0..4 {
            let name = format!("{coder}.{direction}_blocks.{block}");
            for at in 0..layers {
                let inputs = if at == 0 { widths[block.max(1) - 1] } else { widths[block] };
                resnet(&mut put, format!("{name}.resnets.{at}"), inputs, widths[block]);
            }
            if block < 3 {
                put(format!("{name}.{direction}samplers.0.conv"), &[widths[block], widths[block], 3, 3]);
            }
        }
    }
    shapes
}

/// A checkpoint of normal numbers, scaled so that they neither vanish nor grow on their way.
fn checkpoint(size: (Widths, usize)) -> Folder {
    let (widths, groups) = size;
    let config = serde_json::json!({
        "block_out_channels": widths, "layers_per_block": LAYERS, "latent_channels": Z, "norm_num_groups": groups,
        "scaling_factor": 0.18215, "act_fn": "silu", "in_channels": 3, "out_channels": 3,
    });
    let mut folder = Folder::default();
    folder.insert("vae/config.json", config.to_string().into_bytes());
    folder.insert("vae/diffusion_pytorch_model.safetensors", safetensors(shapes(size)));
    folder
}

/// Decodes a square latent. Returns the image and the launch counts.
fn decoded(size: (Widths, usize), side: usize, device: &Device) -> (Vec<f32>, LaunchCounts) {
    let vae = block_on(Vae::load(&checkpoint(size), device)).expect("the checkpoint is whole");
    let latent = Tensor::from_data(TensorData::new(randn(7, Z * side * side), [1, Z, side, side]), device);
    let (picture, counts) = count_launches(|| vae.decode(latent, &mut Taps::off()));
    assert_eq!(picture.dims(), [1, 3, 8 * side, 8 * side]);
    (picture.into_data().try_into_vec().expect("f32 comes back"), counts)
}

/// Returns the footprint of decoding one latent.
fn known((widths, groups): (Widths, usize), side: usize, limit_bytes: u64) -> VaeFootprint {
    let config = VaeConfig { block_channels: widths.to_vec(), norm_groups: groups, ..sd_vae() };
    decode(&config, 1, [side, side], limit_bytes)
}

/// Bytes that all launches bind together.
fn bytes(cost: &VaeFootprint) -> u64 {
    cost.launches.iter().flat_map(|launch| &launch.buffers).sum()
}

#[test]
fn decoding_makes_the_launches_and_binds_the_bytes_of_its_footprint() {
    let (want, none) = decoded(SMALL, 3, &Device::flex());
    assert_eq!(none, LaunchCounts::default(), "flex speaks no WGSL");
    let Some(device) = gpu(KernelVariant::WorkgroupTiled) else { return };
    let (got, counts) = decoded(SMALL, 3, &device);
    println!("{counts:?}");
    let largest = want.iter().fold(0.0_f32, |peak, value| peak.max(value.abs()));
    for (got, want) in got.iter().zip(&want) {
        assert!((got - want).abs() <= 1e-4 * largest, "{got} for {want}");
    }
    assert_eq!([counts.dispatches, counts.pipelines, counts.copies], [DISPATCHES, PIPELINES, 0], "{counts:?}");

    let (_, counts) = decoded(SMALL, 8, &device);
    let cost = known(SMALL, 8, u64::MAX);
    assert_eq!(cost.launches.len() as u64, DISPATCHES);
    let known = bytes(&cost);
    // Partial moments, biases and parameters are what the arithmetic leaves out.
    let near = known < counts.bytes && (counts.bytes as f64) < known as f64 * 1.02;
    assert!(near, "{} bytes are bound, {known} by arithmetic", counts.bytes);
}

#[test]
fn decoding_256_px_binds_at_most_2_5_gb() {
    let bound = bytes(&known(FULL, 32, u64::MAX));
    assert!(bound <= 2_500_000_000, "{bound}");
}

/// Decodes whole and within `limit_bytes`. Returns both images, and the launch counts of the second.
fn both(size: (Widths, usize), sides: [usize; 2], limit_bytes: u64, device: &Device) -> ([Vec<f32>; 2], LaunchCounts) {
    let vae = block_on(Vae::load(&checkpoint(size), device)).expect("the checkpoint is whole");
    let [h, w] = sides;
    let latent: Tensor<4> = Tensor::from_data(TensorData::new(randn(7, Z * h * w), [1, Z, h, w]), device);
    let whole = vae.decode(latent.clone(), &mut Taps::off());
    let (strips, counts) = count_launches(|| vae.decode_as(latent, DecodeMode::Strips { limit_bytes }));
    assert_eq!(strips.dims(), [1, 3, 8 * h, 8 * w]);
    ([whole, strips].map(|picture| picture.into_data().try_into_vec().expect("f32 comes back")), counts)
}

fn assert_same([whole, strips]: &[Vec<f32>; 2]) {
    let largest = whole.iter().fold(0.0_f32, |peak, value| peak.max(value.abs()));
    let off = whole.iter().zip(strips).fold(0.0_f32, |most, (whole, strips)| most.max((whole - strips).abs()));
    println!("strips differ by {off} of {largest}");
    assert!(strips.iter().all(|value| value.is_finite()));
    assert!(off <= 1e-5 * largest, "{off} of {largest}");
}

#[test]
fn strips_give_the_image_of_whole_decoding() {
    // From two strips to strips of single rows.
    for limit_bytes in [160 << 10, 48 << 10, 1] {
        assert_same(&both(SMALL, [5, 3], limit_bytes, &Device::flex()).0);
    }
    let Some(device) = gpu(KernelVariant::WorkgroupTiled) else { return };
    let limit_bytes = 128 << 10;
    let (pictures, counts) = both(SMALL, [8, 8], limit_bytes, &device);
    assert_same(&pictures);
    let launches = known(SMALL, 8, limit_bytes).launches.len() as u64;
    assert!(launches > 2 * DISPATCHES, "{launches}");
    assert_eq!([counts.dispatches, counts.pipelines, counts.copies], [launches, PIPELINES, 0], "{counts:?}");
}

#[test]
fn strips_as_wide_as_1024_px_are_decoded_at_the_least_limits() {
    if !large("strips of a picture 1024 px wide") {
        return;
    }
    KernelVariant::RegisterTiled.make_current();
    let Some(device) = gpu(KernelVariant::WorkgroupTiled) else { return };
    assert_same(&both(FULL, [4, 16], 2 << 20, &device).0);
    let vae = block_on(Vae::load(&checkpoint(FULL), &device)).expect("the checkpoint is whole");
    // 144 rows of 1024 pixels with 256 channels are 144 MiB.
    let latent = Tensor::from_data(TensorData::new(randn(7, Z * 18 * 128), [1, Z, 18, 128]), &device);
    let how = DecodeMode::Strips { limit_bytes: 128 << 20 };
    let (picture, counts) = count_launches(|| vae.decode_as(latent, how));
    let picture: Vec<f32> = picture.into_data().try_into_vec().expect("f32 comes back");
    println!("{counts:?} {:?} {}", device.memory_pool_usage(), peak_memory());
    assert!(counts.dispatches > DISPATCHES && picture.iter().all(|value| value.is_finite()));
}

#[test]
fn every_buffer_of_a_1024_px_image_fits_the_minimum_binding() {
    let minimum = 128 << 20;
    let cost = decode(&sd_vae(), 1, [128, 128], minimum);
    let above: Vec<_> =
        cost.launches.iter().filter(|launch| launch.buffers.iter().any(|bytes| *bytes > minimum)).collect();
    assert!(above.is_empty(), "{above:?}");
    // 256×256 pixels of 512 channels are decoded whole, later layers in strips.
    assert_eq!(cost.binding(), minimum);
    assert!(cost.launches.len() > 200, "{}", cost.launches.len());
    // 1024×1024 pixels of 256 channels, and the strips.
    assert_eq!(cost.live, (1024 + 128) << 20);
    let whole = decode(&sd_vae(), 1, [128, 128], u64::MAX);
    assert_eq!(whole.binding(), 1 << 30);
}
