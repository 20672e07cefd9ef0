"""What a network costs: arithmetic and memory, counted by PyTorch itself on tensors without data."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def forward_gflop(model: nn.Module, size: int = 256) -> float:
    """Billions of floating-point operations of the forward pass of one image; a multiply-add counts as two.

    Convolutions and matrix products only, as `torch.utils.flop_counter` counts them.
    """
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        _on_meta(model).eval()(torch.empty(1, 3, size, size, device="meta"))
    return counter.get_total_flops() / 1e9


def activation_mb(model: nn.Module, size: int = 256) -> float:
    """Megabytes (float32) that one image's forward pass keeps for the backward pass, without the weights themselves."""
    model = _on_meta(model).train()
    weights = {id(p) for p in model.parameters()}
    kept = {}

    def keep(tensor):
        if id(tensor) not in weights:
            kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = model(torch.empty(1, 3, size, size, device="meta"))
    del outputs
    return sum(kept.values()) / 1e6


def _on_meta(model: nn.Module) -> nn.Module:
    return model if next(model.parameters()).is_meta else model.to("meta")
