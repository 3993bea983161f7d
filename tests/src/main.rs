//! One binary for the tests that need more than one crate: the golden variants on every native device, the companion
//! over HTTP, and the map of the crates.

mod companion;
mod goldens;
mod layout;
