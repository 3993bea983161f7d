//! Encodes the prompts of a request, block by block of the text encoder: emits its progress, and resumes at a block.

use js_sys::{Array, Uint8Array};
use pixart_model::{
    EncodedPrompt, Pipeline, PreparedRequest, PromptEmbeds, Taps, TextEncoding, encoder_rows, values_read,
};
use pixart_protocol::{EngineEvent, Fault, FaultCode, GenerationStage, TextEncoderLayer, TokenCount};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};

use crate::engine::{EncodedRequest, Engine};
use crate::faults::{self, CallGuard};
use crate::interop::{f32_bytes, from_js, now_millis, tensor_of_bytes, to_js};

/// Bytes of a block from which progress is emitted for each: a smaller encoder is done in less time than the readbacks take.
const REPORTED_BLOCK_BYTES: u64 = 1 << 20;

#[wasm_bindgen]
impl Engine {
    /// Encodes the prompts of the request that [`Engine::prepare`] holds under `id`, for [`Engine::generate`]. `stored` has an entry
    /// for each row of [`Engine::prepare`]: the `Uint8Array` that an earlier call returned for it, or `undefined`. Rows with an entry need
    /// no text encoder. `resumed` is the last `text_encoder_layer` event of a call that was interrupted, with the same entries. Returns the
    /// entries of all prompts, or `undefined` where the request was cancelled.
    ///
    /// # Errors
    /// A `Fault`; the checkpoint stays loaded.
    pub async fn encode(&self, id: u32, stored: Array, resumed: JsValue) -> Result<Option<Array>, JsValue> {
        let _guard = CallGuard::begin();
        let encoded = self.try_encode(id, stored, resumed).await;
        // The device's first error is the cause; the call's own is often its consequence.
        faults::take_first().and(encoded).map_err(|fault| to_js(&fault))
    }

    /// Returns whether the text encoder's blocks are on the device, so that a prompt costs no reading.
    pub fn is_text_encoder_resident(&self) -> bool {
        let pipeline = self.pipeline.borrow().clone();
        pipeline.and_then(|pipeline| pipeline.text_encoder().ok()).is_some_and(|encoder| encoder.is_resident())
    }
}

impl Engine {
    async fn try_encode(&self, id: u32, stored: Array, resumed: JsValue) -> Result<Option<Array>, Fault> {
        let prepared = self.prepared.borrow().clone().filter(|prepared| prepared.request.id == id);
        let prepared = prepared.ok_or_else(|| not_prepared(id))?;
        let resumed: Option<TextEncoderLayer> = from_js(resumed, "the layer of the text encoder")?;
        self.cancelled.set(None);
        let rows = encoder_rows(&prepared.prompts);
        let mut prompts = Vec::with_capacity(rows.len());
        for entry in stored.iter() {
            prompts.push(match entry.dyn_into::<Uint8Array>() {
                Ok(bytes) => Some(EncodedPrompt::read(&bytes.to_vec())?),
                Err(_) => None,
            });
        }
        prompts.resize(rows.len(), None);
        let pipeline = self.loaded_pipeline()?;
        self.emit_plan(&pipeline, &prepared);
        let started = now_millis();
        self.emitter.emit(&EngineEvent::StageStarted { id, stage: GenerationStage::Text });
        let Some(prompts) = self.encode_missing(&pipeline, &prepared, &rows, prompts, resumed).await? else {
            return Ok(None);
        };
        let tokens = prepared.request.max_sequence_length as usize;
        let entries = prompts.iter().map(|prompt| JsValue::from(Uint8Array::from(&prompt.to_bytes()[..]))).collect();
        let encoded = EncodedRequest {
            id,
            prompt_embeds: PromptEmbeds::from_rows(&prepared.prompts, &prompts, tokens, &self.device)?,
            token_counts: counts_of(prompts),
            millis: now_millis() - started,
        };
        self.encoded.replace(Some(encoded));
        Ok(Some(entries))
    }

