//! Faults of the companion: files, devices, ports and recordings.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use pixart_companion::device::{self, DeviceSpec};
use pixart_companion::loras::read_lora;
use pixart_companion::pack::PackOptions;
use pixart_companion::serve::{self, AccessPolicy, ServeOptions, Server, Token, queue::Queue};
use pixart_companion::synth::{self, SynthScale};
use pixart_companion::{
    AppState, ComponentPaths, Error, ImageGenerator, LoadOptions, ModelInfo, PromptEncoder, PromptEncoderOptions,
    StopGeneration, checkpoint, compare, decode, embeds, pack, prompts,
};
use pixart_model::{WeightFormat, image::Rgb8};
use pixart_protocol::GenerateRequest;
use pixart_verify::recording::Recording;

use super::{ProvokedFault, folder};

fn scenes() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../web/models/scenes")
}

pub(super) fn faults() -> Vec<ProvokedFault> {
    let mut faults = file_faults();
    let mut add = |site: &'static str, error: Error| faults.push(ProvokedFault::new(site, error));
    add(
        "crates/companion/src/error.rs Error::NotInThisBuild",
        device::open(DeviceSpec::Vulkan).map(drop).expect_err("the tests are built without it"),
    );
    add(
        "crates/companion/src/error.rs Error::NotInThisBuild",
        device::open(DeviceSpec::Cuda(0)).map(drop).expect_err("the tests are built without it"),
    );
    let f16 = PromptEncoderOptions {
        checkpoint: scenes(),
        weight_format: Some(WeightFormat::F16),
        ..PromptEncoderOptions::default()
    };
    add("crates/companion/src/encode.rs load", PromptEncoder::open(&f16).map(drop).expect_err("f16 is too small"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address");
    let Err(Error::Listen { source, .. }) = runtime.block_on(serve::listen(address)) else {
        panic!("the port is taken")
    };
    let address = "127.0.0.1:7860".parse().expect("an address");
    add("crates/companion/src/error.rs Error::Listen", Error::Listen { address, source });
    let public = "0.0.0.0:7860".parse().expect("an address");
    let policy = AccessPolicy::new(public, None, &[]);
    add("crates/companion/src/error.rs Error::TokenRequired", policy.map(drop).expect_err("others can reach it"));
    let generator = ImageGenerator::open(LoadOptions { checkpoint: scenes(), ..LoadOptions::default() });
    let request =
        GenerateRequest { num_inference_steps: 1, width: Some(64), height: Some(64), ..GenerateRequest::of("a star") };
    let cancelled =
        generator.and_then(|generator| generator.generate(&request, |_| ControlFlow::Break(StopGeneration::Cancel)));
    add("crates/companion/src/error.rs Error::Cancelled", cancelled.map(drop).expect_err("it is cancelled"));
    let (first, second) = (recording(1), recording(2));
    add("crates/companion/src/compare.rs compare", compare::compare(&first, &second).map(drop).expect_err("two seeds"));
    faults.extend(crate::hub::faults().into_iter().map(|(site, fault)| ProvokedFault { site, fault }));
    let mut add = |site: &'static str, error: Error| faults.push(ProvokedFault::new(site, error));
    // These need a device or a disk that fails.
    for (site, error) in [
        ("crates/companion/src/error.rs Error::NoGpu", Error::NoGpu { why: "no adapter was found".to_owned() }),
        (
            "crates/companion/src/error.rs Error::Device",
            Error::Device { doing: "denoising", why: "the device was lost".to_owned() },
        ),
        ("crates/companion/src/error.rs Error::NotFinite", Error::NotFinite { value: f32::INFINITY, index: 3 }),
        ("crates/companion/src/error.rs Error::ThreadStopped", Error::ThreadStopped),
        (
            "crates/companion/src/error.rs Error::Write",
            Error::Write { path: "image.png".into(), source: io::ErrorKind::PermissionDenied.into() },
        ),
        ("crates/companion/src/error.rs Error::Print", Error::Print { source: io::ErrorKind::StorageFull.into() }),
        (
            "crates/companion/src/error.rs Error::BadGoldens",
            Error::BadGoldens { path: "goldens".into(), why: "it has no sub-folder".to_owned() },
        ),
    ] {
        add(site, error);
    }
    faults
}

fn recording(seed: u32) -> Recording {
    Recording {
        request: GenerateRequest { seed, ..GenerateRequest::of("a star") },
        device: "cpu".to_owned(),
        embeds: (vec![1], vec![0.0]),
        mask: (vec![1], vec![1.0]),
        latents: Vec::new(),
        picture: Rgb8 { width: 1, height: 1, bytes: vec![0; 3] },
    }
}

fn file_faults() -> Vec<ProvokedFault> {
    let folder = folder();
    let text = folder.join("notes.txt");
    fs::write(&text, "no token").expect("a temporary file");
    let mut faults = Vec::new();
    let mut add = |site: &'static str, error: Error| faults.push(ProvokedFault::new(site, error));
    let refused = |path: &Path| read_lora(path, 1.0).map(drop).expect_err("there is none");
    add("crates/companion/src/error.rs Error::Read", refused(&folder.join("missing")));
    let several = folder.join("loras");
    fs::create_dir_all(&several).expect("a temporary folder");
    for name in ["a.safetensors", "b.safetensors"] {
        fs::write(several.join(name), "not read").expect("a temporary file");
    }
    add("crates/companion/src/loras.rs choose", refused(&several));
    let empty = folder.join("empty");
    fs::create_dir_all(&empty).expect("a temporary folder");
    add("crates/companion/src/loras.rs choose", refused(&empty));
    let empty = checkpoint::read(&empty, &[]);
    add("crates/companion/src/error.rs Error::NotACheckpoint", empty.map(drop).expect_err("it is empty"));
    let list = prompts::parse(Path::new("prompts.json"), b"[]");
    add("crates/companion/src/error.rs Error::BadPrompts", list.map(drop).expect_err("it is empty"));
    let file = embeds::read(Path::new("embeds.safetensors"), b"PK");
    add("crates/companion/src/error.rs Error::BadEmbeds", file.map(drop).expect_err("an archive"));
    let short = Token::read(&text).map(drop);
    add("crates/companion/src/error.rs Error::TokenTooShort", short.expect_err("eight characters"));
    let minute = Duration::from_secs(60);
    let options = ServeOptions {
        page: Some(folder.clone()),
        access_policy: AccessPolicy::default(),
        model_aliases: Vec::new(),
        request_timeout: minute,
        shutdown_timeout: minute,
    };
    let (queue, _) = Queue::start(1, || Err::<(AppState, ModelInfo), _>(Error::ThreadStopped));
    let page = Server::new(queue).router(&options);
    add("crates/companion/src/error.rs Error::NotAPage", page.map(drop).expect_err("it has no page"));
    let latents = embeds::write_tensor("latents", &[1, 3, 8, 8], &[0.0; 192]);
    let decoded = decode::decode(&scenes(), DeviceSpec::Cpu, Path::new("latents.safetensors"), latents);
    add("crates/companion/src/decode.rs decode", decoded.map(drop).expect_err("three channels"));
    let mut whole = checkpoint::read(&scenes(), &[]).expect("the embedded checkpoint");
    let variant = checkpoint::set_variant(&mut whole, Some("fp16"));
    add("crates/companion/src/checkpoint.rs set_variant", variant.expect_err("it has none"));
    let to = folder.join("packed");
    let _ = fs::remove_dir_all(&to);
    let options = PackOptions {
        from: scenes(),
        config: None,
        variant: None,
        components: ComponentPaths::default(),
        to: to.clone(),
        weight_format: WeightFormat::Q8,
        shard_bytes: 64 << 20,
        license: None,
        source: None,
    };
    pack::pack(&options, |_| {}).expect("it is packed");
    let mut packed = checkpoint::read(&to, &[]).expect("it was just packed");
    let replaced = checkpoint::replace_transformer(&mut packed, &text);
    add("crates/companion/src/checkpoint.rs replace_transformer", replaced.expect_err("a packed checkpoint"));
    let vae = |path: &Path| ComponentPaths { vae: Some(path.to_owned()), ..ComponentPaths::default() };
    let replaced = vae(&text).mount(&mut packed);
    add("crates/companion/src/components.rs mount", replaced.expect_err("a packed checkpoint"));
    let empty = folder.join("empty");
    fs::create_dir_all(&empty).expect("it is created");
    let replaced = vae(&empty).mount(&mut whole);
    add("crates/companion/src/components.rs mount_folder", replaced.expect_err("an empty folder"));
    let unknown = synth::synth_published("pixart-omega", &[], SynthScale::Tiny, 0, &empty);
    add("crates/companion/src/synth/published.rs synth_published", unknown.expect_err("there is none"));
    faults
}
