//! Latent consistency models (Luo et al. 2023, algorithm 3): each step predicts the clean latent and adds fresh noise of
//! the next level. PixArt-LCM takes 4 steps without guidance. Source: diffusers `LCMScheduler`.

use burn::tensor::Tensor;

use super::config_reader::{ConfigReader, UnsupportedSetting};
use super::levels::{ModelPrediction, Parameterization, PredictionType, TrainSigmas, alpha_sigma};
use super::spacing::given;
use super::{DrawNoise, Schedule, SchedulerOptions, SchedulerState, Solver, Steps};

/// Standard deviation of the data in the consistency function's weights: diffusers' `sigma_data`.
const DATA_DEVIATION: f64 = 0.5;

#[derive(Clone, Debug)]
pub(super) struct Lcm {
    train_sigmas: TrainSigmas,
    prediction_type: PredictionType,
    distilled: DistilledTimesteps,
    timestep_scaling: f64,
}

/// Timesteps that a model was distilled on.
#[derive(Clone, Copy, Debug)]
pub(super) struct DistilledTimesteps {
    steps: usize,
    trained: usize,
}

impl DistilledTimesteps {
    pub(super) fn read(config: &ConfigReader, train_sigmas: &TrainSigmas) -> Result<Self, UnsupportedSetting> {
        let (key, trained) = ("original_inference_steps", train_sigmas.len());
        let steps = config.count(key, 50, 1)?;
        if steps > trained {
            return Err(UnsupportedSetting::new(
                key,
                format!("{steps} is more than the {trained} timesteps of the training"),
            ));
        }
        Ok(Self { steps, trained })
    }

    /// Returns the requested number of them, evenly spaced from the noisiest, or the requested timesteps.
    pub(super) fn timesteps(
        self,
        steps: &Steps<'_>,
        train_sigmas: &TrainSigmas,
    ) -> Result<Vec<f64>, UnsupportedSetting> {
        if let Steps::Timesteps(list) = steps {
            return given(list, train_sigmas);
        }
        let Self { steps: most, trained } = self;
        let count = steps.count()?;
        if count > most {
            return Err(UnsupportedSetting::new(
                "steps",
                format!("are {count}, and the scheduler has {most} timesteps to make"),
            ));
        }
        let stride = trained / most;
        Ok((0..count).map(|step| ((most - step * most / count) * stride - 1) as f64).collect())
    }
}

impl Lcm {
    pub(super) fn read(config: &ConfigReader) -> Result<Self, UnsupportedSetting> {
        let train_sigmas = TrainSigmas::read(config)?;
        Ok(Self {
            prediction_type: PredictionType::read(config)?,
            distilled: DistilledTimesteps::read(config, &train_sigmas)?,
            timestep_scaling: config.number("timestep_scaling", 10.0)?,
            train_sigmas,
        })
    }

    pub(super) fn set_timesteps(&self, options: &SchedulerOptions<'_>) -> Result<SchedulerState, UnsupportedSetting> {
        let timesteps = self.distilled.timesteps(&options.steps, &self.train_sigmas)?;
        let sigmas: Vec<f64> = timesteps.iter().map(|t| self.train_sigmas.sigma(*t)).chain([0.0]).collect();
        let scaled = timesteps.iter().map(|timestep| timestep * self.timestep_scaling).collect();
        let solver = LcmSolver { scaled, sigmas: sigmas.clone() };
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

struct LcmSolver {
    scaled: Vec<f64>,
    sigmas: Vec<f64>,
}

impl Solver for LcmSolver {
    fn next(&mut self, step: usize, prediction: &ModelPrediction, draw: DrawNoise<'_>) -> Tensor<4> {
        let (time, data) = (self.scaled[step], DATA_DEVIATION);
        let squares = time * time + data * data;
        let x0 = prediction.pred_original_sample() * (time / squares.sqrt())
            + prediction.sample.clone() * (data * data / squares);
        if step + 1 == self.scaled.len() {
            return x0;
        }
        let (alpha_t, sigma_t) = alpha_sigma(self.sigmas[step + 1]);
        x0 * alpha_t + draw() * sigma_t
    }
}
