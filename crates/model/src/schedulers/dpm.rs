//! Base of both DPM-Solver++ schedulers: the exact solution between two noise levels for a clean latent that changes
//! as a polynomial of λ = -ln σ, of the ODE or, with fresh noise, of the SDE (Lu et al. 2022b, section 4 and appendix).

use burn::tensor::Tensor;

use super::Steps;
use super::config_reader::{ConfigReader, UnsupportedSetting};
use super::levels::{PredictionType, TrainSigmas, alpha_sigma};
use super::spacing::{SigmaCurve, SpacingEnd, TimestepSpacer, TimestepSpacing, whole};

/// Settings common to both.
#[derive(Clone, Debug)]
pub(super) struct Dpm {
    pub(super) train_sigmas: TrainSigmas,
    pub(super) prediction_type: PredictionType,
    spacer: TimestepSpacer,
    curve: Option<SigmaCurve>,
    pub(super) order: usize,
    pub(super) stochastic: bool,
    pub(super) heun: bool,
    pub(super) lower_order_final: bool,
    /// Noise level σ of the finished latent.
    pub(super) last: f64,
}

impl Dpm {
    pub(super) fn read(
        config: &ConfigReader,
        spaced: bool,
        lower_order_final: bool,
    ) -> Result<Self, UnsupportedSetting> {
        let train_sigmas = TrainSigmas::read(config)?;
        // What other solvers call their algorithms and types means the first of these, as in diffusers.
        let algorithms =
            [("dpmsolver++", false), ("sde-dpmsolver++", true), ("deis", false), ("data_prediction", false)];
        let types = [("midpoint", false), ("heun", true), ("logrho", false), ("bh1", false), ("bh2", false)];
        let order = config.count("solver_order", 2, 1)?;
        if order > 3 {
            return Err(UnsupportedSetting::new("solver_order", format!("{order} is not supported, only 1, 2, 3")));
        }
        let least = train_sigmas.range()[0];
        let used = train_sigmas.timesteps_above(config.lambda_min()?);
        let plain = TimestepSpacer {
            spacing: TimestepSpacing::Linspace,
            offset: 0,
            end: SpacingEnd::BeforeZero,
            trained: train_sigmas.len(),
            used,
        };
        let spacer = if spaced { TimestepSpacer { used, ..solver_spacer(config, &train_sigmas)? } } else { plain };
        Ok(Self {
            prediction_type: PredictionType::read(config)?,
            spacer,
            curve: SigmaCurve::read(config, spaced)?,
            order,
            stochastic: config.word("algorithm_type", &algorithms)?,
            heun: config.word("solver_type", &types)?,
            lower_order_final: config.flag("lower_order_final", lower_order_final)?,
            last: config.word("final_sigmas_type", &[("zero", 0.0), ("sigma_min", least)])?,
            train_sigmas,
        })
    }

    pub(super) fn levels(&self, steps: &Steps<'_>) -> Result<(Vec<f64>, Vec<f64>), UnsupportedSetting> {
        whole(&self.train_sigmas, &self.spacer, self.curve, steps, |_| self.last)
    }

    pub(super) fn span(&self, from: f64, to: f64) -> Span {
        Span { from, to, stochastic: self.stochastic }
    }
}

/// Reads the spacing of the solvers that step in whole timesteps.
pub(super) fn solver_spacer(
    config: &ConfigReader,
    train_sigmas: &TrainSigmas,
) -> Result<TimestepSpacer, UnsupportedSetting> {
    TimestepSpacer::read(config, train_sigmas, TimestepSpacing::Linspace, SpacingEnd::BeforeZero)
}

/// An interval from a noise level to a lower one.
#[derive(Clone, Copy)]
pub(super) struct Span {
    from: f64,
    to: f64,
    stochastic: bool,
}

impl Span {
    /// Returns λ at the end less λ at the start; infinite where the end has no noise.
    pub(super) fn length(self) -> f64 {
        length(self.from, self.to)
    }

    /// Returns α at the end.
    fn signal(self) -> f64 {
        alpha_sigma(self.to).0
    }

    /// Returns the decay of the exponential over the span, and its exponent: that of the SDE is twice that of the ODE.
    fn decay(self) -> (f64, f64) {
        let (ratio, length) = (self.to / self.from, self.length());
        if self.stochastic { (ratio * ratio, 2.0 * length) } else { (ratio, length) }
    }

    /// Returns the factor of the latent at the start.
    fn kept(self) -> f64 {
        let kept = alpha_sigma(self.to).1 / alpha_sigma(self.from).1;
        if self.stochastic { kept * self.to / self.from } else { kept }
    }

    /// Returns the weight of the clean latent.
    pub(super) fn value(self) -> f64 {
        self.signal() * (1.0 - self.decay().0)
    }

    /// Returns the weight of its first derivative, in units of the span.
    pub(super) fn slope(self) -> f64 {
        let (decay, length) = self.decay();
        self.signal() * ((decay - 1.0) / length + 1.0)
    }

    /// Returns the weight of its second derivative. The sign of the SDE's last term is that of diffusers.
    pub(super) fn curve(self) -> f64 {
        let (decay, length) = self.decay();
        let half = if self.stochastic { -0.5 } else { 0.5 };
        self.signal() * ((1.0 - decay - length) / (length * length) + half)
    }

    /// Returns the latent at the end for a constant clean latent, with the noise of the SDE added.
    pub(super) fn first(self, latent: Tensor<4>, x0: Tensor<4>, noise: Option<Tensor<4>>) -> Tensor<4> {
        let moved = if self.to == 0.0 && !self.stochastic {
            x0 // no noise is left: the general formula's limit
        } else {
            latent * self.kept() + x0 * self.value()
        };
        let spread = alpha_sigma(self.to).1 * (1.0 - (self.to / self.from).powi(2)).sqrt();
        noise.into_iter().fold(moved, |moved, noise| moved + noise * spread)
    }
}

/// Returns the difference of λ between two levels.
pub(super) fn length(from: f64, to: f64) -> f64 {
    (from / to).ln()
}
