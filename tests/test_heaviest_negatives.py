"The pairs of a report: negatives of the loss that was trained, with its own weights."

import tracemalloc

import pytest
import torch
from torch.testing import assert_close

from configs import run_of
from unremix.evaluate import test_samples as samples_of_the_test
from unremix.heaviest_negatives import ON_PAGE, heaviest, negatives
from unremix.html_page import Page
from unremix.run_parts import set_up
from unremix.tasks import but, choose

SEE_LABELS = 'oracle', 'supcon', 'h-scl'
NAMES = *SEE_LABELS, 'simclr', 'hcl', 'unremix-across', 'fnc', 'glofnd', 'cacr'


def made(name, batch=64):
    "A run that was not trained, and a batch of its test images."
    small = dict(limit=128, precision='32-true', accelerator='cpu')
    run = set_up(run_of(strategy=name, batch_size=batch, **small))
    return run, choose(samples_of_the_test(run.cfg, 'cpu'), torch.arange(batch))


def seen(run):
    "The contrasts that its loss is asked for from now on."
    found, usual = [], run.criterion.contrast

    def contrast(*views, **given):
        found.append(usual(*views, **given))
        return found[-1]

    run.criterion.contrast = contrast
    return found


@pytest.mark.parametrize('name', NAMES)
def test_weight_and_cosine_are_of_the_same_two_views(name):
    run, images = made(name)
    contrasts = seen(run)
    pairs = heaviest(run, images, ON_PAGE)
    [c] = contrasts
    weight = run.criterion.log_weights(c).exp()
    n = len(images)
    for a, b, w, cosine in pairs:
        views = [(i, j) for i in (a, a + n) for j in (b, b + n) if c.negative[i, j]]
        told = [(weight[at].item(), c.cosine[at].item()) for at in views]
        most = max(x for x, _ in told)
        assert_close(w, most)
        assert any(abs(cosine - s) < 1e-5 and x > most - 1e-5 for x, s in told)
    assert len(pairs) == ON_PAGE


@pytest.mark.parametrize('name', NAMES)
def test_only_what_the_loss_pushes_is_shown(name):
    "A loss that is trained with labels sees them, and none is in training mode."
    run, images = made(name)
    assert run.criterion.training
    sections = {s.title: s.grid.cards for s in negatives(Page('x', ''), run, name)}
    classes = {
        title: [[w.rsplit(' ', 1)[0] for w in x.words.split(' | ')] for x in cards]
        for title, cards in sections.items()
    }
    first, *others = classes.values()
    assert len(first) == ON_PAGE
    if name in SEE_LABELS:
        assert not others and all(one != other for one, other in first)
    else:
        assert all(one == other for one, other in others[0]) and others[0]
    in_batch = images.y[:, None] == images.y
    false = int(in_batch.sum()) - len(images)
    if name in ('simclr', 'hcl', 'glofnd'):
        assert len(others[0]) == min(false, ON_PAGE)


def test_no_image_is_a_negative_of_its_own():
    "Also where there are fewer pairs than a page has room for."
    run, images = made('simclr', batch=4)
    pairs = heaviest(run, images, ON_PAGE)
    assert sorted(x[:2] for x in pairs) == [
        (a, b) for a in range(4) for b in range(4) if a != b
    ]
    page = Page('x', '')
    first = negatives(page, run, 'simclr')[0]
    assert len(first.grid.cards) == 12


@pytest.mark.parametrize('name', ['simclr', 'glofnd', 'oracle'])
def test_images_that_show_the_same_are_no_negatives(name):
    "Of which a loss knows that remembers other images by their ids."
    run, images = made(name, batch=8)
    ids = torch.tensor([0, 0, 0, 1, 1, 2, 3, 4])
    pairs = heaviest(run, but(images, ids=ids), 64)
    same = [int(ids[a]) == int(ids[b]) for a, b, *_ in pairs]
    assert pairs and any(same) == (name == 'glofnd')


def test_a_large_batch_costs_no_list_of_its_pairs():
    "65,000 pairs would be more than 10 MB."
    run, _ = made('simclr', batch=4)
    run.cfg = run.cfg.but({'limit': 256, 'batch_size': 256})
    negatives(Page('x', ''), run, 'simclr')  # what is imported and kept
    tracemalloc.start()
    found = negatives(Page('x', ''), run, 'simclr')
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [len(x.grid.cards) for x in found] == [ON_PAGE, ON_PAGE]
    assert most < 5e6
