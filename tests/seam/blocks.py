"""The loss of blocks of anchors, each differentiated as soon as it is known."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from .contrast import Comparison
from .methods import Method, per_anchor


class _SumInBlocks(torch.autograd.Function):
    "Losses of all anchors, weighted and added up, with the gradient made on the way."

    @staticmethod
    def forward(
        ctx,
        loss_of: Callable,
        size: int,
        weights: Tensor,
        anchors: Tensor,
        candidates: Tensor,
    ) -> Tensor:
        grads = torch.zeros_like(anchors), torch.zeros_like(candidates)
        total = weights.new_zeros(())
        for idx in torch.arange(len(anchors), device=anchors.device).split(size):
            inputs = (
                anchors[idx].detach().requires_grad_(),
                candidates.detach().requires_grad_(),
            )
            with torch.enable_grad():
                loss = (weights[idx] * loss_of(idx, *inputs)).sum()
            own = torch.autograd.grad(loss, inputs)
            grads[0][idx] += own[0]
            grads[1].add_(own[1])
            total += loss.detach()
        ctx.save_for_backward(*grads)
        return total

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple:
        return None, None, None, *(grad * g for g in ctx.saved_tensors)


def sum_in_blocks(
    comparison: Comparison, method: Method, size: int, weights: Tensor
) -> Tensor:
    "Σ weight · loss over the anchors, `size` of them at a time."

    def loss_of(idx: Tensor, anchors: Tensor, candidates: Tensor) -> Tensor:
        block = replace(
            comparison,
            anchors=replace(comparison.anchors[idx], z=anchors),
            candidates=replace(comparison.candidates, z=candidates),
        )
        return per_anchor(method, block.contrast())[0]

    a, c = comparison.anchors.z, comparison.candidates.z
    return _SumInBlocks.apply(loss_of, size, weights, a, c)


def compare(anchors, candidates, method, rule, temperature) -> Comparison:
    "A comparison with what its method prepares once per step."
    with torch.no_grad():
        prepared = method.prepare(
            anchors.detach(), candidates.detach(), rule, temperature
        )
    return Comparison(anchors, candidates, rule, temperature, prepared)
