//! Initial latents of an image: noise, given latents, or an encoded image (image-to-image and inpainting). Source:
//! diffusers' `StableDiffusionImg2ImgPipeline` and, for masks, `StableDiffusionInpaintPipeline` with a network of four
//! channels.

use burn::tensor::{Tensor, TensorData};
use pixart_protocol::{Fault, FaultCode, GenerateRequest, ResolvedRequest};
use pixart_weights::Folder;

use super::Painter;
use crate::image::{Size, decode_png, latent_mask, planes_from_rgb8, resize_lanczos};
use crate::noise::Noise;
use crate::schedulers::SchedulerState;
use crate::{Error, Taps, VaeEncoder};

/// Source of an image's first latents.
pub struct InitLatents {
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
    #[must_use]
    pub fn from_noise(noise: Tensor<4>) -> Self {
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

impl Painter {
    /// Prepares the initial latents of image `index` of `request`: its input image, encoded by `encoding`, its latents, or
    /// noise.
    ///
    /// # Errors
    /// An image or a mask that is not a PNG, an image without `encoding`, or latents of another shape.
    pub fn init_latents(
        &self,
        request: &GenerateRequest,
        resolved: &ResolvedRequest,
        encoding: Option<&VaeEncoder>,
        index: usize,
        noise: &mut Noise,
    ) -> Result<InitLatents, Error> {
        if let Some(file) = &request.latents {
            return Ok(InitLatents::from_noise(self.latents(file.clone(), request, index, noise.shape())?));
        }
        let Some(image) = &request.image else { return Ok(InitLatents::from_noise(noise.draw())) };
        let bad = |what: String, remedy: &str| Error::Request(Fault::new(FaultCode::BadRequest, what, remedy));
        let Some(encoding) = encoding else {
            let what = "an image is given, and no VAE encoder is loaded".to_owned();
            return Err(bad(what, "load the VAE encoder first"));
        };
        let [height, width] = self.drawn_size(request, resolved).map(|side| side as usize);
        let read = |name: &str, file: &[u8]| match decode_png(file) {
            Ok(picture) => Ok(resize_lanczos(&picture, Size { height, width })),
            Err(Error::Png { why }) => {
                Err(bad(format!("the {name} cannot be read: {why}"), "give a PNG file of at most 64 megapixels"))
            }
            Err(error) => Err(error),
        };
        let picture = TensorData::new(planes_from_rgb8(&read("image", image)?), [1, 3, height, width]);
        let picture = Tensor::from_data(picture, &self.device);
        let moments = match encoding.tiling([height, width], self.device_limits().binding_bytes) {
            None => encoding.encode(picture, &mut Taps::off()),
            Some(tiling) => encoding.encode_tiled(picture, tiling),
        };
        let clean = moments.sample(noise.draw_for_all()) * encoding.config().scaling_factor;
        let [_, _, rows, columns] = clean.dims();
        let mask = request.mask_image.as_ref().map(|file| {
            let mask = latent_mask(&read("mask", file)?, encoding.config().factor());
            Ok::<_, Error>(Tensor::from_data(TensorData::new(mask, [1, 1, rows, columns]), &self.device))
        });
        let mask = mask.transpose()?;
        let from_noise = mask.is_some() && request.strength() == 1.0;
        Ok(InitLatents { latents: clean, image_to_image: Some(ImageToImage { mask, from_noise }) })
    }

    /// Returns row `index` of the latents in a request, one of `shape` for each image.
    fn latents(
        &self,
        file: Vec<u8>,
        request: &GenerateRequest,
        index: usize,
        shape: [usize; 4],
    ) -> Result<Tensor<4>, Error> {
        const FILE: &str = "the file of latents";
        let mut folder = Folder::default();
        folder.insert(FILE, file);
        let (got, values) = folder.tensors(FILE)?.any_f32("latents")?;
        let [_, channels, rows, columns] = shape;
        let expected = [request.num_images_per_prompt as usize, channels, rows, columns];
        if got != expected || !values.iter().all(|value| value.is_finite()) {
            let what = format!("`latents` is {got:?}, or not finite");
            let remedy = format!("give finite numbers of {expected:?}, a row for each image, for this size");
            return Err(Error::Request(Fault::new(FaultCode::BadRequest, what, remedy)));
        }
        let count = shape.iter().product::<usize>();
        let own = values[index * count..(index + 1) * count].to_vec();
        Ok(Tensor::from_data(TensorData::new(own, shape), &self.device))
    }
}
