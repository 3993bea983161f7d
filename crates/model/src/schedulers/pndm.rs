//! PNDM (Liu et al. 2022): Adams-Bashforth of order 4 on the predicted noise. It starts with three steps of Runge-Kutta, four
//! calls each, or with `skip_prk_steps`, as latent diffusion uses it, with a second step that is made twice. Source: diffusers
//! `PNDMScheduler`.
//!
//! A step goes `num_train_timesteps / steps` timesteps down, as in DDIM. Under a spacing other than `leading` a step then
//! ends at another level than the next one begins at, and the error accumulates; so the name `pndm` implies `leading`, and
//! `skip_prk_steps`.

use burn::tensor::Tensor;

use super::config_reader::{ConfigReader, UnsupportedSetting};
use super::levels::{ModelPrediction, Parameterization, PredictionType, TrainSigmas, alpha_sigma};
use super::spacing::{SpacingEnd, TimestepSpacer, TimestepSpacing, strictly_descending};
use super::{DrawNoise, Schedule, SchedulerOptions, SchedulerState, Solver, TensorHistory};

#[derive(Clone, Debug)]
pub(super) struct Pndm {
    train_sigmas: TrainSigmas,
    prediction_type: PredictionType,
    spacer: TimestepSpacer,
    /// Noise level σ of the finished latent.
    last: f64,
    skip_prk_steps: bool,
}

/// Steps of Runge-Kutta at the start, and the calls of the network in each.
const PRK_STEPS: usize = 3;
const PRK_CALLS: usize = 4;

impl Pndm {
    pub(super) fn read(config: &ConfigReader) -> Result<Self, UnsupportedSetting> {
        let train_sigmas = TrainSigmas::read(config)?;
        let skip_prk_steps = config.flag("skip_prk_steps", false)?;
        let last = if config.flag("set_alpha_to_one", false)? { 0.0 } else { train_sigmas.range()[0] };
        let spacer = TimestepSpacer::read(config, &train_sigmas, TimestepSpacing::Leading, SpacingEnd::Zero)?;
        Ok(Self { prediction_type: PredictionType::read(config)?, spacer, last, skip_prk_steps, train_sigmas })
    }

    pub(super) fn set_timesteps(&self, options: &SchedulerOptions<'_>) -> Result<SchedulerState, UnsupportedSetting> {
        let steps = options.steps.count()?;
        let mut timesteps: Vec<f64> = self.spacer.timesteps(steps).iter().map(|t| t.round_ties_even()).collect();
        strictly_descending(&timesteps)?;
        let back = self.train_sigmas.len() / steps;
        let sigma = |timestep: f64| self.train_sigmas.sigma(timestep);
        let below = |timestep: f64, back| self.train_sigmas.sigma_below(timestep, back, self.last);
        let mut prk = Vec::new();
        if !self.skip_prk_steps {
            if steps <= PRK_STEPS {
                let why = format!("are {steps}, and the Runge-Kutta start needs {}", PRK_STEPS + 1);
                return Err(UnsupportedSetting::new("steps", why));
            }
            let half = back / 2;
            let plms = timesteps.split_off(PRK_STEPS);
            let starts: Vec<f64> = std::mem::take(&mut timesteps);
            for (step, start) in starts.iter().enumerate() {
                let end = starts.get(step + 1).copied().unwrap_or(plms[0]);
                let middle = end + half as f64;
                timesteps.extend([*start, middle, middle, end]);
                let ends = [below(*start, half), sigma(middle), below(middle, half), sigma(end)];
                prk.extend(ends.map(|end| [sigma(*start), end]));
            }
            timesteps.extend(plms);
        } else if let Some(second) = timesteps.get(1).copied() {
            timesteps.insert(1, second);
        }
        let intervals = timesteps.iter().map(|t| [sigma(*t), below(*t, back)]);
        // The second call corrects the first step: it starts where that started and ends where it ended.
        let again = timesteps.get(1).map(|t| [sigma(*t + back as f64), sigma(*t)]);
        let solver = PndmSolver {
            intervals: intervals.collect(),
            again: again.filter(|_| self.skip_prk_steps),
            prk,
            epsilons: TensorHistory::new(4),
            first: None,
            mean: None,
        };
        let sigmas = timesteps.iter().map(|t| self.train_sigmas.sigma(*t)).chain([self.last]).collect();
        Ok(SchedulerState::new(
            Schedule {
                timesteps,
                sigmas,
                parameterization: Parameterization::VariancePreserving,
                prediction_type: self.prediction_type,
            },
            solver,
        ))
    }
}

