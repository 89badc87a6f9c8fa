"What our losses are compared with: the published recipe, and the bare products."

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def published_recipe(
    z1: Tensor,  # (b d)
    z2: Tensor,  # (b d)
    temperature: float = 0.5,
    tau_plus: float = 0.1,
    beta: float = 1.0,
) -> Tensor:  # 0-d
    """HCL's loss as published: exponentials, `masked_select`, division.

    Robinson et al. 2021.
    """
    b = len(z1)
    z1, z2 = F.normalize(z1, dim=1), F.normalize(z2, dim=1)
    z = torch.cat([z1, z2])
    e = (z @ z.T / temperature).exp()
    mask = torch.ones(2 * b, 2 * b, dtype=torch.bool, device=z.device)
    rows = torch.arange(2 * b, device=z.device)
    mask[rows, rows] = False
    mask[rows, rows.roll(b)] = False
    negatives = e.masked_select(mask).view(2 * b, -1)
    positive = ((z1 * z2).sum(1) / temperature).exp().repeat(2)
    weights = (beta * negatives.log()).exp()
    total = (weights * negatives).sum(1) / weights.mean(1)
    k = 2 * b - 2
    rest = (total - tau_plus * k * positive) / (1 - tau_plus)
    rest = rest.clamp_min(k * math.exp(-1 / temperature))
    return -(positive / (positive + rest)).log().mean()


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:  # type: ignore[override]
        s = z @ z.T
        ctx.save_for_backward(z, s)
        return s.diagonal().sum()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        z, s = ctx.saved_tensors
        return s @ z + s.T @ z


def bare_products(z1: Tensor, z2: Tensor) -> Tensor:
    """Three plain products of the whole matrix: one forward, two backward.

    Not a loss.
    """
    return _Products.apply(torch.cat([z1, z2]))
