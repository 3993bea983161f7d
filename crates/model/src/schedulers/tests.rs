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

/// Every key that diffusers' constructors give a default for, by class (`tests/oracle/schedulers.py`).
fn defaults() -> Map<String, Value> {
    serde_json::from_str(include_str!("../../../../tests/golden/scheduler_defaults.json")).expect("recorded")
}

#[test]
fn every_key_of_a_scheduler_may_be_left_out() {
    let read = |class: &str, settings: &Map<String, Value>| {
        let config = checkpoint(class, &settings.clone().into()).unwrap_or_else(|error| panic!("{class}: {error}"));
        format!("{:?}", config.own.kind)
    };
    let recorded = defaults();
    assert_eq!(recorded.len(), SCHEDULERS.len(), "all classes are recorded");
    for (class, settings) in recorded {
        let settings = settings.as_object().expect("keys and defaults");
        let written_out = read(&class, settings);
        assert_eq!(read(&class, &Map::new()), written_out, "{class} without a key");
        for key in settings.keys() {
            let mut without = settings.clone();
            without.remove(key);
            assert_eq!(read(&class, &without), written_out, "{class} without {key}");
        }
        let mut more = settings.clone();
        more.insert("flux_capacitance".into(), 3.into());
        assert_eq!(read(&class, &more), written_out, "{class} ignores an unknown key");
    }
}

#[test]
fn null_is_false_for_a_flag_and_no_number_or_word() {
    let read =
        |class: &str, settings: Value| checkpoint(class, &settings).map(|config| format!("{:?}", config.own.kind));
    for (class, settings) in defaults() {
        for (key, default) in settings.as_object().expect("keys and defaults") {
            let with = |value: Value| read(&class, json!({ key: value }));
            let unread =
                ["clip", "dynamic_", "sample_max", "flow_shift", "variance_type", "time_shift", "steps_offset"];
            match default {
                Value::Bool(_) if *key == "skip_prk_steps" || *key == "predict_x0" => {}
                Value::Bool(_) => assert_eq!(with(Value::Null).ok(), with(false.into()).ok(), "{class} {key}"),
                Value::Number(_) | Value::String(_) if !unread.iter().any(|part| key.starts_with(part)) => {
                    match with(Value::Null) {
                        Ok(read) => assert_eq!(read, with(default.clone()).expect("the default"), "{class} {key}"),
                        Err(error) => assert!(error.to_string().contains(&format!("`{key}`: null is not")), "{error}"),
                    }
                }
                _ => {}
            }
        }
    }
}

