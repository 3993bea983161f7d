//! Renders the TypeScript twin of this crate's types: the text of `web/src/protocol.gen.ts`.

use ts_rs::{Config, TS};

use crate::{
    Adapter, Checkpoint, ConvertTo, Cost, DeviceKind, EncodeReply, EncodeRequest, Estimate, Event, Fault, FaultCode,
    Generate, Image, KeepTask, KeptCheckpoint, Limits, Loading, LoadingStage, Memory, OutputType, Preset, Preview,
    Request, Stage, StageMillis, Step, StoreKind, TapRow, TextSource, Verdict,
};

/// All message types as one TypeScript module.
#[must_use]
pub fn render() -> String {
    let config = Config::default();
    let mut text = String::from("// Generated from crates/protocol by `cargo xtask types`. Do not edit.\n");
    let declarations = [
        Request::decl(&config),
        DeviceKind::decl(&config),
        StoreKind::decl(&config),
        ConvertTo::decl(&config),
        KeepTask::decl(&config),
        Generate::decl(&config),
        OutputType::decl(&config),
        TextSource::decl(&config),
        Limits::decl(&config),
        EncodeRequest::decl(&config),
        EncodeReply::decl(&config),
        Event::decl(&config),
        Adapter::decl(&config),
        Loading::decl(&config),
        LoadingStage::decl(&config),
        KeptCheckpoint::decl(&config),
        Estimate::decl(&config),
        Cost::decl(&config),
        Checkpoint::decl(&config),
        Preset::decl(&config),
        Step::decl(&config),
        Preview::decl(&config),
        Stage::decl(&config),
        Image::decl(&config),
        StageMillis::decl(&config),
        Memory::decl(&config),
        TapRow::decl(&config),
        Verdict::decl(&config),
        Fault::decl(&config),
        FaultCode::decl(&config),
    ];
    for declaration in declarations {
        text.push_str("\nexport ");
        text.push_str(&declaration);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_pages_types_are_those_of_this_crate() {
        let committed = include_str!("../../../web/src/protocol.gen.ts");
        assert!(committed == super::render(), "web/src/protocol.gen.ts is stale: run `cargo xtask types`");
    }
}
