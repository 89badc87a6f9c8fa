"""UnReMix on the seam: uncertainty, similarity and representativeness, mixed."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from unremix.contrast import Contrast, detached, prepared_for
from unremix.embeddings import Embeddings
from unremix.rules import Rule

from .contrast import off
from .methods import mean_one

SMALLEST = 1e-6  # sums and ranges below this many units are rounding noise
ABSENT = -1e4  # log share of who gets nothing: finite, and its exponential is 0
CLIP = 3.0  # standard deviations
VANISHING = 1e-4
BOUNDARY_TEMPERATURE = 0.1


# ---------------------------------------------------------------- once per step
class Centred(NamedTuple):
    "1 − z_j·z_k = o_j + o_k − c_j·c_k, without loss of digits near collapse."

    c: Tensor  # (n d)
    o: Tensor  # (n)


def centred(e: Embeddings) -> Centred:
    c = e.z - e.z.mean(0)
    is_zero = (e.extra['norm'] == math.inf).to(
        c.dtype
    )  # at distance 1 from unit vectors
    return Centred(c, 0.5 * (c.square().sum(1) + is_zero))


def places(e: Embeddings, candidates: Embeddings) -> Tensor:  # (a)
    "Column of each view of the batch among the candidates."
    return e.view * candidates.batch[1] + e.sample


def in_batch(candidates: Embeddings) -> int:
    "How many candidates are views of the batch."
    return candidates.batch[0] * candidates.batch[1]


def answers(candidates: Embeddings, temperature: float) -> Tensor:  # (n v)
    "Logits of the pseudo-task: every candidate asks which view of the batch shows its image."
    c, o = centred(candidates)
    v = in_batch(candidates)
    logits = (c @ c[:v].T - o[:v]) / temperature
    found = candidates.extra['norm'].isfinite()[
        :, None
    ]  # a zero vector is near to nobody
    own = torch.eye(len(c), v, dtype=torch.bool, device=c.device)
    lowest = torch.finfo(c.dtype).min
    return (logits * found).masked_fill(own, lowest)


def on_sphere(candidates: Embeddings, temperature: float) -> Tensor:  # (n d)
    "Gradient of the pseudo-task with respect to the direction, without its scale."
    logits = answers(candidates, temperature)
    seen = centred(candidates).c[: in_batch(candidates)]
    step = logits.softmax(1) @ seen - seen[logits.argmax(1)]
    z = candidates.z
    return step - z * (z * step).sum(1, keepdim=True)


def scale(candidates: Embeddings, temperature: float) -> Tensor:  # (n)
    "What turns the length of `on_sphere` into the norm of a gradient in the last layer."
    h = candidates.extra.get('hidden')
    length = 1.0 if h is None else (h.square().sum(1) + 1).sqrt()
    return length / (candidates.extra['norm'] * temperature)


# ---------------------------------------------------------------- seven uncertainties
class Indicator(NamedTuple):
    "An opinion on every candidate, with what is needed to compare it with others."

    value: Tensor  # (a n), or (1 n) if it does not depend on the anchor
    low: float = 0.0
    unit: Tensor | float = 1.0
    floor: float = 1e-4


def gradient_norm(candidates: Embeddings, t: float) -> tuple:
    unit = scale(candidates, t)
    return (on_sphere(candidates, t).norm(dim=1) * unit)[None], unit.mean()


def directions(candidates: Embeddings, t: float) -> Tensor:
    v = on_sphere(candidates, t)
    length = v.norm(dim=1, keepdim=True)
    clear = (length > VANISHING) & candidates.extra['norm'].isfinite()[:, None]
    v = torch.where(clear, v / length.clamp_min(VANISHING), 0.0)
    h = candidates.extra.get('hidden')
    if h is None:
        return v
    h = F.normalize(torch.cat([h, torch.ones_like(h[:, :1])], 1), dim=1)
    return torch.einsum('nd,nf->ndf', v, h).flatten(
        1
    )  # the gradient is an outer product


def posterior_entropy(candidates: Embeddings, t: float) -> Tensor:
    p = answers(candidates, t).softmax(1)
    return -torch.xlogy(p, p).sum(1)[None]


def posteriors(candidates: Embeddings, t: float) -> Tensor:
    return F.normalize(answers(candidates, t).softmax(1), dim=1)


def image_posteriors(candidates: Embeddings, t: float) -> Tensor:
    p = answers(candidates, t).softmax(1)
    return F.normalize(over_image(p, candidates), dim=1)


def over_image(x: Tensor, candidates: Embeddings) -> Tensor:  # (n e)
    "The sum over the views of the image; further candidates have one view."
    count, samples = candidates.batch
    v = count * samples
    total = x[:v].unflatten(0, (count, samples)).sum(0)
    return torch.cat([total.repeat(count, 1), x[v:]])


def image_means(candidates: Embeddings, t: float) -> Tensor:
    mean = F.normalize(over_image(candidates.z, candidates), dim=1)
    return (mean - mean.mean(0)) / math.sqrt(t)


def anchors_of(x: Tensor, c: Contrast) -> Tensor:
    return x[places(c.anchors, c.candidates)]


def near_means(c: Contrast, means: Tensor) -> Tensor:
    distance = torch.cdist(
        anchors_of(means, c), means, compute_mode='donot_use_mm_for_euclid_dist'
    )
    return -torch.expm1(-0.5 * distance.square())


def boundary(c: Contrast, shifted: Centred) -> Tensor:
    cos = (
        anchors_of(shifted.c, c) @ shifted.c.T - shifted.o
    )  # up to a constant per anchor
    positive = torch.where(c.positive, cos, 0.0).sum(1) / c.positive.sum(1)
    negative = torch.where(c.negative, cos, 0.0).sum(1) / c.k.clamp_min(1)
    middle = (positive + negative) / 2
    return -0.5 * torch.tanh((cos - middle[:, None]).abs() / (2 * BOUNDARY_TEMPERATURE))


class Score(NamedTuple):
    "How an uncertainty is computed, and its range."

    prepare: Callable[[Embeddings, float], Any]
    per_anchor: Callable[[Contrast, Any], Tensor] = lambda c, u: u
    low: float = 0.0
    floor: float = 1e-4
    unit: float = 1.0


def minus_cosine(c: Contrast, x: Tensor) -> Tensor:
    return -anchors_of(x, c) @ x.T


UNCERTAINTIES = {
    'norm': Score(gradient_norm, lambda c, u: u[0], floor=0.01),
    'influence': Score(directions, lambda c, x: anchors_of(x, c) @ x.T, low=-1.0),
    'entropy': Score(posterior_entropy, floor=1e-3),
    'overlap': Score(posteriors, minus_cosine, low=-1.0, unit=10.0),
    'image_overlap': Score(image_posteriors, minus_cosine, low=-1.0, unit=10.0),
    'image_similarity': Score(image_means, near_means),
    'boundary': Score(lambda candidates, t: centred(candidates), boundary, low=-0.5),
}


# ---------------------------------------------------------------- representativeness
def mean_distance(c: Contrast, distance: Tensor) -> Tensor:  # (a n)
    "Mean distance of a candidate to the anchor's other negatives; 1 if there are none."
    total = c.negative.to(distance.dtype) @ distance
    k = c.k[:, None]
    return torch.where(k > 1, total / (k - 1).clamp_min(1), 1.0)


def cosine_distances(candidates: Embeddings) -> Tensor:  # (n n)
    c, o = centred(candidates)
    return (o[:, None] + o - c @ c.T).fill_diagonal_(0.0)


def euclidean_distances(candidates: Embeddings) -> Tensor:  # (n n)
    return torch.cdist(
        candidates.z, candidates.z, compute_mode='donot_use_mm_for_euclid_dist'
    )


DISTANCES = {'cosine': cosine_distances, 'euclidean': euclidean_distances}


# ---------------------------------------------------------------- from opinions to log shares
def standard_score(i: Indicator, c: Contrast) -> Tensor:  # (a n)
    k = c.k.clamp_min(1)[:, None]
    mean = torch.where(c.negative, i.value, 0.0).sum(1, keepdim=True) / k
    deviation = torch.where(c.negative, i.value - mean, 0.0)
    spread = (deviation.square().sum(1, keepdim=True) / k).sqrt()
    floor = i.floor * i.unit + torch.finfo(deviation.dtype).tiny
    return (deviation / spread.clamp(min=floor)).clamp(-CLIP, CLIP)


def log_share(scores: Tensor, c: Contrast) -> Tensor:
    return mean_one(scores, c.negative, c.k) - c.k.log()[:, None]


def by_softmax(i: Indicator, c: Contrast, kappa: float) -> Tensor:
    return log_share(kappa * standard_score(i, c), c)


def by_sum(i: Indicator, c: Contrast, kappa: float = 1.0) -> Tensor:
    x = torch.where(c.negative, (i.value - i.low).clamp_min(0), 0.0)
    return proportional(x, c, x.sum(1, keepdim=True) > SMALLEST * i.unit)


def by_range(i: Indicator, c: Contrast, kappa: float = 1.0) -> Tensor:
    value = i.value.expand(c.logits.shape)
    low = torch.where(c.negative, value, math.inf).amin(1, keepdim=True)
    high = torch.where(c.negative, value, -math.inf).amax(1, keepdim=True)
    enough = high - low > SMALLEST * i.unit
    x = (value - torch.where(enough, low, 0.0)) / torch.where(enough, high - low, 1.0)
    return proportional(torch.where(c.negative, x.clamp_min(0), 0.0), c, enough)


def proportional(x: Tensor, c: Contrast, enough: Tensor) -> Tensor:
    x = torch.where(enough, x, c.negative.to(x.dtype))
    share = x / x.sum(1, keepdim=True)
    nothing = share <= SMALLEST / c.k[:, None]
    log_p = torch.where(nothing, 1.0, share).log().masked_fill(nothing, ABSENT)
    return torch.where(c.negative, log_p, off(log_p))


NORMALIZERS = {'softmax': by_softmax, 'sum': by_sum, 'minmax': by_range}


# ---------------------------------------------------------------- UnReMix
class Prepared(NamedTuple):
    "What UnReMix knows of the candidates before any anchor asks."

    shifted: Centred
    uncertainty: Any
    distance: Tensor  # (n n)


@dataclass(frozen=True)
class UnReMix:
    "Uncertainty, similarity and representativeness (after Tabassum et al. 2022)."

    mix: tuple[float, float, float] = (1 / 3, 1 / 3, 1 / 3)
    beta: float = 1.0
    kappa: tuple[float, float] = (1.0, 1.0)
    uncertainty: str = 'norm'
    uncertainty_temperature: float | None = None
    distance: str = 'cosine'
    normalize: str = 'softmax'
    pool: str = 'linear'
    select: str | None = None
    k_keep: int | None = None
    detach: bool = True

    def prepare(
        self,
        anchors: Embeddings,
        candidates: Embeddings,
        rule: Rule,
        temperature: float,
    ) -> Prepared:
        t = self.uncertainty_temperature or temperature
        asked = UNCERTAINTIES[self.uncertainty].prepare(candidates, t)
        distance = DISTANCES[self.distance](candidates)
        return Prepared(centred(candidates), asked, distance)

    def opinions(self, c: Contrast) -> tuple[Indicator, Indicator]:
        "Uncertainty and representativeness."
        prepared = prepared_for(c, self.prepare)
        score = UNCERTAINTIES[self.uncertainty]
        value = score.per_anchor(c, prepared.uncertainty)
        unit = prepared.uncertainty[1] if self.uncertainty == 'norm' else score.unit
        u = Indicator(value, score.low, unit, score.floor)
        return u, Indicator(mean_distance(c, prepared.distance))

    def __call__(self, c: Contrast) -> Tensor:  # (a n)
        logits = c.logits
        c = detached(c)
        log_w = {'linear': self.linear, 'log': self.product}[self.pool](
            c, logits.detach() if self.detach else logits
        )
        return (
            log_w if self.select is None else keep_top(log_w.detach(), c, self.k_keep)
        )

    def similarity_share(self, c: Contrast, logits: Tensor) -> Tensor:
        if self.normalize == 'softmax':
            return log_share(self.beta * logits, c)
        if self.normalize == 'sum':
            return by_sum(Indicator(logits * c.temperature, low=-1.0), c)
        c_, o = prepared_for(c, self.prepare).shifted
        return by_range(Indicator(anchors_of(c_, c) @ c_.T - o), c)

    def linear(self, c: Contrast, logits: Tensor) -> Tensor:
        u, r = self.opinions(c)
        share = NORMALIZERS[self.normalize]
        log_p = torch.stack(
            [
                share(u, c, self.kappa[0]),
                self.similarity_share(c, logits),
                share(r, c, self.kappa[1]),
            ]
        )
        lam = torch.tensor(self.mix, dtype=logits.dtype)
        log_lam = lam.clamp_min(1e-30).log()[:, None, None]
        used = lam > 0
        total = torch.where(c.negative, (log_p[used] + log_lam[used]), 0.0).logsumexp(0)
        log_w = total.clamp_min(ABSENT) + c.k.log()[:, None]
        return torch.where(c.negative, log_w, off(log_w))

    def product(self, c: Contrast, logits: Tensor) -> Tensor:
        scores = self.beta * logits
        for kappa, i in zip(self.kappa, self.opinions(c)):
            scores = scores + kappa * standard_score(i, c)
        return mean_one(scores, c.negative, c.k)


def keep_top(log_w: Tensor, c: Contrast, keep: int) -> Tensor:
    "Only the heaviest, all alike; of equals the first."
    order = log_w.sort(dim=1, descending=True, stable=True).indices
    kept = torch.zeros_like(c.negative).scatter(1, order[:, :keep], True) & c.negative
    each = (c.k / c.k.clamp(1, keep)).log()[:, None]
    return torch.where(kept, each, off(log_w))
