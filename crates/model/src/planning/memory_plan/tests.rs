use super::*;
use crate::loading::config::{XL_2, sd_vae};

fn planner(binding_mib: u64, memory_mib: Option<u64>) -> Planner {
    let limits = DeviceLimits {
        binding_bytes: binding_mib << 20,
        memory_bytes: memory_mib.map(|mib| mib << 20),
        ..DeviceLimits::WEBGPU_MINIMUM
    };
    Planner { dit: XL_2, vae: sd_vae(), stored_format: WeightFormat::F32, chosen: None, limits }
}

/// [`planner`] for the checkpoint of 1024 px.
fn large(binding_mib: u64, memory_mib: Option<u64>) -> Planner {
    Planner { dit: DitConfig { sample_size: 128, ..XL_2 }, ..planner(binding_mib, memory_mib) }
}

fn square(pixels: usize) -> LatentBatch {
    LatentBatch { images: 1, latent_size: [pixels / 8; 2], guided: true }
}

#[test]
fn a_small_image_is_batched_and_decoded_whole() {
    let plan = planner(128, None).plan(square(256), WeightFormat::F16).expect("it fits");
    assert_eq!((plan.cfg_batching, plan.decode_mode, plan.reasons.len()), (CfgBatching::Batched, DecodeMode::Whole, 1));
    let least = "f16 weights, batched guidance, decoded whole (f32 weights are";
    assert!(plan.line().starts_with(least), "{}", plan.line());
}

#[test]
fn at_the_minimum_limits_a_1024_px_image_is_decoded_in_strips_and_every_buffer_fits() {
    let planner = large(128, None);
    assert_eq!(planner.limits, DeviceLimits::WEBGPU_MINIMUM);
    assert_eq!(planner.weight_format(), Ok(WeightFormat::F16));
    let plan = planner.plan(square(1024), WeightFormat::F16).expect("it fits");
    assert_eq!(plan.cfg_batching, CfgBatching::Sequential);
    assert_eq!(plan.decode_mode, DecodeMode::Strips { limit_bytes: 128 << 20 });
    // 256×256 pixels of 512 channels.
    assert_eq!(plan.binding_bytes, 128 << 20);
    assert!(plan.decode_bytes <= ASSUMED_MEMORY_BYTES, "{plan:?}");
    println!("{}", plan.line());
    assert_eq!(plan.reasons.len(), 3);
}

#[test]
fn larger_buffers_are_used_when_available() {
    let plan = planner(2048, Some(16384)).plan(square(1024), WeightFormat::F32).expect("it fits");
    assert_eq!(
        (plan.cfg_batching, plan.decode_mode, &plan.reasons[..]),
        (CfgBatching::Batched, DecodeMode::Whole, &[][..])
    );
    let plan = planner(1, None).plan(square(1024), WeightFormat::F32);
    assert_eq!(plan.expect_err("a step binds more").code, FaultCode::OutOfMemory);
    let free = Planner { limits: DeviceLimits::UNLIMITED, ..planner(1, None) };
    assert_eq!(free.plan(square(2048), WeightFormat::F32).expect("it fits").decode_mode, DecodeMode::Whole);
}

#[test]
fn a_requested_weight_format_is_used_unless_the_checkpoint_is_packed_smaller() {
    let requested = Planner { chosen: Some(WeightFormat::Bf16), ..planner(128, None) };
    assert_eq!(requested.weight_format(), Ok(WeightFormat::Bf16));
    let plan = requested.plan(square(256), WeightFormat::Bf16).expect("it fits");
    assert_eq!(plan.reasons, ["as requested"]);
    assert_eq!(Planner { stored_format: WeightFormat::Q8, ..requested }.weight_format(), Ok(WeightFormat::Q8));
}

