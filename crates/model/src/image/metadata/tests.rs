//! Metadata as this project, and as AUTOMATIC1111's web UI reads them.

use super::*;

fn metadata() -> GenerationMetadata {
    GenerationMetadata {
        version: "0.1.0".into(),
        device: "cpu".into(),
        model: "scenes".into(),
        model_hash: Some("0123456789".into()),
        weight_format: WeightFormat::Q8,
        scheduler: "euler".into(),
        loras: Vec::new(),
        transformer: None,
        vae: None,
        text_encoder: None,
        files: Vec::new(),
    }
}

fn image() -> Rgb8 {
    Rgb8 { width: 2, height: 1, bytes: vec![7; 6] }
}

/// Returns the text of this keyword in a PNG file.
fn text(file: &[u8], keyword: &str) -> String {
    let reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().expect("decodes");
    let found = reader.info().utf8_text.iter().find(|text| text.keyword == keyword).expect("it is there");
    found.get_text().expect("UTF-8")
}

#[test]
fn a_png_holds_its_request_without_the_input_image() {
    let metadata = metadata();
    let request = GenerateRequest {
        id: 9,
        negative_prompt: "blur".into(),
        seed: 7,
        scheduler: Some("euler:use_karras_sigmas=true".into()),
        image: Some(vec![1]),
        strength: Some(0.5),
        text_encoder: TextEncoderSource::Companion { url: "http://a".into(), token: Some("secret".into()) },
        ..GenerateRequest::of("ein Löwe, 日本")
    };
    let file = metadata.encode_png(&image(), &request).expect("encodes");
    let parameters = "ein Löwe, 日本\nNegative prompt: blur\nSteps: 20, Sampler: euler, CFG scale: 4.5, Seed: 7, Size: 2x1, \
                      Model hash: 0123456789, Model: scenes, Scheduler options: use_karras_sigmas=true, \
                      Denoising strength: 0.5, Version: pixart-web 0.1.0";
    assert_eq!(text(&file, "parameters"), parameters);
    let json: Value = serde_json::from_str(&text(&file, METADATA_KEYWORD)).expect("JSON");
    let again: GenerateRequest = serde_json::from_value(json["request"].clone()).expect("a request");
    assert_eq!(again, GenerateRequest { id: 0, image: None, text_encoder: TextEncoderSource::Tab, ..request });
    assert_eq!(
        serde_json::from_value::<GenerationMetadata>(json["generated_by"].clone()).expect("metadata"),
        GenerationMetadata { files: vec!["image".into()], ..metadata }
    );
    assert!(!String::from_utf8_lossy(&file).contains("secret"));
}

#[test]
fn a_variation_is_named_as_in_a1111() {
    let varied =
        GenerateRequest { variation_seed: Some(9), variation_strength: Some(0.25), ..GenerateRequest::of("a") };
    let parameters = metadata().parameters(&image(), &varied);
    let fields = "Model: scenes, Variation seed: 9, Variation seed strength: 0.25, Version";
    assert!(parameters.contains(fields), "{parameters}");
}

#[test]
fn a_second_pass_is_named_as_in_a1111() {
    let image = Rgb8 { width: 96, height: 64, bytes: vec![0; 96 * 64 * 3] };
    let twice = GenerateRequest { hires_scale: Some(2.0), hires_steps: Some(8), ..GenerateRequest::of("a") };
    let parameters = metadata().parameters(&image, &twice);
    let fields = "Denoising strength: 0.7, Hires upscale: 2, Hires steps: 8, Hires upscaler: Lanczos, Version";
    assert!(parameters.contains(fields) && parameters.contains(", Size: 48x32, "), "{parameters}");
}

#[test]
fn metadata_without_the_newer_fields_are_read() {
    let json = r#"{"version": "0.1.0", "device": "cpu", "model": "scenes", "model_hash": "0123456789", "precision": "q8",
        "scheduler": "euler"}"#;
    assert_eq!(serde_json::from_str::<GenerationMetadata>(json).expect("metadata"), metadata());
}

