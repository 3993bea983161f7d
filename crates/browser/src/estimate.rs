//! What a checkpoint will take on this device, told before it is fetched.

use js_sys::Map;
use pixart_model::{CostProbe, LatentBatch, Planner, WeightFormat, preset_of, text_encoder_bytes};
use pixart_protocol::{Fault, GenerationCost};
use pixart_weights::Folder;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::border::{now_millis, object, value};
use crate::engine::Engine;
use crate::faults::{self, AtWork};
use crate::weights;

/// A launch is made larger until it takes this long: three kinds of them are about a second.
const PROBE_MILLIS: f64 = 150.0;

#[wasm_bindgen]
impl Engine {
    /// The `GenerationCost` of a picture of a checkpoint whose `config.json`s are in `files`, or in the manifest of a packed one; `convert`
    /// is the precision that a folder would be converted to, where one was chosen; `text` whether the text encoder is loaded too.
    /// Takes about a second.
    ///
    /// # Errors
    /// A `Fault` that names the key, or that nothing fits.
    pub async fn estimate(
        &self,
        files: Map,
        manifest: Option<String>,
        convert: JsValue,
        text: bool,
    ) -> Result<JsValue, JsValue> {
        let _at_work = AtWork::begin();
        let cost = async {
            let folder = match manifest {
                Some(manifest) => weights::packed(&manifest, weights::Unread)?,
                None => weights::held(&files),
            };
            self.cost(&folder, value(convert, "the precision")?, text).await
        };
        let cost = cost.await;
        self.device.memory_cleanup();
        faults::first().and(cost).map(|cost| object(&cost)).map_err(|fault| object(&fault))
    }
}

impl Engine {
    async fn cost(&self, folder: &Folder, chosen: Option<WeightFormat>, text: bool) -> Result<GenerationCost, Fault> {
        let chosen = chosen.filter(|_| folder.manifest().is_none());
        let planner = Planner { chosen, ..Planner::read(folder, self.limits)? };
        let preset = preset_of(folder)?;
        let guided = preset.clone().request("").is_guided();
        let batch = LatentBatch { images: 1, latent_size: [planner.dit.sample_size; 2], guided };
        let precision = planner.precision()?;
        let plan = planner.plan(batch, precision)?;
        let text = if text { text_encoder_bytes(folder)? } else { 0 };
        let macs = planner.mac_count(batch, preset.num_inference_steps as usize, preset.max_sequence_length as usize);
        let mut seconds = 0.0;
        for probe in planner.cost_probes(macs, precision, &self.device) {
            seconds += self.seconds(&probe).await?;
        }
        Ok(GenerationCost {
            size: (planner.dit.sample_size * planner.vae.factor()) as u32,
            num_inference_steps: preset.num_inference_steps,
            memory_bytes: (plan.bytes() + text) as f64,
            seconds,
        })
    }

    /// How long a picture's work of one kind takes.
    async fn seconds(&self, probe: &CostProbe) -> Result<f64, Fault> {
        // The first launch is compiled.
        self.reach("a cost probe", probe.launch(1).0).await?;
        let mut scale = 1;
        loop {
            let began = now_millis();
            let (done, macs) = probe.launch(scale);
            self.reach("a cost probe", done).await?;
            let millis = now_millis() - began;
            if millis >= PROBE_MILLIS || scale == CostProbe::SCALE_MAX {
                return Ok(millis / 1e3 * probe.macs as f64 / macs as f64);
            }
            scale *= 2;
        }
    }
}