#[test]
fn the_best_weight_format_that_fits_is_chosen() {
    let chosen = |memory_mib| planner(128, Some(memory_mib)).weight_format();
    assert_eq!(chosen(4096), Ok(WeightFormat::F32));
    assert_eq!(chosen(2048), Ok(WeightFormat::F16));
    assert_eq!(chosen(1100), Ok(WeightFormat::Q8));
    assert_eq!(chosen(800), Ok(WeightFormat::Q4));
    assert_eq!(chosen(256).expect_err("nothing fits").code, FaultCode::OutOfMemory);
    assert_eq!(planner(128, None).weight_format(), Ok(WeightFormat::F16));
}

/// 610.9 million parameters, of which the matrices of 28 blocks are 28·16·1152².
#[test]
fn the_weights_are_those_that_the_networks_load() {
    let (all, matrices) = (XL_2.bytes(WeightFormat::F32), 28 * 16 * 1152 * 1152);
    assert!((all as f64 / 4e6 - 610.9).abs() < 0.06, "{all} bytes");
    assert_eq!(all - XL_2.bytes(WeightFormat::F16), 2 * matrices);
    let q8 = WeightFormat::Q8.bytes(1152, 1152) as u64;
    assert_eq!(all - XL_2.bytes(WeightFormat::Q8), 28 * 16 * (4 * 1152 * 1152 - q8));
    let decoder = sd_vae().decoder_bytes();
    assert!((decoder as f64 / 4e6 - 49.5).abs() < 0.06, "{decoder} bytes");
}

#[test]
fn tiles_are_the_last_resort() {
    let plan = large(128, Some(1024)).plan(square(1024), WeightFormat::Q4).expect("it fits");
    assert!(matches!(plan.decode_mode, DecodeMode::Tiles(_)), "{}", plan.line());
    assert!(plan.decode_bytes <= 1 << 30 && plan.binding_bytes <= 128 << 20, "{plan:?}");
}

#[test]
fn an_image_that_fits_in_no_plan_is_refused_with_the_bytes_it_needs() {
    let fault = planner(128, None).plan(square(4096), WeightFormat::Q4).expect_err("65,536 tokens");
    assert_eq!(fault.code, FaultCode::OutOfMemory);
    assert!(fault.what.contains("a denoising step needs") && fault.what.contains("128 MiB"), "{fault}");
}

/// T5-XXL's encoder has 4 762 310 656 parameters, in q8; a small encoder stays f32.
#[test]
fn a_text_encoder_is_counted_in_the_format_a_tab_converts_it_to() {
    let config = |channels: usize, layers: usize| {
        let mut folder = Folder::default();
        let config = format!(
            r#"{{"feed_forward_proj": "gated-gelu", "vocab_size": 32128, "d_model": {channels}, "d_kv": 64, "d_ff": 10240,
                "num_heads": 64, "num_layers": {layers}, "relative_attention_num_buckets": 32}}"#
        );
        folder.insert("text_encoder/config.json", config.into_bytes());
        text_encoder_bytes(&folder).expect("it has all keys")
    };
    assert_eq!(config(4096, 24), 4_762_310_656);
    // Embeddings, four maps of the heads' 4096 columns and three of the hidden layer's, places, three norms.
    let small = 32128 * 16 + 4 * 16 * 4096 + 3 * 16 * 10240 + 32 * 64 + 3 * 16;
    assert_eq!(config(16, 1), 4 * small);
}

#[test]
fn a_streamed_text_encoder_takes_the_memory_of_two_blocks() {
    let mut folder = Folder::default();
    let config = r#"{"feed_forward_proj": "gated-gelu", "vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240,
        "num_heads": 64, "num_layers": 24, "relative_attention_num_buckets": 32}"#;
    folder.insert("text_encoder/config.json", config.as_bytes().to_vec());
    let limits = |bytes| DeviceLimits { memory_bytes: Some(bytes), ..DeviceLimits::UNLIMITED };
    let memory = |bytes| text_encoder_memory(&folder, 1 << 30, limits(bytes)).expect("it has all keys");
    assert_eq!(memory((1 << 30) + 4_762_310_656), 4_762_310_656);
    assert_eq!(memory((1 << 30) + 4_762_310_655), 2 * 4_762_310_656_u64.div_ceil(24));
}
