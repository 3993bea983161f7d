//! Messages between the page, its worker and the companion: plain data with serde names, and their validation. Contract: every
//! type that crosses into TypeScript is listed in [`typescript::render`], whose text is `web/src/engine/protocol.gen.ts`.

mod catalogue;
mod component_places;
mod event;
mod fault;
mod preset;
mod prompt;
mod request;
mod storage;
mod text_encoder_layer;
mod token_count;
pub mod typescript;

pub use catalogue::{
    BytesFrom, Catalogue, CatalogueComponent, CatalogueComponents, CatalogueFile, CatalogueModel, CatalogueTextEncoder,
};
pub use component_places::ComponentPlaces;
pub use event::{
    AdapterInfo, Checkpoint, DenoisingStep, EngineEvent, Estimate, GenerationCost, GenerationStage, ImageResult,
    MemoryUsage, PreviewImage, StageMillis, TapRow, TokensCounted, Verdict,
};
pub use fault::{Fault, FaultCode};
pub use preset::Preset;
pub use prompt::{STYLES, Style, weighted_parts};
pub use request::{
    DeviceKind, EncodeRequest, EncodeResponse, EngineRequest, GenerateRequest, Limits, LoraScale, LoraSource,
    OutputType, ResolvedRequest, TextEncoderSource,
};
pub use storage::{
    LoadProgress, LoadStage, PromptCacheSize, StorageBackend, StorageTask, StoredCheckpoint, StoredComposition,
    StoredKind, WeightDtype,
};
pub use text_encoder_layer::TextEncoderLayer;
pub use token_count::TokenCount;