    /// Emits the plan of a request, with the place of the text encoder's blocks.
    pub(crate) fn emit_plan(&self, pipeline: &Pipeline, prepared: &PreparedRequest) {
        let (id, plan) = (prepared.request.id, &prepared.plan);
        let text_encoder = match pipeline.text_encoder() {
            Ok(encoder) if encoder.is_resident() => ", text encoder on the device",
            Ok(_) if pipeline.keeps_text_encoder(prepared) => ", text encoder kept on the device",
            Ok(_) => ", text encoder streamed by layer",
            Err(_) => "",
        };
        let line = format!("{}{text_encoder}", plan.line());
        self.emitter.emit(&EngineEvent::Planned { id, plan: line, peak_bytes: plan.bytes() as f64 });
    }

    /// Encodes the rows of the prompts without an entry. Returns none where the request was cancelled.
    pub(crate) async fn encode_missing(
        &self,
        pipeline: &Pipeline,
        prepared: &PreparedRequest,
        rows: &[String],
        prompts: Vec<Option<EncodedPrompt>>,
        resumed: Option<TextEncoderLayer>,
    ) -> Result<Option<Vec<EncodedPrompt>>, Fault> {
        let missing: Vec<&String> =
            rows.iter().zip(&prompts).filter(|(_, known)| known.is_none()).map(|(text, _)| text).collect();
        let mut encoded = Vec::new();
        if !missing.is_empty() {
            let text_encoder = pipeline.text_encoder()?;
            let tokens = prepared.request.max_sequence_length as usize;
            let keeps = pipeline.keeps_text_encoder(prepared);
            let mut encoding = text_encoder.begin(&missing, tokens, keeps, &mut Taps::off()).await?;
            if let Some(layer) = resumed {
                self.resume_encoding(&mut encoding, &layer)?;
            }
            let block_bytes = text_encoder.block_bytes() / encoding.layers() as u64;
            let is_streamed = !keeps && !text_encoder.is_resident();
            let is_reported = is_streamed || block_bytes >= REPORTED_BLOCK_BYTES;
            loop {
                if self.cancelled.get() == Some(prepared.request.id) {
                    return Ok(None);
                }
                if !encoding.step(&mut Taps::off()).await? {
                    break;
                }
                faults::take_first()?;
                if is_reported {
                    self.emit_layer(prepared.request.id, &encoding, is_streamed).await?;
                }
            }
            encoded = encoding.into_prompts_read(text_encoder.token_counts(&missing, tokens)?).await?;
            pipeline.make_room(prepared);
        }
        let mut encoded = encoded.into_iter();
        let prompts =
            prompts.into_iter().map(|known| known.or_else(|| encoded.next()).expect("each is known or encoded"));
        Ok(Some(prompts.collect()))
    }

    async fn emit_layer(&self, id: u32, encoding: &TextEncoding<'_>, is_streamed: bool) -> Result<(), Fault> {
        let hidden_state = values_read("the hidden state", encoding.hidden_state().flatten(0, 2)).await?;
        let layer = TextEncoderLayer {
            id,
            layer: encoding.layer() as u32,
            layers: encoding.layers() as u32,
            is_streamed,
            hidden_state: f32_bytes(&hidden_state),
        };
        self.emitter.emit(&EngineEvent::TextEncoderLayer(layer));
        self.yield_on_cpu().await;
        Ok(())
    }

    fn resume_encoding(&self, encoding: &mut TextEncoding<'_>, layer: &TextEncoderLayer) -> Result<(), Fault> {
        let shape = encoding.hidden_state().dims();
        let hidden_state = tensor_of_bytes(&layer.hidden_state, shape, &self.device);
        if hidden_state.is_some_and(|hidden_state| encoding.resume(layer.layer as usize, hidden_state)) {
            return Ok(());
        }
        let what = format!(
            "the hidden state after layer {} of the text encoder has {} bytes, which does not fit this request",
            layer.layer,
            layer.hidden_state.len()
        );
        Err(Fault::new(FaultCode::BadRequest, what, "generate the image from its first step"))
    }
}

/// Returns the counts of the captions among rows.
pub(crate) fn counts_of(rows: Vec<EncodedPrompt>) -> Vec<TokenCount> {
    rows.into_iter().filter(|row| !row.is_empty_row()).map(|row| row.count).collect()
}

pub(crate) fn not_prepared(id: u32) -> Fault {
    Fault::new(FaultCode::Internal, format!("request {id} is not prepared"), "prepare it first")
}
