use super::*;
use crate::config::{XL_2, sd_vae};

fn planner(binding_mib: u64, memory_mib: Option<u64>) -> Planner {
    let limits = DeviceLimits {
        binding_bytes: binding_mib << 20,
        memory_bytes: memory_mib.map(|mib| mib << 20),
        ..DeviceLimits::LEAST
    };
    Planner { dit: XL_2, vae: sd_vae(), stored: WeightFormat::F32, chosen: None, limits }
}

/// The same for the checkpoint of 1024 px.
fn large(binding_mib: u64, memory_mib: Option<u64>) -> Planner {
    Planner { dit: DitConfig { sample_size: 128, ..XL_2 }, ..planner(binding_mib, memory_mib) }
}

fn picture(pixels: usize) -> Picture {
    Picture { pictures: 1, latent: [pixels / 8; 2], guided: true }
}

#[test]
fn a_small_picture_is_computed_at_once() {
    let plan = planner(128, None).plan(picture(256), WeightFormat::F16).expect("it fits");
    assert_eq!((plan.guidance, plan.decode, plan.why.len()), (Guidance::Together, Decode::Whole, 1));
    let least = "f16 weights, captions together, decoded whole (f32 weights are";
    assert!(plan.line().starts_with(least), "{}", plan.line());
}

#[test]
fn at_the_least_limits_a_picture_of_1024_px_is_cut_and_every_buffer_fits() {
    let planner = large(128, None);
    assert_eq!(planner.limits, DeviceLimits::LEAST);
    assert_eq!(planner.precision(), Ok(WeightFormat::F16));
    let plan = planner.plan(picture(1024), WeightFormat::F16).expect("it fits");
    assert_eq!(plan.guidance, Guidance::InTurn);
    assert_eq!(plan.decode, Decode::Strips { limit_bytes: 128 << 20 });
    // 256×256 pixels of 512 channels.
    assert_eq!(plan.binding_bytes, 128 << 20);
    assert!(plan.decode_bytes <= MEMORY_UNKNOWN, "{plan:?}");
    println!("{}", plan.line());
    assert_eq!(plan.why.len(), 3);
}

#[test]
fn larger_buffers_are_used_where_there_are_some() {
    let plan = planner(2048, Some(16384)).plan(picture(1024), WeightFormat::F32).expect("it fits");
    assert_eq!((plan.guidance, plan.decode, &plan.why[..]), (Guidance::Together, Decode::Whole, &[][..]));
    let plan = planner(1, None).plan(picture(1024), WeightFormat::F32);
    assert_eq!(plan.expect_err("a step binds more").code, FaultCode::OutOfMemory);
    let free = Planner { limits: DeviceLimits::NONE, ..planner(1, None) };
    assert_eq!(free.plan(picture(2048), WeightFormat::F32).expect("it fits").decode, Decode::Whole);
}

#[test]
fn a_precision_that_was_asked_for_is_taken_as_far_as_what_is_stored_allows() {
    let asked = Planner { chosen: Some(WeightFormat::Bf16), ..planner(128, None) };
    assert_eq!(asked.precision(), Ok(WeightFormat::Bf16));
    let plan = asked.plan(picture(256), WeightFormat::Bf16).expect("it fits");
    assert_eq!(plan.why, ["as was asked for"]);
    assert_eq!(Planner { stored: WeightFormat::Q8, ..asked }.precision(), Ok(WeightFormat::Q8));
}

#[test]
fn the_best_precision_that_fits_is_chosen() {
    let chosen = |memory_mib| planner(128, Some(memory_mib)).precision();
    assert_eq!(chosen(4096), Ok(WeightFormat::F32));
    assert_eq!(chosen(2048), Ok(WeightFormat::F16));
    assert_eq!(chosen(1100), Ok(WeightFormat::Q8));
    assert_eq!(chosen(800), Ok(WeightFormat::Q4));
    assert_eq!(chosen(256).expect_err("nothing fits").code, FaultCode::OutOfMemory);
    assert_eq!(planner(128, None).precision(), Ok(WeightFormat::F16));
}

#[test]
fn tiles_are_the_last_resort() {
    let plan = large(128, Some(1024)).plan(picture(1024), WeightFormat::Q4).expect("it fits");
    assert!(matches!(plan.decode, Decode::Tiles(_)), "{}", plan.line());
    assert!(plan.decode_bytes <= 1 << 30 && plan.binding_bytes <= 128 << 20, "{plan:?}");
}

#[test]
fn a_picture_that_fits_in_no_way_is_refused_with_what_it_needs() {
    let fault = planner(128, None).plan(picture(4096), WeightFormat::Q4).expect_err("65,536 tokens");
    assert_eq!(fault.code, FaultCode::OutOfMemory);
    assert!(fault.what.contains("a step needs") && fault.what.contains("128 MiB"), "{fault}");
}

/// T5-XXL's encoder has 4 762 310 656 numbers; a number of a small one is f32.
#[test]
fn a_text_encoder_is_counted_as_it_is_kept() {
    let config = |channels: usize, layers: usize| {
        let mut folder = Folder::default();
        let config = format!(
            r#"{{"feed_forward_proj": "gated-gelu", "vocab_size": 32128, "d_model": {channels}, "d_kv": 64, "d_ff": 10240,
                "num_heads": 64, "num_layers": {layers}, "relative_attention_num_buckets": 32}}"#
        );
        folder.insert("text_encoder/config.json", config.into_bytes());
        text_bytes(&folder).expect("it has all keys")
    };
    assert_eq!(config(4096, 24), 4_762_310_656);
    // Embeddings, four maps of the heads' 4096 columns and three of the hidden layer's, places, three norms.
    let small = 32128 * 16 + 4 * 16 * 4096 + 3 * 16 * 10240 + 32 * 64 + 3 * 16;
    assert_eq!(config(16, 1), 4 * small);
}
