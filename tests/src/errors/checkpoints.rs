//! Faults of files: of a checkpoint, of tensors, and of configurations.

use futures_lite::future::block_on;
use pixart_companion::device::{self, DeviceSpec};
use pixart_model::Pipeline;
use pixart_weights::{Dtype, Error, Folder, Manifest, Weights, serialize_tensors};

use super::ProvokedFault;
use crate::pipeline::scenes;

const FILE: &str = "transformer/diffusion_pytorch_model.safetensors";

/// Returns the place of an error's text.
fn site(error: &Error) -> &'static str {
    match error {
        Error::MissingFile { .. } => "crates/weights/src/error.rs Error::MissingFile",
        Error::Ambiguous { .. } => "crates/weights/src/error.rs Error::Ambiguous",
        Error::NotInMemory { .. } => "crates/weights/src/error.rs Error::NotInMemory",
        Error::Unreadable { .. } => "crates/weights/src/error.rs Error::Unreadable",
        Error::Unwritable { .. } => "crates/weights/src/error.rs Error::Unwritable",
        Error::TooLargeForF16 { .. } => "crates/weights/src/error.rs Error::TooLargeForF16",
        Error::Truncated { .. } => "crates/weights/src/error.rs Error::Truncated",
        Error::Corrupt { .. } => "crates/weights/src/error.rs Error::Corrupt",
        Error::BadJson { .. } => "crates/weights/src/error.rs Error::BadJson",
        Error::MissingKey { .. } => "crates/weights/src/error.rs Error::MissingKey",
        Error::Unsupported { .. } => "crates/weights/src/error.rs Error::Unsupported",
        Error::LoraDoesNotFit { .. } => "crates/weights/src/error.rs Error::LoraDoesNotFit",
        Error::LoraOfAnotherNetwork { .. } => "crates/weights/src/error.rs Error::LoraOfAnotherNetwork",
        Error::MissingTensor { .. } => "crates/weights/src/error.rs Error::MissingTensor",
        Error::WrongShape { .. } => "crates/weights/src/error.rs Error::WrongShape",
        Error::WrongDtype { .. } => "crates/weights/src/error.rs Error::WrongDtype",
        Error::NotFinite { .. } => "crates/weights/src/error.rs Error::NotFinite",
    }
}

fn holding(bytes: Vec<u8>) -> Folder {
    let mut folder = Folder::default();
    folder.insert(FILE, bytes);
    folder
}

/// A safetensors file with the tensor `proj_out.weight` `[1, 64]` of these values.
fn tensor(values: &[f32; 64]) -> Vec<u8> {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    serialize_tensors(vec![("proj_out.weight".to_owned(), Dtype::F32, vec![1, 64], bytes)], Default::default())
}

fn with(index: usize, value: f32) -> Vec<u8> {
    let mut values = [0.0; 64];
    values[index] = value;
    tensor(&values)
}

/// A folder of a LoRA with these tensors of zeros.
fn lora(tensors: &[(&str, [usize; 2])]) -> Folder {
    let tensor = |(name, shape): &(&str, [usize; 2])| {
        ((*name).to_owned(), Dtype::F16, shape.to_vec(), vec![0; shape[0] * shape[1] * 2])
    };
    let mut folder = Folder::default();
    folder.insert("style.safetensors", serialize_tensors(tensors.iter().map(tensor).collect(), Default::default()));
    folder
}

