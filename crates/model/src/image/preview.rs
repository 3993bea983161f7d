//! Latent previews without the VAE: a linear map from the latent channels of a pixel to RGB. Its cost is negligible beside a
//! step.

use super::{CHANNELS, Rgb8, rgb8_from_planes};
use crate::Error;

/// Scaling factors of the latents of Stable Diffusion's VAE and of SDXL's VAE, which PixArt-Σ uses.
pub(crate) const SD_SCALING: f64 = 0.18215;
pub(crate) const SDXL_SCALING: f64 = 0.13025;
const LATENT_CHANNELS: usize = 4;

/// Linear map of a scaled latent pixel x `[latent_channels]` to RGB in [-1, 1]: x·F + b.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preview {
    factors: [[f32; CHANNELS]; LATENT_CHANNELS],
    bias: [f32; CHANNELS],
}

impl Preview {
    /// Stable Diffusion's VAE. Source: ComfyUI, `comfy/latent_formats.py`, `SD15`.
    pub(crate) const SD: Self = Self {
        factors: [
            [0.3512, 0.2297, 0.3227],
            [0.3250, 0.4974, 0.2350],
            [-0.2829, 0.1762, 0.2721],
            [-0.2120, -0.2616, -0.7177],
        ],
        bias: [0.0; CHANNELS],
    };
    /// SDXL's VAE. Source: as above, `SDXL`.
    const SDXL: Self = Self {
        factors: [
            [0.3920, 0.4054, 0.4549],
            [-0.2634, -0.0196, 0.0653],
            [0.0568, 0.1687, -0.0755],
            [-0.3112, -0.2359, -0.2076],
        ],
        bias: [0.0; CHANNELS],
    };

    /// Returns the map of `rows` if a checkpoint has its own, else that of the published VAE with the same scaling factor, or
    /// none for another VAE.
    ///
    /// # Errors
    /// Rows that are not three numbers for each latent channel and for the bias.
    pub(crate) fn new(
        rows: Option<Vec<Vec<f32>>>,
        latent_channels: usize,
        scaling_factor: f64,
    ) -> Result<Option<Self>, String> {
        if let Some(rows) = rows {
            let bad = || format!("it must be {} rows of {CHANNELS} numbers", LATENT_CHANNELS + 1);
            let rows = rows.into_iter().map(<[f32; CHANNELS]>::try_from).collect::<Result<Vec<_>, _>>();
            let rows = <[_; LATENT_CHANNELS + 1]>::try_from(rows.map_err(|_| bad())?).map_err(|_| bad())?;
            let [factors @ .., bias] = rows;
            return Ok(Some(Self { factors, bias }));
        }
        if latent_channels != LATENT_CHANNELS {
            return Ok(None);
        }
        let published = [(SD_SCALING, Self::SD), (SDXL_SCALING, Self::SDXL)];
        Ok(published.into_iter().find(|(factor, _)| *factor == scaling_factor).map(|(_, preview)| preview))
    }

    /// Converts latents `[latent_channels, H, W]` to an image of one pixel per latent pixel.
    ///
    /// # Errors
    /// Latents that are not finite.
    pub fn rgb8(&self, latent: &[f32], [rows, columns]: [usize; 2]) -> Result<Rgb8, Error> {
        let plane = rows * columns;
        assert_eq!(
            latent.len(),
            LATENT_CHANNELS * plane,
            "{LATENT_CHANNELS} channels of {rows} rows, {columns} columns"
        );
        let color = |channel: usize, at: usize| {
            let terms = self.factors.iter().enumerate().map(|(from, row)| row[channel] * latent[from * plane + at]);
            terms.sum::<f32>() + self.bias[channel]
        };
        let pixels: Vec<f32> = (0..CHANNELS)
            .flat_map(|channel| (0..plane).map(move |at| (channel, at)))
            .map(|(c, at)| color(c, at))
            .collect();
        rgb8_from_planes(&pixels, rows, columns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vae_has_its_own_map_or_that_of_the_published_one_or_none() {
        let mut rows = vec![vec![0.0; CHANNELS]; LATENT_CHANNELS + 1];
        (rows[0][0], rows[1][1], rows[2][2], rows[4][2]) = (1.0, 1.0, 1.0, 0.5);
        let own = Preview::new(Some(rows), 4, 1.0).expect("five rows").expect("it is there");
        assert_eq!((own.factors[2], own.bias), ([0.0, 0.0, 1.0], [0.0, 0.0, 0.5]));
        assert_eq!(Preview::new(None, 4, 0.18215), Ok(Some(Preview::SD)));
        assert_eq!(Preview::new(None, 4, 0.13025), Ok(Some(Preview::SDXL)));
        for (latent_channels, scaling_factor) in [(4, 1.0), (8, 0.18215)] {
            assert_eq!(Preview::new(None, latent_channels, scaling_factor), Ok(None));
        }
        for bad in [vec![vec![1.0, 0.0, 0.0]], vec![vec![1.0]; 5]] {
            assert!(Preview::new(Some(bad), 4, 1.0).is_err());
        }
    }

    #[test]
    fn every_pixel_is_mapped_from_its_latent_channels() {
        let factors = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.5, 0.5, 0.5]];
        let preview = Preview { factors, bias: [0.0, 0.0, -1.0] };
        let latent = [-1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 2.0];
        let image = preview.rgb8(&latent, [1, 2]).expect("finite");
        assert_eq!(image.bytes, [0, 128, 128, 255, 255, 255]);
        assert!(preview.rgb8(&[f32::NAN; 8], [1, 2]).is_err());
    }
}
