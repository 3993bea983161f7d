//! Memory by plan: before anything is loaded, which precision the weights get; before a picture, whether guidance runs
//! both captions at once and in which tiles the autoencoder decodes. Sizes follow from the configurations alone.
//!
//! Counted are weights and, at the widest place of each network, the tensors that live at the same time, all in f32.

use pixart_kernels::Precision;
use pixart_protocol::{Fault, FaultCode};

use crate::config::{DitConfig, PATCH, VaeConfig};
use crate::vae::Tiling;

/// Bytes of a number that is computed with.
const NUMBER: u64 = 4;
/// What is counted on where a device does not tell how much memory it has, as none does in a browser.
const MEMORY_UNKNOWN: u64 = 2 << 30;
/// Sides of the autoencoder's tiles, in pixels, that are tried where a picture is too large for one.
const TILES: [usize; 5] = [512, 384, 256, 192, 128];
const MIB: f64 = (1 << 20) as f64;

/// What a device can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceLimits {
    /// The largest buffer that a shader can be given.
    pub binding_bytes: u64,
    /// All of its memory, where that is known.
    pub memory_bytes: Option<u64>,
}

impl DeviceLimits {
    /// What every WebGPU device has.
    pub const LEAST: Self = Self { binding_bytes: 128 << 20, memory_bytes: None };

    fn memory(self) -> u64 {
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

/// How one picture is computed, and why so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub guidance: Guidance,
    /// None: the whole picture at once.
    pub tiling: Option<Tiling>,
    /// Bytes of the transformer's stage, and of the autoencoder's.
    pub denoise_bytes: u64,
    pub decode_bytes: u64,
    /// The largest buffer of either.
    pub binding_bytes: u64,
    pub why: Vec<String>,
}

/// The sizes of one checkpoint's networks.
#[derive(Clone, Debug)]
pub struct Planner {
    pub dit: DitConfig,
    pub vae: VaeConfig,
    pub limits: DeviceLimits,
}

/// Bytes that live at once, and the largest buffer among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Need {
    live: u64,
    binding: u64,
}

impl Planner {
    /// The best precision in which the transformer's weights and one picture of its own size fit.
    ///
    /// # Errors
    /// [`FaultCode::OutOfMemory`] where not even the smallest does.
    pub fn precision(&self) -> Result<(Precision, String), Fault> {
        let side = self.dit.sample_size;
        let latent = self.denoise(1, [side, side]).live;
        let memory = self.limits.memory();
        let all = [Precision::F32, Precision::F16, Precision::Q8, Precision::Q4];
        let total = |precision: &Precision| self.weights(*precision) + latent;
        let Some(precision) = all.into_iter().find(|precision| total(precision) <= memory) else {
            return Err(too_large("the transformer", total(&Precision::Q4), memory, "use a device with more memory"));
        };
        let told = if self.limits.memory_bytes.is_some() { "has" } else { "is counted on to have" };
        let why = format!(
            "{precision:?} weights: with one picture {:.0} MiB, the device {told} {:.0} MiB",
            total(&precision) as f64 / MIB,
            memory as f64 / MIB,
        );
        Ok((precision, why))
    }

    /// How to compute `picture` with weights of `precision`.
    ///
    /// # Errors
    /// [`FaultCode::OutOfMemory`] where it fits in no way.
    pub fn plan(&self, picture: Picture, precision: Precision) -> Result<Plan, Fault> {
        let memory = self.limits.memory();
        let mut why = Vec::new();
        let weights = self.weights(precision);
        let rows = if picture.guided { 2 * picture.pictures } else { picture.pictures };
        let fits = |need: Need, fixed: u64| need.binding <= self.limits.binding_bytes && need.live + fixed <= memory;

        let (together, alone) = (self.denoise(rows, picture.latent), self.denoise(picture.pictures, picture.latent));
        let (guidance, denoise) =
            if fits(together, weights) { (Guidance::Together, together) } else { (Guidance::InTurn, alone) };
        if !fits(denoise, weights) {
            let need = (denoise.live + weights).max(denoise.binding);
            let has = if denoise.binding > self.limits.binding_bytes { self.limits.binding_bytes } else { memory };
            return Err(too_large("a step", need, has, "choose a smaller picture"));
        }
        if guidance == Guidance::InTurn {
            let [needed, has] = [together.binding, self.limits.binding_bytes].map(|bytes| bytes as f64 / MIB);
            why.push(format!("captions in turn: together the largest buffer is {needed:.0} MiB of {has:.0} MiB"));
        }

        let factor = self.vae.factor();
        let whole = picture.latent;
        let decoded = self.decode(picture.pictures, whole);
        let tile = |side: &usize| {
            let side = Tiling::new(*side, factor).latent;
            self.decode(picture.pictures, whole.map(|rows| rows.min(side)))
        };
        let (tiling, decode) = if fits(decoded, 0) {
            (None, decoded)
        } else {
            let side = TILES.into_iter().find(|side| fits(tile(side), 0));
            let side = side.ok_or_else(|| {
                too_large("the smallest tile of the picture", tile(&TILES[4]).live, memory, "use another device")
            })?;
            let [needed, has] = [decoded.binding, self.limits.binding_bytes].map(|bytes| bytes as f64 / MIB);
            why.push(format!("tiles of {side} px: at once the largest buffer is {needed:.0} MiB of {has:.0} MiB"));
            (Some(Tiling::new(side, factor)), tile(&side))
        };
        Ok(Plan {
            guidance,
            tiling,
            denoise_bytes: weights + denoise.live,
            decode_bytes: decode.live,
            binding_bytes: denoise.binding.max(decode.binding),
            why,
        })
    }