#[test]
fn the_class_of_model_index_is_taken_where_the_file_has_none() {
    let mut folder = Folder::default();
    folder.insert(FILE, b"{}".to_vec());
    let error = SchedulerConfig::read(&folder).expect_err("no class").to_string();
    assert!(error.contains("`_class_name`: the key is missing"), "{error}");
    folder.insert(MODEL_INDEX, br#"{"scheduler": ["diffusers", "EulerDiscreteScheduler"]}"#.to_vec());
    assert_eq!(SchedulerConfig::read(&folder).expect("the class is known").own.name(), "euler");
}

#[test]
fn noise_levels_that_are_not_finite_are_refused_by_key() {
    let cases = [
        (json!({"beta_start": 0}), "beta_start"),
        (json!({"beta_start": -0.1}), "beta_start"),
        (json!({"beta_end": 1}), "beta_end"),
        (json!({"beta_end": "0.02"}), "beta_end"),
        (json!({"num_train_timesteps": 1}), "num_train_timesteps"),
        (json!({"num_train_timesteps": 0}), "num_train_timesteps"),
        (json!({"num_train_timesteps": -1000}), "num_train_timesteps"),
        (json!({"num_train_timesteps": 1000.0}), "num_train_timesteps"),
        (json!({"num_train_timesteps": 4_000_000_000_u64}), "num_train_timesteps"),
        (json!({"num_train_timesteps": 1000, "beta_end": 0.9}), "num_train_timesteps"),
        (json!({"solver_order": 0}), "solver_order"),
        (json!({"prediction_type": "flow_prediction"}), "prediction_type"),
        (json!({"trained_betas": [0.1, 0.2]}), "trained_betas"),
    ];
    for (settings, key) in cases {
        let Err(error) = checkpoint("DPMSolverMultistepScheduler", &settings) else { panic!("{settings} is accepted") };
        assert!(error.to_string().starts_with(&format!("{FILE}: `{key}`: ")), "{settings}: {error}");
    }
}

/// Runs a scheduler over the formula, on one latent of one number.
fn ends_finite(mut state: SchedulerState) -> bool {
    let device = Device::flex();
    let mut latent = Tensor::<4>::ones([1, 1, 1, 1], &device) * state.init_noise_sigma();
    while let Some(timestep) = state.timestep() {
        let x = state.scale_model_input(latent.clone()).into_scalar::<f32>();
        let output = 0.7 * x + 0.3 * (3.0 * x).sin() + 0.05 * (timestep / 100.0).cos();
        let output = Tensor::<4>::ones([1, 1, 1, 1], &device) * output;
        latent = state.step(latent, output, &mut || Tensor::ones([1, 1, 1, 1], &device) * 0.5);
    }
    latent.into_scalar::<f32>().is_finite()
}

/// As diffusers, which returns a finite latent, raises, or returns one that is not finite: there the number of steps is
/// refused, with one that works.
#[test]
fn a_number_of_steps_gives_a_finite_latent_or_is_refused_with_one_that_does() {
    let curves = ["", ",use_karras_sigmas=true", ",use_exponential_sigmas=true", ",use_beta_sigmas=true"];
    let (mut runs, mut refused) = (0, 0);
    for (trained, spacings, curves) in [
        (100, &["linspace", "leading", "trailing"][..], &curves[..]),
        (1000, &["linspace", "trailing"], &curves[..1]),
        (2, &["linspace", "leading", "trailing"], &curves[..1]),
    ] {
        let shipped = checkpoint("DPMSolverMultistepScheduler", &json!({ "num_train_timesteps": trained }));
        let shipped = shipped.expect("it is supported");
        for (name, spacing, curve) in names().flat_map(|name| {
            spacings.iter().flat_map(move |spacing| curves.iter().map(move |curve| (name, *spacing, *curve)))
        }) {
            let distilled = matches!(name, "lcm" | "tcd");
            let text = match name {
                "lcm" | "tcd" if trained < 50 => format!("{name}:original_inference_steps={trained}"),
                "lcm" | "tcd" => name.to_owned(),
                "dpm-single" => format!("{name}:{}", curve.trim_start_matches(',')),
                _ => format!("{name}:timestep_spacing={spacing}{curve}"),
            };
            let Ok(scheduler) = shipped.choose(Some(&text)) else {
                assert!(!curve.is_empty(), "{text} is refused");
                continue;
            };
            for steps in [1, 2, 3, trained - 1, trained, trained + 1] {
                let what = format!("{text} in {steps} of {trained}");
                match scheduler.set_timesteps(&count(steps)) {
                    Ok(state) => {
                        runs += 1;
                        assert!(ends_finite(state), "{what} is not finite");
                    }
                    Err(Error::Request(fault)) => {
                        refused += 1;
                        assert!(distilled || steps >= trained || steps < 4, "{what}: {}", fault.what);
                        let number = |text: &str| text.split(' ').find_map(|word| word.parse::<usize>().ok());
                        assert!(fault.what.contains(&format!("are {steps}")), "{what}: {}", fault.what);
                        let follow = number(&fault.remedy).unwrap_or_else(|| panic!("{what}: {}", fault.remedy));
                        let state = scheduler.set_timesteps(&count(follow)).expect("the remedy works");
                        assert!(ends_finite(state), "{what}, in {follow}");
                    }
                    Err(error) => panic!("{what}: {error}"),
                }
            }
        }
    }
    println!("{runs} runs are finite, {refused} are refused");
    assert!(runs > 500 && refused > 20, "{runs} and {refused}");
}

#[test]
fn a_thousand_steps_of_the_shipped_scheduler_are_refused_with_the_two_equal_timesteps() {
    let scheduler = shipped().choose(None).expect("the checkpoint's own");
    let Err(Error::Request(fault)) = scheduler.set_timesteps(&count(1000)) else { panic!("1000 steps are made") };
    assert_eq!(fault.what, "scheduler dpm++2m: steps are 1000, of which two start at timestep 500");
    assert_eq!(fault.remedy, "choose at most 999 steps, or choose another scheduler");
}

#[test]
fn a_timestep_beyond_the_training_is_refused() {
    let config = checkpoint("DPMSolverMultistepScheduler", &json!({ "num_train_timesteps": 100 })).expect("supported");
    for name in ["dpm++2m", "ddpm", "euler", "heun", "lcm", "tcd", "dpm-single"] {
        let scheduler = config.choose(Some(name)).expect("the name is known");
        let options = SchedulerOptions { steps: Steps::Timesteps(&[400, 50]), eta: 0.0 };
        let Err(Error::Request(fault)) = scheduler.set_timesteps(&options) else { panic!("{name} takes 400") };
        assert!(fault.what.contains("timesteps hold 400, and the noisiest of the training is 99"), "{}", fault.what);
    }
}