#[test]
fn every_file_that_an_image_was_generated_from_is_named_once() {
    let known = GenerationMetadata { files: vec!["text_encoder".into()], ..metadata() };
    let request = GenerateRequest {
        image: Some(vec![]),
        mask_image: Some(vec![]),
        text_encoder: TextEncoderSource::File { bytes: vec![] },
        ..GenerateRequest::of("a")
    };
    assert_eq!(known.files_of(&request), ["text_encoder", "image", "mask_image"]);
    assert_eq!(
        metadata().files_of(&GenerateRequest { latents: Some(vec![]), ..GenerateRequest::of("a") }),
        ["latents"]
    );
}

/// `parse_generation_parameters` of AUTOMATIC1111's `modules/infotext_utils.py`: prompt, negative prompt, and the fields of the last
/// line.
fn read_by_a1111(text: &str) -> (String, String, Vec<(String, String)>) {
    let field = fancy_regex::Regex::new(r#"\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)"#).expect("a pattern");
    let (lines, last) = text.trim().rsplit_once('\n').expect("several lines");
    let (mut prompt, mut negative) = (Vec::new(), Vec::new());
    for line in lines.split('\n').map(str::trim) {
        match line.strip_prefix("Negative prompt:") {
            Some(first) => negative.push(first.trim()),
            None if negative.is_empty() => prompt.push(line),
            None => negative.push(line),
        }
    }
    let unquoted = |value: &str| match value.starts_with('"') && value.ends_with('"') {
        true => serde_json::from_str(value).unwrap_or_else(|_| value.to_owned()),
        false => value.to_owned(),
    };
    let fields = field.captures_iter(last).map(|found| {
        let found = found.expect("matches");
        (found[1].to_owned(), unquoted(&found[2]))
    });
    (prompt.join("\n"), negative.join("\n"), fields.collect())
}

#[test]
fn names_with_any_characters_are_read_back_by_a1111() {
    let parts = [
        "a", ", ", ": ", "\"", "\\", "\n", " ", "\t", "=", "\u{2028}", "ö", "Steps: 9", "\\n", "x\"", "日本", "\u{7f}",
    ];
    // Every pair and triple of parts.
    let triples = parts.iter().flat_map(|one| parts.iter().map(move |two| (one, two)));
    let names = triples.flat_map(|(one, two)| ["", "b", "\"", " ", ","].map(|three| format!("{one}{two}{three}")));
    for name in names {
        let named = GenerationMetadata {
            model: name.clone(),
            scheduler: name.clone(),
            loras: vec![LoraScale { name: name.clone(), scale: 0.5 }, LoraScale { name: "b".into(), scale: 1.0 }],
            ..metadata()
        };
        let request = GenerateRequest {
            negative_prompt: "blur,\nugly: very".into(),
            scheduler: Some(format!("euler:{name}")),
            style: Some(name.clone()),
            num_images_per_prompt: 2,
            image_index: Some(1),
            ..GenerateRequest::of("one: \"two\",\nthree")
        };
        let (prompt, negative, fields) = read_by_a1111(&named.parameters(&image(), &request));
        assert_eq!((prompt.as_str(), negative.as_str()), ("one: \"two\",\nthree", "blur,\nugly: very"));
        let expected = [
            ("Steps", "20"),
            ("Sampler", &name),
            ("CFG scale", "4.5"),
            ("Seed", "0"),
            ("Size", "2x1"),
            ("Model hash", "0123456789"),
            ("Model", &name),
            ("Scheduler options", &name),
            ("Style", &name),
            ("LoRA", &format!("{name}: 0.5, b: 1")),
            ("Batch size", "2"),
            ("Batch pos", "1"),
            ("Version", "pixart-web 0.1.0"),
        ];
        let fields: Vec<(&str, &str)> = fields.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(fields, expected, "{name}");
    }
}

#[test]
fn a_field_without_a_value_is_left_out() {
    let unnamed = GenerationMetadata { model: String::new(), model_hash: None, ..metadata() };
    let parameters = unnamed.parameters(&image(), &GenerateRequest::of("a"));
    assert_eq!(
        parameters,
        "a\nSteps: 20, Sampler: euler, CFG scale: 4.5, Seed: 0, Size: 2x1, Version: pixart-web 0.1.0"
    );
}
