//! State of a server's device thread: a text encoder, a cache of its embeddings, and an image generator where the checkpoint has
//! a transformer and a VAE.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;

use pixart_model::normalize_caption;
use pixart_protocol::{EncodeRequest, EncodeResponse, Fault, FaultCode, GenerateRequest, Limits, LoraScale, Preset};
use pixart_weights::Folder;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::cache::{CachedEmbeds, PromptEmbedsCache};
use super::queue::DeviceWorker;
use crate::generate::{GeneratedImage, GenerationProgress, StopGeneration};
use crate::{
    Error, ImageGenerator, LoadOptions, LoraPath, PromptEmbedsSource, PromptEncoder, PromptEncoderOptions, checkpoint,
    device, hub, loras,
};

/// Captions in a batch of the text encoder.
const BATCH: usize = 16;

/// The loaded model, as `GET /v1/models` describes it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ModelInfo {
    /// The checkpoint folder's name.
    pub id: String,
    /// SHA-256 of the manifest, or of all small files and of the names and lengths of the others, and of LoRAs. Clients cache embeddings
    /// under it.
    pub fingerprint: String,
    pub device: String,
    /// True where it generates images; otherwise it only encodes prompts.
    pub generates_images: bool,
    /// Side of its native size in pixels, the sizes that it can generate, and its request defaults, where it generates images.
    pub native_size: Option<u32>,
    pub limits: Option<Limits>,
    pub preset: Option<Preset>,
    /// LoRAs merged into its networks.
    pub loras: Vec<LoraScale>,
}

/// Everything that the device thread computes with.
pub struct AppState {
    encoder: PromptEncoder,
    generator: Option<ImageGenerator>,
    folder: Folder,
    cache: PromptEmbedsCache,
    info: ModelInfo,
}

impl AppState {
    /// Loads the text encoder, and the image generator where the checkpoint has its networks.
    ///
    /// # Errors
    /// See [`PromptEncoder::open`] and [`ImageGenerator::open`].
    pub fn open(options: &PromptEncoderOptions) -> Result<Self, Error> {
        let PromptEncoderOptions { checkpoint, device, .. } = options;
        let opened = device::open(*device)?;
        let mut folder = checkpoint::read_partial(checkpoint, &[])?;
        checkpoint::set_variant(&mut folder, options.variant.as_deref())?;
        options.components.mount(&mut folder)?;
        let generates_images = folder.contains("transformer/config.json") && folder.contains("vae/config.json");
        let encoder = PromptEncoder::load(opened.clone(), folder.clone(), options)?;
        let load_options = || LoadOptions {
            checkpoint: checkpoint.clone(),
            prompt_embeds: PromptEmbedsSource::Caller,
            loras: options.loras.clone(),
            ..LoadOptions::default()
        };
        let generator = generates_images
            .then(|| ImageGenerator::load(opened.clone(), folder.clone(), load_options()))
            .transpose()?;
        let info = ModelInfo {
            id: model_id(checkpoint),
            fingerprint: fingerprint(&folder, &options.loras)?,
            device: opened.name,
            generates_images,
            native_size: generator.as_ref().map(|generator| generator.limits().native_size),
            limits: generator.as_ref().map(ImageGenerator::limits),
            preset: generator.as_ref().map(ImageGenerator::preset),
            loras: generator.as_ref().map(|generator| generator.loras().to_vec()).unwrap_or_default(),
        };
        Ok(Self { encoder, generator, folder, cache: PromptEmbedsCache::default(), info })
    }

    /// The loaded model.
    #[must_use]
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Embeddings of each caption; those that are not cached are encoded in batches.
    fn embeds(&mut self, captions: &[String], tokens: u32) -> Result<Vec<CachedEmbeds>, Error> {
        let captions: Vec<String> = captions.iter().map(|caption| normalize_caption(caption)).collect();
        let mut rows: BTreeMap<String, CachedEmbeds> = BTreeMap::new();
        let mut missing: BTreeSet<String> = BTreeSet::new();
        for caption in &captions {
            match self.cache.get(caption, tokens) {
                Some(row) => drop(rows.insert(caption.clone(), row)),
                None => drop(missing.insert(caption.clone())),
            }
        }
        let missing: Vec<String> = missing.into_iter().collect();
        for batch in missing.chunks(BATCH) {
            let request = EncodeRequest { captions: batch.to_vec(), max_sequence_length: tokens };
            for (caption, row) in batch.iter().zip(CachedEmbeds::from_reply(&self.encoder.encode(&request)?)) {
                self.cache.insert(caption, tokens, row.clone());
                rows.insert(caption.clone(), row);
            }
        }
        Ok(captions.iter().map(|caption| rows[caption].clone()).collect())
    }
}

impl DeviceWorker for AppState {
    fn encode(&mut self, requests: &[EncodeRequest]) -> Vec<Result<EncodeResponse, Error>> {
        let tokens = requests[0].max_sequence_length;
        let all: Vec<String> = requests.iter().flat_map(|request| request.captions.clone()).collect();
        match self.embeds(&all, tokens) {
            Ok(rows) => {
                let mut rows = rows.into_iter();
                let mut reply = |request: &EncodeRequest| {
                    Ok(CachedEmbeds::to_reply(&rows.by_ref().take(request.captions.len()).collect::<Vec<_>>()))
                };
                requests.iter().map(&mut reply).collect()
            }
            Err(error) if requests.len() == 1 => vec![Err(error)],
            // Encoded one by one, an invalid request fails alone.
            Err(_) => requests.iter().flat_map(|request| self.encode(std::slice::from_ref(request))).collect(),
        }
    }

    fn generate(
        &mut self,
        request: &GenerateRequest,
        previews: bool,
        on_step: &mut dyn FnMut(GenerationProgress) -> ControlFlow<StopGeneration>,
    ) -> Result<Vec<GeneratedImage>, Error> {
        let Some(generator) = &self.generator else {
            let what = format!("`{}` only encodes prompts: it has no transformer or no VAE", self.info.id);
            let remedy = "serve a checkpoint that has both";
            return Err(Fault::new(FaultCode::BadRequest, what, remedy).into());
        };
        let prepared = generator.prepare(request)?;
        if request.reads_image() {
            generator.load_vae_encoder(&self.folder)?;
        }
        let embeds = CachedEmbeds::to_reply(&self.embeds(&prepared.prompts, request.max_sequence_length)?);
        let generator = self.generator.as_ref().expect("it was matched above");
        generator.generate_from_embeds(&prepared, embeds, previews, on_step)
    }

    fn cache_hits(&self) -> u64 {
        self.cache.hits()
    }
}

/// Returns the id of a checkpoint's model: the name of its folder.
#[must_use]
pub fn model_id(checkpoint: &Path) -> String {
    let whole = checkpoint.canonicalize().unwrap_or_else(|_| checkpoint.to_owned());
    hub::model_name(&whole)
}

/// See [`ModelInfo::fingerprint`].
fn fingerprint(folder: &Folder, loras: &[LoraPath]) -> Result<String, Error> {
    let mut hash = Sha256::new();
    for path in folder.paths() {
        hash.update(path.as_bytes());
        hash.update([0]);
        match folder.bytes(path) {
            Ok(bytes) => hash.update(bytes),
            Err(_) => hash.update(folder.length(path).unwrap_or_default().to_le_bytes()),
        }
    }
    if !loras.is_empty() {
        hash.update(loras::fingerprint(loras)?);
    }
    Ok(hex::encode(hash.finalize()))
}
