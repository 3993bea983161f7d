//! Planning: memory, time and step slices of a generation, estimated from the configurations.

pub(crate) mod cost_model;
pub(crate) mod memory_plan;
pub(crate) mod slices;
