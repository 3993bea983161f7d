//! From a request to a picture, in stages a caller can drive one by one: encode the captions, step through the noise,
//! decode. Between two calls nothing is pending on the host, so a caller can look for a cancellation or draw a
//! progress bar. It never reads a tensor back; [`crate::image`] does.

use burn::tensor::{Device, Tensor, TensorData};
use pixart_kernels::Precision;
use pixart_protocol::{Fault, FaultCode, Generate, Limits, Resolved};
use pixart_weights::Folder;

use crate::config::{DitConfig, MICRO_CONDITION_SAMPLE_SIZE, PATCH, VaeConfig};
use crate::dit::Pass;
use crate::plan::{Decode, DeviceLimits, Guidance, Picture, Plan, Planner};
use crate::schedulers::DpmRun;
use crate::{CaptionTokenizer, Conditions, Decoding, Dit, DpmMultistep, Error, MicroConditions, T5, Taps, Tokens};
use crate::{bins, clean, plain, randn};

/// Tokens a caption is padded or cut to where nothing else is asked (diffusers `PixArtAlphaPipeline`,
/// `max_sequence_length`).
pub const CAPTION_TOKENS: usize = 120;
/// The smallest and largest picture offered, in halves and doubles of the size the checkpoint was trained at.
const SIZE_RANGE: u32 = 2;

/// Text embeddings `[B, L, C]` and mask `[B, L]` (1 keep, 0 padding).
#[derive(Clone)]
pub struct Caption {
    pub embeds: Tensor<3>,
    pub mask: Tensor<2>,
}

impl Caption {
    /// Embeddings that were computed elsewhere.
    ///
    /// # Errors
    /// Numbers that do not fill the shape, or are not finite.
    pub fn from_values(embeds: Vec<f32>, mask: Vec<f32>, shape: [usize; 3], device: &Device) -> Result<Self, Error> {
        let [b, l, c] = shape;
        let remedy = "encode the prompt again with the text encoder of this checkpoint";
        let bad = |what: String| Err(Error::Request(Fault::new(FaultCode::BadRequest, what, remedy)));
        if embeds.len() != b * l * c || mask.len() != b * l || embeds.is_empty() {
            let (embeds, mask) = (embeds.len(), mask.len());
            return bad(format!("text embeddings of shape {shape:?} came with {embeds} numbers and a mask of {mask}"));
        }
        if let Some(index) = embeds.iter().chain(&mask).position(|value| !value.is_finite()) {
            return bad(format!("the text embeddings are not finite at element {index}"));
        }
        Ok(Self {
            embeds: Tensor::from_data(TensorData::new(embeds, [b, l, c]), device),
            mask: Tensor::from_data(TensorData::new(mask, [b, l]), device),
        })
    }
}

/// The text stage: a tokenizer and its T5.
pub struct TextEncoder {
    tokenizer: CaptionTokenizer,
    t5: T5,
    device: Device,
}

impl TextEncoder {
    /// Reads `tokenizer/` and `text_encoder/`.
    ///
    /// # Errors
    /// See [`T5::load`] and [`CaptionTokenizer::load`].
    pub fn load(folder: &Folder, device: &Device) -> Result<Self, Error> {
        Ok(Self { tokenizer: CaptionTokenizer::load(folder)?, t5: T5::load(folder, device)?, device: device.clone() })
    }

    /// Captions, one row each, lower-cased and stripped, padded or cut to `tokens` tokens.
    ///
    /// # Errors
    /// A caption the tokenizer cannot read.
    pub fn tokens(&self, captions: &[impl AsRef<str>], tokens: usize) -> Result<Vec<Tokens>, Error> {
        captions.iter().map(|caption| self.tokenizer.encode(&plain(caption.as_ref()), tokens)).collect()
    }

    /// Captions → text embeddings.
    ///
    /// # Errors
    /// A caption the tokenizer cannot read.
    pub fn encode(&self, captions: &[impl AsRef<str>], tokens: usize, taps: &mut Taps) -> Result<Caption, Error> {
        let rows = self.tokens(captions, tokens)?;
        let mask: Vec<f32> = rows.iter().flat_map(|row| row.mask.iter().copied()).collect();
        let mask = Tensor::from_data(TensorData::new(mask, [rows.len(), tokens]), &self.device);
        Ok(Caption { embeds: self.t5.forward(&rows, taps), mask })
    }
}

/// The picture stages: transformer, scheduler and autoencoder. It needs no text encoder.
pub struct Painter {
    pub dit: Dit,
    pub scheduler: DpmMultistep,
    pub vae: Decoding,
    planner: Planner,
    precision: Precision,
    device: Device,
}

