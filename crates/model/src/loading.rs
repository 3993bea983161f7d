//! Loading: configurations, tensors by name and shape, their weight formats, and the linear layer that holds them.

pub(crate) mod config;
pub(crate) mod inventory;
pub(crate) mod json;
pub(crate) mod linear;
pub(crate) mod quantization_policy;
pub(crate) mod var_builder;
