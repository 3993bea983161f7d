//! Memory planning. Before weights are loaded, the plan selects the weight format of the transformer blocks; before an
//! image is generated, it selects batched or sequential guidance and how the VAE decodes. All sizes follow from the
//! `config.json` files.
//!
//! The estimate is the weights of the transformer and the VAE decoder, plus the f32 activations that are live at the same
//! time at each network's peak. The text encoder is not included: a large one runs in another process.

use pixart_kernels::WeightFormat;
use pixart_protocol::{Fault, FaultCode};
use pixart_weights::Folder;

use crate::Error;
use crate::loading::config::{DitConfig, PATCH, T5Config, VaeConfig};
use crate::vae::{DecodeMode, Tiling};

use super::vae_footprint::{self, VaeFootprint};

/// Bytes of one f32.
const F32_BYTES: u64 = 4;
/// Memory assumed for a device that does not report any. WebGPU reports none.
const ASSUMED_MEMORY_BYTES: u64 = 2560 << 20;
/// Tile sides in pixels, tried from the largest when neither whole nor strip decoding fits.
const TILE_SIDES: [usize; 5] = [512, 384, 256, 192, 128];
const MIB: f64 = (1 << 20) as f64;

/// Memory limits and half-precision support of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceLimits {
    /// Largest buffer that can be bound to a shader, in bytes.
    pub binding_bytes: u64,
    /// Total memory in bytes, if the device reports it.
    pub memory_bytes: Option<u64>,
    /// Whether shaders compute in half precision. False on a fallback adapter, where f16 is not faster.
    pub shader_f16: bool,
}

impl DeviceLimits {
    /// The minimum limits of a WebGPU device.
    pub const WEBGPU_MINIMUM: Self = Self { binding_bytes: 128 << 20, memory_bytes: None, shader_f16: false };

    /// No limits: a CPU, whose tensors may have any size.
    pub const UNLIMITED: Self = Self { binding_bytes: u64::MAX, memory_bytes: Some(u64::MAX), shader_f16: false };

    /// Returns the limits of a GPU that reports its largest binding and buffer in bytes, but not its memory.
    #[must_use]
    pub fn from_gpu(binding_bytes: u64, buffer_bytes: u64, has_shader_f16: bool, is_fallback: bool) -> Self {
        let binding_bytes = binding_bytes.min(buffer_bytes);
        Self { binding_bytes, memory_bytes: None, shader_f16: has_shader_f16 && !is_fallback }
    }

    /// Returns the memory that plans must fit, in bytes.
    pub(crate) fn memory(self) -> u64 {
        self.memory_bytes.unwrap_or(ASSUMED_MEMORY_BYTES)
    }
}

/// A batch of images of one latent size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatentBatch {
    pub images: usize,
    /// Latent rows and columns.
    pub latent_size: [usize; 2],
    /// Whether classifier-free guidance is on, which doubles the batch.
    pub guided: bool,
}

/// Batching of the unconditional and the conditional pass of classifier-free guidance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CfgBatching {
    /// Both in one batch.
    Batched,
    /// One after the other, in half the activation memory.
    Sequential,
}

/// Weight format, guidance batching and decoding strategy of one batch, with their estimated memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    pub weight_format: WeightFormat,
    pub cfg_batching: CfgBatching,
    pub decode_mode: DecodeMode,
    /// Estimated bytes during denoising, and during decoding, weights included.
    pub denoise_bytes: u64,
    pub decode_bytes: u64,
    /// Largest bound buffer of both stages, in bytes.
    pub binding_bytes: u64,
    /// Reasons for every choice that is not the default.
    pub reasons: Vec<String>,
}

impl MemoryPlan {
    /// Returns the estimated peak memory in bytes, weights included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.denoise_bytes.max(self.decode_bytes)
    }

    /// Returns a one-line summary with the reasons.
    #[must_use]
    pub fn line(&self) -> String {
        let weights = self.weight_format;
        let guidance = match self.cfg_batching {
            CfgBatching::Batched => "batched guidance",
            CfgBatching::Sequential => "sequential guidance",
        };
        let decode = match self.decode_mode {
            DecodeMode::Whole => "decoded whole".to_owned(),
            DecodeMode::Strips { .. } => "decoded in strips".to_owned(),
            DecodeMode::Tiles(tiling) => format!("decoded in tiles of {} px", tiling.pixels),
        };
        let reasons = if self.reasons.is_empty() { String::new() } else { format!(" ({})", self.reasons.join("; ")) };
        format!("{weights} weights, {guidance}, {decode}{reasons}")
    }
}

