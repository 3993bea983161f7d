//! Memory by plan: before anything is loaded, which precision the transformer's blocks get; before a picture, whether
//! guidance runs both captions at once and how the autoencoder decodes. Sizes follow from the configurations alone.
//!
//! Counted are all weights of drawing and, at the widest place of each network, the tensors that live at the same time, in
//! f32. The text encoder is not: where it is large it runs elsewhere.

use pixart_kernels::WeightFormat;
use pixart_protocol::{Fault, FaultCode};
use pixart_weights::Folder;

use crate::Error;
use crate::config::{DitConfig, PATCH, SINUSOID_CHANNELS, T5Config, VaeConfig};
use crate::dit::MODULATIONS;
use crate::vae::Tiling;
use crate::vae::footprint::{self, Footprint};

/// Bytes of a number that is computed with.
const NUMBER: u64 = 4;
/// What is counted on where a device does not tell how much memory it has, as none does in a browser.
const MEMORY_UNKNOWN: u64 = 2560 << 20;
/// Sides of the autoencoder's tiles, in pixels, that are tried where a picture fits in no other way.
const TILES: [usize; 5] = [512, 384, 256, 192, 128];
const MIB: f64 = (1 << 20) as f64;

/// What a device can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceLimits {
    /// The largest buffer that a shader can be given.
    pub binding_bytes: u64,
    /// All of its memory, where that is known.
    pub memory_bytes: Option<u64>,
    /// Whether it is a GPU whose shaders compute in half precision. One that software plays is not faster for it.
    pub shader_f16: bool,
}

impl DeviceLimits {
    /// What every WebGPU device has.
    pub const LEAST: Self = Self { binding_bytes: 128 << 20, memory_bytes: None, shader_f16: false };

    /// None: of a processor, whose tensors are of any size.
    pub const NONE: Self = Self { binding_bytes: u64::MAX, memory_bytes: Some(u64::MAX), shader_f16: false };

    /// Those of a GPU that tells its largest binding, its largest buffer and whether it has shader-f16, but not its memory.
    #[must_use]
    pub fn of_gpu(bindings: u64, buffers: u64, has_shader_f16: bool, software: bool) -> Self {
        Self { binding_bytes: bindings.min(buffers), memory_bytes: None, shader_f16: has_shader_f16 && !software }
    }

    /// What is planned with.
    pub(crate) fn memory(self) -> u64 {
        self.memory_bytes.unwrap_or(MEMORY_UNKNOWN)
    }
}

/// What is asked for: P pictures of one latent size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picture {
    pub pictures: usize,
    /// Latent rows and columns.
    pub latent: [usize; 2],
    /// Guidance doubles the batch.
    pub guided: bool,
}

/// How the captions of classifier-free guidance are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guidance {
    /// In one batch.
    Together,
    /// One after the other, in half the memory.
    InTurn,
}

/// How the autoencoder decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decode {
    /// The undivided picture.
    Whole,
    /// In strips, none in a buffer of more than so many bytes; the same picture.
    Strips { limit_bytes: u64 },
    /// In tiles that know nothing of each other, in the least memory; another picture, see [`Tiling`].
    Tiles(Tiling),
}

/// How one picture is computed, and why so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub precision: WeightFormat,
    pub guidance: Guidance,
    pub decode: Decode,
    /// Bytes of the transformer's stage, and of the autoencoder's.
    pub denoise_bytes: u64,
    pub decode_bytes: u64,
    /// The largest buffer of either.
    pub binding_bytes: u64,
    pub why: Vec<String>,
}

impl Plan {
    /// What it needs at once, weights and all.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.denoise_bytes.max(self.decode_bytes)
    }

    /// What is done, in one line, with the reasons.
    #[must_use]
    pub fn line(&self) -> String {
        let precision = format!("{:?}", self.precision).to_lowercase();
        let captions = match self.guidance {
            Guidance::Together => "captions together",
            Guidance::InTurn => "captions in turn",
        };
        let decode = match self.decode {
            Decode::Whole => "decoded whole".to_owned(),
            Decode::Strips { .. } => "decoded in strips".to_owned(),
            Decode::Tiles(tiling) => format!("decoded in tiles of {} px", tiling.picture),
        };
        let why = if self.why.is_empty() { String::new() } else { format!(" ({})", self.why.join("; ")) };
        format!("{precision} weights, {captions}, {decode}{why}")
    }
}

/// The folder of the text encoder, and its section.
const TEXT: &str = "text_encoder";
/// Bytes of a text encoder in f32 that a tab keeps in full.
const TEXT_FULL_MAX: u64 = 256 << 20;

