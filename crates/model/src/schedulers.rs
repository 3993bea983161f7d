//! Schedulers: the timesteps of an image's denoising, and the update of the latent at each of them.
//!
//! Each file holds one scheduler: its settings, read by diffusers' names from a `scheduler_config.json` or a request's
//! text, and its [`Solver`]. Shared are noise levels ([`levels`]), spacings ([`spacing`]) and the state of a run
//! ([`state`]). Coefficients are f64 on the CPU, latents f32 on the device; nothing is read back.
//!
//! `clip_sample` and similar settings are ignored: latents are not pixels and have no range to clip to.

use pixart_protocol::{Fault, FaultCode};
use pixart_weights::Folder;
use serde_json::{Map, Value};

use crate::Error;
use crate::loading::json::Json;

mod config_reader;
mod ddim;
mod ddpm;
mod deis;
mod dpm;
mod dpm_multistep;
mod dpm_singlestep;
mod euler;
mod heun;
mod kdpm2;
mod lcm;
mod levels;
mod lms;
mod pndm;
mod sa_solver;
mod spacing;
mod state;
mod tcd;
#[cfg(test)]
mod tests;
mod unipc;

use config_reader::{ConfigReader, UnsupportedSetting};
pub use state::{DrawNoise, SchedulerOptions, SchedulerState, Steps};
use state::{Schedule, Solver, TensorHistory};

/// Declares the enum of all schedulers, and the tables that find one by name or by diffusers' class.
macro_rules! schedulers {
    ($($kind:ident($module:ident) { $($name:literal: $class:literal,)* })*) => {
        #[derive(Clone, Debug)]
        enum AnyScheduler { $($kind($module::$kind),)* }

        /// Name in a request and diffusers' class of each scheduler.
        pub const SCHEDULERS: &[(&str, &str)] = &[$($(($name, $class),)*)*];

        impl AnyScheduler {
            fn read(config: &ConfigReader) -> Result<Self, UnsupportedSetting> {
                match config.class {
                    $($($class => $module::$kind::read(config).map(Self::$kind),)*)*
                    class => unreachable!("{class} is not in the table that it was found in"),
                }
            }

            fn set_timesteps(&self, options: &SchedulerOptions<'_>) -> Result<SchedulerState, UnsupportedSetting> {
                match self { $(Self::$kind(scheduler) => scheduler.set_timesteps(options),)* }
            }
        }
    };
}

schedulers! {
    DpmMultistep(dpm_multistep) { "dpm++2m": "DPMSolverMultistepScheduler", }
    DpmSinglestep(dpm_singlestep) { "dpm-single": "DPMSolverSinglestepScheduler", }
    SaSolver(sa_solver) { "sa": "SASolverScheduler", }
    Ddim(ddim) { "ddim": "DDIMScheduler", }
    Ddpm(ddpm) { "ddpm": "DDPMScheduler", }
    Euler(euler) { "euler": "EulerDiscreteScheduler", "euler-a": "EulerAncestralDiscreteScheduler", }
    Lcm(lcm) { "lcm": "LCMScheduler", }
    Tcd(tcd) { "tcd": "TCDScheduler", }
    UniPc(unipc) { "unipc": "UniPCMultistepScheduler", }
    Deis(deis) { "deis": "DEISMultistepScheduler", }
    Pndm(pndm) { "pndm": "PNDMScheduler", }
    Lms(lms) { "lms": "LMSDiscreteScheduler", }
    Heun(heun) { "heun": "HeunDiscreteScheduler", }
    Kdpm2(kdpm2) { "kdpm2": "KDPM2DiscreteScheduler", "kdpm2-a": "KDPM2AncestralDiscreteScheduler", }
}

/// Names that stand for a scheduler with settings of its own. Under the linspace spacing of PixArt's checkpoints, PNDM's
/// steps miss their timesteps and its images are spoilt; its Runge-Kutta start is not used with latents.
const IMPLIED: &[(&str, &str)] = &[
    ("dpm++2m-sde", "dpm++2m:algorithm_type=sde-dpmsolver++"),
    ("pndm", "pndm:timestep_spacing=leading,skip_prk_steps=true"),
];

const FILE: &str = "scheduler/scheduler_config.json";
pub(crate) const MODEL_INDEX: &str = "model_index.json";

/// A scheduler with its settings.
#[derive(Clone, Debug)]
pub struct Scheduler {
    /// Name in the request.
    name: String,
    kind: AnyScheduler,
}

impl Scheduler {
    /// Returns the requested name, without settings.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Fixes the timesteps of one image and returns the state of its denoising.
    ///
    /// # Errors
    /// [`FaultCode::BadRequest`] for timesteps, sigmas, a number of steps or an η that the scheduler does not support.
    pub fn set_timesteps(&self, options: &SchedulerOptions<'_>) -> Result<SchedulerState, Error> {
        if options.eta != 0.0 && !matches!(self.kind, AnyScheduler::Ddim(_) | AnyScheduler::Tcd(_)) {
            return Err(UnsupportedSetting::new("eta", "is a setting of ddim and tcd alone").of(&self.name));
        }
        self.kind.set_timesteps(options).map_err(|unsupported| match options.steps {
            Steps::Count(count) if unsupported.key == "steps" => self.too_many(count, options.eta, unsupported),
            _ => unsupported.of(&self.name),
        })
    }