/// Folder of the text encoder, and name of its section in a packed checkpoint.
const TEXT_ENCODER: &str = "text_encoder";
/// Blocks of a streamed text encoder that are on the device at a time.
const STREAMED_BLOCKS: u64 = 2;
/// Largest f32 text encoder that a tab does not quantise, in bytes.
const TEXT_ENCODER_F32_MAX: u64 = 256 << 20;

/// Returns the weight format that network `dir` of the checkpoint in `folder` should be converted to for a device of these
/// limits. A large text encoder becomes q8.
///
/// # Errors
/// A configuration that is missing or not supported, and [`FaultCode::OutOfMemory`] when no weight format fits.
pub fn recommended_weight_format(folder: &Folder, dir: &str, limits: DeviceLimits) -> Result<WeightFormat, Error> {
    if dir != TEXT_ENCODER {
        return Planner::read(folder, limits)?.weight_format().map_err(Error::Request);
    }
    Ok(text_encoder_storage(folder)?.0)
}

/// Returns the bytes of the text encoder of the checkpoint in `folder`, as packed or as a tab converts it.
///
/// # Errors
/// A configuration that is missing or not supported.
fn text_encoder_bytes(folder: &Folder) -> Result<u64, Error> {
    let packed =
        folder.manifest().and_then(|manifest| manifest.sections.iter().find(|section| section.name == TEXT_ENCODER));
    packed.map_or_else(|| Ok(text_encoder_storage(folder)?.1), |section| Ok(section.bytes()))
}

/// Returns the bytes that the text encoder takes on a device of these limits beside `plan_bytes` of the transformer, the VAE and an
/// image: all of it where there is room, else the block that is applied and the next one. Embeddings stay on the host.
///
/// # Errors
/// A configuration that is missing or not supported.
pub fn text_encoder_memory(folder: &Folder, plan_bytes: u64, limits: DeviceLimits) -> Result<u64, Error> {
    let bytes = text_encoder_bytes(folder)?;
    let is_resident = plan_bytes.saturating_add(bytes) <= limits.memory();
    let layers = T5Config::read(folder)?.layers as u64;
    Ok(if is_resident { bytes } else { bytes.min(STREAMED_BLOCKS * bytes.div_ceil(layers.max(1))) })
}

/// Returns the weight format that a tab converts the text encoder to, and its bytes in that format.
fn text_encoder_storage(folder: &Folder) -> Result<(WeightFormat, u64), Error> {
    let parameters: u64 = T5Config::read(folder)?.inventory().iter().map(|(_, shape)| element_count(shape)).sum();
    let f32_bytes = parameters * F32_BYTES;
    Ok(if f32_bytes > TEXT_ENCODER_F32_MAX { (WeightFormat::Q8, parameters) } else { (WeightFormat::F32, f32_bytes) })
}

fn element_count(shape: &[usize]) -> u64 {
    shape.iter().map(|side| *side as u64).product()
}

/// Memory planner of one checkpoint on one device.
#[derive(Clone, Debug)]
pub struct Planner {
    pub dit: DitConfig,
    pub vae: VaeConfig,
    /// Weight format of a packed checkpoint, f32 otherwise. No more precise one is selected.
    pub stored_format: WeightFormat,
    /// Requested format, used even if it does not fit.
    pub chosen: Option<WeightFormat>,
    pub limits: DeviceLimits,
}

/// Peak bytes of live activations, and the largest buffer among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ActivationMemory {
    live: u64,
    binding: u64,
}

/// Bytes of all weights, and the limits that they and the activations must fit.
#[derive(Clone, Copy)]
struct Budget {
    weights: u64,
    memory: u64,
    binding_bytes: u64,
}