impl Painter {
    /// Reads `transformer/`, `scheduler/` and `vae/`.
    ///
    /// # Errors
    /// See [`Dit::load`], [`DpmMultistep::read`] and [`Vae::load`].
    pub fn load(folder: &Folder, device: &Device) -> Result<Self, Error> {
        Self::load_within(folder, device, DeviceLimits::NONE)
    }

    /// [`Painter::load`], the transformer in the best precision that fits a device of these limits.
    ///
    /// # Errors
    /// As [`Painter::load`]'s, and [`FaultCode::OutOfMemory`] where no precision fits.
    pub fn load_within(folder: &Folder, device: &Device, limits: DeviceLimits) -> Result<Self, Error> {
        let planner = Planner { dit: DitConfig::read(folder)?, vae: VaeConfig::read(folder)?, limits };
        let precision = planner.precision().map_err(Error::Request)?;
        Ok(Self {
            dit: Dit::load_as(folder, precision, device)?,
            scheduler: DpmMultistep::read(folder)?,
            vae: Decoding::load(folder, device)?,
            planner,
            precision,
            device: device.clone(),
        })
    }

    /// How the picture that `request` asks for is computed within the limits that were told at loading.
    ///
    /// # Errors
    /// [`FaultCode::OutOfMemory`] where it fits in no way.
    pub fn plan(&self, request: &Generate, resolved: &Resolved) -> Result<Plan, Error> {
        let latent = self.drawn_size(request, resolved).map(|side| side as usize / self.vae.config().factor());
        let picture = Picture { pictures: 1, latent, guided: request.guidance > 1.0 };
        self.planner.plan(picture, self.precision).map_err(Error::Request)
    }

    /// What this checkpoint can draw.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let factor = self.vae.config().factor();
        let native_size = (self.dit.config().sample_size * factor) as u32;
        let size_multiple = (factor * PATCH) as u32;
        Limits {
            native_size,
            size_min: (native_size / SIZE_RANGE).next_multiple_of(size_multiple),
            size_max: native_size * SIZE_RANGE,
            size_multiple,
            binned: bins::nearest(native_size, 1, 1).is_some(),
        }
    }

    /// Height and width that `request` is drawn at: those of its bin, or its own.
    #[must_use]
    pub fn drawn_size(&self, request: &Generate, resolved: &Resolved) -> [u32; 2] {
        let Resolved { height, width, .. } = *resolved;
        let bin = bins::nearest(self.limits().native_size, height, width);
        bin.filter(|_| request.use_resolution_binning).unwrap_or([height, width])
    }

    /// The first latent of each picture of `request`, `[1, latent_channels, H/8, W/8]`: one generator draws them all, or
    /// each has a seed of its own.
    #[must_use]
    pub fn noises(&self, request: &Generate, resolved: &Resolved) -> Vec<Tensor<4>> {
        let [height, width] = self.drawn_size(request, resolved);
        if let Some(seeds) = &request.seeds {
            return seeds.iter().map(|seed| self.noise(*seed, height, width, 1)).collect();
        }
        let pictures = request.num_images_per_prompt as usize;
        self.noise(request.seed, height, width, pictures).chunk(pictures, 0)
    }

    /// First latents: torch's normal noise for `seed`, `[P, latent_channels, H/8, W/8]`.
    fn noise(&self, seed: u32, height: u32, width: u32, pictures: usize) -> Tensor<4> {
        let factor = self.vae.config().factor();
        let shape = [pictures, self.dit.config().latent_channels, height as usize / factor, width as usize / factor];
        let noise = randn(u64::from(seed), shape.iter().product());
        Tensor::from_data(TensorData::new(noise, shape), &self.device)
    }

    /// Refuses what a request may ask for and no scheduler here does.
    ///
    /// # Errors
    /// The first such field, by name.
    pub fn only_what_is_built(&self, request: &Generate) -> Result<(), Error> {
        let Generate { timesteps, sigmas, scheduler, eta, .. } = request;
        let asked = [
            ("timesteps", timesteps.is_some()),
            ("sigmas", sigmas.is_some()),
            ("scheduler", scheduler.is_some()),
            ("eta", *eta != 0.0),
        ];
        match asked.into_iter().find(|(_, asked)| *asked) {
            None => Ok(()),
            Some((name, _)) => {
                let what = format!("{name} is given, which DPM-Solver++ does not take");
                Err(Error::Request(Fault::new(FaultCode::BadRequest, what, "leave it out")))
            }
        }
    }

    /// Prepares the denoising of `latent` `[P, latent_channels, H, W]`.
    ///
    /// The caption has P rows, or 2·P where guidance is above 1: the negative prompts' rows, then the prompts'.
    #[must_use]
    pub fn denoise(
        &self,
        latent: Tensor<4>,
        caption: Caption,
        guidance: f64,
        steps: usize,
        taps: &mut Taps,
    ) -> Denoise<'_> {
        let [pictures, _, rows, columns] = latent.dims();
        let guidance = (guidance > 1.0).then_some(guidance);
        let captions = if guidance.is_some() { 2 * pictures } else { pictures };
        assert_eq!(caption.embeds.dims()[0], captions, "caption rows for {pictures} pictures, guidance {guidance:?}");

        let factor = self.vae.config().factor();
        let (height, width) = ((rows * factor) as f32, (columns * factor) as f32);
        let told = self.dit.config().sample_size == MICRO_CONDITION_SAMPLE_SIZE && self.dit.config().micro_conditions;
        let micro = told.then_some(MicroConditions { height, width, aspect_ratio: height / width });
        Denoise {
            dit: &self.dit,
            conditions: vec![self.dit.prepare(caption.embeds, caption.mask, [rows, columns], micro, taps)],
            guidance,
            run: self.scheduler.run(steps),
            latent,
            pass: None,
            outs: Vec::new(),
        }
    }

    /// Finished latent → picture in -1..1 `[P, 3, 8·H, 8·W]`.
    #[must_use]
    pub fn decode(&self, latent: Tensor<4>) -> Tensor<4> {
        self.decode_as(latent, Decode::Whole)
    }

    /// [`Painter::decode`] as planned.
    #[must_use]
    pub fn decode_as(&self, latent: Tensor<4>, how: Decode) -> Tensor<4> {
        self.vae.decode(latent / self.vae.config().scaling_factor, how)
    }
}

