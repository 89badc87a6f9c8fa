"""What the losses of this folder need beside the `Contrast` of `unremix`."""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from unremix.contrast import Contrast, compare, with_prepared
from unremix.embeddings import Embeddings, Index
from unremix.rules import Rule


@dataclass(frozen=True)
class Comparison:
    "Everything that decides a contrast, before any similarity is computed."

    anchors: Embeddings
    candidates: Embeddings
    rule: Rule
    temperature: float
    prepared: Any = None

    def contrast(self, idx: Index = slice(None)) -> Contrast:
        "Some anchors against all candidates."
        anchors = self.anchors[idx]
        c = compare(anchors, self.candidates, self.rule, self.temperature)
        return with_prepared(c, self.prepared)


def with_synthetic(c: Contrast, z: Tensor) -> Contrast:  # z: (a s d) of any norm
    "Each anchor's own synthetic negatives, constants, as further columns."
    z = torch.nn.functional.normalize(z.detach(), dim=2)
    logits = torch.einsum('ad,asd->as', c.anchors.z, z) / c.temperature
    no = torch.zeros_like(logits, dtype=torch.bool)
    positive = torch.cat([c.positive, no], 1)
    negative = torch.cat([c.negative, ~no], 1)
    logits = torch.cat([c.logits, logits], 1)
    more = replace(c, logits=logits, positive=positive, negative=negative)
    return with_prepared(more, c.prepared)


def off(like: Tensor) -> Tensor:  # 0-d
    return like.new_full((), -math.inf)