/// Returns the errors of LoRAs that cannot be merged rightly.
fn lora_errors() -> Vec<Error> {
    let refused = |tensors: &[(&str, [usize; 2])]| lora(tensors).read_lora(1.0).map(drop).expect_err("it is refused");
    let mut unknown_kind = lora(&[("proj_out.lora_A.weight", [4, 64])]);
    unknown_kind.insert("adapter_config.json", br#"{"peft_type": "OFT"}"#.to_vec());
    let fitting = |module: &str, [outputs, inputs]: [usize; 2]| {
        let names = ["lora_A", "lora_B"].map(|part| format!("{module}.{part}.weight"));
        let adapter = lora(&[(&names[0], [4, inputs]), (&names[1], [outputs, 4])]).read_lora(1.0).expect("it is read");
        let mut folder = holding(tensor(&[0.0; 64]));
        folder.insert_lora("transformer", adapter);
        block_on(Weights::open(&folder, "transformer", "diffusion_pytorch_model"))
            .map(drop)
            .expect_err("no such weight")
    };
    vec![
        unknown_kind.read_lora(1.0).map(drop).expect_err("another kind"),
        refused(&[("transformer.proj_out.oft_R.weight", [1, 64])]),
        refused(&[("lora_unet_head.lora_up.weight", [1, 64])]),
        refused(&[("proj_out.lora_A.weight", [4, 64]), ("proj_out.lora_B.weight", [32, 8])]),
        refused(&[("lora_unet_down_blocks_0_attentions_0_proj_in.lora_up.weight", [320, 4])]),
        refused(&[("transformer.single_transformer_blocks.0.proj_out.lora_B.weight", [3072, 16])]),
        fitting("transformer_blocks.28.attn1.to_q", [1152, 1152]),
        fitting("proj_out", [32, 1152]),
    ]
}

pub(super) fn faults() -> Vec<ProvokedFault> {
    let mut errors = vec![
        Folder::default().bytes("vae/config.json").map(drop).expect_err("an empty folder"),
        Manifest::read(b"<html>").map(drop).expect_err("a page"),
        holding(b"<!doctype html>".to_vec()).tensors(FILE).map(drop).expect_err("a page"),
        holding(tensor(&[0.0; 64])[..300].to_vec()).tensors(FILE).map(drop).expect_err("it is cut"),
    ];
    let of_weights = |bytes: Vec<u8>, read: &dyn Fn(&Weights) -> Error| {
        let folder = holding(bytes);
        read(&block_on(Weights::file(&folder, FILE)).expect("a valid header"))
    };
    let f32_of = |name: &'static str, shape: &'static [usize]| {
        move |weights: &Weights| block_on(weights.f32(name, shape)).expect_err("it is refused")
    };
    errors.push(of_weights(tensor(&[0.0; 64]), &f32_of("pos_embed", &[1])));
    errors.push(of_weights(tensor(&[0.0; 64]), &f32_of("proj_out.weight", &[2, 64])));
    errors.push(of_weights(with(3, f32::NAN), &f32_of("proj_out.weight", &[1, 64])));
    let integers = vec![("proj_out.weight".to_owned(), Dtype::I64, vec![1], vec![0; 8])];
    errors.push(of_weights(serialize_tensors(integers, Default::default()), &f32_of("proj_out.weight", &[1])));
    let mut several = Folder::default();
    several.insert("text_encoder/t5-q4.gguf", Vec::new());
    several.insert("text_encoder/t5-q8.gguf", Vec::new());
    errors.push(block_on(Weights::open(&several, "text_encoder", "model")).map(drop).expect_err("either"));
    errors.extend(lora_errors());
    // These need a disk that fails.
    let file = FILE.to_owned();
    errors.extend([
        Error::TooLargeForF16 { file: file.clone(), tensor: "proj_out.weight".to_owned(), value: 1e6 },
        Error::NotInMemory { file: file.clone() },
        Error::Unreadable { file: file.clone(), why: "permission denied".to_owned() },
        Error::Unwritable { file: file.clone(), why: "the disk is full".to_owned() },
        Error::MissingKey { file: "model.safetensors.index.json".to_owned(), key: "weight_map".to_owned() },
    ]);
    let mut faults: Vec<ProvokedFault> =
        errors.into_iter().map(|error| ProvokedFault::new(site(&error), pixart_model::Error::Weights(error))).collect();

    let opened = device::open(DeviceSpec::Cpu).expect("the CPU is always there");
    let mut folder = scenes();
    folder.insert("scheduler/scheduler_config.json", br#"{"beta_schedule": "cubic"}"#.to_vec());
    let config = block_on(Pipeline::load(&folder, &opened.device, opened.limits, None)).map(drop);
    faults.push(ProvokedFault::new("crates/model/src/error.rs Error::Config", config.expect_err("it is unknown")));
    let mut folder = scenes();
    folder.insert("tokenizer/tokenizer.json", b"{}".to_vec());
    let pipeline = block_on(Pipeline::load(&folder, &opened.device, opened.limits, None)).expect("it loads");
    let tokenizer = block_on(pipeline.load_text_encoder(&folder)).expect_err("it has no model");
    faults.push(ProvokedFault::new("crates/model/src/error.rs Error::Tokenizer", tokenizer));
    faults
}
