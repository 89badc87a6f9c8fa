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


def image_similarity(c):
    "(a n) high where the two images are near, their views together."
    return -uncertainty(c, 'image_similarity').value


def permuted(scores, c):
    "(a n) the scores of other candidates."
    return swap_candidates(Indicator(scores), c).value


def highest(scores, share, members):
    "(a n) bool: the share of the members of a row that has the highest scores."
    count = round(share * int(members[0].sum()))  # all rows have equally many
    best = scores.masked_fill(~members, -math.inf).topk(count, 1).indices
    return torch.zeros_like(members).scatter(1, best, True)


@dataclass(frozen=True)
class LeftOut:
    "w = 0 for the nearest images, and as hcl for the rest"

    share: float = 0.05  # of an anchor's negatives that are left out
    beta: float = 1.0  # hardness among the others
    permuted: bool = False  # True: by the nearness of another candidate, a placebo

    averages_one: ClassVar[bool] = True

    def __call__(self, c):
        "(a n) log weights with mean 1, −inf for who is left out; constants."
        nearness = image_similarity(c)
        if self.permuted:
            nearness = permuted(nearness, c)
        rest = c.negative & ~highest(nearness, self.share, c.negative)
        scores = (self.beta * c.logits.detach()).masked_fill(~rest, -math.inf)
        return mean_one(torch.log_softmax(scores, 1), c.k)
