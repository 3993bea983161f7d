"""Records weights adapted by PEFT.

    python lora.py GOLDEN

makes two random adapters for the transformer of GOLDEN/alpha_plain, one with a convolution and every kind of matrix among
its modules and one stabilised by rank, and writes them to GOLDEN/lora/first and GOLDEN/lora/second, and the weights that
PEFT merges from the first whole and half of the second, on top of each other, to GOLDEN/lora/merged.safetensors.

For each of KINDS it writes an adapter to GOLDEN/lora/kinds/NAME, beside the weights that PEFT merges from it.
"""

import json
import pathlib
import shutil
import sys

import torch
from diffusers import PixArtTransformer2DModel
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file

FIRST = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "pos_embed.proj", "proj_out", "linear", "linear_1", "linear_2"]
SECOND = ["attn1.to_q", "ff.net.2"]
ADAPTERS = {
    "first": (LoraConfig(r=4, lora_alpha=6, target_modules=FIRST, alpha_pattern={"proj_out": 9}), 1.0),
    "second": (LoraConfig(r=3, lora_alpha=5, target_modules=SECOND, use_rslora=True, rank_pattern={"ff.net.2": 2}), 0.5),
}
FEW = dict(r=2, lora_alpha=3, target_modules=["attn1.to_q", "ff.net.2", "pos_embed.proj"])
KINDS = {
    "dora": LoraConfig(use_dora=True, **FEW),
    "bias_all": LoraConfig(bias="all", **FEW),
    "bias_lora_only": LoraConfig(bias="lora_only", **FEW),
    "lora_bias": LoraConfig(lora_bias=True, use_rslora=True, **FEW),
    "modules_to_save": LoraConfig(modules_to_save=["proj_out", "caption_projection"], **FEW),
    "fan_in_fan_out": LoraConfig(fan_in_fan_out=True, r=2, lora_alpha=3, target_modules=["attn1.to_q"]),
    "gaussian": LoraConfig(init_lora_weights="gaussian", **FEW),
    "orthogonal": LoraConfig(init_lora_weights="orthogonal", r=2, lora_alpha=3, target_modules=["attn1.to_q"]),
    "eva": LoraConfig(init_lora_weights="eva", r=2, lora_alpha=3, target_modules=["attn1.to_q"]),
    "patterns": LoraConfig(
        rank_pattern={"ff.net.2": 3},
        alpha_pattern={"^transformer_blocks.0.attn1.to_q": 7, "net.2": 5},
        **FEW,
    ),
}


def network(golden: pathlib.Path) -> PixArtTransformer2DModel:
    return PixArtTransformer2DModel.from_pretrained(golden / "alpha_plain/pipeline/transformer", torch_dtype=torch.float32)


def main(golden: pathlib.Path) -> None:
    folder = golden / "lora"
    shutil.rmtree(folder, ignore_errors=True)
    generator = torch.Generator().manual_seed(12)
    with torch.no_grad():
        for name, (config, _) in ADAPTERS.items():
            adapted = get_peft_model(network(golden), config)
            for key, parameter in adapted.named_parameters():
                if "lora_" in key:
                    parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
            adapted.save_pretrained(folder / name)
            (folder / name / "README.md").unlink(missing_ok=True)
            file = folder / name / "adapter_config.json"
            config = json.loads(file.read_text())
            config["base_model_name_or_path"] = None
            file.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
        merged = plain = network(golden)
        before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
        for name, (_, scale) in ADAPTERS.items():
            adapted = PeftModel.from_pretrained(merged, folder / name)
            for module in adapted.modules():
                if hasattr(module, "scaling"):
                    module.scaling = {key: value * scale for key, value in module.scaling.items()}
            merged = adapted.merge_and_unload()
    after = merged.state_dict()
    changed = {name: tensor.contiguous() for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    save_file(changed, folder / "merged.safetensors")
    print(f"{len(changed)} of {len(after)} weights are adapted")
    kinds(golden, before)


@torch.no_grad()
def kinds(golden: pathlib.Path, before: dict[str, torch.Tensor]) -> None:
    generator = torch.Generator().manual_seed(13)
    for name, config in KINDS.items():
        folder = golden / "lora/kinds" / name
        shutil.rmtree(folder, ignore_errors=True)
        adapted = get_peft_model(network(golden), config)
        for key, parameter in adapted.named_parameters():
            trained = "lora_" in key or "modules_to_save" in key or (config.bias != "none" and key.endswith("bias"))
            if trained and (parameter.requires_grad or "lora_" in key):
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        adapted.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)
        file = folder / "adapter_config.json"
        settings = json.loads(file.read_text())
        settings["base_model_name_or_path"] = None
        file.write_text(json.dumps(settings, indent=1, sort_keys=True) + "\n")
        after = PeftModel.from_pretrained(network(golden), folder).merge_and_unload().state_dict()
        assert after.keys() == before.keys(), name
        changed = {name: tensor.contiguous() for name, tensor in after.items() if not torch.equal(tensor, before[name])}
        save_file(changed, folder / "merged.safetensors")
        print(f"{name}: {len(changed)} weights are adapted")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
