//! The colours of a latent without its autoencoder: a linear map from the channels of one latent pixel to red, green and
//! blue, good enough to see a picture arise. It costs nothing beside a step.

use crate::Error;
use crate::config::{Json, SD_SCALING, SDXL_SCALING};
use crate::image::{CHANNELS, Rgb8, rgb8};

/// Where `vae/config.json` has the map of another autoencoder: a row of three numbers for each latent channel, and one more
/// that is added.
const KEY: &str = "latent_rgb_factors";
const LATENT_CHANNELS: usize = 4;

/// Colours in -1..1 of a scaled latent pixel x, `[latent_channels]`: x·F + b.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preview {
    factors: [[f32; CHANNELS]; LATENT_CHANNELS],
    bias: [f32; CHANNELS],
}

impl Preview {
    /// Stable Diffusion's autoencoder. Source: ComfyUI, `comfy/latent_formats.py`, `SD15`.
    pub(crate) const SD: Self = Self {
        factors: [
            [0.3512, 0.2297, 0.3227],
            [0.3250, 0.4974, 0.2350],
            [-0.2829, 0.1762, 0.2721],
            [-0.2120, -0.2616, -0.7177],
        ],
        bias: [0.0; CHANNELS],
    };
    /// SDXL's. Source: as before, `SDXL`.
    const SDXL: Self = Self {
        factors: [
            [0.3920, 0.4054, 0.4549],
            [-0.2634, -0.0196, 0.0653],
            [0.0568, 0.1687, -0.0755],
            [-0.3112, -0.2359, -0.2076],
        ],
        bias: [0.0; CHANNELS],
    };

    /// The map that a `vae/config.json` gives, or that of the published autoencoder with its scaling factor.
    pub(crate) fn read(json: &Json) -> Result<Option<Self>, Error> {
        if let Some(rows) = json.rows(KEY)? {
            let bad = || json.fault(KEY, format!("it is not {} rows of {CHANNELS} numbers", LATENT_CHANNELS + 1));
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

    /// The picture of a latent `[latent_channels, H, W]` at one pixel each.
    ///
    /// # Errors
    /// A latent that is not finite.
    pub fn picture(&self, latent: &[f32], [rows, columns]: [usize; 2]) -> Result<Rgb8, Error> {
        let plane = rows * columns;
        assert_eq!(
            latent.len(),
            LATENT_CHANNELS * plane,
            "{LATENT_CHANNELS} channels of {rows} rows, {columns} columns"
        );
        let colour = |channel: usize, at: usize| {
            let parts = self.factors.iter().enumerate().map(|(from, row)| row[channel] * latent[from * plane + at]);
            parts.sum::<f32>() + self.bias[channel]
        };
        let pixels: Vec<f32> = (0..CHANNELS)
            .flat_map(|channel| (0..plane).map(move |at| (channel, at)))
            .map(|(c, at)| colour(c, at))
            .collect();
        rgb8(&pixels, rows, columns)
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
    fn an_autoencoder_has_its_own_map_or_that_of_the_published_one_or_none() {
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
    fn every_pixel_has_the_colour_of_its_channels() {
        let factors = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [0.5, 0.5, 0.5]];
        let preview = Preview { factors, bias: [0.0, 0.0, -1.0] };
        let latent = [-1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 2.0];
        let picture = preview.picture(&latent, [1, 2]).expect("finite");
        assert_eq!(picture.bytes, [0, 128, 128, 255, 255, 255]);
        assert!(preview.picture(&[f32::NAN; 8], [1, 2]).is_err());
    }
}
