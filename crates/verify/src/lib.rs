//! Checks of the model: against tensors recorded from diffusers ([`golden`]), and of a device against another one
//! ([`operations`], [`recording`]). It reads no file and opens no device: the caller brings folders and devices.

mod architecture;
pub mod golden;
pub mod operations;
mod panics;
pub mod recording;
pub mod report;

pub use architecture::Architecture;
pub use panics::catch_panics;
