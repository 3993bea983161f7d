//! PixArt's networks and its sampler: tensors in, tensors out. Nothing here reads a file, a clock or a socket, and
//! nothing picks a device: the caller brings a [`pixart_weights::Folder`] and a `burn` device, and reads results back
//! when it wants to.
//!
//! Shape letters used throughout: B batch, T tokens, L caption tokens, C channels, N attention heads, D channels of one
//! head, H and W rows and columns.

mod architecture;
mod bins;
mod caption;
mod config;
mod dit;
mod embeddings;
mod error;
mod form;
pub mod golden;
pub mod image;
mod inventory;
mod linear;
mod noise;
mod params;
mod pipeline;
mod plan;
mod preview;
mod prewarm;
pub mod recording;
mod schedulers;
pub mod self_test;
mod slices;
mod t5;
mod taps;
#[cfg(test)]
mod testing;
mod tokenizer;
mod trial;
mod vae;
mod warm_up;
mod workload;

pub use architecture::Architecture;
pub use caption::{clean_caption, normalize_caption};
pub use dit::{Conditioning, Dit, MicroConditions};
pub use embeddings::read_prompt_embeds;
pub use error::Error;
pub use form::form;
pub use noise::randn;
pub use pipeline::{
    GuidanceConfig, InitLatents, Painter, Pipeline, PromptEmbeds, Sampler, SamplerProgress, StepOutput, TextEncoder,
    caption_rows, captions_of, preset_of,
};
pub use pixart_kernels::{KernelVariant, LaunchCounts, WeightFormat, count_launches};
pub use plan::{
    CfgBatching, DecodeMode, DeviceLimits, LatentBatch, MemoryPlan, Planner, recommended_weight_format,
    text_encoder_bytes,
};
pub use preview::Preview;
pub use prewarm::prewarm;
pub use schedulers::{
    DrawNoise, SCHEDULERS, Scheduler, SchedulerConfig, SchedulerOptions, SchedulerState, Steps,
    names as scheduler_names,
};
pub use slices::SliceController;
pub use t5::T5;
pub use taps::Taps;
pub use tokenizer::{CaptionTokenizer, TokenizedCaption};
pub use trial::{CostProbe, MacCount};
pub use vae::{DiagonalGaussian, Tiling, Vae, VaeDecoder, VaeEncoder};
pub use warm_up::PrewarmKernel;
pub use workload::Workload;
