//! PixArt outside the browser: the models of `pixart_model` on this computer's CPU or GPU. This library is used by the binary
//! `pixart` and by the tests; each subcommand is a function here that returns data or an [`Error`].
//!
//! Contract: one thread owns the device and the model.

pub mod bench;
pub mod checkpoint;
pub mod compare;
pub mod decode;
pub mod device;
pub mod doctor;
pub mod embeds;
pub mod encode;
mod error;
pub mod generate;
pub mod golden;
pub mod pack;
pub mod prompts;
pub mod self_test;
pub mod serve;
pub mod synth;

pub use encode::{PromptEncoder, PromptEncoderOptions};
pub use error::Error;
pub use generate::{ImageGenerator, LoadOptions, PromptEmbedsSource, StepProgress};
pub use serve::{AppState, ModelInfo};
