//! Every scheduler against runs recorded from diffusers (`tests/oracle/schedulers.py`), and against what must hold of any.
//! Each recorded step is made from the recorded latent before it, so that a step's error is its own.

use burn::tensor::{Device, Tensor, TensorData};
use pixart_weights::Folder;
use serde_json::{Map, Value, json};

use super::*;
use crate::compare;
use crate::noise::Noise;

const SHAPE: [usize; 4] = [1, 4, 4, 4];
/// Relative to a recorded tensor's largest magnitude.
const TOLERANCE: f64 = 1e-5;

fn values(tensor: Tensor<4>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("latents are f32")
}

fn tensor(values: &[f32]) -> Tensor<4> {
    Tensor::from_data(TensorData::new(values.to_vec(), SHAPE), &Device::flex())
}

/// The formula that the recording takes for a network.
fn network(latent: Tensor<4>, timestep: f32) -> Tensor<4> {
    let offset = 0.05 * (timestep / 100.0).cos();
    tensor(&values(latent).iter().map(|x| 0.7 * x + 0.3 * (3.0 * x).sin() + offset).collect::<Vec<_>>())
}

/// A checkpoint's scheduler, by diffusers' class and keys.
fn checkpoint(class: &str, settings: &Value) -> Result<SchedulerConfig, Error> {
    let mut file: Map<String, Value> = settings.as_object().expect("settings are an object").clone();
    file.insert("_class_name".into(), class.into());
    let mut folder = Folder::default();
    folder.insert(FILE, Value::Object(file).to_string().into_bytes());
    SchedulerConfig::read(&folder)
}

/// The scheduler that PixArt ships with.
fn shipped() -> SchedulerConfig {
    checkpoint("DPMSolverMultistepScheduler", &json!({ "timestep_spacing": "linspace" })).expect("it is supported")
}

fn count(count: usize) -> SchedulerOptions<'static> {
    SchedulerOptions { steps: Steps::Count(count), eta: 0.0 }
}

