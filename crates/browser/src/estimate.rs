//! Estimates the cost of a checkpoint on this device before it is downloaded.

use js_sys::Map;
use pixart_model::{CostProbe, GuidanceConfig, LatentBatch, Planner, WeightFormat, preset_of, text_encoder_memory};
use pixart_protocol::{Fault, GenerationCost};
use pixart_weights::Folder;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::engine::Engine;
use crate::faults::{self, CallGuard};
use crate::folder;
use crate::interop::{from_js, now_millis, to_js};

/// A probe is enlarged until it takes this long: three kinds of probes take about a second.
const PROBE_MILLIS: f64 = 150.0;

#[wasm_bindgen]
impl Engine {
    /// Returns the `GenerationCost` of an image. The checkpoint's `config.json`s are in the manifest of a packed one, others in `files`;
    /// `dtype` is the format that a folder would be converted to, or null; with `load_text_encoder` the text encoder's memory
    /// counts. Takes about a second.
    ///
    /// # Errors
    /// A `Fault` that names the key, or that nothing fits.
    pub async fn estimate(
        &self,
        files: Map,
        manifest: Option<String>,
        dtype: JsValue,
        load_text_encoder: bool,
    ) -> Result<JsValue, JsValue> {
        let _guard = CallGuard::begin();
        let cost = async {
            let mut folder = folder::memory_folder(&files);
            if let Some(manifest) = manifest {
                folder::insert_manifest(&mut folder, &manifest, folder::NoReads)?;
            }
            self.cost(&folder, from_js(dtype, "the dtype")?, load_text_encoder).await
        };
        let cost = cost.await;
        self.device.memory_cleanup();
        faults::take_first().and(cost).map(|cost| to_js(&cost)).map_err(|fault| to_js(&fault))
    }
}

impl Engine {
    async fn cost(
        &self,
        folder: &Folder,
        chosen: Option<WeightFormat>,
        load_text_encoder: bool,
    ) -> Result<GenerationCost, Fault> {
        let chosen = chosen.filter(|_| folder.manifest().is_none());
        let planner = Planner { chosen, ..Planner::read(folder, self.limits)? };
        let preset = preset_of(folder)?;
        let guided = GuidanceConfig::classifier_free(preset.guidance_scale).is_guided();
        let batch = LatentBatch { images: 1, latent_size: [planner.dit.sample_size; 2], guided };
        let precision = planner.weight_format()?;
        let plan = planner.plan(batch, precision)?;
        let text_bytes = if load_text_encoder { text_encoder_memory(folder, plan.bytes(), self.limits)? } else { 0 };
        let macs = planner.mac_count(batch, preset.num_inference_steps as usize, preset.max_sequence_length as usize);
        let mut seconds = 0.0;
        for probe in planner.cost_probes(macs, precision, &self.device) {
            seconds += self.seconds(&probe).await?;
        }
        Ok(GenerationCost {
            size: (planner.dit.sample_size * planner.vae.factor()) as u32,
            num_inference_steps: preset.num_inference_steps,
            memory_bytes: (plan.bytes() + text_bytes) as f64,
            seconds,
        })
    }

    /// Measures the seconds of one kind of operation in an image.
    async fn seconds(&self, probe: &CostProbe) -> Result<f64, Fault> {
        // The first launch compiles the kernel.
        self.fence("a cost probe", probe.launch(1).0).await?;
        let mut scale = 1;
        loop {
            let started = now_millis();
            let (done, macs) = probe.launch(scale);
            self.fence("a cost probe", done).await?;
            let millis = now_millis() - started;
            if millis >= PROBE_MILLIS || scale == CostProbe::SCALE_MAX {
                return Ok(millis / 1e3 * probe.macs as f64 / macs as f64);
            }
            scale *= 2;
        }
    }
}
