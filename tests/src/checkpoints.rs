//! Folders of the embedded checkpoint with other files, names and configurations: what opens gives the same image, and what does
//! not is refused by name before weights are read.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use pixart_companion::pack::{self, PackOptions};
use pixart_companion::{
    ComponentPaths, Error, ImageGenerator, LoadOptions, PromptEmbedsSource, PromptEncoder, PromptEncoderOptions,
};
use pixart_model::WeightFormat;
use pixart_protocol::{EncodeResponse, GenerateRequest};
use serde_json::Value;

use crate::packed::Scratch;

const WEIGHTS: &str = "diffusion_pytorch_model";

fn scenes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/models/scenes")
}

/// Copies the embedded checkpoint to a temporary folder of this name.
fn copy(name: &str) -> Scratch {
    fn copy_into(from: &Path, to: &Path) {
        fs::create_dir_all(to).expect("a temporary folder");
        for entry in fs::read_dir(from).expect("it is there") {
            let path = entry.expect("it is listed").path();
            let to = to.join(path.file_name().expect("it has a name"));
            if path.is_dir() {
                copy_into(&path, &to)
            } else {
                let _ = fs::copy(&path, &to).expect("it is copied");
            }
        }
    }
    let scratch = Scratch::new(name);
    copy_into(&scenes(), scratch.path());
    scratch
}

fn options(checkpoint: &Path) -> LoadOptions {
    LoadOptions { checkpoint: checkpoint.to_owned(), ..LoadOptions::default() }
}

/// Generates one image and returns its pixels.
fn pixels(options: LoadOptions) -> Result<Vec<u8>, Error> {
    let generator = ImageGenerator::open(options)?;
    let request = GenerateRequest { num_inference_steps: 2, seed: 3, ..generator.preset().request("a red house") };
    let images = generator.generate(&request, |_| ControlFlow::Continue(()))?;
    Ok(pixart_model::image::decode_image(&images[0].file)?.bytes)
}

fn edit(path: &Path, change: impl FnOnce(&mut Value)) {
    // diffusers writes a bare infinity.
    let text = fs::read_to_string(path).expect("it is there").replace("-Infinity", "null");
    let mut json = serde_json::from_str(&text).expect("it is JSON");
    change(&mut json);
    fs::write(path, json.to_string()).expect("it is written");
}

#[test]
fn files_of_a_variant_alone_give_the_same_image() {
    let scratch = copy("fp16 ü");
    let want = pixels(options(scratch.path())).expect("the embedded checkpoint");
    for (dir, stem) in [("transformer", WEIGHTS), ("vae", WEIGHTS), ("text_encoder", "model")] {
        let dir = scratch.path().join(dir);
        let from = dir.join(format!("{stem}.safetensors"));
        fs::rename(from, dir.join(format!("{stem}.fp16.safetensors"))).expect("it is renamed");
    }
    assert!(pixels(options(scratch.path())).expect("the only variant") == want);
    let variant = |name: &str| LoadOptions { variant: Some(name.to_owned()), ..options(scratch.path()) };
    assert!(pixels(variant("fp16")).expect("it is named") == want);
    let fault = pixart_protocol::Fault::from(pixels(variant("fp8")).expect_err("there is no such variant"));
    assert_eq!(fault.what, "the checkpoint has no files of the variant `fp8`");
    assert_eq!(fault.remedy, "leave out --variant, or choose one of fp16");
}

#[test]
fn every_key_with_the_default_of_diffusers_may_be_left_out() {
    let scratch = copy("defaults");
    let want = pixels(options(scratch.path())).expect("the embedded checkpoint");
    let defaults = [
        ("transformer/config.json", "norm_eps", serde_json::json!(1e-6)),
        ("transformer/config.json", "interpolation_scale", Value::Null),
        ("transformer/config.json", "norm_type", "ada_norm_single".into()),
        ("vae/config.json", "latent_channels", 4.into()),
        ("vae/config.json", "act_fn", "silu".into()),
        ("text_encoder/config.json", "relative_attention_num_buckets", 32.into()),
        ("text_encoder/config.json", "layer_norm_epsilon", serde_json::json!(1e-6)),
        ("scheduler/scheduler_config.json", "solver_order", 2.into()),
        ("scheduler/scheduler_config.json", "beta_end", serde_json::json!(0.02)),
    ];
    let mut left_out = 0;
    for (file, key, default) in defaults {
        edit(&scratch.path().join(file), |json| {
            let keys = json.as_object_mut().expect("an object");
            if keys.get(key).is_none_or(|value| *value == default || value.as_f64() == default.as_f64()) {
                keys.remove(key);
                left_out += 1;
            }
        });
    }
    assert!(left_out > 5, "{left_out} keys have the default");
    assert!(pixels(options(scratch.path())).expect("the defaults are known") == want);
}

/// Makes the last bytes of the transformer's file no number, which is found only where weights are read.
fn spoil_weights(dir: &Path) {
    let path = dir.join(format!("transformer/{WEIGHTS}.safetensors"));
    let mut bytes = fs::read(&path).expect("it is there");
    let length = bytes.len();
    bytes[length - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, bytes).expect("it is written");
}