/// A picture on its way from noise to a clean latent.
pub struct Denoise<'painter> {
    dit: &'painter Dit,
    /// Of all captions, or of the negative ones and then of the others.
    conditions: Vec<Conditions>,
    guidance: Option<f64>,
    run: DpmRun,
    latent: Tensor<4>,
    /// The step at work, and what the captions before it gave where they take turns.
    pass: Option<Pass>,
    outs: Vec<Tensor<4>>,
}

/// How far [`Denoise::advance`] came, by so many blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Into the middle of a step.
    Within(usize),
    /// To the end of a step.
    Step(usize),
    /// Nowhere: there was no step left to make.
    Done,
}

impl Denoise<'_> {
    /// The same, as planned: the captions of guidance together or in turn.
    #[must_use]
    pub fn planned(mut self, guidance: Guidance) -> Self {
        if self.guidance.is_some() && guidance == Guidance::InTurn {
            self.conditions = self.conditions.into_iter().flat_map(Conditions::halves).collect();
        }
        self
    }

    /// Makes one step. False once there is none left to make.
    pub fn step(&mut self, taps: &mut Taps) -> bool {
        self.advance(usize::MAX, taps) != Progress::Done
    }

    /// Goes on with a step, or begins one, and stops at its end or after `blocks` blocks of the transformer.
    pub fn advance(&mut self, blocks: usize, taps: &mut Taps) -> Progress {
        let Some(timestep) = self.run.timestep() else { return Progress::Done };
        let mut made = 0;
        while made < blocks {
            let conditions = &self.conditions[self.outs.len()];
            let begin = || self.dit.begin(self.latent.clone(), timestep, conditions, taps);
            let mut pass = self.pass.take().unwrap_or_else(begin);
            if self.dit.advance(&mut pass, conditions, taps) {
                self.pass = Some(pass);
                made += 1;
                continue;
            }
            self.outs.push(self.dit.finish(pass, conditions, taps));
            if self.outs.len() == self.conditions.len() {
                let noise = guide(Tensor::cat(std::mem::take(&mut self.outs), 0), self.guidance, self.latent.dims());
                taps.see(format_args!("eps"), &noise);
                self.latent = self.run.step(self.latent.clone(), noise);
                taps.see(format_args!("prev_sample"), &self.latent);
                return Progress::Step(made);
            }
        }
        Progress::Within(made)
    }

    /// One number of what was computed last: it can be read once that is there.
    #[must_use]
    pub fn latest(&self) -> Tensor<1> {
        let latest = self.pass.as_ref().map(Pass::latest);
        latest.unwrap_or_else(|| self.outs.last().unwrap_or(&self.latent).clone().flatten(0, 3)).narrow(0, 0, 1)
    }

    #[must_use]
    pub fn run(&self) -> &DpmRun {
        &self.run
    }

    /// The latent as it is now.
    #[must_use]
    pub fn latent(&self) -> Tensor<4> {
        self.latent.clone()
    }

    #[must_use]
    pub fn into_latent(self) -> Tensor<4> {
        self.latent
    }
}

