"""Weights of a lead beyond the paper: the nearest images are left out, the rest is HCL's.

A run finds them with `strategy = "left_out:LeftOut"` where this folder is on Python's path.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from unremix.hard_negatives import mean_one
from unremix.selection import swap_candidates
from unremix.uncertainty import Indicator, uncertainty


def farthest(nearness, negative, share):
    "(a n) bool: the negatives without the share of each anchor's that is nearest."
    left = round(share * int(negative[0].sum()))
    nearest = nearness.masked_fill(~negative, -math.inf).topk(left, 1).indices
    return negative.scatter(1, nearest, False)


@dataclass(frozen=True)
class LeftOut:
    "w = 0 for the nearest images, and as hcl for the rest"

    share: float = 0.05  # of an anchor's negatives that are left out
    beta: float = 1.0  # hardness among the others
    permuted: bool = False  # True: by the nearness of another candidate, a placebo

    averages_one: ClassVar[bool] = True

    def __call__(self, c):
        "(a n) log weights with mean 1, −inf for who is left out; constants."
        nearness = -uncertainty(c, 'image_similarity').value
        if self.permuted:
            nearness = swap_candidates(Indicator(nearness), c).value
        rest = farthest(nearness, c.negative, self.share)
        scores = (self.beta * c.logits.detach()).masked_fill(~rest, -math.inf)
        return mean_one(torch.log_softmax(scores, 1), c.k)
