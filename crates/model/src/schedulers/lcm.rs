//! Latent consistency models (Luo et al. 2023, algorithm 3): each step predicts the clean latent and adds fresh noise of
//! the next level. PixArt-LCM takes 4 steps without guidance. Source: diffusers `LCMScheduler`.

use burn::tensor::Tensor;

use super::levels::{Prediction, Seen, Space, Table, shares};
use super::options::{Options, Refused};
use super::{Asked, Draw, Plan, Rule, Run, Steps};

/// The deviation of the data that the consistency function's weights assume.
const DATA_DEVIATION: f64 = 0.5;

#[derive(Clone, Debug)]
pub(super) struct Lcm {
    table: Table,
    prediction: Prediction,
    distilled: Distilled,
    timestep_scaling: f64,
}

/// The timesteps that a model was distilled on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Distilled {
    steps: usize,
    trained: usize,
}

impl Distilled {
    pub(super) fn read(options: &Options, table: &Table) -> Result<Self, Refused> {
        let (key, trained) = ("original_inference_steps", table.len());
        let steps = options.count(key, 50, 1)?;
        if steps > trained {
            return Err(Refused::new(key, format!("{steps} is more than the {trained} timesteps of the training")));
        }
        Ok(Self { steps, trained })
    }

    /// As many of them as asked for, evenly from the noisiest, or those asked for.
    pub(super) fn timesteps(self, steps: &Steps<'_>) -> Result<Vec<f64>, Refused> {
        if let Steps::Timesteps(list) = steps {
            return Ok(list.iter().map(|timestep| f64::from(*timestep)).collect());
        }
        let Self { steps: most, trained } = self;
        let count = steps.count()?;
        if count > most {
            return Err(Refused::new("steps", format!("are {count}, and the scheduler has {most} timesteps to make")));
        }
        let stride = trained / most;
        Ok((0..count).map(|step| ((most - step * most / count) * stride - 1) as f64).collect())
    }
}

impl Lcm {
    pub(super) fn read(options: &Options) -> Result<Self, Refused> {
        let table = Table::read(options)?;
        Ok(Self {
            prediction: Prediction::read(options)?,
            distilled: Distilled::read(options, &table)?,
            timestep_scaling: options.number("timestep_scaling", 10.0)?,
            table,
        })
    }

    pub(super) fn run(&self, asked: &Asked<'_>) -> Result<Run, Refused> {
        let timesteps = self.distilled.timesteps(&asked.steps)?;
        let sigmas: Vec<f64> = timesteps.iter().map(|t| self.table.sigma(*t)).chain([0.0]).collect();
        let scaled = timesteps.iter().map(|timestep| timestep * self.timestep_scaling).collect();
        let rule = Consistency { scaled, sigmas: sigmas.clone() };
        Ok(Run::new(Plan { timesteps, sigmas, space: Space::Preserving, prediction: self.prediction }, rule))
    }
}

struct Consistency {
    scaled: Vec<f64>,
    sigmas: Vec<f64>,
}

impl Rule for Consistency {
    fn next(&mut self, step: usize, seen: &Seen, draw: Draw<'_>) -> Tensor<4> {
        let (time, data) = (self.scaled[step], DATA_DEVIATION);
        let squares = time * time + data * data;
        let clean = seen.clean() * (time / squares.sqrt()) + seen.latent.clone() * (data * data / squares);
        if step + 1 == self.scaled.len() {
            return clean;
        }
        let (signal, noise) = shares(self.sigmas[step + 1]);
        clean * signal + draw() * noise
    }
}
