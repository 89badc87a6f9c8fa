"""Weights, losses and statistics on the seam: one short function each."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unremix.contrast import Contrast, detached
from unremix.info_nce import InfoNCE, log_sum, mean_over

from .contrast import Comparison, off


# ---------------------------------------------------------------- weights
def mean_one(scores: Tensor, negative: Tensor, k: Tensor) -> Tensor:  # (a n)
    "Log weights ∝ e^score, average 1 over an anchor's negatives, −inf elsewhere."
    # a row without negatives stays finite until the end, as its gradient has to
    blocked = torch.where(k > 0, -math.inf, 0.0).to(scores.dtype)
    log_p = torch.where(negative, scores, blocked[:, None]).log_softmax(1)
    return log_p + k.log()[:, None]


def uniform(c: Contrast) -> Tensor:  # (a n)
    "Every negative counts the same."
    return torch.where(c.negative, c.logits.new_zeros(()), off(c.logits))


@dataclass(frozen=True)
class HCL:
    "Weight ∝ e^{β·logit} (Robinson et al. 2021, eq. 4)."

    beta: float = 1.0
    detach: bool = False

    def __call__(self, c: Contrast) -> Tensor:
        logits = c.logits.detach() if self.detach else c.logits
        return mean_one(self.beta * logits, c.negative, c.k)


# ---------------------------------------------------------------- the whole method
def nothing(anchors: Any, candidates: Any, rule: Any, temperature: float) -> None:
    "No preparation."


class Method(NamedTuple):
    "One function at each place. `prepare` runs once per step, the others for every block."

    weights: Callable[[Contrast], Tensor] = uniform
    synthesis: Callable[[Contrast], Contrast] = lambda c: c
    loss: Callable[[Contrast, Tensor], Tensor] = InfoNCE()
    prepare: Callable[..., Any] = nothing


def per_anchor(method: Method, c: Contrast) -> tuple[Tensor, Contrast, Tensor]:
    "(a) losses, with the contrast and the weights that gave them."
    c = method.synthesis(c)
    log_w = method.weights(c)
    return method.loss(c, log_w), c, log_w


# ---------------------------------------------------------------- statistics
def over_anchors(x: Tensor, some: Tensor) -> Tensor:  # 0-d
    "Mean over the anchors that have negatives."
    return torch.where(some, x, 0.0).sum() / some.sum().clamp_min(1)


def positive_similarity(c: Contrast, log_w: Tensor) -> Tensor:
    return mean_over(c.cosine, c.positive)


def negative_similarity(c: Contrast, log_w: Tensor) -> Tensor:
    return mean_over(c.cosine, c.negative)


def hardest_similarity(c: Contrast, log_w: Tensor) -> Tensor:
    return c.cosine.masked_fill(~c.negative, -1.0).amax(1)


def shares(log_w: Tensor) -> Tensor:  # (a n)
    w = log_w.exp()
    return w / w.sum(1, keepdim=True).clamp_min(torch.finfo(w.dtype).tiny)


def effective_negatives(c: Contrast, log_w: Tensor) -> Tensor:
    square = shares(log_w).square().sum(1)
    return 1 / square.clamp_min(torch.finfo(square.dtype).tiny)


def weight_entropy(c: Contrast, log_w: Tensor) -> Tensor:
    share = shares(log_w)
    return -torch.xlogy(share, share).sum(1)


def at_floor(c: Contrast, log_w: Tensor, tau_plus: float) -> Tensor:  # (a) bool
    "Is the debiased mean of e^s below what is possible (Chuang et al. 2020, eq. 7)?"
    mean = log_sum(c.logits + log_w, c.negative).exp() / log_w.exp().sum(1)
    positive = (c.logits.exp() * c.positive).sum(1) / c.positive.sum(1)
    rest = (mean - tau_plus * positive) / (1 - tau_plus)
    return (tau_plus > 0) & (rest <= math.exp(-1 / c.temperature))


STATISTICS = {  # (Contrast, log weights) → one number per anchor
    f.__name__: f
    for f in (
        negative_similarity,
        hardest_similarity,
        effective_negatives,
        weight_entropy,
    )
}


def statistics(comparison: Comparison, method: Method) -> dict[str, Tensor]:
    "What the weights do to this batch: 0-d, without gradient."
    with torch.no_grad():
        _, c, log_w = per_anchor(method, detached(comparison.contrast()))
        some = c.k > 0
        found = {
            name: over_anchors(f(c, log_w), some) for name, f in STATISTICS.items()
        }
        found['positive_similarity'] = positive_similarity(c, log_w).mean()
        if isinstance(method.loss, InfoNCE):
            clamped = at_floor(c, log_w, method.loss.tau_plus).to(c.logits.dtype)
            found['clamped_fraction'] = over_anchors(clamped, some)
        return {name: x.float() for name, x in found.items()}
