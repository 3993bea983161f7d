//! Planning: memory, time and step slices of a generation, estimated from the configurations.

pub(crate) mod cost_model;
pub(crate) mod inventory;
pub(crate) mod mac_count;
pub(crate) mod memory_plan;
pub(crate) mod slices;
pub(crate) mod vae_footprint;
