use serde_json::{Map, json};

use super::*;

fn folder(file: &str, values: &Value) -> Folder {
    let mut folder = Folder::default();
    folder.insert(file, values.to_string().into_bytes());
    folder
}

/// Every key of diffusers' `PixArtTransformer2DModel` with its default.
fn transformer() -> Value {
    json!({
        "_class_name": "PixArtTransformer2DModel", "num_attention_heads": 16, "attention_head_dim": 72, "in_channels": 4,
        "out_channels": 8, "num_layers": 28, "dropout": 0.0, "norm_num_groups": 32, "cross_attention_dim": 1152,
        "attention_bias": true, "sample_size": 128, "patch_size": 2, "activation_fn": "gelu-approximate",
        "num_embeds_ada_norm": 1000, "upcast_attention": false, "norm_type": "ada_norm_single",
        "norm_elementwise_affine": false, "norm_eps": 1e-6, "interpolation_scale": null, "use_additional_conditions": null,
        "caption_channels": null, "attention_type": "default",
    })
}

/// Every key of diffusers' `AutoencoderKL` with its default.
fn vae() -> Value {
    json!({
        "_class_name": "AutoencoderKL", "in_channels": 3, "out_channels": 3, "down_block_types": ["DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D"], "block_out_channels": [64], "layers_per_block": 1, "act_fn": "silu",
        "latent_channels": 4, "norm_num_groups": 32, "sample_size": 32, "scaling_factor": 0.18215, "shift_factor": null,
        "latents_mean": null, "latents_std": null, "force_upcast": true, "use_quant_conv": true,
        "use_post_quant_conv": true, "mid_block_add_attention": true,
    })
}

/// Every key of transformers' `T5Config` that an encoder reads, with its default, and the one that has another value in v1.1.
fn text_encoder() -> Value {
    json!({
        "model_type": "t5", "vocab_size": 32128, "d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8,
        "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "dropout_rate": 0.1,
        "layer_norm_epsilon": 1e-6, "feed_forward_proj": "gated-gelu", "is_encoder_decoder": true, "use_cache": true,
        "pad_token_id": 0, "eos_token_id": 1,
    })
}

