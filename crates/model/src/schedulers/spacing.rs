//! Spacing of the timesteps and noise levels. Source: `set_timesteps` of diffusers' schedulers;
//! Lin et al. 2023 (table 2) for the spacings, Karras et al. 2022 (eq. 5) for the levels of that name.
//!
//! A single step starts at the noisiest timestep under every spacing. (diffusers' `linspace` and `leading` would start it
//! at timestep 0, where the network takes its input for a finished image.)

use super::Steps;
use super::config_reader::{ConfigReader, UnsupportedSetting};
use super::levels::TrainSigmas;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimestepSpacing {
    Linspace,
    Leading,
    Trailing,
}

/// End of the timesteps of `linspace` and `leading`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SpacingEnd {
    /// The last step starts at timestep 0.
    Zero,
    /// The last step ends at timestep 0: the solvers space one timestep more and drop it.
    BeforeZero,
}

impl TimestepSpacing {
    /// Reads `timestep_spacing`; `first` where the key is absent.
    pub(super) fn read(config: &ConfigReader, first: Self) -> Result<Self, UnsupportedSetting> {
        let words = [("linspace", Self::Linspace), ("leading", Self::Leading), ("trailing", Self::Trailing)];
        let mut words = words.to_vec();
        words.sort_by_key(|(_, spacing)| *spacing != first);
        config.word("timestep_spacing", &words)
    }
}

/// A spacing with its parameters.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimestepSpacer {
    pub(super) spacing: TimestepSpacing,
    pub(super) offset: usize,
    pub(super) end: SpacingEnd,
    /// Number of training timesteps, and the number that steps may start from.
    pub(super) trained: usize,
    pub(super) used: usize,
}

impl TimestepSpacer {
    pub(super) fn read(
        config: &ConfigReader,
        train_sigmas: &TrainSigmas,
        first: TimestepSpacing,
        end: SpacingEnd,
    ) -> Result<Self, UnsupportedSetting> {
        let (spacing, offset) = (TimestepSpacing::read(config, first)?, config.count("steps_offset", 0, 0)?);
        Ok(Self { spacing, offset, end, trained: train_sigmas.len(), used: train_sigmas.len() })
    }

    /// Returns the timesteps of `steps` steps in descending order; those of `linspace` may be fractions.
    pub(super) fn timesteps(&self, steps: usize) -> Vec<f64> {
        let last = (self.used - 1) as f64;
        if steps == 1 {
            return vec![last];
        }
        let points = match self.end {
            SpacingEnd::Zero => steps,
            SpacingEnd::BeforeZero => steps + 1,
        };
        let first = points - steps;
        match self.spacing {
            TimestepSpacing::Linspace => {
                let at = |point: usize| last * point as f64 / (points - 1) as f64;
                (first..points).rev().map(at).collect()
            }
            TimestepSpacing::Leading => {
                let at = |point: usize| (point * (self.used / points) + self.offset) as f64;
                (first..points).rev().map(|point| at(point).min((self.trained - 1) as f64)).collect()
            }
            TimestepSpacing::Trailing => {
                let stride = self.trained as f64 / steps as f64;
                let at = |step: usize| self.used as f64 - step as f64 * stride;
                (0..steps).map(at).filter(|at| *at > 0.0).map(|at| at.round_ties_even() - 1.0).collect()
            }
        }
    }
}

/// Spacing of the noise levels, where they do not follow from the timesteps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SigmaCurve {
    Karras,
    Exponential,
    Beta,
    /// Even in ln σ like `Exponential`. Its timesteps are rounded, those of `Exponential` truncated, as in diffusers.
    Lu,
}

impl SigmaCurve {
    pub(super) fn read(config: &ConfigReader, lu: bool) -> Result<Option<Self>, UnsupportedSetting> {
        let mut keys = vec![
            ("use_karras_sigmas", Self::Karras),
            ("use_exponential_sigmas", Self::Exponential),
            ("use_beta_sigmas", Self::Beta),
        ];
        if lu {
            keys.push(("use_lu_lambdas", Self::Lu));
        }
        let mut chosen = None;
        for (key, curve) in keys {
            if config.flag(key, false)? && chosen.replace(curve).is_some() {
                return Err(UnsupportedSetting::new(key, "is on together with another way to choose the levels"));
            }
        }
        Ok(chosen)
    }

    /// Returns `steps` levels in descending order.
    pub(super) fn sigmas(self, steps: usize, [least, most]: [f64; 2]) -> Vec<f64> {
        const RHO: f64 = 7.0;
        let ramp = |step: usize| if steps == 1 { 0.0 } else { step as f64 / (steps - 1) as f64 };
        let mix = |from: f64, to: f64, part: f64| from + part * (to - from);
        let level = |part: f64| match self {
            Self::Karras => mix(most.powf(RHO.recip()), least.powf(RHO.recip()), part).powf(RHO),
            Self::Exponential | Self::Lu => mix(most.ln(), least.ln(), part).exp(),
            Self::Beta => mix(least, most, beta_quantile(1.0 - part)),
        };
        (0..steps).map(|step| level(ramp(step))).collect()
    }

