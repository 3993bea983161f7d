//! Multistep DPM-Solver++ (Lu et al. 2022b, algorithm 2), the scheduler PixArt ships with: data
//! prediction, of order 1 to 3, of the ODE or the SDE. Source: diffusers `DPMSolverMultistepScheduler`.

use burn::tensor::Tensor;

use super::config_reader::{ConfigReader, UnsupportedSetting};
use super::dpm::{Dpm, length};
use super::levels::{ModelPrediction, Parameterization};
use super::{DrawNoise, Schedule, SchedulerOptions, SchedulerState, Solver, TensorHistory};

/// Number of steps below which a run ends in lower orders.
const SHORT: usize = 15;

#[derive(Clone, Debug)]
pub(super) struct DpmMultistep {
    dpm: Dpm,
    euler_at_final: bool,
}

impl DpmMultistep {
    pub(super) fn read(config: &ConfigReader) -> Result<Self, UnsupportedSetting> {
        Ok(Self { dpm: Dpm::read(config, true, true)?, euler_at_final: config.flag("euler_at_final", false)? })
    }

    pub(super) fn set_timesteps(&self, options: &SchedulerOptions<'_>) -> Result<SchedulerState, UnsupportedSetting> {
        let (timesteps, sigmas) = self.dpm.levels(&options.steps)?;
        let solver = DpmMultistepSolver {
            dpm: self.dpm.clone(),
            euler_at_final: self.euler_at_final,
            sigmas: sigmas.clone(),
            x0s: TensorHistory::new(self.dpm.order),
        };
        Ok(SchedulerState::new(
            Schedule {
                timesteps,
                sigmas,
                parameterization: Parameterization::VariancePreserving,
                prediction_type: self.dpm.prediction_type,
            },
            solver,
        ))
    }
}

struct DpmMultistepSolver {
    dpm: Dpm,
    euler_at_final: bool,
    sigmas: Vec<f64>,
    x0s: TensorHistory,
}

impl DpmMultistepSolver {
    /// Returns the order of a step: at most the number of previous predictions, and lower in the last steps.
    fn order(&self, step: usize) -> usize {
        let (steps, Dpm { order, lower_order_final, last, .. }) = (self.sigmas.len() - 1, &self.dpm);
        let lower = *lower_order_final && steps < SHORT;
        let allowed = match steps - step {
            1 if self.euler_at_final || lower || *last == 0.0 => 1,
            2 if lower => 2,
            _ => 3,
        };
        (*order).min(self.x0s.len()).min(allowed)
    }
}

impl Solver for DpmMultistepSolver {
    fn next(&mut self, step: usize, prediction: &ModelPrediction, draw: DrawNoise<'_>) -> Tensor<4> {
        self.x0s.push(prediction.pred_original_sample());
        let noise = self.dpm.stochastic.then(draw);
        let (order, span) = (self.order(step), self.dpm.span(self.sigmas[step], self.sigmas[step + 1]));
        let x0 = |back| self.x0s.get(back);
        let moved = span.first(prediction.sample.clone(), x0(0), noise);
        if order == 1 {
            return moved;
        }
        // Lengths and differences of the steps before, in units of this one.
        let before = |back: usize| length(self.sigmas[step - back], self.sigmas[step - back + 1]) / span.length();
        let slope = |back: usize| (x0(back - 1) - x0(back)) / before(back);
        if order == 2 {
            let weight = if self.dpm.heun { span.slope() } else { 0.5 * span.value() };
            return moved + slope(1) * weight;
        }
        let (newer, both) = (before(1), before(1) + before(2));
        let change = slope(1) - slope(2);
        moved + (slope(1) + change.clone() * (newer / both)) * span.slope() + change * (span.curve() / both)
    }
}