/// Checks that each key of `full` but those in `needed` can be left out, alone and with all others.
fn each_key_may_be_left_out<T: PartialEq + std::fmt::Debug>(
    file: &str,
    full: &Value,
    needed: &[&str],
    read: impl Fn(&Folder) -> Result<T, Error>,
) {
    let all = full.as_object().expect("an object");
    let written_out = read(&folder(file, full)).expect("every key is written out");
    let without = |left_out: &dyn Fn(&str) -> bool| -> Map<String, Value> {
        all.iter().filter(|(key, _)| !left_out(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    for key in all.keys().filter(|key| !needed.contains(&key.as_str())) {
        let got = read(&folder(file, &without(&|other| other == key).into()));
        assert_eq!(got.expect(key), written_out, "{key} is left out");
    }
    let got = read(&folder(file, &without(&|key| !needed.contains(&key)).into()));
    assert_eq!(got.expect("all are left out"), written_out);
    let mut more = all.clone();
    more.extend([("_diffusers_version".to_owned(), "9.9".into()), ("num_vector_embeds".to_owned(), Value::Null)]);
    assert_eq!(read(&folder(file, &more.into())).expect("unknown keys are ignored"), written_out);
}

#[test]
fn every_key_of_a_network_may_be_left_out() {
    each_key_may_be_left_out("transformer/config.json", &transformer(), &[], DitConfig::read);
    each_key_may_be_left_out("vae/config.json", &vae(), &[], VaeConfig::read);
    each_key_may_be_left_out("text_encoder/config.json", &text_encoder(), &["feed_forward_proj"], T5Config::read);
    let mut older = transformer();
    older["_class_name"] = "Transformer2DModel".into();
    let file = "transformer/config.json";
    let read = |values: &Value| DitConfig::read(&folder(file, values)).expect("it is read");
    assert_eq!(read(&older), read(&transformer()), "diffusers loads the older class as the newer one");
}

#[test]
fn null_has_the_meaning_that_it_has_in_diffusers() {
    let read = |key: &str, value: Value| {
        let mut values = transformer();
        values[key] = value;
        DitConfig::read(&folder("transformer/config.json", &values))
    };
    let base = read("attention_type", Value::Null).expect("an optional key");
    assert_eq!(base.caption_channels, 1152, "without a projection the cross-attention reads the embeddings");
    assert!(!base.has_caption_projection && base.micro_conditions);
    assert_eq!(base.interpolation_scale, 2.0);
    assert_eq!(read("out_channels", Value::Null).expect("as many as in_channels").out_channels, 4);
    assert_eq!(read("norm_elementwise_affine", Value::Null).expect("null is false"), base);
    let with = read("caption_channels", 4096.into()).expect("PixArt's own");
    assert_eq!((with.caption_channels, with.has_caption_projection), (4096, true));
    for key in ["num_layers", "norm_eps", "attention_bias", "patch_size", "sample_size", "in_channels", "norm_type"] {
        let error = read(key, Value::Null).expect_err(key).to_string();
        assert!(error.starts_with(&format!("transformer/config.json: `{key}`: null")), "{error}");
    }
}

/// Values that would end in a panic, or in numbers that are not finite, where the network is built or run.
#[test]
fn a_value_that_no_network_can_have_is_refused_by_name() {
    let files = [
        ("transformer/config.json", transformer()),
        ("vae/config.json", vae()),
        ("text_encoder/config.json", text_encoder()),
    ];
    let read = |file: &str, values: &Value| {
        let folder = folder(file, values);
        match file {
            "transformer/config.json" => DitConfig::read(&folder).map(drop),
            "vae/config.json" => VaeConfig::read(&folder).map(drop),
            _ => T5Config::read(&folder).map(drop),
        }
    };
    let bad_counts =
        [json!(0), json!(-4), json!(4.0), json!(1.5), json!("4"), json!(4_000_000_000_u64), json!(1e300), json!(null)];
    let counts: [(usize, &[&str]); 3] = [
        (0, &["num_attention_heads", "attention_head_dim", "num_layers", "in_channels", "sample_size"]),
        (1, &["layers_per_block", "latent_channels", "norm_num_groups"]),
        (
            2,
            &[
                "vocab_size",
                "d_model",
                "d_kv",
                "d_ff",
                "num_layers",
                "num_heads",
                "relative_attention_num_buckets",
                "relative_attention_max_distance",
            ],
        ),
    ];
    let mut cases: Vec<(usize, &str, Value)> = Vec::new();
    for (file, keys) in counts {
        cases.extend(keys.iter().flat_map(|key| bad_counts.iter().map(move |value| (file, *key, value.clone()))));
    }
    for (file, key) in [(0, "norm_eps"), (1, "scaling_factor"), (2, "layer_norm_epsilon")] {
        cases.extend([json!(0), json!(-1.0), json!("1"), json!(null)].into_iter().map(|value| (file, key, value)));
    }
    cases.extend([
        (0, "attention_head_dim", json!(6)),
        (0, "attention_head_dim", json!(516)),
        (0, "num_attention_heads", json!(1024)),
        (0, "out_channels", json!(9)),
        (0, "out_channels", json!(0)),
        (0, "sample_size", json!(33)),
        (0, "interpolation_scale", json!(0)),
        (0, "caption_channels", json!(0)),
        (0, "caption_channels", json!(30)),
        (0, "attention_type", json!("gated")),
        (0, "activation_fn", json!("geglu")),
        (0, "use_additional_conditions", json!(1)),
        (1, "block_out_channels", json!([])),
        (1, "block_out_channels", json!([0])),
        (1, "block_out_channels", json!([62])),
        (1, "block_out_channels", json!([1024])),
        (1, "block_out_channels", json!([64.0])),
        (1, "block_out_channels", json!(64)),
        (1, "block_out_channels", json!(vec![64; 60])),
        (1, "norm_num_groups", json!(24)),
        (1, "down_block_types", json!(["AttnDownEncoderBlock2D"])),
        (1, "up_block_types", json!(["UpDecoderBlock2D", "UpDecoderBlock2D"])),
        (1, "use_quant_conv", json!(null)),
        (2, "d_model", json!(30)),
        (2, "relative_attention_max_distance", json!(8)),
        (2, "relative_attention_num_buckets", json!(2)),
        (2, "feed_forward_proj", json!("relu")),
    ]);
    for (file, key, value) in cases {
        let (file, mut values) = files[file].clone();
        values[key] = value.clone();
        let Err(error) = read(file, &values) else { panic!("{file}: {key} {value} is accepted") };
        assert!(error.to_string().starts_with(&format!("{file}: `{key}`: ")), "{error}");
    }
    // A third of the channels for height, width and aspect ratio each.
    let mut values = transformer();
    values["num_attention_heads"] = 4.into();
    values["attention_head_dim"] = 4.into();
    let error = read("transformer/config.json", &values).expect_err("16 channels are no multiple of 3").to_string();
    assert!(error.contains("`use_additional_conditions`: height, width and aspect ratio"), "{error}");
}

#[test]
fn a_default_that_is_not_supported_is_named_as_such() {
    let mut values = text_encoder();
    values.as_object_mut().expect("an object").remove("feed_forward_proj");
    let error = T5Config::read(&folder("text_encoder/config.json", &values)).expect_err("relu is the default");
    let want =
        "text_encoder/config.json: `feed_forward_proj`: \"relu\", the default, is not supported, only \"gated-gelu\"";
    assert_eq!(error.to_string(), want);
}

#[test]
fn a_vae_reads_its_map_to_rgb_or_names_the_key() {
    let read = |factors: Value| {
        let mut values = vae();
        values[LATENT_RGB_FACTORS] = factors;
        VaeConfig::read(&folder("vae/config.json", &values))
    };
    let five = json!([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0.5]]);
    assert!(read(five).expect("five rows of three").preview.is_some());
    for bad in [json!([[1, 0, 0]]), json!([[1], [1], [1], [1], [1]]), json!(7)] {
        let error = read(bad).expect_err("not five rows of three numbers");
        assert!(error.to_string().contains(LATENT_RGB_FACTORS), "{error}");
    }
}
