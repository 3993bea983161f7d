//! Every checkpoint and text encoder of the catalogue, opened from a hub in its published layout, with small random networks.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;

use pixart_companion::catalogue::{CheckpointSource, catalogue, resolve};
use pixart_companion::hub::{Selection, fetch_from};
use pixart_companion::synth::{SynthScale, synth_component, synth_model};
use pixart_companion::{ComponentPaths, ImageGenerator, LoadOptions, PromptEncoder, PromptEncoderOptions};
use pixart_model::image::decode_image;
use pixart_protocol::{CatalogueModel, EncodeRequest, GenerateRequest};

use crate::local_hub::{HubState, LocalHub};
use crate::packed::Scratch;

/// Fetches what a name stands for, and returns it with the files that were requested.
fn fetch(hub: &LocalHub, cache: &Path, source: &CheckpointSource, unused: &[&str]) -> (LoadOptions, BTreeSet<String>) {
    let selection = Selection { unused, variant: source.variant.as_deref() };
    let client = hub.client(cache, None);
    let fetched = fetch_from(&client, &source.checkpoint, &source.components, selection, &mut |_, _| ());
    let (checkpoint, components) = fetched.unwrap_or_else(|error| panic!("{}: {error}", source.checkpoint.display()));
    let requested = hub.log().into_iter().filter_map(|line| {
        let (before, file) = line.split_once("/resolve/")?;
        let repository = before.split_once(" /")?.1;
        Some(format!("{repository}/{}", file.split_once('/')?.1.split(' ').next()?))
    });
    let requested = requested.collect();
    (LoadOptions { checkpoint, components, variant: source.variant.clone(), ..LoadOptions::default() }, requested)
}

/// The files that the catalogue names of a model.
fn listed(model: &CatalogueModel) -> BTreeSet<String> {
    let components = model.components.by_name();
    let files = components.iter().flat_map(|(_, component)| {
        component.files.iter().map(|file| format!("{}/{}", component.repository, file.path))
    });
    files.collect()
}

#[test]
fn every_model_opens_in_its_published_layout_and_generates_with_its_preset() {
    for model in &catalogue().models {
        let (scratch, name) = (Scratch::new(&format!("catalogue-{}", model.name)), model.name.as_str());
        let to = scratch.path().join("hub");
        synth_model(model, &[], SynthScale::Tiny, 1, &to).expect("it is written");
        let hub = LocalHub::start(HubState::of_folder(&to));
        let source = resolve(Path::new(name), &ComponentPaths::default());
        let (options, requested) = fetch(&hub, &scratch.path().join("cache"), &source, &[]);

        let listed = listed(model);
        let is_weights = |file: &&String| [".safetensors", ".bin"].iter().any(|end| file.ends_with(end));
        let weights = |files: &BTreeSet<String>| files.iter().filter(is_weights).cloned().collect::<BTreeSet<_>>();
        assert_eq!(weights(&requested), weights(&listed), "{name}");

        let generator = ImageGenerator::open(options).unwrap_or_else(|error| panic!("{name}: {error}"));
        let preset = generator.preset();
        assert_eq!(preset.name, model.preset, "{name}");
        assert_eq!(generator.limits().native_size, model.size, "{name}");
        // The smallest that the checkpoint generates.
        let side = model.size / 2;
        let steps = preset.timesteps.as_ref().map_or(2, Vec::len) as u32;
        let request = GenerateRequest {
            num_inference_steps: steps,
            width: Some(side),
            height: Some(side),
            use_resolution_binning: false,
            ..preset.request("a red circle")
        };
        let images = generator.generate(&request, |_| ControlFlow::Continue(()));
        let images = images.unwrap_or_else(|error| panic!("{name}: {error}"));
        let image = decode_image(&images[0].file).expect("a PNG");
        assert_eq!([image.width, image.height], [side as usize; 2], "{name}");
        let colours: BTreeSet<&u8> = image.bytes.iter().collect();
        assert!(colours.len() > 16, "{name} has {} values", colours.len());
    }
}

#[test]
fn every_text_encoder_encodes_with_the_tokenizer_of_a_model() {
    let model = catalogue().model("pixart-alpha-512").expect("it is listed");
    let scratch = Scratch::new("catalogue-text");
    let to = scratch.path().join("hub");
    synth_model(model, &[], SynthScale::Tiny, 1, &to).expect("it is written");
    for encoder in &catalogue().text_encoders {
        let name = encoder.name.as_str();
        synth_component("text_encoder", &encoder.component, SynthScale::Tiny, 2, &to).expect("it is written");

        let hub = LocalHub::start(HubState::of_folder(&to));
        let given = ComponentPaths { text_encoder: Some(name.into()), ..ComponentPaths::default() };
        let source = resolve(Path::new(&model.name), &given);
        let unused = ["transformer", "vae", "scheduler"];
        let (LoadOptions { checkpoint, components, .. }, requested) =
            fetch(&hub, &scratch.path().join(name), &source, &unused);
        let file = format!("{}/{}", encoder.component.repository, encoder.component.files[0].path);
        let weights: Vec<&String> = requested.iter().filter(|file| !file.ends_with(".json")).collect();
        assert!(
            weights.contains(&&file) && !weights.iter().any(|file| file.contains("text_encoder/model")),
            "{weights:?}"
        );

        let options = PromptEncoderOptions { checkpoint, components, ..PromptEncoderOptions::default() };
        let opened = PromptEncoder::open(&options).unwrap_or_else(|error| panic!("{name}: {error}"));
        let embedded = opened.encode(&EncodeRequest::of(vec![String::new(), "a red circle".to_owned()]));
        let embeds = embedded.unwrap_or_else(|error| panic!("{name}: {error}")).embeds;
        let mean_square = embeds.iter().map(|value| value * value).sum::<f32>() / embeds.len() as f32;
        assert!(mean_square > 1e-3 && mean_square < 10.0, "{name}: {mean_square}");
    }
}
