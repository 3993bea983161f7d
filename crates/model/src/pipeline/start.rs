//! Drawing over a picture that a request brings along: where it begins, and what of it stays. Source: diffusers'
//! `StableDiffusionImg2ImgPipeline` and, for masks, `StableDiffusionInpaintPipeline` with a network of four channels.

use burn::tensor::{Tensor, TensorData};
use pixart_protocol::{Fault, FaultCode, Generate, Resolved};
use pixart_weights::{Folder, Tensors};

use super::Painter;
use crate::image::{Size, from_png, mask, planes, resized};
use crate::noise::Noise;
use crate::schedulers::Run;
use crate::{Encoding, Error, Taps};

/// What a picture is drawn from.
pub struct Start {
    /// Noise `[P, latent_channels, H, W]`, or the clean latent of the picture to draw over.
    latent: Tensor<4>,
    over: Option<Over>,
}

/// How a picture is drawn over.
struct Over {
    /// `[1, 1, H, W]`: what is drawn is where it is 1; the rest is the clean latent again after every step.
    mask: Option<Tensor<4>>,
    /// Nothing of the picture is in the first latent.
    from_noise: bool,
}

/// The part of a picture that stays.
pub(super) struct Known {
    clean: Tensor<4>,
    noise: Tensor<4>,
    mask: Tensor<4>,
}

impl Known {
    /// `latent` after a step of `run`, with the known part at its level in place of its own.
    pub(super) fn put_back(&self, run: &Run, latent: Tensor<4>) -> Tensor<4> {
        let known = match run.timestep() {
            Some(_) => run.noised(self.clean.clone(), self.noise.clone()),
            None => self.clean.clone(),
        };
        known.clone() + (latent - known) * self.mask.clone()
    }
}

impl Start {
    #[must_use]
    pub fn noise(latent: Tensor<4>) -> Self {
        Self { latent, over: None }
    }

    /// The first latent of `run`, and what of it stays.
    pub(super) fn begin(self, run: &Run, noise: &mut Noise) -> (Tensor<4>, Option<Known>) {
        let Self { latent, over } = self;
        let Some(Over { mask, from_noise }) = over else { return (latent * run.initial_scale(), None) };
        let drawn = noise.draw();
        let first = match from_noise {
            true => drawn.clone() * run.initial_scale(),
            false => run.noised(latent.clone(), drawn.clone()),
        };
        (first, mask.map(|mask| Known { clean: latent, noise: drawn, mask }))
    }
}

impl Painter {
    /// What picture `index` of `request` is drawn from: its image, which only `encoding` can read, its latents, or noise.
    ///
    /// # Errors
    /// An image or a mask that is not a PNG, an image without `encoding`, or latents of another shape.
    pub fn start(
        &self,
        request: &Generate,
        resolved: &Resolved,
        encoding: Option<&Encoding>,
        index: usize,
        noise: &mut Noise,
    ) -> Result<Start, Error> {
        if let Some(file) = &request.latents {
            return Ok(Start::noise(self.latents(file.clone(), request, index, noise.shape())?));
        }
        let Some(image) = &request.image else { return Ok(Start::noise(noise.draw())) };
        let bad = |what: String, remedy: &str| Error::Request(Fault::new(FaultCode::BadRequest, what, remedy));
        let Some(encoding) = encoding else {
            let what = "an image is given, and nothing is loaded that reads it".to_owned();
            return Err(bad(what, "load the encoding half of `vae/` first"));
        };
        let [height, width] = self.drawn_size(request, resolved).map(|side| side as usize);
        let read = |name: &str, file: &[u8]| match from_png(file) {
            Ok(picture) => Ok(resized(&picture, Size { height, width })),
            Err(Error::Png { why }) => {
                Err(bad(format!("the {name} cannot be read: {why}"), "give a PNG file of at most 64 megapixels"))
            }
            Err(error) => Err(error),
        };
        let picture = TensorData::new(planes(&read("image", image)?), [1, 3, height, width]);
        let picture = Tensor::from_data(picture, &self.device);
        let moments = match encoding.tiling([height, width], self.device_limits().binding_bytes) {
            None => encoding.encode(picture, &mut Taps::off()),
            Some(tiling) => encoding.encode_tiled(picture, tiling),
        };
        let clean = moments.sample(noise.draw_for_all()) * encoding.config().scaling_factor;
        let [_, _, rows, columns] = clean.dims();
        let mask = request.mask_image.as_ref().map(|file| {
            let mask = mask(&read("mask", file)?, encoding.config().factor());
            Ok::<_, Error>(Tensor::from_data(TensorData::new(mask, [1, 1, rows, columns]), &self.device))
        });
        let mask = mask.transpose()?;
        let from_noise = mask.is_some() && request.strength() == 1.0;
        Ok(Start { latent: clean, over: Some(Over { mask, from_noise }) })
    }

    /// Row `index` of the latents that a request brings, one of `shape` for each picture.
    fn latents(&self, file: Vec<u8>, request: &Generate, index: usize, shape: [usize; 4]) -> Result<Tensor<4>, Error> {
        const FILE: &str = "the file of latents";
        let mut folder = Folder::default();
        folder.insert(FILE, file);
        let (got, values) = Tensors::file(&folder, FILE)?.any_f32("latents")?;
        let [_, channels, rows, columns] = shape;
        let expected = [request.num_images_per_prompt as usize, channels, rows, columns];
        if got != expected || !values.iter().all(|value| value.is_finite()) {
            let what = format!("`latents` is {got:?}, or not finite");
            let remedy = format!("give finite numbers of {expected:?}, a row for each picture, for this size");
            return Err(Error::Request(Fault::new(FaultCode::BadRequest, what, remedy)));
        }
        let count = shape.iter().product::<usize>();
        let own = values[index * count..(index + 1) * count].to_vec();
        Ok(Tensor::from_data(TensorData::new(own, shape), &self.device))
    }
}