#[test]
fn every_recorded_run_is_reproduced() {
    let mut folder = Folder::default();
    let file = include_bytes!("../../../../tests/golden/schedulers.safetensors");
    folder.insert("runs", file.to_vec());
    let recorded = folder.tensors("runs").expect("recorded");
    let runs: Vec<Value> =
        serde_json::from_str(include_str!("../../../../tests/golden/schedulers.json")).expect("recorded");
    let (mut wrong, mut worst) = (Vec::new(), ("", 0.0));
    for row in &runs {
        let name = row["name"].as_str().expect("a run has a name");
        let get = |key: &str| recorded.any_f32(&format!("{name}.{key}")).map(|(_, values)| values.to_vec());
        let steps = &row["steps"];
        let given: Vec<u32> = serde_json::from_value(steps["timesteps"].clone()).unwrap_or_default();
        let levels: Vec<f64> = serde_json::from_value(steps["sigmas"].clone()).unwrap_or_default();
        let steps = match steps["count"].as_u64() {
            Some(count) => Steps::Count(count as usize),
            None if levels.is_empty() => Steps::Timesteps(&given),
            None => Steps::Sigmas(&levels),
        };
        let class = row["class"].as_str().expect("a run has a class");
        let config = checkpoint(class, &row["settings"]).unwrap_or_else(|error| panic!("{name}: {error}"));
        let options = SchedulerOptions { steps, eta: row["eta"].as_f64().expect("a run has an eta") };
        let state = config.choose(None).and_then(|own| own.set_timesteps(&options));
        let mut state = state.unwrap_or_else(|error| panic!("{name}: {error}"));

        let mut compared = |what: &str, got: &[f32], want: &[f32], tolerance: f64| {
            let comparison = compare(got, want, tolerance);
            if let Some(why) = &comparison.difference {
                wrong.push(format!("{name}, {what}: {:.1e}, {why}", comparison.max_relative));
            } else if comparison.max_relative > worst.1 {
                worst = (name, comparison.max_relative);
            }
        };
        compared("timesteps", state.timesteps(), &get("timesteps").expect("recorded"), 1e-6);
        if let Ok(sigmas) = get("sigmas") {
            let got: Vec<f32> = state.sigmas().iter().map(|sigma| *sigma as f32).collect();
            compared("sigmas", &got, &sigmas, 1e-6);
        }
        let (latents, noises) = (get("latents").expect("recorded"), get("noises").unwrap_or_default());
        let mut noises = noises.chunks(SHAPE.iter().product());
        // The recorded noise is torch's for the seed 3, and so must ours be.
        let mut seeded = Noise::new(3, [0, 1], SHAPE, &Device::flex());
        let mut latent = tensor(&get("first").expect("recorded"));
        for (call, want) in latents.chunks(SHAPE.iter().product()).enumerate() {
            let timestep = state.timestep().unwrap_or_else(|| panic!("{name} ends before call {call}"));
            let output = network(state.scale_model_input(latent.clone()), timestep);
            let mut draw = || {
                let noise = seeded.draw();
                let recorded = noises.next().unwrap_or_else(|| panic!("{name} draws more noise than was recorded"));
                let comparison = compare(&values(noise.clone()), recorded, 1e-6);
                assert_eq!(comparison.difference, None, "{name}: the noise of call {call}");
                noise
            };
            let next = state.step(latent, output, &mut draw);
            compared(&format!("call {call}"), &values(next), want, TOLERANCE);
            latent = tensor(want);
        }
        assert_eq!((state.timestep(), noises.next()), (None, None), "{name} ends with calls or noises left");
    }
    println!("{} runs, the furthest {} by {:.1e} of its peak", runs.len(), worst.0, worst.1);
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// With a network that knows the noise exactly, any scheduler ends at the clean latent, but for the noise of the least
/// level where it ends there and not at 0.
#[test]
fn an_exact_network_leads_to_the_clean_latent() {
    let device = Device::flex();
    let (clean, other) = (Noise::new(1, [0, 1], SHAPE, &device).draw(), Noise::new(2, [0, 1], SHAPE, &device).draw());
    for name in names() {
        for steps in [1, 2, 3, 20, 999] {
            let scheduler = shipped().choose(Some(name)).expect("the name is known");
            let few = matches!(name, "lcm" | "tcd") && steps > 50;
            let mut state = match scheduler.set_timesteps(&count(steps)) {
                Ok(state) if !few => state,
                Ok(_) => panic!("{name} has no {steps} steps"),
                Err(error) if few => {
                    assert!(error.to_string().contains("999"), "{error}");
                    continue;
                }
                Err(error) => panic!("{name} in {steps} steps: {error}"),
            };
            let timesteps = state.timesteps().to_vec();
            // Heun and PNDM see timesteps twice, and so does ancestral KDPM2, whose middle is the next step's level; all others
            // go down with every call.
            let twice = matches!(name, "heun" | "pndm" | "kdpm2-a");
            let rises =
                timesteps.windows(2).find(|pair| if twice { pair[0] + 0.02 < pair[1] } else { pair[0] <= pair[1] });
            assert_eq!(rises, None, "{name} in {steps} steps");
            assert!(timesteps[0] <= 999.0, "{name} in {steps} steps begins at {}", timesteps[0]);

            let mut noise = Noise::new(3, [0, 1], SHAPE, &device);
            let mut latent = state.add_noise(clean.clone(), other.clone());
            while state.timestep().is_some() {
                let (pure, one) = (
                    state.add_noise(clean.clone(), clean.zeros_like()),
                    state.add_noise(clean.zeros_like(), clean.ones_like()),
                );
                let exact = (latent.clone() - pure) / one;
                latent = state.step(latent, exact, &mut || noise.draw());
            }
            let left = values(latent - clean.clone()).into_iter().fold(0.0, |most: f32, left| most.max(left.abs()));
            let least = *state.sigmas().last().expect("a run ends at a level");
            assert!(
                f64::from(left) <= 4.0 * least + 1e-3,
                "{name} in {steps} steps: {left} is left, the level {least}"
            );
        }
    }
}

#[test]
fn a_run_with_a_begin_index_makes_the_remaining_steps() {
    for name in names() {
        let state =
            shipped().choose(Some(name)).and_then(|scheduler| scheduler.set_timesteps(&count(8))).expect("a plain run");
        let (all, order) =
            (state.timesteps().to_vec(), if matches!(name, "heun" | "kdpm2" | "kdpm2-a") { 2 } else { 1 });
        let state = state.set_begin_index(5);
        assert_eq!(
            (state.timestep(), state.remaining_calls()),
            (Some(all[5 * order]), all.len() - 5 * order),
            "{name}"
        );
    }
}

#[test]
fn another_scheduler_keeps_the_shared_settings() {
    let config =
        checkpoint("DPMSolverMultistepScheduler", &json!({ "timestep_spacing": "trailing", "solver_order": 3 }));
    let config = config.expect("it is supported");
    let timesteps = |text| {
        config
            .choose(text)
            .and_then(|scheduler| scheduler.set_timesteps(&count(4)))
            .map(|state| state.timesteps().to_vec())
    };
    assert_eq!(timesteps(Some("ddim")).expect("a run"), [999.0, 749.0, 499.0, 249.0]);
    assert_eq!(timesteps(Some("ddim:timestep_spacing=leading")).expect("a run"), [750.0, 500.0, 250.0, 0.0]);
    assert_eq!(timesteps(None).expect("a run"), [999.0, 749.0, 499.0, 249.0]);
}

#[test]
fn an_unknown_setting_is_refused_by_name() {
    let cases = [
        ("ddjm", "the scheduler is `ddjm`", "dpm++2m, dpm-single"),
        ("euler:karras=true", "scheduler euler: karras is not a setting of EulerDiscreteScheduler", "leave karras out"),
        ("dpm++2m:solver_order=4", "scheduler dpm++2m: solver_order 4 is not supported, only 1, 2, 3", "leave"),
        ("dpm++2m:solver_type=bh3", "solver_type \"bh3\" is not supported, only midpoint, heun", "leave"),
        ("lms:use_karras_sigmas=yes", "use_karras_sigmas \"yes\" is not true or false", "leave"),
        ("lms:use_karras_sigmas", "the scheduler's setting is `use_karras_sigmas`", "write it as key=value"),
        ("heun:use_karras_sigmas=true,use_beta_sigmas=true", "is on together with another way", "leave"),
        ("sa:tau=2", "scheduler sa: tau 2 is not a number from 0 to 1", "leave tau out"),
    ];
    for (text, what, remedy) in cases {
        let Err(Error::Request(fault)) = shipped().choose(Some(text)) else { panic!("{text} is taken") };
        assert!(
            fault.what.contains(what) && fault.remedy.contains(remedy),
            "{text}: {} / {}",
            fault.what,
            fault.remedy
        );
    }
    for (text, options, what) in [
        (
            "ddim",
            SchedulerOptions { steps: Steps::Timesteps(&[5]), eta: 0.0 },
            "scheduler ddim: timesteps are made by the scheduler",
        ),
        (
            "unipc",
            SchedulerOptions { steps: Steps::Sigmas(&[5.0]), eta: 0.0 },
            "scheduler unipc: sigmas are made by the scheduler",
        ),
        (
            "euler",
            SchedulerOptions { steps: Steps::Count(3), eta: 0.5 },
            "scheduler euler: eta is a setting of ddim and tcd alone",
        ),
        (
            "euler",
            SchedulerOptions { steps: Steps::Sigmas(&[5.0]), eta: 0.0 },
            "scheduler euler: sigmas needs a level to start from",
        ),
        ("lcm", SchedulerOptions { steps: Steps::Count(51), eta: 0.0 }, "scheduler lcm: steps are 51"),
    ] {
        let outcome = shipped().choose(Some(text)).and_then(|scheduler| scheduler.set_timesteps(&options));
        let Err(Error::Request(fault)) = outcome else { panic!("{text} takes {options:?}") };
        assert!(fault.what.contains(what), "{text}: {}", fault.what);
    }
    let file = checkpoint("FlowMatchEulerDiscreteScheduler", &json!({})).expect_err("it is not supported");
    assert!(file.to_string().contains("_class_name`: FlowMatchEulerDiscreteScheduler is not supported"), "{file}");
    let file = checkpoint("DPMSolverMultistepScheduler", &json!({ "thresholding": true })).expect_err("not supported");
    assert_eq!(file.to_string(), "scheduler/scheduler_config.json: `thresholding`: true is not supported, only false");
}