    /// Returns the error of a number of steps, with the nearest number that the scheduler makes.
    fn too_many(&self, count: usize, eta: f64, UnsupportedSetting { key, why }: UnsupportedSetting) -> Error {
        let makes =
            |count: &usize| self.kind.set_timesteps(&SchedulerOptions { steps: Steps::Count(*count), eta }).is_ok();
        let nearest = (1..count).rev().find(makes).map(|most| format!("at most {most}"));
        let nearest = nearest.or_else(|| (count..count + 9).find(makes).map(|least| format!("at least {least}")));
        let remedy = nearest.map_or(String::new(), |nearest| format!("choose {nearest} steps, or "));
        bad(format!("scheduler {}: {key} {why}", self.name), format!("{remedy}choose another scheduler"))
    }
}

/// The scheduler configuration of a checkpoint. Any other scheduler can be made from it, as with diffusers' `from_config`.
#[derive(Clone, Debug)]
pub struct SchedulerConfig {
    values: Map<String, Value>,
    own: Scheduler,
}

impl SchedulerConfig {
    /// Reads `scheduler/scheduler_config.json`.
    ///
    /// # Errors
    /// A class that is not one of [`SCHEDULERS`], or a setting that the scheduler does not have.
    pub fn read(folder: &Folder) -> Result<Self, Error> {
        let json = Json::read(folder, FILE)?;
        let class = class(folder)?;
        let known = SCHEDULERS.iter().find(|(_, known)| *known == class);
        let Some((name, class)) = known else {
            let classes = SCHEDULERS.iter().map(|(_, class)| *class).collect::<Vec<_>>().join(", ");
            return Err(json.error("_class_name", format!("{class} is not supported, only {classes}")));
        };
        let values = json.values().clone();
        let kind = AnyScheduler::read(&ConfigReader::new(class, values.clone()));
        let kind = kind.map_err(|UnsupportedSetting { key, why }| json.error(&key, why))?;
        Ok(Self { values, own: Scheduler { name: (*name).into(), kind } })
    }

    /// Returns the scheduler that `text` names, as `euler` or `dpm++2m:solver_order=3,use_karras_sigmas=true` with
    /// diffusers' keys, or the checkpoint's own where `text` is `None`. Another scheduler keeps the checkpoint's settings
    /// that it shares.
    ///
    /// # Errors
    /// [`FaultCode::BadRequest`] for an unknown name or setting, with the known ones.
    pub fn choose(&self, text: Option<&str>) -> Result<Scheduler, Error> {
        let Some(text) = text else { return Ok(self.own.clone()) };
        let (name, given) = text.split_once(':').unwrap_or((text, ""));
        let expanded = IMPLIED.iter().find(|(short, _)| *short == name).map_or(name, |(_, long)| long);
        let (plain, implied) = expanded.split_once(':').unwrap_or((expanded, ""));
        let Some((_, class)) = SCHEDULERS.iter().find(|(known, _)| *known == plain) else {
            let what = format!("the scheduler is `{name}`");
            return Err(bad(what, format!("choose one of {}", names().collect::<Vec<_>>().join(", "))));
        };
        let mut values = self.values.clone();
        let mut keys = Vec::new();
        for setting in [implied, given].into_iter().flat_map(|list| list.split(',')).filter(|text| !text.is_empty()) {
            let Some((key, value)) = setting.split_once('=') else {
                return Err(bad(format!("the scheduler's setting is `{setting}`"), "write it as key=value".into()));
            };
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.into()));
            values.insert(key.into(), value);
            keys.push(key);
        }
        let config = ConfigReader::new(class, values);
        let kind = AnyScheduler::read(&config).and_then(|kind| config.unread(keys.into_iter()).map(|()| kind));
        kind.map(|kind| Scheduler { name: name.into(), kind }).map_err(|unsupported| unsupported.of(name))
    }
}

/// Returns diffusers' class of the checkpoint's scheduler: that of its own file, else that of `model_index.json`.
pub(crate) fn class(folder: &Folder) -> Result<String, Error> {
    let json = Json::read(folder, FILE)?;
    if !json.contains("_class_name") && folder.contains(MODEL_INDEX) {
        let index = Json::read(folder, MODEL_INDEX)?;
        if let Some(class) = index.optional("scheduler").and_then(|pair| pair.get(1)).and_then(Value::as_str) {
            return Ok(class.to_owned());
        }
    }
    Ok(json.text("_class_name")?.to_owned())
}

/// Returns the scheduler names that a request can use.
pub fn names() -> impl Iterator<Item = &'static str> {
    let plain = SCHEDULERS.iter().map(|(name, _)| *name);
    let implied = IMPLIED.iter().map(|(name, _)| *name);
    plain.chain(implied.filter(|name| !SCHEDULERS.iter().any(|(plain, _)| plain == name)))
}

fn bad(what: String, remedy: String) -> Error {
    Error::Request(Fault::new(FaultCode::BadRequest, what, remedy))
}

impl UnsupportedSetting {
    /// Converts to the error of a request for the scheduler `name`.
    fn of(self, name: &str) -> Error {
        let Self { key, why } = self;
        bad(format!("scheduler {name}: {key} {why}"), format!("leave {key} out, or choose another scheduler"))
    }
}