/// The precision that the network in `dir` of the checkpoint in `folder` should be converted to for a device of these limits.
/// A text encoder that is large is q8.
///
/// # Errors
/// A configuration that is missing or not supported, and [`FaultCode::OutOfMemory`] where no precision fits.
pub fn precision_of(folder: &Folder, dir: &str, limits: DeviceLimits) -> Result<WeightFormat, Error> {
    if dir != TEXT {
        return Planner::read(folder, limits)?.precision().map_err(Error::Request);
    }
    Ok(text_kept(folder)?.0)
}

/// Bytes of the text encoder of the checkpoint in `folder`, as it is packed or as a tab converts it.
///
/// # Errors
/// A configuration that is missing or not supported.
pub fn text_bytes(folder: &Folder) -> Result<u64, Error> {
    let packed = folder.manifest().and_then(|manifest| manifest.sections.iter().find(|one| one.name == TEXT));
    packed.map_or_else(|| Ok(text_kept(folder)?.1), |section| Ok(section.bytes()))
}

/// The precision that a tab converts a text encoder to, and the bytes that it then has.
fn text_kept(folder: &Folder) -> Result<(WeightFormat, u64), Error> {
    let all = T5Config::read(folder)?.inventory();
    let numbers: u64 = all.iter().map(|(_, shape)| shape.iter().product::<usize>() as u64).sum();
    let full = numbers * NUMBER;
    Ok(if full > TEXT_FULL_MAX { (WeightFormat::Q8, numbers) } else { (WeightFormat::F32, full) })
}

/// The sizes of one checkpoint's networks.
#[derive(Clone, Debug)]
pub struct Planner {
    pub dit: DitConfig,
    pub vae: VaeConfig,
    /// What a packed checkpoint is in; weights are not kept in a better precision.
    pub stored: WeightFormat,
    /// What is to be kept, whatever fits.
    pub chosen: Option<WeightFormat>,
    pub limits: DeviceLimits,
}

/// Bytes that live at once, and the largest buffer among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Need {
    live: u64,
    binding: u64,
}

impl Planner {
    /// For the checkpoint in `folder`.
    ///
    /// # Errors
    /// A configuration that is missing or not supported.
    pub fn read(folder: &Folder, limits: DeviceLimits) -> Result<Self, Error> {
        let stored = folder.manifest().map_or(WeightFormat::F32, |manifest| manifest.weight_format);
        Ok(Self { dit: DitConfig::read(folder)?, vae: VaeConfig::read(folder)?, stored, chosen: None, limits })
    }

    /// The chosen precision, or the best in which everything fits that a picture of the checkpoint's own size needs.
    ///
    /// # Errors
    /// [`FaultCode::OutOfMemory`] where not even the smallest does.
    pub fn precision(&self) -> Result<WeightFormat, Fault> {
        if let Some(chosen) = self.chosen {
            return Ok(chosen.max(self.stored));
        }
        let side = self.dit.sample_size;
        let picture = Picture { pictures: 1, latent: [side, side], guided: true };
        // The smaller half of f16 is kept for devices that have not enough for it.
        let mut last = None;
        let all = [WeightFormat::F32, WeightFormat::F16, WeightFormat::Q8, WeightFormat::Q4];
        for precision in all.into_iter().filter(|precision| *precision >= self.stored) {
            match self.plan(picture, precision) {
                Ok(plan) if !matches!(plan.decode, Decode::Tiles(_)) => return Ok(precision),
                Ok(_) => last = Some(Ok(precision)),
                Err(fault) => last = last.or(Some(Err(fault))),
            }
        }
        last.expect("there is a precision")
    }

