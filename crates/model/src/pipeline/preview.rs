//! Latent previews without the VAE: a linear map from the latent channels of a pixel to RGB. Its cost is negligible beside a
//! step.

use crate::Error;
use crate::image::{CHANNELS, Rgb8, rgb8_from_planes};
use crate::loading::config::{Json, SD_SCALING, SDXL_SCALING};

/// Key of `vae/config.json` with the map of another VAE: a row of three numbers per latent channel, then the bias (ComfyUI
/// `latent_rgb_factors`).
const KEY: &str = "latent_rgb_factors";
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

    /// Reads the map from `vae/config.json`, or selects that of the published VAE with the same scaling factor.
    pub(crate) fn read(json: &Json) -> Result<Option<Self>, Error> {
        if let Some(rows) = json.rows(KEY)? {
            let bad = || json.fault(KEY, format!("it must be {} rows of {CHANNELS} numbers", LATENT_CHANNELS + 1));
            let rows = rows.into_iter().map(<[f32; CHANNELS]>::try_from).collect::<Result<Vec<_>, _>>();
            let rows = <[_; LATENT_CHANNELS + 1]>::try_from(rows.map_err(|_| bad())?).map_err(|_| bad())?;
            let [factors @ .., bias] = rows;
            return Ok(Some(Self { factors, bias }));
        }
        let published = [(SD_SCALING, Self::SD), (SDXL_SCALING, Self::SDXL)];
        let scaling = json.number("scaling_factor")?;
        if json.count("latent_channels")? != LATENT_CHANNELS {
            return Ok(None);
        }
        Ok(published.into_iter().find(|(factor, _)| *factor == scaling).map(|(_, preview)| preview))
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
    use pixart_weights::Folder;

    use super::*;

    fn read(text: &str) -> Result<Option<Preview>, Error> {
        let mut folder = Folder::default();
        folder.insert("vae/config.json", text.as_bytes().to_vec());
        Preview::read(&Json::read(&folder, "vae/config.json")?)
    }

    #[test]
    fn a_vae_has_its_own_map_or_that_of_the_published_one_or_none() {
        let own = r#"{"latent_rgb_factors": [[1,0,0],[0,1,0],[0,0,1],[0,0,0],[0,0,0.5]]}"#;
        let own = read(own).expect("five rows").expect("it is there");
        assert_eq!((own.factors[2], own.bias), ([0.0, 0.0, 1.0], [0.0, 0.0, 0.5]));
        assert_eq!(read(r#"{"scaling_factor": 0.18215, "latent_channels": 4}"#).expect("reads"), Some(Preview::SD));
        assert_eq!(read(r#"{"scaling_factor": 0.13025, "latent_channels": 4}"#).expect("reads"), Some(Preview::SDXL));
        for other in
            [r#"{"scaling_factor": 1.0, "latent_channels": 4}"#, r#"{"scaling_factor": 0.18215, "latent_channels": 8}"#]
        {
            assert_eq!(read(other).expect("reads"), None);
        }
        for bad in ["[[1,0,0]]", "[[1],[1],[1],[1],[1]]", "7"] {
            let error = read(&format!(r#"{{"latent_rgb_factors": {bad}}}"#)).expect_err("not a map");
            assert!(error.to_string().contains(KEY), "{error}");
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
