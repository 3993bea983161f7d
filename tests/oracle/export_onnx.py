#!/usr/bin/env python3
"""Exports the workloads to ONNX for other implementations: `export_onnx.py --out DIR [--only NAME ...]`.

Per workload `NAME.onnx`, unless it is for native ones alone (opset 18, static shapes, attention decomposed, f32), and
`NAME.io.safetensors` (one set of
inputs and torch's f32 `output`; its metadata names the file of weights). Weights are in that file alone, under
diffusers' names: the model refers to their bytes in it, so that every implementation computes with the same numbers.
The same versions write the same bytes.
"""

import argparse
import json
import logging
import warnings
from pathlib import Path

import onnx_ir as ir
import torch
from onnxscript.optimizer import optimize_ir
from safetensors.torch import save_file

from workloads import EXPORTED, WORKLOADS, Workload, prepare

OPSET = 18
HEADER_LENGTH_BYTES = 8


def record(name: str, workload: Workload, folder: Path) -> dict[str, str]:
    """Writes weights, inputs and output; returns the names of weights in their file by those of the network."""
    names = {key: workload.prefix + key for key in workload.network.state_dict()}
    weights = {names[key]: tensor for key, tensor in workload.network.state_dict().items()}
    save_file(weights, folder / workload.weights)

    output = workload.network(*workload.inputs.values())
    recorded = {key: tensor.contiguous() for key, tensor in {**workload.inputs, "output": output}.items()}
    save_file(recorded, folder / f"{name}.io.safetensors", metadata={"weights": workload.weights})
    return names


def export(name: str, workload: Workload, folder: Path, names: dict[str, str]):
    model = torch.onnx.export(
        workload.network,
        tuple(workload.inputs.values()),
        input_names=list(workload.inputs),
        output_names=["output"],
        opset_version=OPSET,
        optimize=False,
        verbose=False,
    ).model
    # Nothing is folded into a weight: a runtime does that itself when it opens the model, to transposes above all.
    optimize_ir(model, should_fold=lambda node: False if reads(node, names) else None)
    refer(model, names, folder, workload.weights)
    forget_source(model)
    ir.save(model, folder / f"{name}.onnx")


def reads(node: ir.Node, names: dict[str, str]) -> bool:
    return any(value is not None and value.name in names for value in node.inputs)


def refer(model: ir.Model, names: dict[str, str], folder: Path, weights: str):
    """Replaces weights by the places of their bytes in the safetensors file."""
    with open(folder / weights, "rb") as file:
        header_bytes = int.from_bytes(file.read(HEADER_LENGTH_BYTES), "little")
        header = json.loads(file.read(header_bytes))
    for key, value in model.graph.initializers.items():
        if key not in names:
            continue
        entry = header[names[key]]
        begin, end = entry["data_offsets"]
        assert entry["shape"] == list(value.shape) and entry["dtype"] == "F32", key
        offset = HEADER_LENGTH_BYTES + header_bytes + begin
        value.const_value = ir.ExternalTensor(
            weights, offset, end - begin, ir.DataType.FLOAT, shape=value.shape, name=key, base_dir=folder
        )


def forget_source(model: ir.Model):
    """Drops the exporter's notes, which name files of the machine that it ran on."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph:
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    for value in [*model.graph.inputs, *model.graph.initializers.values()]:
        value.metadata_props.clear()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--only", action="append", choices=WORKLOADS, metavar="NAME")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    prepare(threads=1)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in options.only or WORKLOADS:
        workload = WORKLOADS[name]()
        names = record(name, workload, options.out)
        if name in EXPORTED:
            export(name, workload, options.out, names)
        print(f"exported {name}", flush=True)


if __name__ == "__main__":
    main()