/// Classifier-free guidance, unconditional + g · (conditional - unconditional) (Ho and Salimans 2022, eq. 6), and the
/// noise half of the channels: a network that also predicts a variance returns it in the other half.
fn guide(out: Tensor<4>, guidance: Option<f64>, [pictures, channels, rows, columns]: [usize; 4]) -> Tensor<4> {
    let part = |start: usize| out.clone().slice([start..start + pictures, 0..channels, 0..rows, 0..columns]);
    let Some(guidance) = guidance else { return part(0) };
    let (unconditional, conditional) = (part(0), part(pictures));
    unconditional.clone() + (conditional - unconditional) * guidance
}

/// All stages of one checkpoint.
pub struct Pipeline {
    pub text: TextEncoder,
    pub painter: Painter,
}

impl Pipeline {
    /// Reads a diffusers folder for a device of these limits.
    ///
    /// # Errors
    /// The first file, key or tensor that cannot be used, by name, and [`FaultCode::OutOfMemory`] where the transformer fits
    /// in no precision.
    pub fn load_within(folder: &Folder, device: &Device, limits: DeviceLimits) -> Result<Self, Error> {
        let painter = Painter::load_within(folder, device, limits)?;
        Ok(Self { text: TextEncoder::load(folder, device)?, painter })
    }

    #[must_use]
    pub fn limits(&self) -> Limits {
        self.painter.limits()
    }

    /// The captions of `request`, one row each → text embeddings of its `max_sequence_length`.
    ///
    /// # Errors
    /// A field of the request that cannot be used, or a caption the tokenizer cannot read.
    pub fn encode(&self, request: &Generate) -> Result<Caption, Error> {
        let resolved = request.resolve(&self.limits()).map_err(Error::Request)?;
        self.text.encode(&captions_of(request, &resolved), request.max_sequence_length as usize, &mut Taps::off())
    }

    /// See [`Painter::plan`].
    ///
    /// # Errors
    /// A field of the request that cannot be used, or [`FaultCode::OutOfMemory`] where the picture fits in no way.
    pub fn plan(&self, request: &Generate) -> Result<Plan, Error> {
        let resolved = request.resolve(&self.limits()).map_err(Error::Request)?;
        self.painter.plan(request, &resolved)
    }

    /// Prepares the first picture that `request` asks for; `caption` as [`captions_of`] orders it.
    ///
    /// # Errors
    /// A field of the request that cannot be used, or a caption of another checkpoint.
    pub fn denoise(&self, request: &Generate, caption: Caption, plan: &Plan) -> Result<Denoise<'_>, Error> {
        let resolved = request.resolve(&self.limits()).map_err(Error::Request)?;
        self.painter.only_what_is_built(request)?;
        let (expected, channels) = (captions_of(request, &resolved).len(), self.painter.dit.config().caption_channels);
        let [rows, _, got] = caption.embeds.dims();
        if (rows, got) != (expected, channels) {
            return Err(Error::Request(Fault::new(
                FaultCode::BadRequest,
                format!("the text embeddings are {rows} captions of {got} channels, not {expected} of {channels}"),
                "encode the negative prompt and the prompt with the text encoder of this checkpoint",
            )));
        }
        let latent = self.painter.noises(request, &resolved).swap_remove(0);
        let steps = request.steps as usize;
        let denoise = self.painter.denoise(latent, caption, request.guidance, steps, &mut Taps::off());
        Ok(denoise.planned(plan.guidance))
    }

    /// Finished latent → picture in -1..1 `[1, 3, height, width]`.
    #[must_use]
    pub fn decode(&self, latent: Tensor<4>, plan: &Plan) -> Tensor<4> {
        self.painter.decode_as(latent, plan.decode)
    }
}

/// The captions a request needs encoded, cleaned where it asks for that, in the order of the batch: the negative prompt
/// only where guidance uses it.
#[must_use]
pub fn captions_of(request: &Generate, resolved: &Resolved) -> Vec<String> {
    let negative = Some(&resolved.negative_prompt).filter(|_| request.guidance > 1.0);
    let prepare = if request.clean_caption { clean } else { plain };
    negative.into_iter().chain([&resolved.prompt]).map(|caption| prepare(caption)).collect()
}
