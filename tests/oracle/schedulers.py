"""Records the steps of diffusers' schedulers, as references for ours.

    python schedulers.py GOLDEN

writes GOLDEN/schedulers.json, the runs with their settings, and GOLDEN/schedulers.safetensors: for each run its first
latent, its timesteps, the latent after every call and every noise that was drawn. GOLDEN/scheduler_defaults.json has the
keys of every class with their defaults. The network is a formula of latent and
timestep (`network`), so that a run needs no weights and never recovers from a wrong step.
"""

import inspect
import json
import pathlib
import sys

import diffusers.schedulers
import numpy
import torch
from safetensors.torch import save_file

BETAS = dict(beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
SHAPE = (1, 4, 4, 4)

DPM, SINGLE = "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"
EULER, ANCESTRAL = "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler"
SA, UNIPC, DEIS = "SASolverScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler"
PNDM, LMS, HEUN = "PNDMScheduler", "LMSDiscreteScheduler", "HeunDiscreteScheduler"
KDPM2, KDPM2_A = "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler"
DDIM, DDPM, LCM, TCD = "DDIMScheduler", "DDPMScheduler", "LCMScheduler", "TCDScheduler"
SDE = dict(algorithm_type="sde-dpmsolver++")

# Name: class, settings, steps (a count, or the arguments of set_timesteps), eta.
RUNS = {
    "dpm": (DPM, {}, 20), "dpm_14": (DPM, {}, 14), "dpm_5": (DPM, {}, 5), "dpm_2": (DPM, {}, 2),
    "dpm_karras": (DPM, dict(use_karras_sigmas=True), 10), "dpm_heun": (DPM, dict(solver_type="heun"), 10),
    "dpm_1": (DPM, dict(solver_order=1), 8), "dpm_3": (DPM, dict(solver_order=3), 12), "dpm_3_long": (DPM, dict(solver_order=3), 18),
    "dpm_trailing": (DPM, dict(timestep_spacing="trailing"), 8), "dpm_trailing_7": (DPM, dict(timestep_spacing="trailing"), 7),
    "dpm_leading": (DPM, dict(timestep_spacing="leading", steps_offset=1), 8),
    "dpm_least": (DPM, dict(final_sigmas_type="sigma_min"), 16),
    "dpm_euler": (DPM, dict(euler_at_final=True, final_sigmas_type="sigma_min"), 16),
    "dpm_lu": (DPM, dict(use_lu_lambdas=True), 10), "dpm_exponential": (DPM, dict(use_exponential_sigmas=True), 10),
    "dpm_beta": (DPM, dict(use_beta_sigmas=True), 10), "dpm_clipped": (DPM, dict(lambda_min_clipped=-4.0), 9),
    "dpm_given": (DPM, {}, dict(timesteps=[990, 700, 400, 100, 20])),
    "dpm_v": (DPM, dict(prediction_type="v_prediction"), 8), "dpm_sample": (DPM, dict(prediction_type="sample"), 8),
    "dpm_scaled": (DPM, dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"), 8),
    "dpm_cosine": (DPM, dict(beta_schedule="squaredcos_cap_v2", lambda_min_clipped=-5.1), 8),
    "sde": (DPM, SDE, 8), "sde_karras": (DPM, dict(SDE, use_karras_sigmas=True), 8),
    "sde_heun": (DPM, dict(SDE, solver_type="heun"), 8), "sde_3": (DPM, dict(SDE, solver_order=3), 9),
    "single": (SINGLE, {}, 10), "single_9": (SINGLE, {}, 9), "single_3": (SINGLE, dict(solver_order=3), 10),
    "single_3_heun": (SINGLE, dict(solver_order=3, solver_type="heun", final_sigmas_type="sigma_min"), 9),
    "single_least": (SINGLE, dict(final_sigmas_type="sigma_min"), 8), "single_sde": (SINGLE, SDE, 8),
    "single_karras": (SINGLE, dict(use_karras_sigmas=True), 7), "single_given": (SINGLE, {}, dict(timesteps=[999, 640, 220, 40])),
    "ddim": (DDIM, dict(set_alpha_to_one=False), 10), "ddim_eta": (DDIM, {}, 6, 0.5), "ddim_linspace": (DDIM, dict(timestep_spacing="linspace"), 6),
    "ddim_v": (DDIM, dict(prediction_type="v_prediction", timestep_spacing="trailing"), 6, 1.0),
    "ddpm": (DDPM, {}, 10), "ddpm_large": (DDPM, dict(variance_type="fixed_large", timestep_spacing="trailing"), 6),
    "ddpm_given": (DDPM, {}, dict(timesteps=[900, 500, 100])),
    "euler": (EULER, {}, 10), "euler_trailing": (EULER, dict(timestep_spacing="trailing"), 10),
    "euler_karras": (EULER, dict(use_karras_sigmas=True), 10), "euler_leading": (EULER, dict(timestep_spacing="leading", steps_offset=1), 6),
    "euler_exponential": (EULER, dict(use_exponential_sigmas=True), 6), "euler_beta": (EULER, dict(use_beta_sigmas=True), 6),
    "euler_least": (EULER, dict(final_sigmas_type="sigma_min"), 6), "euler_given": (EULER, {}, dict(timesteps=[999, 600, 200, 10])),
    "euler_sigmas": (EULER, {}, dict(sigmas=[100.0, 20.0, 4.0, 1.0, 0.0])), "euler_v": (EULER, dict(prediction_type="v_prediction"), 6),
    "euler_a": (ANCESTRAL, {}, 10), "heun": (HEUN, {}, 6), "heun_karras": (HEUN, dict(use_karras_sigmas=True), 5),
    "heun_given": (HEUN, {}, dict(timesteps=[999, 500, 50])),
    "kdpm2": (KDPM2, {}, 6), "kdpm2_karras": (KDPM2, dict(use_karras_sigmas=True), 5),
    "kdpm2_a": (KDPM2_A, {}, 6), "lms": (LMS, {}, 10), "lms_karras": (LMS, dict(use_karras_sigmas=True), 7),
    "pndm": (PNDM, dict(skip_prk_steps=True), 10), "pndm_one": (PNDM, dict(skip_prk_steps=True, set_alpha_to_one=True), 5),
    "pndm_prk": (PNDM, {}, 10), "pndm_prk_4": (PNDM, dict(timestep_spacing="trailing"), 4),
    "lcm": (LCM, {}, 4), "lcm_8": (LCM, {}, 8), "lcm_1": (LCM, {}, 1), "lcm_given": (LCM, {}, dict(timesteps=[999, 599, 199])),
    "tcd": (TCD, {}, 4, 0.3), "tcd_0": (TCD, {}, 4), "unipc": (UNIPC, {}, 10), "unipc_3": (UNIPC, dict(solver_order=3), 10),
    "unipc_bh1": (UNIPC, dict(solver_type="bh1", solver_order=3, final_sigmas_type="sigma_min"), 8),
    "unipc_karras": (UNIPC, dict(use_karras_sigmas=True), 8), "unipc_1": (UNIPC, dict(solver_order=1), 6),
    "deis": (DEIS, {}, 10), "deis_3": (DEIS, dict(solver_order=3), 16), "deis_karras": (DEIS, dict(use_karras_sigmas=True), 8),
    "sa": (SA, {}, 10), "sa_ode": (SA, dict(tau=0), 10), "sa_3": (SA, dict(predictor_order=3, corrector_order=3), 10),
    "sa_1": (SA, dict(predictor_order=1, corrector_order=1, tau=0.5), 8), "sa_karras": (SA, dict(use_karras_sigmas=True), 8),
}


def network(latent: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    return 0.7 * latent + 0.3 * torch.sin(3 * latent) + 0.05 * torch.cos(torch.tensor(float(timestep)) / 100)


def run(name: str, kind: str, settings: dict, steps: int | dict, eta: float = 0.0) -> dict[str, torch.Tensor]:
    settings = BETAS | settings
    if kind in (DDIM, DDPM):
        settings["clip_sample"] = False
    if kind == SA:
        tau = settings.pop("tau", 1)
        settings["tau_func"] = lambda timestep: tau if 200 <= timestep <= 800 else 0
    scheduler = getattr(diffusers.schedulers, kind)(**settings)
    scheduler.set_timesteps(**(steps if isinstance(steps, dict) else dict(num_inference_steps=steps)))
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)

    drawn, module = [], inspect.getmodule(type(scheduler))
    draw = getattr(module, "randn_tensor", None)

    def drawing(*arguments, **named):
        drawn.append(draw(*arguments, **named))
        return drawn[-1].clone()

    if draw is not None:
        module.randn_tensor = drawing
    latent = torch.randn(SHAPE, generator=torch.Generator().manual_seed(2)) * scheduler.init_noise_sigma
    recorded = {"first": latent, "timesteps": scheduler.timesteps.float()}
    if hasattr(scheduler, "sigmas") and kind not in (LCM, TCD, KDPM2, KDPM2_A):
        recorded["sigmas"] = scheduler.sigmas.float()
    takes, more = inspect.signature(scheduler.step).parameters, {}
    if "generator" in takes:
        more["generator"] = torch.Generator().manual_seed(3)
    if "eta" in takes:
        more["eta"] = eta
    latents = []
    for timestep in scheduler.timesteps:
        predicted = network(scheduler.scale_model_input(latent, timestep), timestep)
        latent = scheduler.step(predicted, timestep, latent, return_dict=False, **more)[0]
        latents.append(latent)
    if draw is not None:
        module.randn_tensor = draw
    recorded["latents"] = torch.cat(latents)
    if drawn:
        recorded["noises"] = torch.cat(drawn)
    assert all(torch.isfinite(tensor).all() for tensor in recorded.values()), name
    return {f"{name}.{key}": tensor.float().contiguous().clone() for key, tensor in recorded.items()}


def main(golden: pathlib.Path) -> None:
    listed, tensors = [], {}
    for name, (kind, settings, steps, *eta) in RUNS.items():
        tensors |= run(name, kind, settings, steps, *eta)
        asked = steps if isinstance(steps, dict) else {"count": steps}
        listed.append({"name": name, "class": kind, "settings": BETAS | settings, "steps": asked, "eta": eta[0] if eta else 0.0})
    rows = ",\n".join(json.dumps(row) for row in listed)
    (golden / "schedulers.json").write_text(f"[\n{rows}\n]\n")
    save_file(tensors, golden / "schedulers.safetensors")
    (golden / "scheduler_defaults.json").write_text(json.dumps(defaults(), indent=1) + "\n")


def defaults() -> dict[str, dict]:
    """The keys that `register_to_config` gives a default for, by class. An infinite bound is null, as in our reader."""
    listed = {}
    for kind in sorted({kind for kind, *_ in RUNS.values()}):
        constructor = inspect.unwrap(getattr(diffusers.schedulers, kind).__init__)
        keys = list(inspect.signature(constructor).parameters.values())[1:]
        listed[kind] = {key.name: None if key.default == float("-inf") else key.default for key in keys}
    return listed


if __name__ == "__main__":
    numpy.seterr(divide="ignore")
    main(pathlib.Path(sys.argv[1]))