struct PndmSolver {
    intervals: Vec<[f64; 2]>,
    again: Option<[f64; 2]>,
    /// Level at the start of the Runge-Kutta step of each call, and the level that the call goes to.
    prk: Vec<[f64; 2]>,
    epsilons: TensorHistory,
    /// Latent before the first step, until that is corrected; or before the present Runge-Kutta step.
    first: Option<Tensor<4>>,
    /// Weighted sum of the predicted noise in the present Runge-Kutta step.
    mean: Option<Tensor<4>>,
}

impl Solver for PndmSolver {
    fn next(&mut self, step: usize, prediction: &ModelPrediction, _: DrawNoise<'_>) -> Tensor<4> {
        let epsilon = prediction.pred_epsilon();
        if let Some(levels) = self.prk.get(step) {
            return self.runge_kutta(step, &prediction.sample, epsilon, *levels);
        }
        // The timestep that stands twice is the second; a run that begins later has no step to correct.
        if let (Some(first), Some(again)) = (self.first.take().filter(|_| step == 1), self.again) {
            let mean = (epsilon + self.epsilons.get(0)) * 0.5;
            return moved(first, mean, again);
        }
        self.epsilons.push(epsilon);
        let newest = |back: usize| self.epsilons.get(back);
        let epsilon = match self.epsilons.len() {
            1 => {
                self.first = Some(prediction.sample.clone());
                newest(0)
            }
            2 => newest(0) * 1.5 - newest(1) * 0.5,
            3 => newest(0) * (23.0 / 12.0) - newest(1) * (16.0 / 12.0) + newest(2) * (5.0 / 12.0),
            _ => {
                newest(0) * (55.0 / 24.0) - newest(1) * (59.0 / 24.0) + newest(2) * (37.0 / 24.0)
                    - newest(3) * (9.0 / 24.0)
            }
        };
        moved(prediction.sample.clone(), epsilon, self.intervals[step])
    }
}

impl PndmSolver {
    /// Makes one of the four calls of a Runge-Kutta step: three from its start to the middle, to the middle again and to the
    /// end, and one from its start to the end with the mean of all. A run that begins inside a step has no start to return to
    /// and moves along the predicted noise.
    fn runge_kutta(&mut self, call: usize, sample: &Tensor<4>, epsilon: Tensor<4>, levels: [f64; 2]) -> Tensor<4> {
        let place = call % PRK_CALLS;
        if place == 0 {
            self.epsilons.push(epsilon.clone());
            self.first = Some(sample.clone());
        }
        let Some(start) = self.first.clone() else {
            return moved(sample.clone(), epsilon, [self.intervals[call][0], levels[1]]);
        };
        let weight = if place == 0 || place == PRK_CALLS - 1 { 1.0 / 6.0 } else { 1.0 / 3.0 };
        let share = epsilon.clone() * weight;
        let mean = self.mean.take().filter(|_| place > 0).map_or(share.clone(), |mean| mean + share);
        if place == PRK_CALLS - 1 {
            self.first = None;
            return moved(start, mean, levels);
        }
        self.mean = Some(mean);
        moved(start, epsilon, levels)
    }
}

/// Returns the latent moved along a predicted noise from one level to another.
fn moved(latent: Tensor<4>, epsilon: Tensor<4>, levels: [f64; 2]) -> Tensor<4> {
    let [(alpha_t, sigma_t), (next_alpha_t, next_sigma_t)] = levels.map(alpha_sigma);
    let kept = next_alpha_t / alpha_t;
    latent * kept + epsilon * (next_sigma_t - kept * sigma_t)
}