    /// The transformer's matrices: 16·C² a block.
    fn weights(&self, precision: Precision) -> u64 {
        let c = self.dit.channels();
        let precision = if precision.fits(c, c) { precision } else { Precision::F32 };
        (self.dit.layers * precision.bytes(c, 16 * c)) as u64
    }

    /// One step of `b` captions: in a block's hidden layer x, its norm and the hidden 4·C live together.
    fn denoise(&self, b: usize, [rows, columns]: [usize; 2]) -> Need {
        let numbers = (b * (rows / PATCH) * (columns / PATCH) * self.dit.channels()) as u64;
        Need { live: 6 * numbers * NUMBER, binding: 4 * numbers * NUMBER }
    }

    /// Decoding at once: at every size, the input of its first residual block, its norm and the narrower result.
    fn decode(&self, pictures: usize, [rows, columns]: [usize; 2]) -> Need {
        let widths = &self.vae.block_channels;
        let factor = self.vae.factor();
        let needs = widths.iter().enumerate().map(|(level, width)| {
            let input = widths.get(level + 1).copied().unwrap_or(*width);
            let pixels = (pictures * (rows * factor >> level) * (columns * factor >> level)) as u64;
            let [input, width] = [input as u64, *width as u64];
            Need { live: (2 * input + width) * pixels * NUMBER, binding: input.max(width) * pixels * NUMBER }
        });
        needs.fold(Need { live: 0, binding: 0 }, |most, need| Need {
            live: most.live.max(need.live),
            binding: most.binding.max(need.binding),
        })
    }
}

fn too_large(what: &str, needed: u64, has: u64, remedy: &str) -> Fault {
    let [needed, has] = [needed, has].map(|bytes| bytes as f64 / MIB);
    Fault::new(FaultCode::OutOfMemory, format!("{what} needs {needed:.0} MiB, and the device has {has:.0} MiB"), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{XL_2, sd_vae};

    fn planner(binding_mib: u64, memory_mib: Option<u64>) -> Planner {
        let limits = DeviceLimits { binding_bytes: binding_mib << 20, memory_bytes: memory_mib.map(|mib| mib << 20) };
        Planner { dit: XL_2, vae: sd_vae(), limits }
    }

    fn picture(pixels: usize) -> Picture {
        Picture { pictures: 1, latent: [pixels / 8; 2], guided: true }
    }

    #[test]
    fn a_small_picture_is_computed_at_once() {
        let plan = planner(128, None).plan(picture(256), Precision::F16).expect("it fits");
        assert_eq!((plan.guidance, plan.tiling, &plan.why[..]), (Guidance::Together, None, &[][..]));
    }

    #[test]
    fn at_the_least_limits_a_picture_of_1024_px_is_cut_and_every_buffer_fits() {
        let planner = planner(128, None);
        assert_eq!(planner.limits, DeviceLimits::LEAST);
        let plan = planner.plan(picture(1024), Precision::F16).expect("it fits");
        assert_eq!(plan.guidance, Guidance::InTurn);
        assert_eq!(plan.tiling, Some(Tiling { picture: 256, latent: 32 }));
        assert!(plan.binding_bytes <= 128 << 20, "{plan:?}");
        // 4096 tokens of 4·1152 numbers; 256×256 pixels of 256 channels.
        assert_eq!(plan.binding_bytes, 4096 * 4 * 1152 * 4);
        assert_eq!(plan.why.len(), 2);
    }

    #[test]
    fn larger_buffers_are_used_where_there_are_some() {
        let plan = planner(2048, Some(8192)).plan(picture(1024), Precision::F32).expect("it fits");
        assert_eq!((plan.guidance, plan.tiling), (Guidance::Together, None));
    }

    #[test]
    fn the_best_precision_that_fits_is_chosen() {
        let chosen = |memory_mib| planner(128, Some(memory_mib)).precision().map(|(precision, _)| precision);
        assert_eq!(chosen(4096), Ok(Precision::F32));
        assert_eq!(chosen(2048), Ok(Precision::F16));
        assert_eq!(chosen(1024), Ok(Precision::Q8));
        assert_eq!(chosen(512), Ok(Precision::Q4));
        assert_eq!(chosen(256).expect_err("nothing fits").code, FaultCode::OutOfMemory);
        assert_eq!(planner(128, None).precision().map(|(precision, _)| precision), Ok(Precision::F16));
    }

    #[test]
    fn a_picture_that_fits_in_no_way_is_refused_with_what_it_needs() {
        let fault = planner(128, None).plan(picture(4096), Precision::Q4).expect_err("65,536 tokens");
        assert_eq!(fault.code, FaultCode::OutOfMemory);
        assert!(fault.what.contains("a step needs") && fault.what.contains("128 MiB"), "{fault}");
    }
}
