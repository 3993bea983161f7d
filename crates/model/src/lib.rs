//! PixArt's networks and its sampler: tensors in, tensors out. Nothing here reads a file, a clock or a socket, and
//! nothing picks a device: the caller brings a [`pixart_weights::Folder`] and a `burn` device, and reads results back
//! when it wants to.
//!
//! Shape letters used throughout: B batch, T tokens, L caption tokens, C channels, N attention heads, D channels of one
//! head, H and W rows and columns.

mod compare;
mod error;
pub mod image;
mod loading;
mod noise;
mod pipeline;
mod planning;
mod prewarm;
mod readback;
mod schedulers;
mod taps;
#[cfg(test)]
mod testing;
mod text;
mod transformer;
mod vae;
mod workload;

pub use compare::{Comparison, compare};
pub use error::Error;
pub use image::Preview;
pub use loading::quantization_policy::quantization_policy;
pub use loading::var_builder::tensor_from_file;
pub use noise::{Noise, randn};
pub use pipeline::{
    Batch, GuidanceConfig, Pipeline, PreparedRequest, PromptEmbeds, Sampler, SamplerProgress, StepOutput, TextEncoder,
    TextEncoding, preset_of,
};
pub use pixart_kernels::{KernelVariant, LaunchCounts, WeightFormat, count_launches};
pub use planning::cost_model::CostProbe;
pub use planning::inventory::tensor_inventory;
pub use planning::mac_count::MacCount;
pub use planning::memory_plan::{
    CfgBatching, DeviceLimits, LatentBatch, MemoryPlan, Planner, recommended_weight_format, text_encoder_memory,
};
pub use planning::slices::SliceController;
pub use prewarm::kernels::PrewarmKernel;
pub use prewarm::prewarm;
pub use readback::values_read;
pub use schedulers::{
    DrawNoise, SCHEDULERS, Scheduler, SchedulerConfig, SchedulerOptions, SchedulerState, Steps,
    names as scheduler_names,
};
pub use taps::Taps;
pub use text::caption::{clean_caption, normalize_caption};
pub use text::encoded_prompt::EncodedPrompt;
pub use text::prompt_embeds::read_prompt_embeds;
pub use text::t5::{T5, T5Forward};
pub use text::tokenizer::{CaptionTokenizer, TokenizedCaption};
pub use text::weighting::{encoder_rows, weighted_caption};
pub use transformer::{Conditioning, Dit, MicroConditions};
pub use vae::{DecodeMode, DiagonalGaussian, Tiling, Vae, VaeDecoder, VaeEncoder};
pub use workload::Workload;
