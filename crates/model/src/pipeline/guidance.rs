//! Classifier-free guidance and perturbed-attention guidance.

use burn::tensor::Tensor;

/// Settings of the guidance of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct GuidanceConfig {
    /// Scale of classifier-free guidance, away from the negative prompt; above 1 it is on.
    pub guidance_scale: f64,
    /// Scale of perturbed-attention guidance, away from an image whose attention is perturbed; above 0 it is on.
    pub pag_scale: f64,
    /// Decrease of `pag_scale` with each timestep below 1000. (diffusers' PixArt pipeline fails on any value but 0.)
    pub pag_adaptive_scale: f64,
    /// Indices of the transformer's blocks whose attention is perturbed.
    pub pag_applied_layers: Vec<usize>,
}

impl GuidanceConfig {
    /// Classifier-free guidance without perturbed attention.
    #[must_use]
    pub fn classifier_free(guidance_scale: f64) -> Self {
        Self { guidance_scale, pag_scale: 0.0, pag_adaptive_scale: 0.0, pag_applied_layers: Vec::new() }
    }

    /// Whether classifier-free guidance is on, so that the negative prompt is used.
    #[must_use]
    pub fn is_guided(&self) -> bool {
        self.guidance_scale > 1.0
    }

    /// Whether perturbed-attention guidance is on.
    pub(crate) fn is_perturbed(&self) -> bool {
        self.pag_scale > 0.0
    }

    /// Returns the number of prompt embeddings for each image: the negative prompt's, where it is used, and the prompt's.
    #[must_use]
    pub fn rows(&self) -> usize {
        if self.is_guided() { 2 } else { 1 }
    }

    /// Returns the guided model output `[P, C, H, W]`:
    /// unconditional + g·(conditional - unconditional) (Ho and Salimans 2022, eq. 6) + s·(conditional - perturbed)
    /// (Ahn et al. 2024, eq. 13).
    ///
    /// `out` has the rows `[unconditional, conditional, perturbed]`, P each, of which the first and the last may be absent.
    /// A network that also predicts a variance returns 2·C channels; only the first C are used.
    pub(super) fn apply(&self, out: Tensor<4>, timestep: f32, [p, c, h, w]: [usize; 4]) -> Tensor<4> {
        let part = |index: usize| {
            let start = index * p;
            out.clone().slice([start..start + p, 0..c, 0..h, 0..w])
        };
        let prompt = usize::from(self.is_guided());
        let (unconditional, conditional) = (part(0), part(prompt));
        let guided = match self.is_guided() {
            true => unconditional.clone() + (conditional.clone() - unconditional) * self.guidance_scale,
            false => conditional.clone(),
        };
        if !self.is_perturbed() {
            return guided;
        }
        let scale = (self.pag_scale - self.pag_adaptive_scale * (1000.0 - f64::from(timestep))).max(0.0);
        guided + (conditional - part(prompt + 1)) * scale
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData};

    use super::GuidanceConfig;

    #[test]
    fn guidance_steps_away_from_both_others_and_fades_with_the_timestep() {
        // One number for each of unconditional, conditional and perturbed, beside a variance that is dropped.
        let out = TensorData::new(vec![1.0_f32, 9.0, 3.0, 9.0, 2.0, 9.0], [3, 2, 1, 1]);
        let guided = |pag_scale, pag_adaptive_scale, timestep| {
            let config = GuidanceConfig {
                pag_scale,
                pag_adaptive_scale,
                pag_applied_layers: vec![0],
                ..GuidanceConfig::classifier_free(4.0)
            };
            let rows = if pag_scale > 0.0 { 3 } else { 2 };
            let out: Tensor<4> = Tensor::from_data(out.clone(), &Device::flex()).narrow(0, 0, rows);
            config.apply(out, timestep, [1, 1, 1, 1]).into_scalar::<f32>()
        };
        assert_eq!(guided(0.0, 0.0, 999.0), 1.0 + 4.0 * 2.0);
        assert_eq!(guided(2.0, 0.0, 500.0), 9.0 + 2.0);
        assert_eq!(guided(2.0, 0.002, 500.0), 9.0 + 1.0);
        assert_eq!(guided(2.0, 0.01, 500.0), 9.0);
    }
}
