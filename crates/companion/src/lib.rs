//! PixArt outside the browser: the models of `pixart_model` on this computer's CPU or GPU. This library is used by the binary
//! `pixart` and by the tests; each subcommand is a function here that returns data or an [`Error`].
//!
//! Contract: one thread owns the device and the model.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//!
//! use pixart_companion::{ImageGenerator, LoadOptions};
//! use pixart_protocol::GenerateRequest;
//!
//! let options = LoadOptions { checkpoint: "web/models/scenes".into(), ..LoadOptions::default() };
//! let generator = ImageGenerator::open(options)?;
//! let request = GenerateRequest { seed: 7, ..GenerateRequest::of("a red circle on a blue background") };
//! let images = generator.generate(&request, |_| ControlFlow::Continue(()))?;
//! std::fs::write("out.png", &images[0].file)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod bench;
pub mod catalogue;
pub mod checkpoint;
pub mod compare;
pub mod components;
pub mod decode;
pub mod device;
pub mod doctor;
pub mod embeds;
mod encode;
mod error;
mod file_reader;
pub mod generate;
pub mod golden;
pub mod hub;
pub mod loras;
mod mapped_files;
pub mod pack;
pub mod prompts;
pub mod self_test;
pub mod serve;
pub mod synth;

pub use components::ComponentPaths;
pub use encode::{PromptEncoder, PromptEncoderOptions};
pub use error::Error;
pub use generate::{GenerationProgress, ImageGenerator, LoadOptions, PromptEmbedsSource, StopGeneration};
pub use loras::LoraPath;
pub use serve::{AppState, ModelInfo};
