//! Checkpoints by their name on a hub.

use std::fs;
use std::path::{Path, PathBuf};

use pixart_companion::hub::{Hub, Selection, fetch_from, fetch_loras_from, model_name};
use pixart_companion::{ComponentPaths, Error, ImageGenerator, LoadOptions, LoraPath};
use pixart_protocol::{Fault, FaultCode};

use crate::local_hub::{HubFiles, HubState, LocalHub, TOKEN};
use crate::packed::Scratch;

fn scenes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/models/scenes")
}

/// The files of the embedded checkpoint, and what a repository has beside them.
fn published() -> HubFiles {
    let mut files = Vec::new();
    for dir in ["", "scheduler/", "text_encoder/", "tokenizer/", "transformer/", "vae/"] {
        for entry in fs::read_dir(scenes().join(dir)).expect("the embedded checkpoint") {
            let path = entry.expect("a file").path();
            if path.is_file() {
                let name = path.file_name().expect("a name").to_string_lossy().into_owned();
                files.push((format!("{dir}{name}"), fs::read(&path).expect("a file")));
            }
        }
    }
    for unread in
        ["vae/diffusion_pytorch_model.bin", "vae/diffusion_pytorch_model.fp16.safetensors", "text_encoder/model.onnx"]
    {
        files.push((unread.to_owned(), b"not read".to_vec()));
    }
    files
}

fn fetch(hub: &Hub, name: &str, components: &ComponentPaths) -> Result<(PathBuf, ComponentPaths), Error> {
    fetch_from(hub, Path::new(name), components, Selection::default(), &mut |_, _| ())
}

fn fault(result: Result<(PathBuf, ComponentPaths), Error>) -> Fault {
    result.expect_err("it cannot be fetched").into()
}

#[test]
fn a_checkpoint_is_fetched_by_its_name_small_files_first_and_once() {
    let (hub, scratch) = (LocalHub::start(HubState::of(published())), Scratch::new("hub"));
    let client = hub.client(scratch.path(), Some(TOKEN));
    let (root, _) = fetch(&client, "owner/name", &ComponentPaths::default()).expect("it is there");
    assert_eq!(model_name(&root), "owner/name");
    let log = hub.log();
    assert!(!log.iter().any(|line| line.contains(".bin") || line.contains("fp16") || line.contains("onnx")), "{log:?}");
    assert!(!log.iter().any(|line| line.contains("example.png")), "{log:?}");
    let first_weights = log.iter().position(|line| line.contains(".safetensors")).expect("weights");
    let last_small = log.iter().rposition(|line| line.contains(".json") || line.contains("spiece.model"));
    assert!(last_small < Some(first_weights), "{log:?}");
    for (path, bytes) in published() {
        if let Ok(fetched) = fs::read(root.join(&path)) {
            assert_eq!(fetched, bytes, "{path}");
        }
    }
    ImageGenerator::open(LoadOptions { checkpoint: root.clone(), ..LoadOptions::default() }).expect("a checkpoint");
    assert_eq!(fetch(&client, "owner/name@main", &ComponentPaths::default()).expect("it is there").0, root);
    assert_eq!(hub.log(), ["GET /api/models/owner/name/revision/main"]);
    let offline = Hub::new("http://127.0.0.1:1".to_owned(), scratch.path().to_owned(), None, false);
    assert_eq!(fetch(&offline, "owner/name", &ComponentPaths::default()).expect("it is in the cache").0, root);
}

#[test]
fn a_broken_transfer_goes_on_where_it_stopped_with_a_new_signature() {
    let files =
        vec![("vae/m.safetensors".to_owned(), (0..3_000_000_u32).map(|index| index as u8).collect::<Vec<u8>>())];
    let hub = LocalHub::start(HubState { cuts: 2, ..HubState::of(files.clone()) });
    let scratch = Scratch::new("hub-broken");
    let components = ComponentPaths { vae: Some("owner/name/vae/m.safetensors".into()), ..ComponentPaths::default() };
    let client = hub.client(scratch.path(), None);
    let (_, found) = fetch(&client, ".", &components).expect("it is there");
    assert_eq!(fs::read(found.vae.expect("a file")).expect("a file"), files[0].1);
    let log = hub.log();
    let starts: Vec<Option<&str>> = log
        .iter()
        .filter(|line| !line.contains("/owner/name/") && line.starts_with("GET"))
        .map(|line| line.rsplit_once(' ').and_then(|(_, range)| range.strip_suffix('-')))
        .collect();
    assert_eq!(starts, [None, Some("1500000"), Some("2250000")], "{log:?}");
    assert_eq!(hub.state.lock().expect("no test panicked").used.len(), 3);
}

