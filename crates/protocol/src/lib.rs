//! The words spoken between the page, its worker and the companion. Plain data with serde names, no behaviour beyond
//! validation. Contract: every type here that crosses into TypeScript is listed in [`typescript::render`], and
//! `web/src/protocol.gen.ts` is that text.

mod event;
mod fault;
mod keep;
mod preset;
mod prompt;
mod request;
pub mod typescript;

pub use event::{
    Adapter, Checkpoint, Cost, Estimate, Event, Image, Memory, Preview, Stage, StageMillis, Step, TapRow, Verdict,
};
pub use fault::{Fault, FaultCode};
pub use keep::{ConvertTo, KeepTask, KeptCheckpoint, Loading, LoadingStage, StoreKind};
pub use preset::Preset;
pub use prompt::{STYLES, Style};
pub use request::{
    DeviceKind, EncodeReply, EncodeRequest, Generate, Limits, OutputType, Request, Resolved, TextSource,
};
