//! Latents → image on one device. Only the VAE decoder of the checkpoint is loaded.

use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use futures_lite::future::block_on;
use pixart_model::{DecodeMode, VaeDecoder, image};
use pixart_protocol::{Fault, FaultCode};
use pixart_weights::{Folder, Weights};

use crate::{Error, checkpoint, device};

/// Name of the tensor that `generate --output-type latent` writes.
pub(crate) const LATENTS: &str = "latents";

/// Decodes `latents` `[1, latent_channels, H/8, W/8]` of the safetensors file `bytes`, which was read from `path`, to a PNG file.
///
/// # Errors
/// A file without such a tensor, or a number of it that is not finite.
pub fn decode(checkpoint: &Path, kind: device::DeviceSpec, path: &Path, bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
    let opened = device::open(kind)?;
    let folder = checkpoint::read(checkpoint, &["transformer", "text_encoder", "tokenizer", "scheduler"])?;
    let decoding = block_on(VaeDecoder::load(&folder, &opened.device)).map_err(Error::Model)?;
    let (name, mut stored) = (path.display().to_string(), Folder::default());
    stored.insert(&name, bytes);
    let weights = |error| Error::Model(pixart_model::Error::Weights(error));
    let tensors = block_on(Weights::file(&stored, &name)).map_err(weights)?;
    let shape = tensors.shape(LATENTS).map_err(weights)?;
    let expected = [1, decoding.config().latent_channels];
    let [rows, columns] = match shape {
        [batch, channels, rows, columns] if [*batch, *channels] == expected => [*rows, *columns],
        _ => {
            let what = format!("`{LATENTS}` of {name} has shape {shape:?}, not [1, {}, rows, columns]", expected[1]);
            let remedy = "write the file with `pixart generate --output-type latent` and the same checkpoint";
            return Err(Fault::new(FaultCode::BadRequest, what, remedy).into());
        }
    };
    let shape = [1, expected[1], rows, columns];
    let latent = TensorData::new(block_on(tensors.f32(LATENTS, &shape)).map_err(weights)?, shape);
    let latent = Tensor::<4>::from_data(latent, &opened.device) / decoding.config().scaling_factor;
    let image = decoding.decode(latent, DecodeMode::Strips { limit_bytes: opened.limits.binding_bytes });
    let [height, width] = [rows, columns].map(|side| side * decoding.config().factor());
    let pixels = block_on(image::rgb8_read(image, image::Size { height, width })).map_err(Error::Model)?;
    image::encode_png(&pixels, &[("Software", "pixart-web")]).map_err(Error::Model)
}