#[test]
fn a_refused_or_missing_file_is_named_with_what_to_do() {
    let hub = LocalHub::start(HubState { is_gated: true, ..HubState::of(published()) });
    let scratch = Scratch::new("hub-refused");
    let none = ComponentPaths::default();
    let gated = fault(fetch(&hub.client(scratch.path(), None), "owner/name", &none));
    assert_eq!(gated.code, FaultCode::BadRequest);
    assert!(gated.what.contains("owner/name at main (status 401)"), "{}", gated.what);
    assert!(gated.remedy.contains("set HF_TOKEN"), "{}", gated.remedy);
    let client = hub.client(scratch.path(), Some(TOKEN));
    fetch(&client, "owner/name", &none).expect("the token is accepted, and sent to no other host");
    let missing = fault(fetch(&client, "owner/name@v2", &none));
    assert!(missing.what.contains("owner/name at v2 (status 404)"), "{}", missing.what);
}

#[test]
fn a_lora_is_fetched_by_its_name_with_peft_s_configuration() {
    let file = |path: &str| (path.to_owned(), path.as_bytes().to_vec());
    let names =
        ["a.safetensors", "b.safetensors", "peft/adapter_model.safetensors", "peft/adapter_config.json", "x.png"];
    let files = names.into_iter().map(file).collect();
    let (hub, scratch) = (LocalHub::start(HubState::of(files)), Scratch::new("hub-lora"));
    let client = hub.client(scratch.path(), None);
    let fetch = |place: &str| {
        let lora = LoraPath { path: place.into(), scale: 0.5 };
        fetch_loras_from(&client, &[lora], &mut |_, _| ()).map(|mut loras| loras.remove(0))
    };
    for (place, file) in [
        ("owner/name/b.safetensors", "b.safetensors"),
        ("https://huggingface.co/owner/name/blob/main/a.safetensors", "a.safetensors"),
        ("owner/name@main/peft", "peft/adapter_model.safetensors"),
    ] {
        let LoraPath { path, scale } = fetch(place).expect(place);
        assert_eq!((fs::read(&path).expect("a file"), scale), (file.as_bytes().to_vec(), 0.5), "{place}");
        assert_eq!(path.with_file_name("adapter_config.json").is_file(), place.ends_with("/peft"), "{place}");
    }
    let several: Fault = fetch("owner/name").expect_err("which one?").into();
    assert!(several.what.contains("`a.safetensors` and `b.safetensors`"), "{}", several.what);
    assert_eq!(several.remedy, "name one of them, as `owner/name/a.safetensors`");
    let local = scratch.path().join("local.safetensors");
    assert_eq!(fetch(local.to_str().expect("UTF-8")).expect("it is not looked at").path, local);
}

#[test]
fn a_checkpoint_without_a_tokenizer_is_refused_before_a_weight_is_fetched() {
    let files = published().into_iter().filter(|(path, _)| !path.starts_with("tokenizer/")).collect();
    let (hub, scratch) = (LocalHub::start(HubState::of(files)), Scratch::new("hub-tokenizer"));
    let refused = fault(fetch(&hub.client(scratch.path(), None), "owner/name", &ComponentPaths::default()));
    assert_eq!(refused.code, FaultCode::BadWeights);
    assert!(refused.what.contains("tokenizer/spiece.model"), "{}", refused.what);
    assert_eq!(hub.log(), ["GET /api/models/owner/name/revision/main"]);
}

/// The faults of the hub, for the error catalogue.
pub(crate) fn faults() -> Vec<(&'static str, Fault)> {
    let files = published().into_iter().filter(|(path, _)| !path.starts_with("tokenizer/")).collect();
    let (hub, scratch) = (LocalHub::start(HubState::of(files)), Scratch::new("hub-faults"));
    let client = hub.client(scratch.path(), None);
    let offline = Hub::new(hub.endpoint.clone(), scratch.path().join("empty"), None, true);
    let none = ComponentPaths::default();
    let lacks = fault(fetch(&client, "owner/name", &none));
    let missing = fault(fetch(&client, "owner/name@v2", &none));
    hub.state.lock().expect("no test panicked").is_gated = true;
    vec![
        ("crates/companion/src/hub/address.rs lacks", lacks),
        ("crates/companion/src/hub/client.rs unreachable", fault(fetch(&offline, "owner/name", &none))),
        ("crates/companion/src/hub/client.rs refused", fault(fetch(&client, "owner/name", &none))),
        ("crates/companion/src/hub/client.rs refused", missing),
    ]
}