    /// Returns the timestep of a level as a whole number.
    pub(super) fn whole(self, timestep: f64) -> f64 {
        match self {
            Self::Karras | Self::Lu => timestep.round_ties_even(),
            Self::Exponential | Self::Beta => timestep.trunc(),
        }
    }
}

/// Fails unless every level is below the one before it: a step of no length is divided by.
fn descending(timesteps: &[f64], sigmas: &[f64]) -> Result<(), UnsupportedSetting> {
    match sigmas.windows(2).position(|pair| pair[0] <= pair[1]) {
        Some(step) => Err(two_start_at(timesteps[step + 1], sigmas.len())),
        None => Ok(()),
    }
}

/// Fails unless every timestep is below the one before it, for schedulers that step down by a number of timesteps.
pub(super) fn strictly_descending(timesteps: &[f64]) -> Result<(), UnsupportedSetting> {
    descending(timesteps, timesteps)
}

/// Returns the timesteps that a request lists.
pub(super) fn given(list: &[u32], train_sigmas: &TrainSigmas) -> Result<Vec<f64>, UnsupportedSetting> {
    let timesteps: Vec<f64> = list.iter().map(|timestep| f64::from(*timestep)).collect();
    match timesteps.iter().find(|timestep| **timestep > train_sigmas.last()) {
        Some(beyond) => {
            let why = format!("hold {beyond}, and the noisiest of the training is {}", train_sigmas.last());
            Err(UnsupportedSetting::new("timesteps", why))
        }
        None => Ok(timesteps),
    }
}

fn two_start_at(timestep: f64, steps: usize) -> UnsupportedSetting {
    UnsupportedSetting::new("steps", format!("are {steps}, of which two start at timestep {timestep}"))
}

/// Returns timesteps and, one longer, levels of the solvers in whole timesteps. `last` gives the level after the last step.
pub(super) fn whole(
    train_sigmas: &TrainSigmas,
    spacer: &TimestepSpacer,
    curve: Option<SigmaCurve>,
    steps: &Steps<'_>,
    last: impl Fn(&[f64]) -> f64,
) -> Result<(Vec<f64>, Vec<f64>), UnsupportedSetting> {
    let timesteps: Vec<f64> = match (steps, curve) {
        (Steps::Timesteps(_), Some(_)) => {
            return Err(UnsupportedSetting::new(
                "timesteps",
                "are chosen by the noise levels that the scheduler is set to",
            ));
        }
        (Steps::Timesteps(list), None) => given(list, train_sigmas)?,
        (Steps::Count(count), None) => spacer.timesteps(*count).iter().map(|t| t.round_ties_even()).collect(),
        (Steps::Count(count), Some(curve)) => {
            let mut sigmas = curve.sigmas(*count, train_sigmas.range());
            let timesteps: Vec<f64> = sigmas.iter().map(|sigma| curve.whole(train_sigmas.timestep(*sigma))).collect();
            descending(&timesteps, &sigmas)?;
            sigmas.push(last(&sigmas));
            return Ok((timesteps, sigmas));
        }
        (Steps::Sigmas(_), _) => return Err(steps.not_settable()),
    };
    let mut sigmas: Vec<f64> = timesteps.iter().map(|timestep| train_sigmas.sigma(*timestep)).collect();
    descending(&timesteps, &sigmas)?;
    sigmas.push(last(&sigmas));
    Ok((timesteps, sigmas))
}

/// Returns the quantile of the beta distribution with both parameters 0.6 (Lee et al. 2024 choose them for levels).
fn beta_quantile(part: f64) -> f64 {
    if part > 0.5 {
        return 1.0 - beta_quantile(1.0 - part);
    }
    let (mut low, mut high) = (0.0, 0.5);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if beta_share(middle) < part { low = middle } else { high = middle }
    }
    low
}

/// Returns the probability of that distribution below x ≤ 1/2: the series of the incomplete beta function,
/// xᵃ/(a·B(a, a)) · ₂F₁(a, 1 - a; a + 1; x) with a = 0.6.
fn beta_share(x: f64) -> f64 {
    const A: f64 = 0.6;
    /// Γ(0.6)²/Γ(1.2).
    const B: f64 = 2.415_344_208_002_471_4;
    let (mut term, mut sum) = (1.0, 1.0);
    for n in 0..100 {
        let n = f64::from(n);
        term *= (A + n) * (1.0 - A + n) / ((A + 1.0 + n) * (n + 1.0)) * x;
        sum += term;
    }
    x.powf(A) / (A * B) * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_the_beta_distribution_lies_below_its_quantile() {
        // scipy.stats.beta.ppf([0.1, 0.25, 0.9], 0.6, 0.6)
        for (part, quantile) in
            [(0.1, 0.039_584_405_588_780_85), (0.25, 0.175_680_378_652_694_98), (0.9, 0.960_415_594_411_219_2)]
        {
            let got = beta_quantile(part);
            assert!((got - quantile).abs() < 1e-12, "{part}: {got} and {quantile}");
        }
    }
}
