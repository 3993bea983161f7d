//! Functions of one number that the compiler can vectorise (no branch, no call, no table), and reductions.

use crate::options::Activation;

/// 1.5 · 2²³: a small number added to it is rounded to a whole one, which stands in the lowest bits.
const ROUNDER: f32 = 12_582_912.0;
/// ln 2 in two parts; the first has few enough bits that its products with small whole numbers are exact.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// eˣ within 2 units in the last place for x in -87..88, beyond which x is taken as the bound (Cephes, expf).
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    let rounded = x * std::f32::consts::LOG2_E + ROUNDER;
    let halvings = rounded - ROUNDER;
    let rest = x - halvings * LN_2[0] - halvings * LN_2[1];
    let series = [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    let sum = series.into_iter().fold(1.987_569_1e-4, |sum, next| sum * rest + next);
    let power = sum * rest * rest + rest + 1.0;
    f32::from_bits(power.to_bits().wrapping_add(rounded.to_bits() << 23))
}

/// x / (1 + e⁻ˣ).
#[inline(always)]
pub(super) fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// 0.5·x·(1 + tanh(u)) = x / (1 + e⁻²ᵘ), u = √(2/π)·(x + 0.044715·x³).
#[inline(always)]
pub(super) fn gelu(x: f32) -> f32 {
    const TWICE: f32 = 2.0 * 0.797_884_6;
    x / (1.0 + exp(-TWICE * (x + 0.044_715 * x * x * x)))
}

/// Applies the activation to each number. A gated one is applied by the matrix product.
#[inline(always)]
pub(super) fn activate(values: &mut [f32], activation: Activation) {
    match activation {
        Activation::None | Activation::GatedGelu => {}
        Activation::Gelu => values.iter_mut().for_each(|value| *value = gelu(*value)),
        Activation::Silu => values.iter_mut().for_each(|value| *value = silu(*value)),
    }
}

/// Partial results that are accumulated side by side.
const SIDE: usize = 16;

/// Returns the sum of `term` over `values`.
#[inline(always)]
pub(super) fn reduce_sum(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0_f32; SIDE];
    let (chunks, rest) = values.as_chunks::<SIDE>();
    for chunk in chunks {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += term(*value);
        }
    }
    for (sum, value) in sums.iter_mut().zip(rest) {
        *sum += term(*value);
    }
    sums.iter().sum()
}

/// Returns the largest of `values`.
#[inline(always)]
pub(super) fn reduce_max(values: &[f32]) -> f32 {
    let greater = |a: f32, b: f32| if b > a { b } else { a };
    let mut most = [f32::NEG_INFINITY; SIDE];
    let (chunks, rest) = values.as_chunks::<SIDE>();
    for chunk in chunks {
        for (most, value) in most.iter_mut().zip(chunk) {
            *most = greater(*most, *value);
        }
    }
    rest.iter().chain(&most).copied().fold(f32::NEG_INFINITY, greater)
}

#[cfg(test)]
mod tests {
    use super::{exp, gelu, reduce_max, reduce_sum, silu};

    #[test]
    fn exp_is_two_units_off_at_most() {
        for i in -870_000..=880_000 {
            let x = i as f32 * 1e-4;
            let want = f64::from(x).exp();
            let error = (f64::from(exp(x)) - want).abs() / want;
            assert!(error <= 2.0 * f64::from(f32::EPSILON), "e^{x} is off by {error}");
        }
        assert_eq!(exp(0.0), 1.0);
    }

    #[test]
    fn exp_stays_finite_and_passes_nan_on() {
        assert!(exp(f32::MIN) < 1e-37 && exp(f32::NEG_INFINITY) > 0.0);
        assert!(exp(f32::MAX).is_finite() && exp(f32::NAN).is_nan());
    }

    #[test]
    fn activations_agree_with_f64() {
        for i in -4000..=4000 {
            let x = f64::from(i) / 100.0;
            let tanh = ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh();
            for (got, want) in [(gelu(x as f32), 0.5 * x * (1.0 + tanh)), (silu(x as f32), x / (1.0 + (-x).exp()))] {
                let error = (f64::from(got) - want).abs();
                // What a tail loses is a share of its exponent, and small beside what stands next to it.
                assert!(error <= 4e-7 * want.abs() + 2e-8, "{x} gives {got}, want {want}");
            }
        }
        assert_eq!([gelu(1e6), silu(1e6)], [1e6; 2]);
        assert!(gelu(-1e6).abs() < 1e-30 && silu(-1e6).abs() < 1e-30);
    }

    #[test]
    fn sums_and_maxima_take_the_rest_along() {
        let values: Vec<f32> = (0..37).map(|i| i as f32 - 20.0).collect();
        assert_eq!(reduce_sum(&values, |x| x), -74.0);
        assert_eq!(reduce_max(&values), 16.0);
        assert_eq!(reduce_max(&values[..3]), -18.0);
    }
}
