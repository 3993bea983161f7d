//! Comparison of whole tensors. NaN and infinity on either side are a difference, at the first index where they are.

use pixart_protocol::Verdict;

/// Distance of one tensor from another.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// Largest |got - want|.
    pub max_abs: f64,
    /// `max_abs` over the largest |want|.
    pub max_relative: f64,
    /// First difference beyond the tolerance, if there is one.
    pub difference: Option<String>,
}

/// Compares all elements: they agree where |got - want| ≤ tolerance · max|want|.
#[must_use]
pub fn compare(got: &[f32], want: &[f32], tolerance: f64) -> Comparison {
    let never = |why: String| Comparison { max_abs: f64::INFINITY, max_relative: f64::INFINITY, difference: Some(why) };
    if got.len() != want.len() {
        return never(format!("{} elements, recorded are {}", got.len(), want.len()));
    }
    if let Some(index) = (0..got.len()).find(|i| !got[*i].is_finite() || !want[*i].is_finite()) {
        return never(format!("element {index} is {}, recorded is {}", got[index], want[index]));
    }
    let peak = want.iter().map(|value| f64::from(value.abs())).fold(0.0, f64::max);
    let bound = tolerance * peak;
    let differences = || got.iter().zip(want).map(|(got, want)| (f64::from(*got) - f64::from(*want)).abs());
    let max_abs = differences().fold(0.0, f64::max);
    #[expect(clippy::neg_cmp_op_on_partial_ord, reason = "a difference that is NaN is beyond every bound")]
    let first = differences().position(|difference| !(difference <= bound));
    Comparison {
        max_abs,
        max_relative: if peak > 0.0 { max_abs / peak } else { max_abs },
        difference: first.map(|i| format!("element {i} is {}, recorded is {}", got[i], want[i])),
    }
}

impl Comparison {
    /// Returns the verdict of the relative comparison.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match &self.difference {
            None => Verdict::Pass,
            Some(why) => Verdict::Fail { why: why.clone() },
        }
    }

    /// Returns the verdict of `max_abs` against an absolute bound.
    #[must_use]
    pub fn verdict_absolute(&self, bound: f64) -> Verdict {
        if self.max_abs <= bound {
            return Verdict::Pass;
        }
        let why = self.difference.clone().unwrap_or_else(|| format!("off by {}", self.max_abs));
        Verdict::Fail { why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_tensors_agree_exactly() {
        let comparison = compare(&[1.0, -2.0], &[1.0, -2.0], 0.0);
        assert_eq!(comparison, Comparison { max_abs: 0.0, max_relative: 0.0, difference: None });
    }

    #[test]
    fn the_bound_is_relative_to_the_recorded_peak() {
        assert_eq!(compare(&[100.0, 0.0009], &[100.0, 0.0], 1e-5).verdict(), Verdict::Pass);
        assert_ne!(compare(&[100.0, 0.0011], &[100.0, 0.0], 1e-5).verdict(), Verdict::Pass);
    }

    #[test]
    fn a_wrong_last_element_fails_and_is_named() {
        let comparison = compare(&[1.0, 2.0, 3.5], &[1.0, 2.0, 3.0], 1e-3);
        assert_eq!(comparison.difference.as_deref(), Some("element 2 is 3.5, recorded is 3"));
        assert_eq!(comparison.max_abs, 0.5);
    }

    #[test]
    fn nan_and_infinity_fail_on_either_side_even_where_they_are_equal() {
        for (got, want) in [(f32::NAN, 1.0), (1.0, f32::NAN), (f32::NAN, f32::NAN), (f32::INFINITY, f32::INFINITY)] {
            let comparison = compare(&[0.0, got], &[0.0, want], 1.0);
            assert_ne!(comparison.verdict(), Verdict::Pass, "{got} against {want}");
            assert_ne!(comparison.verdict_absolute(1e9), Verdict::Pass, "{got} against {want}");
        }
    }

    #[test]
    fn tensors_of_different_length_never_agree() {
        assert_ne!(compare(&[1.0], &[1.0, 1.0], 1.0).verdict(), Verdict::Pass);
        assert_ne!(compare(&[], &[1.0], 1.0).verdict(), Verdict::Pass);
    }
}
