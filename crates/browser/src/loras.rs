//! LoRAs of a checkpoint on the device: read from the bytes that the page sends, merged while the transformer is loaded.

use std::rc::Rc;

use burn::tensor::{Device, Tensor};
use js_sys::{Array, Function};
use pixart_model::image::GenerationMetadata;
use pixart_model::{Pipeline, PreparedRequest};
use pixart_protocol::{ComponentPlaces, EngineEvent, Fault, FaultCode, LoraScale};
use pixart_weights::{Error, Folder, LoraAdapter};
use serde::Deserialize;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::engine::{Engine, not_loaded};
use crate::faults::{self, CallGuard};
use crate::folder::{PageReader, packed_folder};
use crate::interop::{from_js, to_js};

/// A LoRA from the page.
#[derive(Deserialize)]
struct LoraFile {
    name: String,
    scale: f64,
    /// The name of its file.
    file: String,
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
    config: Option<serde_bytes::ByteBuf>,
}

#[wasm_bindgen]
impl Engine {
    /// Sets the names that images' metadata have for components from other places than the checkpoint: a [`ComponentPlaces`].
    ///
    /// # Errors
    /// A `Fault` with the code `bad_request`.
    pub fn set_components(&self, components: JsValue) -> Result<(), JsValue> {
        self.components.replace(from_js(components, "the components").map_err(|fault| to_js(&fault))?);
        Ok(())
    }

    /// Returns whether a checkpoint is on the device.
    pub fn is_loaded(&self) -> bool {
        self.pipeline.borrow().is_some()
    }

    /// Merges these LoRAs, and no others, into the transformer of the loaded checkpoint, which is read again. Their headers are
    /// compared with the transformer's first. `manifest` and `read` are those of [`Engine::load`].
    ///
    /// # Errors
    /// A `Fault` that names the LoRA's tensor; the loaded transformer stays then. One of reading the transformer: no checkpoint is
    /// loaded then.
    pub async fn set_loras(&self, id: u32, manifest: &str, read: Function, loras: Array) -> Result<(), JsValue> {
        let _guard = CallGuard::begin();
        let merged = self.try_set_loras(manifest, read, &loras).await;
        let merged = faults::take_first().and(merged).map_err(|fault| to_js(&fault))?;
        self.emitter.emit(&EngineEvent::LorasSet { id, loras: merged });
        Ok(())
    }
}

impl Engine {
    /// Returns the metadata of an image of this request.
    pub(crate) fn metadata(&self, pipeline: &Pipeline, prepared: &PreparedRequest) -> GenerationMetadata {
        let ComponentPlaces { transformer, vae, text_encoder, .. } = self.components.borrow().clone();
        let loras = self.loras.borrow().clone();
        GenerationMetadata { loras, transformer, vae, text_encoder, ..pipeline.metadata(prepared, &self.name) }
    }

    /// Takes the pipeline, whose requests are void then. While an image is generated, it stays.
    fn own_pipeline(&self) -> Result<Pipeline, Fault> {
        let shared = self.pipeline.take().ok_or_else(not_loaded)?;
        let pipeline = Rc::try_unwrap(shared).map_err(|shared| {
            self.pipeline.replace(Some(shared));
            Fault::new(
                FaultCode::BadRequest,
                "the checkpoint is in use",
                "send the LoRAs again once the image is there",
            )
        })?;
        self.prepared.take();
        Ok(pipeline)
    }

    async fn try_set_loras(&self, manifest: &str, read: Function, loras: &Array) -> Result<Vec<LoraScale>, Fault> {
        let mut folder = packed_folder(manifest, PageReader(read))?;
        let merged = insert_loras(&mut folder, loras)?;
        let unchanged = self.loaded_pipeline()?.weight_format();
        // A LoRA of another architecture leaves the checkpoint as it is.
        Pipeline::load(&folder.headers_only(), &Device::flex(), self.limits, Some(unchanged)).await?;
        let pipeline = self.own_pipeline()?.with_transformer(&folder).await?;
        self.fence("the loaded weights", Tensor::<1>::zeros([1], &self.device)).await?;
        faults::take_first()?;
        self.pipeline.replace(Some(Rc::new(pipeline)));
        self.loras.replace(merged.clone());
        Ok(merged)
    }
}

/// Inserts LoRAs into a folder: an array of `{ name, scale, file, bytes, config }`. Returns those that are not off.
pub(crate) fn insert_loras(folder: &mut Folder, loras: &Array) -> Result<Vec<LoraScale>, Fault> {
    let mut merged = Vec::new();
    for lora in loras.iter() {
        let LoraFile { name, scale, file, bytes, config } = from_js(lora, "the LoRA")?;
        if scale == 0.0 {
            continue;
        }
        let mut files = Folder::default();
        files.insert(file, bytes);
        if let Some(config) = config {
            files.insert(LoraAdapter::CONFIG, config.into_vec());
        }
        let adapter = files.read_lora(scale).map_err(pixart_model::Error::Weights)?;
        if adapter.adapts_text_encoder() {
            let why =
                "it changes the text encoder, and a tab changes the transformer alone; `pixart generate` changes both";
            let unsupported = Error::Unsupported { file: name, key: "text_encoder".to_owned(), why: why.to_owned() };
            return Err(pixart_model::Error::Weights(unsupported).into());
        }
        folder.insert_lora("transformer", adapter);
        merged.push(LoraScale { name, scale });
    }
    Ok(merged)
}
