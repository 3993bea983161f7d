//! The schedulers: at which timesteps a picture's steps are made, and how a step goes from one latent to the next.
//!
//! Each file holds one scheduler: its settings, read by diffusers' names from a `scheduler_config.json` or a request's
//! text, and the rule of its step. What they share is here: noise levels ([`levels`]), spacings ([`spacing`]) and the run
//! that drives a rule. Coefficients are f64 on the CPU, latents f32 on the device; nothing is read back.
//!
//! `clip_sample` and its like are off, whatever a file says: latents are not pixels, and have no range to be clipped to.

use pixart_protocol::{Fault, FaultCode};
use pixart_weights::Folder;
use serde_json::{Map, Value};

use crate::Error;
use crate::config::Json;

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
mod options;
mod pndm;
mod run;
mod sa_solver;
mod spacing;
mod tcd;
#[cfg(test)]
mod tests;
mod unipc;

use options::{Options, Refused};
pub use run::{Asked, Draw, Run, Steps};
use run::{History, Plan, Rule};

/// The enum of all schedulers, and the tables that find one by name or by diffusers' class.
macro_rules! schedulers {
    ($($kind:ident($module:ident) { $($name:literal: $class:literal,)* })*) => {
        #[derive(Clone, Debug)]
        enum Kind { $($kind($module::$kind),)* }

        /// The name that a request asks by, and diffusers' class, of each.
        pub const SCHEDULERS: &[(&str, &str)] = &[$($(($name, $class),)*)*];

        impl Kind {
            fn read(options: &Options) -> Result<Self, Refused> {
                match options.class {
                    $($($class => $module::$kind::read(options).map(Self::$kind),)*)*
                    class => unreachable!("{class} is not in the table that it was found in"),
                }
            }

            fn run(&self, asked: &Asked<'_>) -> Result<Run, Refused> {
                match self { $(Self::$kind(scheduler) => scheduler.run(asked),)* }
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

/// What a name stands for where that is more than a scheduler with the checkpoint's settings: under the linspace spacing that
/// PixArt's checkpoints give, PNDM's steps miss their timesteps and its pictures are spoilt.
const IMPLIED: &[(&str, &str)] =
    &[("dpm++2m-sde", "dpm++2m:algorithm_type=sde-dpmsolver++"), ("pndm", "pndm:timestep_spacing=leading")];

const FILE: &str = "scheduler/scheduler_config.json";

/// A scheduler with its settings.
#[derive(Clone, Debug)]
pub struct Scheduler {
    /// As it was asked for.
    name: String,
    kind: Kind,
}

impl Scheduler {
    /// As it was asked for, without its settings.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The steps of one picture.
    ///
    /// # Errors
    /// [`FaultCode::BadRequest`] for timesteps, levels, a number of steps or an η that the scheduler does not take.
    pub fn run(&self, asked: &Asked<'_>) -> Result<Run, Error> {
        if asked.eta != 0.0 && !matches!(self.kind, Kind::Ddim(_) | Kind::Tcd(_)) {
            return Err(Refused::new("eta", "is a setting of ddim and tcd alone").of(&self.name));
        }
        self.kind.run(asked).map_err(|refused| refused.of(&self.name))
    }
}

/// The scheduler of a checkpoint, and the others with what they take over of its settings.
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
        let class = json.text("_class_name")?;
        let known = SCHEDULERS.iter().find(|(_, known)| *known == class);
        let Some((name, class)) = known else {
            let classes = SCHEDULERS.iter().map(|(_, class)| *class).collect::<Vec<_>>().join(", ");
            return Err(json.fault("_class_name", format!("{class} is not supported, only {classes}")));
        };
        let values = json.object()?;
        let kind = Kind::read(&Options::new(class, values.clone()));
        let kind = kind.map_err(|Refused { key, why }| json.fault(&key, why))?;
        Ok(Self { values, own: Scheduler { name: (*name).into(), kind } })
    }

    /// The scheduler that `text` names, as `euler` or `dpm++2m:solver_order=3,use_karras_sigmas=true`, with diffusers'
    /// keys; the checkpoint's own where there is none. Another scheduler takes over what settings it shares with it.
    ///
    /// # Errors
    /// [`FaultCode::BadRequest`] for a name or a setting that there is not, with those that there are.
    pub fn choose(&self, text: Option<&str>) -> Result<Scheduler, Error> {
        let Some(text) = text else { return Ok(self.own.clone()) };
        let (name, given) = text.split_once(':').unwrap_or((text, ""));
        let standing = IMPLIED.iter().find(|(short, _)| *short == name).map_or(name, |(_, long)| long);
        let (plain, implied) = standing.split_once(':').unwrap_or((standing, ""));
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
        let options = Options::new(class, values);
        let kind = Kind::read(&options).and_then(|kind| options.unread(keys.into_iter()).map(|()| kind));
        kind.map(|kind| Scheduler { name: name.into(), kind }).map_err(|refused| refused.of(name))
    }
}

/// What a request may ask for by name alone.
pub fn names() -> impl Iterator<Item = &'static str> {
    let plain = SCHEDULERS.iter().map(|(name, _)| *name);
    let implied = IMPLIED.iter().map(|(name, _)| *name);
    plain.chain(implied.filter(|name| !SCHEDULERS.iter().any(|(plain, _)| plain == name)))
}

fn bad(what: String, remedy: String) -> Error {
    Error::Request(Fault::new(FaultCode::BadRequest, what, remedy))
}

impl Refused {
    /// The fault of a request that asked the scheduler `name` for it.
    fn of(self, name: &str) -> Error {
        let Self { key, why } = self;
        bad(format!("scheduler {name}: {key} {why}"), format!("leave {key} out, or choose another scheduler"))
    }
}
