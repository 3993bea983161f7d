//! Renders this crate's types as TypeScript: the text of `web/src/engine/protocol.gen.ts`.

use ts_rs::{Config, TS};

use crate::{
    AdapterInfo, BytesFrom, Catalogue, CatalogueComponent, CatalogueComponents, CatalogueFile, CatalogueModel,
    CatalogueTextEncoder, Checkpoint, ComponentPlaces, DenoisingStep, DeviceKind, EncodeRequest, EncodeResponse,
    EngineEvent, EngineRequest, Estimate, Fault, FaultCode, GenerateRequest, GenerationCost, GenerationStage,
    ImageResult, Limits, LoadProgress, LoadStage, LoraScale, LoraSource, MemoryUsage, OutputType, Preset, PreviewImage,
    PromptCacheSize, StageMillis, StorageBackend, StorageTask, StoredCheckpoint, StoredComposition, StoredKind, TapRow,
    TextEncoderLayer, TextEncoderSource, TokenCount, TokensCounted, Verdict, WeightDtype,
};

/// Returns all message types as one TypeScript module.
#[must_use]
pub fn render() -> String {
    let config = Config::default();
    let mut text = String::from("// Generated from crates/protocol by `cargo xtask types`. Do not edit.\n");
    let declarations = [
        EngineRequest::decl(&config),
        ComponentPlaces::decl(&config),
        LoraSource::decl(&config),
        DeviceKind::decl(&config),
        StorageBackend::decl(&config),
        WeightDtype::decl(&config),
        StorageTask::decl(&config),
        GenerateRequest::decl(&config),
        OutputType::decl(&config),
        TextEncoderSource::decl(&config),
        Limits::decl(&config),
        EncodeRequest::decl(&config),
        EncodeResponse::decl(&config),
        TokenCount::decl(&config),
        EngineEvent::decl(&config),
        AdapterInfo::decl(&config),
        LoadProgress::decl(&config),
        LoadStage::decl(&config),
        StoredCheckpoint::decl(&config),
        StoredKind::decl(&config),
        StoredComposition::decl(&config),
        PromptCacheSize::decl(&config),
        Estimate::decl(&config),
        GenerationCost::decl(&config),
        Checkpoint::decl(&config),
        LoraScale::decl(&config),
        Preset::decl(&config),
        TokensCounted::decl(&config),
        TextEncoderLayer::decl(&config),
        DenoisingStep::decl(&config),
        PreviewImage::decl(&config),
        GenerationStage::decl(&config),
        ImageResult::decl(&config),
        StageMillis::decl(&config),
        MemoryUsage::decl(&config),
        TapRow::decl(&config),
        Verdict::decl(&config),
        Catalogue::decl(&config),
        CatalogueModel::decl(&config),
        CatalogueComponents::decl(&config),
        CatalogueTextEncoder::decl(&config),
        CatalogueComponent::decl(&config),
        CatalogueFile::decl(&config),
        BytesFrom::decl(&config),
        Fault::decl(&config),
        FaultCode::decl(&config),
    ];
    for declaration in declarations {
        text.push_str("\nexport ");
        text.push_str(&declaration);
        text.push('\n');
    }
    text.push_str(
        "\n/** The current name of each former field of a `GenerateRequest`. */\nexport const FORMER_NAMES = {\n",
    );
    for (former, current) in GenerateRequest::FORMER_NAMES {
        text.push_str(&format!("  {former}: '{current}',\n"));
    }
    text.push_str("} as const;\n");
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_generated_typescript_is_up_to_date() {
        let committed = include_str!("../../../web/src/engine/protocol.gen.ts");
        assert!(committed == super::render(), "web/src/engine/protocol.gen.ts is stale: run `cargo xtask types`");
    }
}
