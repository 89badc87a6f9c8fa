"""A weighting that needs all anchors and a synthesis that needs random numbers."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from unremix.contrast import Contrast, prepared_for
from unremix.embeddings import Embeddings
from unremix.rules import Rule

from .contrast import Comparison, with_synthetic
from .methods import mean_one
from .unremix_weights import anchors_of


@dataclass(frozen=True)
class Transport:
    "Weights of the optimal plan that moves anchors onto negatives (Jiang et al. 2023)."

    epsilon: float = 0.7
    steps: int = 20
    size: int = 2  # anchors at a time

    def kernel(self, c: Contrast) -> Tensor:  # (a n)
        "Minus the squared distance over ε, in log space."
        return (2 * c.cosine.detach() - 2) / self.epsilon

    def prepare(
        self,
        anchors: Embeddings,
        candidates: Embeddings,
        rule: Rule,
        temperature: float,
    ) -> Tensor:  # (n) log potentials of the candidates
        comparison = Comparison(anchors, candidates, rule, temperature)
        g = torch.zeros_like(candidates.z[:, 0])
        places = torch.arange(len(anchors), device=g.device)
        for _ in range(self.steps):
            sums = []
            for idx in places.split(self.size):
                c = comparison.contrast(idx)
                kernel = self.kernel(c).masked_fill(~c.negative, -math.inf)
                f = -(kernel + g).logsumexp(1) - math.log(len(anchors))
                sums.append((kernel + f[:, None]).logsumexp(0))
            g = -math.log(len(candidates)) - torch.stack(sums).logsumexp(0)
        return g

    def __call__(self, c: Contrast) -> Tensor:  # (a n)
        g = prepared_for(c, self.prepare)
        return mean_one(self.kernel(c) + g, c.negative, c.k)


@dataclass(frozen=True)
class MoCHi:
    "Mixtures of two hard negatives, each anchor's own (Kalantidis et al. 2020)."

    hardest: int = 4
    count: int = 3
    seed: int = 0

    def prepare(
        self,
        anchors: Embeddings,
        candidates: Embeddings,
        rule: Rule,
        temperature: float,
    ) -> Tensor:  # (v 3 count) numbers in [0, 1)
        "Random numbers for every view of the batch, whoever will ask for them."
        generator = torch.Generator().manual_seed(self.seed)
        views, samples = candidates.batch
        draw = torch.rand(views * samples, 3, self.count, generator=generator)
        return draw.to(candidates.z)

    def __call__(self, c: Contrast) -> Contrast:
        draw = anchors_of(prepared_for(c, self.prepare), c)
        scores = c.logits.detach().masked_fill(~c.negative, -math.inf)
        nearest = scores.topk(self.hardest, 1).indices
        first, second = (
            c.candidates.z[nearest.gather(1, (x * self.hardest).long())]
            for x in (draw[:, 0], draw[:, 1])
        )
        share = draw[:, 2, :, None]
        return with_synthetic(c, share * first + (1 - share) * second)