    /// How to compute `picture` with weights of `precision`.
    ///
    /// # Errors
    /// [`FaultCode::OutOfMemory`] where it fits in no way.
    pub fn plan(&self, picture: Picture, precision: WeightFormat) -> Result<Plan, Fault> {
        let Picture { pictures, latent, guided } = picture;
        let [memory, limit_bytes] = [self.limits.memory(), self.limits.binding_bytes];
        let whole = footprint::decode(&self.vae, pictures, latent, u64::MAX);
        let weights = self.weights(precision) + whole.weights;
        let fits = |need: Need| need.binding <= limit_bytes && need.live.saturating_add(weights) <= memory;
        let refuse = |what: &str, need: Need, remedy: &str| {
            let binds = need.binding > limit_bytes;
            let needed = if binds { need.binding } else { need.live + weights };
            too_large(what, needed, if binds { limit_bytes } else { memory }, binds, remedy)
        };
        let mut why = Vec::new();
        if precision == self.stored && precision != WeightFormat::F32 {
            why.push("as the checkpoint is packed".to_owned());
        } else if self.chosen == Some(precision) {
            why.push("as was asked for".to_owned());
        } else if precision != WeightFormat::F32 {
            let [full, has] = [self.weights(WeightFormat::F32) + whole.weights, memory].map(|bytes| bytes as f64 / MIB);
            let told = if self.limits.memory_bytes.is_some() { "the device has" } else { "counted on" };
            why.push(format!("f32 weights are {full:.0} MiB, {told} {has:.0} MiB"));
        }
        let reason = |need: Need| {
            let binds = need.binding > limit_bytes;
            let [needed, has] = if binds { [need.binding, limit_bytes] } else { [need.live + weights, memory] }
                .map(|bytes| bytes as f64 / MIB);
            format!("{} of {needed:.0} MiB, {has:.0} MiB offered", if binds { "a buffer" } else { "a total" })
        };

        let rows = if guided { 2 * pictures } else { pictures };
        let (together, alone) = (self.denoise(rows, latent), self.denoise(pictures, latent));
        let (guidance, denoise) =
            if fits(together) { (Guidance::Together, together) } else { (Guidance::InTurn, alone) };
        if !fits(denoise) {
            return Err(refuse("a step", denoise, "choose a smaller picture"));
        }
        if guidance == Guidance::InTurn {
            why.push(format!("captions together: {}", reason(together)));
        }

        let (decode, decoded) = self.decode(picture, &whole, fits)?;
        if decode != Decode::Whole {
            why.push(format!("decoding whole: {}", reason(Need::from(&whole))));
        }
        if matches!(decode, Decode::Tiles(_)) {
            why.push(format!("in strips: {}", reason(self.strips(picture))));
        }
        Ok(Plan {
            precision,
            guidance,
            decode,
            denoise_bytes: weights + denoise.live,
            decode_bytes: weights + decoded.live,
            binding_bytes: denoise.binding.max(decoded.binding),
            why,
        })
    }

    fn strips(&self, picture: Picture) -> Need {
        Need::from(&footprint::decode(&self.vae, picture.pictures, picture.latent, self.limits.binding_bytes))
    }

    /// The first that `fits`: the whole, strips, the largest tiles.
    fn decode(
        &self,
        picture: Picture,
        whole: &Footprint,
        fits: impl Fn(Need) -> bool,
    ) -> Result<(Decode, Need), Fault> {
        let whole = Need::from(whole);
        if fits(whole) {
            return Ok((Decode::Whole, whole));
        }
        let strips = self.strips(picture);
        if fits(strips) {
            return Ok((Decode::Strips { limit_bytes: self.limits.binding_bytes }, strips));
        }
        let tiles = TILES.map(|side| Tiling::new(side, self.vae.factor())).map(|tiling| {
            let latent = picture.latent.map(|side| side.min(tiling.latent));
            let need = Need::from(&footprint::decode(&self.vae, picture.pictures, latent, u64::MAX));
            (Decode::Tiles(tiling), need)
        });
        let found = tiles.into_iter().find(|(_, need)| fits(*need));
        found.ok_or_else(|| {
            let [.., (_, least)] = tiles;
            let needed = least.live.max(least.binding);
            too_large("decoding in the smallest tiles", needed, self.limits.memory(), false, "choose a smaller picture")
        })
    }

    /// All of the transformer: 16·C² a block in `precision`, its table and the embedders in f32.
    fn weights(&self, precision: WeightFormat) -> u64 {
        let DitConfig { layers, caption_channels, .. } = self.dit;
        let c = self.dit.channels();
        let precision = if precision.fits(c, c) { precision } else { WeightFormat::F32 };
        let embedders = c * (caption_channels + SINUSOID_CHANNELS + (2 + MODULATIONS) * c + MODULATIONS * layers);
        (layers * precision.bytes(c, 16 * c)) as u64 + embedders as u64 * NUMBER
    }

    /// One step of `b` captions: in a block's hidden layer x, its norm and the hidden 4·C live together.
    fn denoise(&self, b: usize, [rows, columns]: [usize; 2]) -> Need {
        let numbers = (b * (rows / PATCH) * (columns / PATCH) * self.dit.channels()) as u64;
        Need { live: 6 * numbers * NUMBER, binding: 4 * numbers * NUMBER }
    }
}

impl From<&Footprint> for Need {
    fn from(cost: &Footprint) -> Self {
        Self { live: cost.live, binding: cost.binding() }
    }
}

fn too_large(what: &str, needed: u64, has: u64, binds: bool, remedy: &str) -> Fault {
    let [needed, has] = [needed, has].map(|bytes| bytes as f64 / MIB);
    let of = if binds { "in one buffer" } else { "with all weights" };
    let what = format!("{what} needs {needed:.0} MiB {of}, and the device has {has:.0} MiB");
    Fault::new(FaultCode::OutOfMemory, what, remedy)
}

#[cfg(test)]
mod tests;
