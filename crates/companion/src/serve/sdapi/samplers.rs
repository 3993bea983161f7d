//! Samplers and schedulers by AUTOMATIC1111's names. Its sampler is the solver, and its scheduler the curve of the noise levels; a
//! `scheduler` of ours is both.

use pixart_model::scheduler_names;
use pixart_protocol::{Fault, FaultCode};
use serde_json::{Value, json};

/// A sampler of AUTOMATIC1111's web UI.
struct SdSampler {
    name: &'static str,
    aliases: &'static [&'static str],
    /// Name of the scheduler in our requests.
    scheduler: &'static str,
    /// True where the noise levels can follow another curve.
    has_curves: bool,
}

const fn sampler(
    name: &'static str,
    aliases: &'static [&'static str],
    scheduler: &'static str,
    has_curves: bool,
) -> SdSampler {
    SdSampler { name, aliases, scheduler, has_curves }
}

/// The pairs of diffusers' table of schedulers and of k-diffusion's names, and our schedulers beside them.
const SAMPLERS: [SdSampler; 17] = [
    sampler("DPM++ 2M", &["k_dpmpp_2m"], "dpm++2m", true),
    sampler("DPM++ 2M SDE", &["k_dpmpp_2m_sde"], "dpm++2m-sde", true),
    sampler("Euler a", &["k_euler_a", "k_euler_ancestral"], "euler-a", false),
    sampler("Euler", &["k_euler"], "euler", true),
    sampler("LMS", &["k_lms"], "lms", true),
    sampler("Heun", &["k_heun"], "heun", true),
    sampler("DPM2", &["k_dpm_2"], "kdpm2", true),
    sampler("DPM2 a", &["k_dpm_2_a", "k_dpm_2_ancestral"], "kdpm2-a", true),
    sampler("DDIM", &["ddim"], "ddim", false),
    sampler("PLMS", &["plms", "pndm"], "pndm", false),
    sampler("UniPC", &["unipc"], "unipc", true),
    sampler("LCM", &["k_lcm", "lcm"], "lcm", false),
    sampler("DPM++ 2S", &["dpm-single"], "dpm-single", true),
    sampler("SA-Solver", &["sa"], "sa", true),
    sampler("DEIS", &["deis"], "deis", true),
    sampler("DDPM", &["ddpm"], "ddpm", false),
    sampler("TCD", &["tcd"], "tcd", false),
];

/// A scheduler of AUTOMATIC1111's web UI: name, label, aliases, and the setting that it is in ours.
type SdScheduler = (&'static str, &'static str, &'static [&'static str], Option<&'static str>);

const SCHEDULERS: [SdScheduler; 5] = [
    ("automatic", "Automatic", &[], None),
    ("uniform", "Uniform", &[], None),
    ("karras", "Karras", &[], Some("use_karras_sigmas=true")),
    ("exponential", "Exponential", &[], Some("use_exponential_sigmas=true")),
    ("beta", "Beta", &[], Some("use_beta_sigmas=true")),
];

/// Returns our scheduler of AUTOMATIC1111's `sampler` and `scheduler`. Older clients write both as the sampler, as `DPM++ 2M Karras`.
/// The second result is true where the scheduler changes nothing.
///
/// # Errors
/// A sampler that there is not.
pub(super) fn our_scheduler(sampler: &str, scheduler: Option<&str>) -> Result<(String, bool), Fault> {
    let is = |name: &str, other: &str| name.eq_ignore_ascii_case(other);
    let find = |name: &str| {
        SAMPLERS.iter().find(|known| is(known.name, name) || known.aliases.iter().any(|alias| is(alias, name)))
    };
    let curve_of = |name: &str| SCHEDULERS.iter().find(|(known, label, ..)| is(known, name) || is(label, name));
    let joined = sampler.rsplit_once(' ').and_then(|(name, curve)| Some((find(name)?, Some(curve_of(curve)?))));
    let given = scheduler.filter(|name| !name.is_empty());
    let (found, curve) = match (find(sampler), joined) {
        (Some(found), _) => (found, given.and_then(curve_of)),
        (None, Some(joined)) => joined,
        // A scheduler of ours by its own name, with or without settings.
        (None, None) if scheduler_names().any(|name| sampler.split(':').next() == Some(name)) => {
            return Ok((sampler.to_owned(), given.is_some()));
        }
        (None, None) => {
            let remedy = "send a name of /sdapi/v1/samplers";
            return Err(Fault::new(FaultCode::BadRequest, format!("there is no sampler `{sampler}`"), remedy));
        }
    };
    match curve.and_then(|(.., setting)| *setting) {
        Some(setting) if found.has_curves => Ok((format!("{}:{setting}", found.scheduler), false)),
        setting => {
            Ok((found.scheduler.to_owned(), setting.is_some() || given.is_some_and(|name| curve_of(name).is_none())))
        }
    }
}

/// `GET /sdapi/v1/samplers`.
pub(super) fn samplers() -> Value {
    SAMPLERS
        .iter()
        .map(|SdSampler { name, aliases, .. }| json!({ "name": name, "aliases": aliases, "options": {} }))
        .collect()
}

/// `GET /sdapi/v1/schedulers`.
pub(super) fn schedulers() -> Value {
    let item = |(name, label, aliases, _): &SdScheduler| json!({ "name": name, "label": label, "aliases": aliases, "default_rho": -1.0, "need_inner_model": false });
    SCHEDULERS.iter().map(item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sampler_is_a_scheduler_of_ours_and_every_scheduler_has_one() {
        let ours: Vec<&str> = scheduler_names().collect();
        for sampler in &SAMPLERS {
            assert!(ours.contains(&sampler.scheduler), "{}", sampler.name);
        }
        for name in ours {
            assert!(SAMPLERS.iter().any(|sampler| sampler.scheduler == name), "{name}");
        }
    }

    #[test]
    fn samplers_and_schedulers_are_found_in_every_spelling() {
        for (sampler, scheduler, expected) in [
            ("Euler", None, ("euler", false)),
            ("euler A", Some(""), ("euler-a", false)),
            ("k_dpmpp_2m", Some("Karras"), ("dpm++2m:use_karras_sigmas=true", false)),
            ("DPM++ 2M Karras", None, ("dpm++2m:use_karras_sigmas=true", false)),
            ("DPM++ 2M SDE Exponential", Some("Automatic"), ("dpm++2m-sde:use_exponential_sigmas=true", false)),
            ("DPM++ 2M", Some("automatic"), ("dpm++2m", false)),
            ("DDIM", Some("Karras"), ("ddim", true)),
            ("Euler", Some("SGM Uniform"), ("euler", true)),
            ("dpm++2m:use_lu_lambdas=true", None, ("dpm++2m:use_lu_lambdas=true", false)),
        ] {
            let found = our_scheduler(sampler, scheduler).expect(sampler);
            assert_eq!((found.0.as_str(), found.1), expected, "{sampler} {scheduler:?}");
        }
        for unknown in ["", "Karras", "DPM adaptive", "Euler Karras Karras"] {
            assert!(our_scheduler(unknown, None).is_err(), "{unknown}");
        }
    }
}
