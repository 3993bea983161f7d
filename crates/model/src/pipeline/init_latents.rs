//! Initial latents of an image: noise, given latents, or an encoded image (image-to-image and inpainting). Source:
//! diffusers' `StableDiffusionImg2ImgPipeline` and, for masks, `StableDiffusionInpaintPipeline` with a network of four
//! channels.

use burn::tensor::{Tensor, TensorData};
use pixart_protocol::{Fault, FaultCode};
use pixart_weights::Folder;

use super::{Pipeline, PreparedRequest};
use crate::error::IMAGE_REMEDY;
use crate::image::{Size, decode_image, latent_mask, planes_from_rgb8, resize_lanczos};
use crate::noise::Noise;
use crate::schedulers::SchedulerState;
use crate::{Error, Taps};

/// Source of an image's first latents.
pub(super) struct InitLatents {
    /// Noise `[P, latent_channels, H, W]`, or the clean latents of the input image.
    latents: Tensor<4>,
    image_to_image: Option<ImageToImage>,
}

struct ImageToImage {
    /// `[1, 1, H, W]`: 1 where the image is generated anew, 0 where the input image is kept.
    mask: Option<Tensor<4>>,
    /// Whether the first latents are pure noise, without the input image.
    from_noise: bool,
}

/// The part of the input image that inpainting keeps.
pub(super) struct InpaintMask {
    /// Clean latents of the input image.
    init_latents: Tensor<4>,
    noise: Tensor<4>,
    /// See [`ImageToImage::mask`].
    mask: Tensor<4>,
}

impl InpaintMask {
    /// Returns `latents` after a step, with the kept part replaced by the input image at the present noise level.
    pub(super) fn blend(&self, scheduler: &SchedulerState, latents: Tensor<4>) -> Tensor<4> {
        let kept = match scheduler.timestep() {
            Some(_) => scheduler.add_noise(self.init_latents.clone(), self.noise.clone()),
            None => self.init_latents.clone(),
        };
        kept.clone() + (latents - kept) * self.mask.clone()
    }
}

impl InitLatents {
    /// Text-to-image: normal noise `[P, latent_channels, H, W]`.
    pub(super) fn from_noise(noise: Tensor<4>) -> Self {
        Self { latents: noise, image_to_image: None }
    }

    /// Returns the first latents of a run, and the part of the input image that it keeps.
    pub(super) fn begin(self, scheduler: &SchedulerState, noise: &mut Noise) -> (Tensor<4>, Option<InpaintMask>) {
        let Self { latents, image_to_image } = self;
        let Some(ImageToImage { mask, from_noise }) = image_to_image else {
            return (latents * scheduler.init_noise_sigma(), None);
        };
        let noise = noise.draw();
        let first = match from_noise {
            true => noise.clone() * scheduler.init_noise_sigma(),
            false => scheduler.add_noise(latents.clone(), noise.clone()),
        };
        (first, mask.map(|mask| InpaintMask { init_latents: latents, noise, mask }))
    }
}

impl Pipeline {
    /// Returns the initial latents of image `index`: its encoded input image, its latents, or noise.
    ///
    /// # Errors
    /// An image or a mask that cannot be read, an image without a VAE encoder, or latents of another shape.
    pub(super) fn init_latents(
        &self,
        prepared: &PreparedRequest,
        index: usize,
        noise: &mut Noise,
    ) -> Result<InitLatents, Error> {
        let request = &prepared.request;
        let bad = |what: String, remedy: &str| Error::Request(Fault::new(FaultCode::BadRequest, what, remedy));
        let encoder = self.vae_encoder.borrow();
        if request.reads_image() && encoder.is_none() {
            let what = if request.image.is_some() { "an image is given" } else { "hires_scale is given" };
            return Err(bad(format!("{what}, and no VAE encoder is loaded"), "load the VAE encoder first"));
        }
        if let Some(file) = &request.latents {
            return Ok(InitLatents::from_noise(self.given_latents(file.clone(), prepared, index, noise)?));
        }
        let (Some(image), Some(encoder)) = (&request.image, &*encoder) else {
            return Ok(InitLatents::from_noise(noise.draw()));
        };
        let [_, _, h, w] = prepared.latent_shape;
        let [height, width] = [h, w].map(|side| side * encoder.config().factor());
        let read = |name: &str, file: &[u8]| match decode_image(file) {
            Ok(image) => Ok(resize_lanczos(&image, Size { height, width })),
            Err(Error::Image { why }) => Err(bad(format!("the {name} cannot be read: {why}"), IMAGE_REMEDY)),
            Err(error) => Err(error),
        };
        let image = TensorData::new(planes_from_rgb8(&read("image", image)?), [1, 3, height, width]);
        let image = Tensor::from_data(image, &self.device);
        let moments = match encoder.tiling([height, width], self.planner.limits.binding_bytes) {
            None => encoder.encode(image, &mut Taps::off()),
            Some(tiling) => encoder.encode_tiled(image, tiling),
        };
        let latents = moments.sample(noise.draw_for_all()) * encoder.config().scaling_factor;
        let mask = request.mask_image.as_ref().map(|file| {
            let mask = latent_mask(&read("mask", file)?, encoder.config().factor());
            Ok::<_, Error>(Tensor::from_data(TensorData::new(mask, [1, 1, h, w]), &self.device))
        });
        let mask = mask.transpose()?;
        let from_noise = mask.is_some() && request.strength() == 1.0;
        Ok(InitLatents { latents, image_to_image: Some(ImageToImage { mask, from_noise }) })
    }

    /// Returns row `index` of the latents in a request's file, which has one row for each image.
    fn given_latents(
        &self,
        file: Vec<u8>,
        prepared: &PreparedRequest,
        index: usize,
        noise: &mut Noise,
    ) -> Result<Tensor<4>, Error> {
        const FILE: &str = "the file of latents";
        let mut folder = Folder::default();
        folder.insert(FILE, file);
        let (latents_shape, values) = folder.tensors(FILE)?.any_f32("latents")?;
        let shape @ [_, c, h, w] = prepared.latent_shape;
        let expected_shape = [prepared.images(), c, h, w];
        if latents_shape != expected_shape || !values.iter().all(|value| value.is_finite()) {
            let what = format!("`latents` is {latents_shape:?}, or not finite");
            let remedy = format!("give finite numbers of {expected_shape:?}, a row for each image, for this size");
            return Err(Error::Request(Fault::new(FaultCode::BadRequest, what, remedy)));
        }
        let count = shape.iter().product::<usize>();
        let mut own = values[index * count..(index + 1) * count].to_vec();
        noise.vary(&mut own);
        Ok(Tensor::from_data(TensorData::new(own, shape), &self.device))
    }
}