impl Planner {
    /// Reads the configurations of the checkpoint in `folder`.
    ///
    /// # Errors
    /// A configuration that is missing or not supported.
    pub fn read(folder: &Folder, limits: DeviceLimits) -> Result<Self, Error> {
        let stored_format = folder.manifest().map_or(WeightFormat::F32, |manifest| manifest.weight_format);
        let (dit, vae) = (DitConfig::read(folder)?, VaeConfig::read(folder)?);
        if vae.latent_channels != dit.latent_channels {
            let why = format!("{}, and the transformer's in_channels is {}", vae.latent_channels, dit.latent_channels);
            return Err(Error::Config { file: "vae/config.json".into(), key: "latent_channels".into(), why });
        }
        Ok(Self { dit, vae, stored_format, chosen: None, limits })
    }

    /// Returns the requested format, or the best one in which a guided image of the checkpoint's native size fits.
    ///
    /// # Errors
    /// [`FaultCode::OutOfMemory`] when not even the smallest fits.
    pub fn weight_format(&self) -> Result<WeightFormat, Fault> {
        if let Some(chosen) = self.chosen {
            return Ok(chosen.max(self.stored_format));
        }
        let batch = self.native_batch();
        // f16 is preferred to bf16: it has more mantissa bits in the same bytes.
        let mut last = None;
        // q4_affine is for weights that are stored so: of floats, q4 loses about as much in fewer bytes.
        let all = [WeightFormat::F32, WeightFormat::F16, WeightFormat::Q8, WeightFormat::Q4Affine, WeightFormat::Q4];
        let is_tried = |format: &WeightFormat| {
            *format >= self.stored_format && (*format != WeightFormat::Q4Affine || *format == self.stored_format)
        };
        for format in all.into_iter().filter(is_tried) {
            match self.plan(batch, format) {
                Ok(plan) if !matches!(plan.decode_mode, DecodeMode::Tiles(_)) => return Ok(format),
                Ok(_) => last = Some(Ok(format)),
                Err(fault) => last = last.or(Some(Err(fault))),
            }
        }
        last.expect("at least one format is tried")
    }

    /// Returns the batch of one guided image of the checkpoint's native size.
    #[must_use]
    pub fn native_batch(&self) -> LatentBatch {
        let side = self.dit.sample_size;
        LatentBatch { images: 1, latent_size: [side, side], guided: true }
    }

    /// Returns the plan of `batch` with weights of `format`.
    ///
    /// # Errors
    /// [`FaultCode::OutOfMemory`] when no plan fits.
    pub fn plan(&self, batch: LatentBatch, format: WeightFormat) -> Result<MemoryPlan, Fault> {
        let LatentBatch { images, latent_size, guided } = batch;
        let memory = self.limits.memory();
        let whole = vae_footprint::decode(&self.vae, images, latent_size, u64::MAX);
        let decoder_bytes = self.vae.decoder_bytes();
        let weights = self.dit.bytes(format) + decoder_bytes;
        let budget = Budget { weights, memory, binding_bytes: self.limits.binding_bytes };
        let mut reasons = Vec::new();
        if format == self.stored_format && format != WeightFormat::F32 {
            reasons.push("as the checkpoint is packed".to_owned());
        } else if self.chosen == Some(format) {
            reasons.push("as requested".to_owned());
        } else if format != WeightFormat::F32 {
            let [f32_weights, memory] =
                [self.dit.bytes(WeightFormat::F32) + decoder_bytes, memory].map(|bytes| bytes as f64 / MIB);
            let source = if self.limits.memory_bytes.is_some() { "the device has" } else { "the assumed memory is" };
            reasons.push(format!("f32 weights are {f32_weights:.0} MiB, {source} {memory:.0} MiB"));
        }

        let rows = if guided { 2 * images } else { images };
        let (batched, sequential) = (self.denoise(rows, latent_size), self.denoise(images, latent_size));
        let (cfg_batching, denoise) =
            if budget.fits(batched) { (CfgBatching::Batched, batched) } else { (CfgBatching::Sequential, sequential) };
        if !budget.fits(denoise) {
            return Err(budget.exceeded("a denoising step", denoise));
        }
        if cfg_batching == CfgBatching::Sequential {
            reasons.push(format!("batched guidance: {}", budget.reason(batched)));
        }

        let (decode_mode, decoded) = self.decode(batch, &whole, budget)?;
        if decode_mode != DecodeMode::Whole {
            reasons.push(format!("decoding whole: {}", budget.reason(ActivationMemory::from(&whole))));
        }
        if matches!(decode_mode, DecodeMode::Tiles(_)) {
            reasons.push(format!("in strips: {}", budget.reason(self.strips(batch))));
        }
        Ok(MemoryPlan {
            weight_format: format,
            cfg_batching,
            decode_mode,
            denoise_bytes: budget.weights + denoise.live,
            decode_bytes: budget.weights + decoded.live,
            binding_bytes: denoise.binding.max(decoded.binding),
            reasons,
        })
    }

