//! Metadata in the files of `pixart generate`: a request that gives the same pixels again.

use std::ops::ControlFlow;
use std::path::Path;

use pixart_companion::generate::GeneratedImage;
use pixart_companion::{ImageGenerator, LoadOptions};
use pixart_model::image;
use pixart_protocol::GenerateRequest;
use serde_json::Value;

/// Returns the JSON of a PNG file's metadata.
fn metadata(file: &[u8]) -> Value {
    let reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().expect("a PNG");
    let text = reader.info().utf8_text.iter().find(|text| text.keyword == image::METADATA_KEYWORD).expect("metadata");
    serde_json::from_str(&text.get_text().expect("UTF-8")).expect("JSON")
}

#[test]
fn every_image_of_a_request_is_generated_again_from_its_own_metadata() {
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/models/scenes");
    let generator = ImageGenerator::open(LoadOptions { checkpoint, ..LoadOptions::default() }).expect("it loads");
    let generate = |request: &GenerateRequest| -> Vec<GeneratedImage> {
        generator.generate(request, |_| ControlFlow::Continue(())).expect("a valid request")
    };
    let pixels = |image: &GeneratedImage| image::decode_image(&image.file).expect("a PNG");
    let several = GenerateRequest {
        seed: 7,
        num_images_per_prompt: 3,
        num_inference_steps: 3,
        width: Some(64),
        height: Some(64),
        ..GenerateRequest::of("a red circle")
    };
    for request in [
        several.clone(),
        // A scheduler that draws noise at every step.
        GenerateRequest { scheduler: Some("euler-a".into()), ..several.clone() },
        GenerateRequest { seeds: Some(vec![3, 1, 2]), ..several },
    ] {
        let images = generate(&request);
        assert_eq!(images.len(), 3);
        assert_ne!(pixels(&images[0]), pixels(&images[1]));
        for image in images {
            let read = serde_json::from_value(metadata(&image.file)["request"].clone()).expect("a request");
            let again = generate(&read);
            assert_eq!(again.len(), 1);
            assert_eq!(again[0].file, image.file, "{:?}", read.image_index);
        }
    }
}
