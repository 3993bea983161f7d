//! PixArt outside the browser: the same model code on this computer's processor or GPU. A library for the binary
//! `pixart` and for the tests; every road of the binary is a function here that returns data or an [`Error`].
//!
//! Contract: one thread owns the device and the model. It listens on the loopback interface only.

pub mod bench;
mod cache;
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
pub mod queue;
pub mod self_test;
pub mod serve;
pub mod studio;
pub mod synth;

pub use encode::{Encoder, TextOpening};
pub use error::Error;
pub use generate::{Generator, Opening, Progress, TextFrom};
pub use studio::{About, Studio};
