//! One binary for the tests that need more than one crate: the golden variants on every native device, the companion
//! over HTTP, the pipeline with the embedded checkpoint, and the dependencies of the crates.

#![expect(clippy::print_stdout, reason = "tests name the adapter they ran on, and what they did not run")]

mod catalogue;
mod checkpoints;
mod companion;
mod companion_access;
mod companion_border;
mod companion_openai;
mod companion_sdapi;
mod components;
mod errors;
mod examples;
mod goldens;
mod gpu;
mod hub;
mod layout;
mod local_hub;
mod loras;
mod metadata;
mod packaging;
mod packed;
mod pipeline;
mod requests;
mod validation;