    fn strips(&self, batch: LatentBatch) -> ActivationMemory {
        let LatentBatch { images, latent_size, .. } = batch;
        ActivationMemory::from(&vae_footprint::decode(&self.vae, images, latent_size, self.limits.binding_bytes))
    }

    /// Returns the first mode within `budget`: whole, strips, then the largest tiles.
    fn decode(
        &self,
        batch: LatentBatch,
        whole: &VaeFootprint,
        budget: Budget,
    ) -> Result<(DecodeMode, ActivationMemory), Fault> {
        let whole = ActivationMemory::from(whole);
        if budget.fits(whole) {
            return Ok((DecodeMode::Whole, whole));
        }
        let strips = self.strips(batch);
        if budget.fits(strips) {
            return Ok((DecodeMode::Strips { limit_bytes: budget.binding_bytes }, strips));
        }
        let tiles = TILE_SIDES.map(|side| Tiling::new(side, self.vae.factor())).map(|tiling| {
            let latent_size = batch.latent_size.map(|side| side.min(tiling.latent));
            let tile = ActivationMemory::from(&vae_footprint::decode(&self.vae, batch.images, latent_size, u64::MAX));
            (DecodeMode::Tiles(tiling), tile)
        });
        let fitting = tiles.into_iter().find(|(_, tile)| budget.fits(*tile));
        fitting.ok_or_else(|| {
            let [.., (_, least)] = tiles;
            out_of_memory(
                "decoding in the smallest tiles",
                least.live.max(least.binding),
                budget.memory,
                "with all weights",
            )
        })
    }

    /// Returns the activations of one step of `b` captions. The peak is a block's feed-forward: x, its norm and the
    /// hidden 4·C are live together.
    fn denoise(&self, b: usize, [rows, columns]: [usize; 2]) -> ActivationMemory {
        let numbers: u64 =
            [b, rows / PATCH, columns / PATCH, self.dit.channels()].map(|count| count as u64).iter().product();
        ActivationMemory { live: 6 * numbers * F32_BYTES, binding: 4 * numbers * F32_BYTES }
    }
}

impl Budget {
    fn fits(self, need: ActivationMemory) -> bool {
        need.binding <= self.binding_bytes && need.live.saturating_add(self.weights) <= self.memory
    }

    /// Returns what `need` exceeds: the bytes needed, the bytes available, and whether one buffer is too large.
    fn excess(self, need: ActivationMemory) -> (u64, u64, bool) {
        if need.binding > self.binding_bytes {
            (need.binding, self.binding_bytes, true)
        } else {
            (need.live + self.weights, self.memory, false)
        }
    }

    fn reason(self, need: ActivationMemory) -> String {
        let (needed, available, one_buffer) = self.excess(need);
        let [needed, available] = [needed, available].map(|bytes| bytes as f64 / MIB);
        let kind = if one_buffer { "one buffer" } else { "a total" };
        format!("{kind} of {needed:.0} MiB, {available:.0} MiB available")
    }

    fn exceeded(self, what: &str, need: ActivationMemory) -> Fault {
        let (needed, available, one_buffer) = self.excess(need);
        out_of_memory(what, needed, available, if one_buffer { "in one buffer" } else { "with all weights" })
    }
}

impl From<&VaeFootprint> for ActivationMemory {
    fn from(footprint: &VaeFootprint) -> Self {
        Self { live: footprint.live, binding: footprint.binding() }
    }
}

fn out_of_memory(what: &str, needed: u64, available: u64, scope: &str) -> Fault {
    let [needed, available] = [needed, available].map(|bytes| bytes as f64 / MIB);
    let what = format!("{what} needs {needed:.0} MiB {scope}, and the device has {available:.0} MiB");
    Fault::new(FaultCode::OutOfMemory, what, "choose a smaller image")
}

#[cfg(test)]
mod tests;
