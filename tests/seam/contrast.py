"""Anchors against candidates: ids say what each embedding shows, a rule says who belongs to whom."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from unremix.pairs import full_precision, unit_norm

EXTERNAL, MEMORY, EMPTY = (
    -1,
    -2,
    -3,
)  # views of candidates that are no views of the batch
UNKNOWN = -1  # an id that is nobody's
IDS = 'sample', 'view', 'label', 'copy'

Index = slice | Tensor
Rule = Callable[['Embeddings', 'Embeddings'], tuple[Tensor, Tensor]]


# ---------------------------------------------------------------- what is compared
@dataclass(frozen=True)
class Embeddings:
    "Unit vectors and what is known of each. An id below 0 is unknown and equals nobody's."

    z: Tensor  # (n d) unit norm
    sample: Tensor  # (n) int64: which sample it shows
    view: Tensor  # (n) int64: which view or modality; EXTERNAL, MEMORY, EMPTY are none
    label: Tensor  # (n) int64: class
    copy: Tensor  # (n) int64: equal for duplicates of one image
    extra: dict[str, Tensor] = field(
        default_factory=dict
    )  # (n …) raw norms, hidden inputs
    batch: tuple[int, int] = (0, 0)  # views and samples that stand first, view by view

    def __len__(self) -> int:
        return self.z.shape[0]

    def __getitem__(self, idx: Index) -> 'Embeddings':
        "Some of them; which of them are the batch is no longer known."
        ids = {name: getattr(self, name)[idx] for name in IDS}
        extra = {name: x[idx] for name, x in self.extra.items()}
        return Embeddings(self.z[idx], **ids, extra=extra)

    def detach(self) -> 'Embeddings':
        return replace(self, z=self.z.detach())


def embed(
    z_raw: Tensor,  # (n d) of any norm
    sample: Tensor | int = UNKNOWN,  # (n) or one for all
    view: Tensor | int = EXTERNAL,
    label: Tensor | int = UNKNOWN,
    copy: Tensor | int = UNKNOWN,
    hidden: Tensor | None = None,  # (n f) input of the layer that made them
) -> Embeddings:
    "Embeddings of any norm with their ids; gradient flows into `z`."
    z, norm = unit_norm(z_raw)
    given = dict(sample=sample, view=view, label=label, copy=copy)
    ids = {name: one_each(x, z) for name, x in given.items()}
    extra = {'norm': norm}
    if hidden is not None:
        extra['hidden'] = hidden.detach().to(z.dtype)
    return Embeddings(z, **ids, extra=extra)


def one_each(ids: Tensor | int, z: Tensor) -> Tensor:  # (n) int64
    if isinstance(ids, Tensor):
        return ids.long()
    return torch.full_like(z[:, 0], ids, dtype=torch.long)


def stack(*parts: Embeddings) -> Embeddings:
    "One behind the other, with the extras that all of them have."
    first, *others = parts
    known = [name for name in first.extra if all(name in p.extra for p in others)]
    ids = {name: torch.cat([getattr(p, name) for p in parts]) for name in IDS}
    extra = {name: torch.cat([p.extra[name] for p in parts]) for name in known}
    z = torch.cat([p.z for p in parts])
    return Embeddings(z, **ids, extra=extra, batch=first.batch)


def from_views(
    views: list[Tensor],  # each (b d), of any norm
    hidden: list[Tensor] | None = None,  # each (b f)
    labels: Tensor | None = None,  # (b)
    copies: Tensor | None = None,  # (b)
) -> Embeddings:  # view by view
    "Views of a batch: row i of each shows sample i."
    count, b = len(views), views[0].shape[0]
    sample = torch.arange(b, device=views[0].device)
    view = torch.arange(count, device=sample.device).repeat_interleave(b)
    label = UNKNOWN if labels is None else labels.repeat(count)
    copy = UNKNOWN if copies is None else copies.repeat(count)
    h = None if hidden is None else torch.cat(hidden)
    e = embed(torch.cat(views), sample.repeat(count), view, label, copy, h)
    return replace(e, batch=(count, b))


# ---------------------------------------------------------------- rules
def equal(a: Tensor, b: Tensor) -> Tensor:  # (a n) bool
    "The same id, and a known one."
    asked = a.masked_fill(a < 0, -2)
    return asked[:, None] == b.clamp_min(-1)


def views(anchors: Embeddings, candidates: Embeddings) -> tuple[Tensor, Tensor]:
    "SimCLR: other views of the anchor's sample are positives, all other samples negatives."
    same = equal(anchors.sample, candidates.sample)
    other_view = anchors.view[:, None] != candidates.view
    return same & other_view, ~same


def across(anchors: Embeddings, candidates: Embeddings) -> tuple[Tensor, Tensor]:
    "CLIP: only the other view or modality counts."
    positive, negative = views(anchors, candidates)
    return positive, negative & (anchors.view[:, None] != candidates.view)


def supervised(anchors: Embeddings, candidates: Embeddings) -> tuple[Tensor, Tensor]:
    "SupCon: everybody of the anchor's class is a positive, and so is its own sample."
    positive, negative = views(anchors, candidates)
    same_class = equal(anchors.label, candidates.label)
    return positive | (negative & same_class), negative & ~same_class


@dataclass(frozen=True)
class Without:
    "The rule, but who shares this id with the anchor is not its negative."

    rule: Rule
    name: str  # 'label' or 'copy'

    def __call__(
        self, anchors: Embeddings, candidates: Embeddings
    ) -> tuple[Tensor, Tensor]:
        positive, negative = self.rule(anchors, candidates)
        theirs = getattr(candidates, self.name)
        return positive, negative & ~equal(getattr(anchors, self.name), theirs)


@dataclass(frozen=True)
class OutsideBatch:
    "The rule, but views of the batch are no negatives: those come from a queue or from elsewhere."

    rule: Rule

    def __call__(
        self, anchors: Embeddings, candidates: Embeddings
    ) -> tuple[Tensor, Tensor]:
        positive, negative = self.rule(anchors, candidates)
        return positive, negative & (candidates.view < 0)


@dataclass(frozen=True)
class Filled:
    "The rule, but empty slots of a queue are nobody's."

    rule: Rule

    def __call__(
        self, anchors: Embeddings, candidates: Embeddings
    ) -> tuple[Tensor, Tensor]:
        positive, negative = self.rule(anchors, candidates)
        return positive, negative & (candidates.view != EMPTY)


# ---------------------------------------------------------------- the contrast
@dataclass(frozen=True)
class Contrast:
    "Anchors against candidates: how similar, and in which role."

    logits: Tensor  # (a n) cosine / temperature
    positive: Tensor  # (a n) bool
    negative: Tensor  # (a n) bool
    anchors: Embeddings  # a
    candidates: (
        Embeddings  # n; an anchor's own synthetic negatives are columns behind them
    )
    temperature: float
    # Neither is copied by `dataclasses.replace`, so neither can be of other candidates.
    k: Tensor = field(init=False)  # (a) number of negatives
    prepared: Any = field(
        init=False, default=None
    )  # what the method computed once per step

    def __post_init__(self) -> None:
        k = self.negative.sum(1).to(self.logits.dtype)
        object.__setattr__(self, 'k', k)  # frozen

    def after(self, prepared: Any) -> 'Contrast':
        "The same, with what was prepared for these anchors, candidates and roles."
        c = replace(self)
        object.__setattr__(c, 'prepared', prepared)
        return c

    def prepared_by(self, prepare: Callable[..., Any]) -> Any:
        "What was prepared; for a contrast made by hand, prepared now, all its anchors counting."
        if self.prepared is not None:
            return self.prepared
        row = torch.arange(len(self.anchors), device=self.logits.device)

        def roles(anchors: Embeddings, candidates: Embeddings) -> tuple[Tensor, Tensor]:
            asked = anchors.extra['row']  # `prepare` may ask for some anchors at a time
            return self.positive[asked], self.negative[asked]

        with torch.no_grad():
            anchors, candidates = self.anchors.detach(), self.candidates.detach()
            anchors = replace(anchors, extra=anchors.extra | {'row': row})
            return prepare(anchors, candidates, roles, self.temperature)

    @property
    def cosine(self) -> Tensor:  # (a n)
        return self.logits * self.temperature

    def detach(self) -> 'Contrast':
        "The same numbers without gradient."
        anchors, candidates = self.anchors.detach(), self.candidates.detach()
        logits = self.logits.detach()
        c = replace(self, logits=logits, anchors=anchors, candidates=candidates)
        return c.after(self.prepared)


@dataclass(frozen=True)
class Comparison:
    "Everything that decides a contrast, before any similarity is computed."

    anchors: Embeddings
    candidates: Embeddings
    rule: Rule
    temperature: float
    prepared: Any = None

    def logits(self, idx: Index = slice(None)) -> Tensor:  # (a n)
        "Cosine over temperature of some anchors with all candidates."
        with full_precision(self.candidates.z):
            return (self.anchors.z[idx] / self.temperature) @ self.candidates.z.T

    def contrast(
        self, idx: Index = slice(None), logits: Tensor | None = None
    ) -> Contrast:
        "Some anchors against all candidates."
        anchors = self.anchors[idx]
        positive, negative = self.rule(anchors, self.candidates)
        if logits is None:
            logits = self.logits(idx)
        c = Contrast(
            logits, positive, negative, anchors, self.candidates, self.temperature
        )
        return c.after(self.prepared)


def with_synthetic(c: Contrast, z: Tensor) -> Contrast:  # z: (a s d) of any norm
    "Each anchor's own synthetic negatives, constants, as further columns."
    z = torch.nn.functional.normalize(z.detach(), dim=2)
    logits = torch.einsum('ad,asd->as', c.anchors.z, z) / c.temperature
    no = torch.zeros_like(logits, dtype=torch.bool)
    positive = torch.cat([c.positive, no], 1)
    negative = torch.cat([c.negative, ~no], 1)
    logits = torch.cat([c.logits, logits], 1)
    more = replace(c, logits=logits, positive=positive, negative=negative)
    return more.after(c.prepared)


def off(like: Tensor) -> Tensor:  # 0-d
    return like.new_full((), -math.inf)