#[test]
fn small_files_and_headers_are_checked_before_weights_are_read() {
    let scratch = copy("first");
    spoil_weights(scratch.path());
    let error = |options: LoadOptions| ImageGenerator::open(options).err().expect("it is refused").to_string();
    let spoilt = error(options(scratch.path()));
    assert!(spoilt.contains("holds NaN"), "{spoilt}");
    let tokenizer = scratch.path().join("tokenizer");
    fs::rename(&tokenizer, scratch.path().join("elsewhere")).expect("it is renamed");
    let missing = error(options(scratch.path()));
    assert!(missing.contains("tokenizer/spiece.model"), "{missing}");
    fs::rename(scratch.path().join("elsewhere"), &tokenizer).expect("it is renamed");

    let embeds = EncodeResponse {
        shape: [2, 3, 5],
        embeds: vec![0.0; 30],
        attention_mask: vec![1.0; 6],
        token_counts: Vec::new(),
    };
    let stored = LoadOptions { prompt_embeds: PromptEmbedsSource::Stored(embeds), ..options(scratch.path()) };
    let channels = error(stored);
    assert!(channels.contains("the text embeddings are 2 rows of 5 channels"), "{channels}");

    let check = |steps: u32| {
        let generator = ImageGenerator::open_checked(options(scratch.path()), |pipeline| {
            let request = GenerateRequest { num_inference_steps: steps, ..pipeline.preset().request("a house") };
            Ok(pipeline.prepare(&request).map(drop)?)
        });
        generator.err().expect("it is refused").to_string()
    };
    assert!(check(0).contains("num_inference_steps is 0"), "{}", check(0));
    assert!(check(2).contains("holds NaN"), "the request is right");

    for (file, key, value) in [
        ("vae/config.json", "norm_num_groups", 7.into()),
        ("scheduler/scheduler_config.json", "beta_end", 2.into()),
        ("text_encoder/config.json", "d_kv", 6.into()),
    ] {
        let path = scratch.path().join(file);
        let before = fs::read(&path).expect("it is there");
        edit(&path, |json| json[key] = value);
        let named = error(options(scratch.path()));
        assert!(named.starts_with(&format!("{file}: `{key}`: ")), "{named}");
        fs::write(&path, before).expect("it is written");
    }
    let encoder = PromptEncoderOptions { checkpoint: scratch.path().to_owned(), ..PromptEncoderOptions::default() };
    PromptEncoder::open(&encoder).expect("the transformer is not read");
}

#[test]
fn files_that_are_no_part_of_a_checkpoint_are_not_packed() {
    let scratch = copy("a folder (1) with ünïcode");
    let dir = scratch.path();
    for other in [
        "transformer/config (1).json",
        "transformer/._config.json",
        "transformer/README copy.md",
        "vae/Thumbs.db",
        "vae/._diffusion_pytorch_model.safetensors",
        "loose.safetensors",
        ".git/config.json",
        "samples/0 1.json",
    ] {
        let path = dir.join(other);
        fs::create_dir_all(path.parent().expect("a folder")).expect("it is created");
        fs::write(path, "no part of it").expect("it is written");
    }
    let want = pixels(options(&scenes())).expect("the embedded checkpoint");
    assert!(pixels(options(dir)).expect("they are not read") == want);
    let to = Scratch::new("packed (1) ü");
    let packing = PackOptions {
        from: dir.to_owned(),
        variant: None,
        components: ComponentPaths::default(),
        config: None,
        to: to.path().to_owned(),
        weight_format: WeightFormat::F32,
        shard_bytes: 1 << 20,
        license: None,
        source: None,
    };
    let mut progress = Vec::new();
    let report = pack::pack(&packing, |now| progress.push(now)).expect("it is packed");
    assert_eq!(progress.len(), report.shards);
    assert!(progress.windows(2).all(|pair| pair[0].bytes < pair[1].bytes && pair[0].elapsed <= pair[1].elapsed));
    assert!(progress.iter().all(|now| now.total_bytes == progress[progress.len() - 1].bytes));
    let opened = pixels(options(to.path())).expect("it opens");
    let off = opened.iter().zip(&want).filter(|(got, want)| got.abs_diff(**want) > 1).count();
    assert_eq!((opened.len(), off), (want.len(), 0));
}

#[test]
fn a_single_file_of_the_transformer_replaces_it() {
    let scratch = copy("single");
    let want = pixels(options(scratch.path())).expect("the embedded checkpoint");
    let file = scratch.path().join("a = b, c.safetensors");
    let weights = scratch.path().join(format!("transformer/{WEIGHTS}.safetensors"));
    fs::rename(&weights, &file).expect("it is renamed");
    let replaced = LoadOptions {
        components: ComponentPaths { transformer: Some(file), ..ComponentPaths::default() },
        ..options(scratch.path())
    };
    assert!(pixels(replaced).expect("it is read") == want);
    assert!(pixels(options(scratch.path())).is_err(), "the folder has none of its own");
}
