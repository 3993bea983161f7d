//! Nonlinearities that follow a map. Shader: shaders/shared/activation.wgsl.

use burn::tensor::{Tensor, activation};

/// Beyond this tanh is 1 in f32. WGSL's tanh may be built of exponentials, and then overflows to NaN at about 44.
const TANH_ONE: f64 = 10.0;

/// Numbered as in shaders/shared/epilogue.wgsl.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    #[default]
    None = 0,
    /// 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))) (Hendrycks and Gimpel 2016).
    Gelu = 1,
    /// x / (1 + e⁻ˣ).
    Silu = 2,
    /// gelu(first) · second of two maps (Shazeer 2020, GEGLU with the tanh form).
    GatedGelu = 3,
}

impl Activation {
    pub(crate) fn apply(self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::None => x,
            Self::Gelu => gelu(x),
            Self::Silu => activation::silu(x),
            Self::GatedGelu => {
                let [b, t, n] = x.dims();
                let turns = x.reshape([b, t, n / 8, 2, 4]);
                let half =
                    |at: usize| turns.clone().slice([0..b, 0..t, 0..n / 8, at..at + 1, 0..4]).reshape([b, t, n / 2]);
                gelu(half(0)) * half(1)
            }
        }
    }
}

fn gelu(x: Tensor<3>) -> Tensor<3> {
    let cube = x.clone() * x.clone() * x.clone();
    let inner = (x.clone() + cube * 0.044_715) * (2.0 / std::f64::consts::PI).sqrt();
    x * (inner.clamp(-TANH_ONE, TANH_ONE).tanh() + 1.0) * 0.5
}

/// The columns of two maps `[inputs, columns]` in turns of four, as [`Activation::GatedGelu`] reads them.
#[must_use]
pub fn interleaved(first: &[f32], second: &[f32], columns: usize) -> Vec<f32> {
    assert!(columns.is_multiple_of(4) && first.len() == second.len(), "two maps of {columns} columns");
    let rows = first.chunks_exact(columns).zip(second.chunks_exact(columns));
    rows.flat_map(|(first, second)| first.chunks_exact(4).zip(second.chunks_exact(4)))
        .flat_map(|(first, second)| first.iter().chain(second).copied())
        .collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};

    use super::{Activation, interleaved};

    #[test]
    fn gelu_of_large_numbers_is_the_number_or_nothing() {
        let x = Tensor::<3>::from_data([[[-1e6_f32, -60.0, -10.0, 0.0, 1.0, 10.0, 60.0, 1e6]]], &Device::flex());
        let y: Vec<f32> = Activation::Gelu.apply(x).into_data().try_into_vec().expect("f32 comes back");
        assert_eq!(y, [0.0, 0.0, 0.0, 0.0, 0.841_192, 10.0, 60.0, 1e6]);
    }

    #[test]
    fn two_maps_take_turns_of_four_columns() {
        let first: Vec<f32> = (0..16).map(|i| i as f32).collect();
        let second: Vec<f32> = (0..16).map(|i| 100.0 + i as f32).collect();
        let both = interleaved(&first, &second, 8);
        assert_eq!(both[..16], [0., 1., 2., 3., 100., 101., 102., 103., 4., 5., 6., 7., 104., 105., 106., 107.]);
        assert_eq!(both[16..20], [8., 9., 10., 11.]);
    }
}
