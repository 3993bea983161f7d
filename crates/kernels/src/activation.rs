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

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};

    use super::Activation;

    #[test]
    fn gelu_of_large_numbers_is_the_number_or_nothing() {
        let x = Tensor::<3>::from_data([[[-1e6_f32, -60.0, -10.0, 0.0, 1.0, 10.0, 60.0, 1e6]]], &Device::flex());
        let y: Vec<f32> = Activation::Gelu.apply(x).into_data().try_into_vec().expect("f32 comes back");
        assert_eq!(y, [0.0, 0.0, 0.0, 0.0, 0.841_192, 10.0, 60.0, 1e6]);
    }
}
