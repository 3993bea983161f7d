"""Muon for the matrices of the transformer's blocks, AdamW for everything else, shared between processes.

Muon moves a matrix along its momentum made orthogonal, so that all directions learn at one pace. (Jordan et al., "Muon:
An optimizer for hidden layers in neural networks", 2024; coefficients of the Newton-Schulz iteration from there.)
"""

import torch
import torch.distributed as dist

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 4
MOMENTUM = 0.95
MUON_SCALE = 0.2  # brings the size of Muon's steps to that of AdamW's
WEIGHT_DECAY = 0.05
ADAM_RATE = 0.75  # of Muon's
CLIP = 1.0


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """The nearest matrix whose singular values are all about 1. All products but the last are on the shorter side."""
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.T).T
    a, b, c = COEFFICIENTS
    x = matrix / (matrix.norm() + 1e-7)
    gram, identity, product = x @ x.T, torch.eye(x.shape[0]), None
    for _ in range(ITERATIONS):
        polynomial = a * identity + b * gram + c * (gram @ gram)
        product = polynomial if product is None else polynomial @ product
        gram = polynomial @ gram @ polynomial
    return product @ x


def world() -> tuple[int, int]:
    """This process's rank and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def summed(tensor: torch.Tensor) -> torch.Tensor:
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor


class Optimiser:
    def __init__(self, parameters: dict[str, torch.nn.Parameter], rate: float):
        is_matrix = {
            n: n.startswith("transformer_blocks") and p.ndim == 2 and "table" not in n for n, p in parameters.items()
        }
        self.rate = rate
        self.matrices = [p for n, p in parameters.items() if is_matrix[n]]
        self.others = [p for n, p in parameters.items() if not is_matrix[n]]
        self.momentum = [torch.zeros_like(p) for p in self.matrices]
        self.adam = torch.optim.AdamW(self.others, betas=(0.9, 0.98), weight_decay=0.0)

    def state(self) -> dict:
        return {"momentum": self.momentum, "adam": self.adam.state_dict()}

    def restore(self, state: dict):
        self.momentum = state["momentum"]
        self.adam.load_state_dict(state["adam"])

    def step(self, scale: float) -> float:
        """One step at `scale` of the full rate, on the mean gradient of all processes; returns that gradient's norm."""
        norm = self._share_gradients()
        for group in self.adam.param_groups:
            group["lr"] = self.rate * ADAM_RATE * scale
        self.adam.step()
        self._muon_step(self.rate * scale)
        return norm

    def _share_gradients(self) -> float:
        parameters = self.matrices + self.others
        gradient = torch.cat([p.grad.flatten() for p in parameters])
        gradient = summed(gradient) / world()[1]
        norm = gradient.norm().item()
        gradient *= min(1.0, CLIP / (norm + 1e-6))
        for parameter, part in zip(parameters, gradient.split([p.numel() for p in parameters])):
            parameter.grad = part.view_as(parameter)
        return norm

    @torch.no_grad()
    def _muon_step(self, rate: float):
        """Each process makes every so many matrices orthogonal; the sum of all hands everyone the whole."""
        rank, count = world()
        updates = [torch.zeros_like(p) for p in self.matrices]
        for index, (parameter, momentum) in enumerate(zip(self.matrices, self.momentum)):
            momentum.lerp_(parameter.grad, 1 - MOMENTUM)
            if index % count == rank:
                updates[index] = orthogonal(parameter.grad.lerp(momentum, MOMENTUM))
        sizes = [p.numel() for p in self.matrices]
        whole = summed(torch.cat([u.flatten() for u in updates])).split(sizes)
        for parameter, update in zip(self.matrices, whole):
            reach = MUON_SCALE * max(parameter.shape) ** 0.5
            parameter.mul_(1 - rate * WEIGHT_DECAY).add_(update.view_as(parameter), alpha=-rate * reach)
