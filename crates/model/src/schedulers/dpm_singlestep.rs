//! Singlestep DPM-Solver++ (Lu et al. 2022b, algorithm 1): a step of order n is made of n calls of the network, each
//! from where the step began. Source: diffusers `DPMSolverSinglestepScheduler`.

use burn::tensor::Tensor;

use super::config_reader::{ConfigReader, UnsupportedSetting};
use super::dpm::{Dpm, length};
use super::levels::{ModelPrediction, Parameterization};
use super::{DrawNoise, Schedule, SchedulerOptions, SchedulerState, Solver, TensorHistory};

#[derive(Clone, Debug)]
pub(super) struct DpmSinglestep {
    dpm: Dpm,
}

impl DpmSinglestep {
    pub(super) fn read(config: &ConfigReader) -> Result<Self, UnsupportedSetting> {
        Ok(Self { dpm: Dpm::read(config, false, false)? })
    }

    pub(super) fn set_timesteps(&self, options: &SchedulerOptions<'_>) -> Result<SchedulerState, UnsupportedSetting> {
        let (timesteps, sigmas) = self.dpm.levels(&options.steps)?;
        let solver = DpmSinglestepSolver {
            orders: orders(timesteps.len(), &self.dpm),
            x0s: TensorHistory::new(self.dpm.order),
            dpm: self.dpm.clone(),
            sigmas: sigmas.clone(),
            start: None,
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

/// Returns the order of each call: 1, 2, … n repeated. The last one is 1 where the last level is 0 or lower orders are set.
fn orders(calls: usize, dpm: &Dpm) -> Vec<usize> {
    let order = dpm.order;
    let mut orders: Vec<usize> = (0..calls).map(|call| call % order + 1).collect();
    if dpm.last == 0.0 || (dpm.lower_order_final && calls.is_multiple_of(order)) {
        orders[calls - 1] = 1;
    }
    orders
}

struct DpmSinglestepSolver {
    dpm: Dpm,
    sigmas: Vec<f64>,
    orders: Vec<usize>,
    x0s: TensorHistory,
    /// Latent at the start of the present step.
    start: Option<Tensor<4>>,
}

impl Solver for DpmSinglestepSolver {
    fn next(&mut self, call: usize, prediction: &ModelPrediction, draw: DrawNoise<'_>) -> Tensor<4> {
        self.x0s.push(prediction.pred_original_sample());
        let noise = self.dpm.stochastic.then(draw);
        let order = self.orders[call].min(self.x0s.len());
        if order == 1 {
            self.start = Some(prediction.sample.clone());
        }
        let start = self.start.clone().expect("a step begins with a call of order 1");
        let begin = call + 1 - order;
        let span = self.dpm.span(self.sigmas[begin], self.sigmas[call + 1]);
        let x0 = |at: usize| self.x0s.get(call - at);
        let moved = span.first(start, x0(begin), noise);
        // The mean change of the clean latent from the step's begin, in units of the step.
        let part = |at: usize| length(self.sigmas[begin], self.sigmas[at]) / span.length();
        let slope = |at: usize| (x0(at) - x0(begin)) / part(at);
        match order {
            1 => moved,
            2 if self.dpm.heun => moved + slope(call) * span.slope(),
            2 => moved + slope(call) * (0.5 * span.value()),
            _ if self.dpm.heun => {
                let (near, far) = (part(call - 1), part(call));
                let first = (slope(call - 1) * far - slope(call) * near) / (far - near);
                let second = (slope(call) - slope(call - 1)) * (2.0 / (far - near));
                moved + first * span.slope() + second * span.curve()
            }
            _ => moved + slope(call) * span.slope(),
        }
    }
}
