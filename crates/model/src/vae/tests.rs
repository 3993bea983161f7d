//! What decoding costs, for any device: launches, pipelines, copies and bytes bound. Numbers are compared with recorded ones
//! in the golden check; here weights are as good as any.

use std::collections::BTreeMap;

use burn::tensor::{Device, DeviceKind, Tensor, TensorData};
use pixart_kernels::{Counts, counted};
use pixart_weights::Folder;

use super::{Taps, Vae};
use crate::randn;

/// As `block_out_channels` says, from the picture inwards.
type Widths = [usize; 4];

/// Stable Diffusion's autoencoder, which PixArt uses, and one of the same proportions.
const FULL: (Widths, usize) = ([128, 256, 512, 512], 32);
const SMALL: (Widths, usize) = ([16, 32, 64, 64], 4);
const LAYERS: usize = 2;
const Z: usize = 4;

/// For one picture.
const DISPATCHES: u64 = 99;
/// Convolution, affine map, attention, and the two halves of group norm.
const PIPELINES: u64 = 5;

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
    let (mut header, mut bytes) = (serde_json::Map::new(), Vec::new());
    for (seed, (name, shape)) in (1..).zip(shapes(size)) {
        let begin = bytes.len();
        let inputs: usize = shape[1..].iter().product();
        let scale = (inputs as f32).sqrt().recip();
        let values = randn(seed, shape.iter().product()).into_iter();
        bytes.extend(values.flat_map(|value| (value * scale).to_le_bytes()));
        let place = serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [begin, bytes.len()] });
        header.insert(name, place);
    }
    let header = serde_json::Value::Object(header).to_string();
    let length = (header.len() as u64).to_le_bytes();
    let (widths, groups) = size;
    let config = serde_json::json!({
        "block_out_channels": widths, "layers_per_block": LAYERS, "latent_channels": Z, "norm_num_groups": groups,
        "scaling_factor": 0.18215, "act_fn": "silu", "in_channels": 3, "out_channels": 3,
    });
    let mut folder = Folder::default();
    folder.insert("vae/config.json", config.to_string().into_bytes());
    folder.insert("vae/diffusion_pytorch_model.safetensors", [&length, header.as_bytes(), &bytes].concat());
    folder
}

/// A picture from a square latent, and what it cost.
fn decoded(size: (Widths, usize), side: usize, device: &Device) -> (Vec<f32>, Counts) {
    let vae = Vae::load(&checkpoint(size), device).expect("the checkpoint is whole");
    let latent = Tensor::from_data(TensorData::new(randn(7, Z * side * side), [1, Z, side, side]), device);
    let (picture, counts) = counted(|| vae.decode(latent, &mut Taps::off()));
    assert_eq!(picture.dims(), [1, 3, 8 * side, 8 * side]);
    (picture.into_data().try_into_vec().expect("f32 comes back"), counts)
}

/// Bytes that decoding binds, by arithmetic: inputs and outputs of every launch but the few numbers beside them.
fn bytes((widths, _): (Widths, usize), side: usize) -> u64 {
    let mut numbers = 0;
    let norm = |pixels: usize, c: usize| 3 * pixels * c;
    let conv = |pixels: usize, i: usize, to: usize, o: usize| pixels * i + 9 * i * o + to * o;
    let map = |pixels: usize, i: usize, o: usize| pixels * i + i * o + pixels * o;
    let resnet = |pixels: usize, i: usize, o: usize| {
        let shortcut = if i == o { 0 } else { map(pixels, i, o) };
        let first = norm(pixels, i) + conv(pixels, i, pixels, o);
        first + norm(pixels, o) + conv(pixels, o, pixels, o) + pixels * o + shortcut
    };
    let mut pixels = side * side;
    let mut width = widths[3];
    numbers += map(pixels, Z, Z) + conv(pixels, Z, pixels, width) + 2 * resnet(pixels, width, width);
    numbers += norm(pixels, width) + map(pixels, width, 3 * width) + map(pixels, width, width) + pixels * width;
    for (block, o) in widths.into_iter().rev().enumerate() {
        for _ in 0..=LAYERS {
            numbers += resnet(pixels, width, o);
            width = o;
        }
        if block < 3 {
            numbers += conv(pixels, width, 4 * pixels, width);
            pixels *= 4;
        }
    }
    numbers += norm(pixels, width) + conv(pixels, width, pixels, 4);
    4 * numbers as u64
}

#[test]
fn decoding_costs_as_much_as_it_is_known_to() {
    let (want, none) = decoded(SMALL, 3, &Device::flex());
    assert_eq!(none, Counts::default(), "flex speaks no WGSL");
    if std::env::var_os("NO_GPU").is_some_and(|value| value == "1") {
        println!("NOT RUN in WGSL, because NO_GPU=1");
        return;
    }
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    let (got, counts) = decoded(SMALL, 3, &device);
    println!("{counts:?}");
    let largest = want.iter().fold(0.0_f32, |peak, value| peak.max(value.abs()));
    for (got, want) in got.iter().zip(&want) {
        assert!((got - want).abs() <= 1e-4 * largest, "{got} for {want}");
    }
    assert_eq!([counts.dispatches, counts.pipelines, counts.copies], [DISPATCHES, PIPELINES, 0], "{counts:?}");

    let (_, counts) = decoded(SMALL, 8, &device);
    let known = bytes(SMALL, 8);
    // Partial moments, biases and parameters are what the arithmetic leaves out.
    let near = known < counts.bytes && (counts.bytes as f64) < known as f64 * 1.02;
    assert!(near, "{} bytes are bound, {known} by arithmetic", counts.bytes);
}

#[test]
fn a_picture_of_256_binds_at_most_2_9_gb() {
    let bound = bytes(FULL, 32);
    assert!(bound <= 2_900_000_000, "{bound}");
}
