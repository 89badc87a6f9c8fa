"A second implementation of every loss, by ids and rules, gives the frozen numbers."

import json
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

import frozen
from seam import blocks, methods
from seam.unremix_weights import UnReMix

from unremix import embeddings, rules
from unremix.info_nce import InfoNCE
from unremix.queue import NO_ID, QUEUE_IDS as IDS

FROZEN = json.loads(frozen.FILE.read_text())


def method_of(name):
    "The frozen loss as a method of the seam, and its temperature."
    kind, knobs = frozen.LOSSES[name]
    loss = kind(**knobs)
    info_nce = InfoNCE(getattr(loss, "tau_plus", 0.0))
    if name.startswith('unremix'):
        given = {k: v for k, v in knobs.items() if k not in ('temperature', 'tau_plus')}
        if 'detach_weights' in given:
            given['detach'] = given.pop('detach_weights')
        weights = UnReMix(**given)
        return methods.Method(
            weights, loss=info_nce, prepare=weights.prepare
        ), loss.temperature
    weights = methods.uniform
    if name.startswith('hcl'):
        weights = methods.HCL(loss.beta, loss.detach_weights)
    return methods.Method(weights, loss=info_nce), loss.temperature


def comparison_of(method, temperature, pairing, z1, z2, given):
    "Anchors, candidates and the rule of a frozen pairing."
    queue = given.get('queue')
    labels, copies = given.get('labels'), given.get('sample_ids')
    hidden = given.get('hidden')
    keys = z2 if queue is None else z2.detach()
    candidates = embeddings.from_views([z1, keys], hidden and list(hidden), labels, copies)
    anchors, rule = candidates, rules.views
    if 'negatives' in given:
        candidates = embeddings.stack(candidates, embeddings.embed(given['negatives']))
    if queue is not None:
        anchors = candidates[: len(z1)]
        filled = torch.arange(queue.size) < queue.valid
        view = torch.where(filled, embeddings.MEMORY, embeddings.EMPTY)
        copy = queue.ids[IDS.index('sample_ids')]
        copy = copy.masked_fill(copy == NO_ID, embeddings.UNKNOWN)
        slots = embeddings.embed(queue.z, view=view, copy=copy)
        norm = queue.norm.masked_fill(
            queue.norm == 0, torch.inf
        )  # raw norms, not of the slots
        slots = replace(slots, extra={'norm': norm})
        candidates = embeddings.stack(candidates, slots)
        rule = rules.Filled(rules.OutsideBatch(rule))
    if pairing == 'only negatives':
        rule = rules.OutsideBatch(rule)
    if labels is not None:
        rule = rules.Without(rule, 'label')
    if copies is not None:
        rule = rules.Without(rule, 'copy')
    return blocks.compare(anchors, candidates, method, rule, temperature)


def numbers(x):
    return torch.tensor(x, dtype=torch.float64).flatten()


def evaluate(case, chunk_size):
    "As `frozen.evaluate`, on the seam."
    name, pairing, reduction = case
    (z1, z2), given = frozen.inputs(pairing, torch.float64)
    leaves = [z1.requires_grad_(), z2.requires_grad_()]
    if 'negatives' in given:
        leaves.append(given['negatives'].requires_grad_())
    method, temperature = method_of(name)
    comparison = comparison_of(method, temperature, pairing, z1, z2, given)
    a = len(comparison.anchors)
    weights = {
        'mean': torch.full((a,), 1 / a, dtype=torch.float64),
        'sum': torch.ones(a, dtype=torch.float64),
        'none': torch.linspace(-1, 1, a, dtype=torch.float64),
    }[reduction]
    values = methods.per_anchor(method, comparison.contrast())[0].detach()
    if chunk_size is None:
        total = (weights * methods.per_anchor(method, comparison.contrast())[0]).sum()
    else:
        total = blocks.sum_in_blocks(comparison, method, chunk_size, weights)
    gradient = torch.autograd.grad(total, leaves, allow_unused=True)
    gradient = [
        torch.zeros_like(x) if g is None else g for x, g in zip(leaves, gradient)
    ]
    value = values if reduction == 'none' else total.detach()[None]
    return value, torch.cat(gradient), methods.statistics(comparison, method)


@pytest.mark.parametrize('chunk_size', [None, 3, 64])
@pytest.mark.parametrize('case', list(frozen.cases()), ids=' | '.join)
def test_equals_the_frozen_numbers(case, chunk_size):
    value, gradient, stats = evaluate(case, chunk_size)
    expected = FROZEN[' | '.join(case)]
    assert_close(value.flatten(), numbers(expected['value']), rtol=1e-10, atol=1e-10)
    assert_close(
        gradient.flatten(), numbers(expected['gradient']), rtol=1e-9, atol=1e-10
    )
    assert set(stats) == set(expected['stats'])
    for key, x in stats.items():
        assert_close(x.item(), expected['stats'][key], rtol=2e-5, atol=1e-6)
