//! What both DPM-Solver++ schedulers share: the exact solution between two noise levels for a clean latent that changes
//! as a polynomial of λ = -ln σ, of the ODE or, with fresh noise, of the SDE (Lu et al. 2022b, section 4 and appendix).

use burn::tensor::Tensor;

use super::Steps;
use super::levels::{Prediction, Table, shares};
use super::options::{Options, Refused};
use super::spacing::{Curve, End, Spacer, Spacing, whole};

/// The settings that both have.
#[derive(Clone, Debug)]
pub(super) struct Dpm {
    pub(super) table: Table,
    pub(super) prediction: Prediction,
    spacer: Spacer,
    curve: Option<Curve>,
    pub(super) order: usize,
    pub(super) stochastic: bool,
    pub(super) heun: bool,
    pub(super) lower_order_final: bool,
    /// σ of the finished latent.
    pub(super) last: f64,
}

impl Dpm {
    pub(super) fn read(options: &Options, spaced: bool, lower_order_final: bool) -> Result<Self, Refused> {
        let table = Table::read(options)?;
        // What other solvers call their algorithms and types means the first of these, as in diffusers.
        let algorithms =
            [("dpmsolver++", false), ("sde-dpmsolver++", true), ("deis", false), ("data_prediction", false)];
        let types = [("midpoint", false), ("heun", true), ("logrho", false), ("bh1", false), ("bh2", false)];
        let order = options.count("solver_order", 2, 1)?;
        if order > 3 {
            return Err(Refused::new("solver_order", format!("{order} is not supported, only 1, 2, 3")));
        }
        let least = table.range()[0];
        let used = table.timesteps_above(options.number("lambda_min_clipped", f64::MIN)?);
        let plain = Spacer { spacing: Spacing::Linspace, offset: 0, end: End::BeforeZero, trained: table.len(), used };
        let spacer = if spaced { Spacer { used, ..solver_spacer(options, &table)? } } else { plain };
        Ok(Self {
            prediction: Prediction::read(options)?,
            spacer,
            curve: Curve::read(options, spaced)?,
            order,
            stochastic: options.word("algorithm_type", &algorithms)?,
            heun: options.word("solver_type", &types)?,
            lower_order_final: options.flag("lower_order_final", lower_order_final)?,
            last: options.word("final_sigmas_type", &[("zero", 0.0), ("sigma_min", least)])?,
            table,
        })
    }

    pub(super) fn levels(&self, steps: &Steps<'_>) -> Result<(Vec<f64>, Vec<f64>), Refused> {
        whole(&self.table, &self.spacer, self.curve, steps, |_| self.last)
    }

    pub(super) fn span(&self, from: f64, to: f64) -> Span {
        Span { from, to, stochastic: self.stochastic }
    }
}

/// The spacing of the solvers that step in whole timesteps.
pub(super) fn solver_spacer(options: &Options, table: &Table) -> Result<Spacer, Refused> {
    Spacer::read(options, table, Spacing::Linspace, End::BeforeZero)
}

/// A way from a level to a lower one.
#[derive(Clone, Copy)]
pub(super) struct Span {
    from: f64,
    to: f64,
    stochastic: bool,
}

impl Span {
    /// λ at the end less λ at the start; infinite where no noise is left.
    pub(super) fn length(self) -> f64 {
        length(self.from, self.to)
    }

    /// α at the end.
    fn signal(self) -> f64 {
        shares(self.to).0
    }

    /// The exponent's decay over the span, and the length that it decays by: the SDE's is twice the ODE's.
    fn decay(self) -> (f64, f64) {
        let (ratio, length) = (self.to / self.from, self.length());
        if self.stochastic { (ratio * ratio, 2.0 * length) } else { (ratio, length) }
    }

    /// What is left of the latent at the start.
    fn kept(self) -> f64 {
        let kept = shares(self.to).1 / shares(self.from).1;
        if self.stochastic { kept * self.to / self.from } else { kept }
    }

    /// The weight of the clean latent.
    pub(super) fn value(self) -> f64 {
        self.signal() * (1.0 - self.decay().0)
    }

    /// That of its first derivative, in units of the span.
    pub(super) fn slope(self) -> f64 {
        let (decay, length) = self.decay();
        self.signal() * ((decay - 1.0) / length + 1.0)
    }

    /// That of its second. The sign of the SDE's last term is diffusers'.
    pub(super) fn curve(self) -> f64 {
        let (decay, length) = self.decay();
        let half = if self.stochastic { -0.5 } else { 0.5 };
        self.signal() * ((1.0 - decay - length) / (length * length) + half)
    }

    /// The latent at the end where the clean one stays as it is, and the SDE's noise in it.
    pub(super) fn first(self, latent: Tensor<4>, clean: Tensor<4>, noise: Option<Tensor<4>>) -> Tensor<4> {
        let moved = if self.to == 0.0 && !self.stochastic {
            clean // no noise is left: the general formula's limit
        } else {
            latent * self.kept() + clean * self.value()
        };
        let spread = shares(self.to).1 * (1.0 - (self.to / self.from).powi(2)).sqrt();
        noise.into_iter().fold(moved, |moved, noise| moved + noise * spread)
    }
}

/// The difference of λ from one level to another.
pub(super) fn length(from: f64, to: f64) -> f64 {
    (from / to).ln()
}
