"What the parts of a loss may rely on: whose numbers they read, and who learns."

import math
import warnings
from dataclasses import dataclass, replace
from unittest.mock import patch

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from unremix import ContrastiveLoss, HCLLoss, KeyQueue, LearnedTemperature
from unremix import NTXentLoss, OutsideBatch, UnReMixLoss, Without
from unremix.cacr import CACR, Decoupled
from unremix.call import extras_of
from unremix.contrast import compare, detached, is_own, part, prepared_for
from unremix.contrast import with_prepared
from unremix.controls import LabelledLoss, OracleLoss
from unremix.false_negatives import FNC, GloFND, GloFNDLoss
from unremix.gradient_cache import MicroBatches, random_state, set_random_state
from unremix.hard_negatives import HCL, log_share, mean_one
from unremix.info_nce import InfoNCE, decoupled
from unremix.jensen_shannon import JSD, JensenShannon, RescaledHCL
from unremix.mixtures import MMix
from unremix.rules import Around, Filled, across, supervised, views
from unremix.sentence_loss import QueryDocument
from unremix.synthesis import MoCHi, without_synthetic
from unremix.tiles import count
from unremix.unremix import UnReMix
from unremix.with_labels import HSCL, SupCon, class_parts

ONLY_U = (1.0, 0.0, 0.0)
chunks = pytest.mark.parametrize('chunk_size', (None, 1, 5))


def numbers(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


# ------------------------------------------------------------------- counting
@pytest.mark.parametrize('rows', (0, 1, 2, 5))
@pytest.mark.parametrize('start', (0, 1, 8))
@pytest.mark.parametrize('width', (17, 24, 25))
def test_columns_cut_from_a_wider_table(rows, start, width):
    table = numbers(5, width) > 0
    some = table[:rows, start : start + 16]
    assert count(some).equal(some.sum(1))


def test_a_table_that_does_not_begin_where_a_word_does():
    flat = numbers(33) > 0
    table = flat[1:].view(2, 16)
    assert table.is_contiguous() and count(table).equal(table.sum(1))


@chunks
def test_a_block_of_one_anchor_with_made_up_negatives(chunk_size):
    z1, z2 = numbers(2, 8, 4)
    parts = dict(weights=UnReMix(), synthesis=MMix(0.0))
    found = ContrastiveLoss(**parts, chunk_size=chunk_size)(z1, z2)
    assert_close(found, ContrastiveLoss(**parts)(z1, z2))


# ------------------------------------------------------------- micro-batches
def test_two_losses_of_the_same_embeddings():
    x, net = numbers(6, 3), nn.Linear(3, 2).double()
    wanted = torch.autograd.grad(net(x).square().sum() + net(x).sum(), net.weight)
    micro = MicroBatches(lambda x: (net(x), x), x, 4)
    micro.backward(micro.z.square().sum())
    micro.backward(micro.z.sum())
    assert_close(net.weight.grad, wanted[0])


def test_the_state_of_apples_generator():
    mps, cpu = torch.device('mps'), torch.device('cpu')
    get, put = (patch(f'torch.mps.{name}_rng_state') for name in ('get', 'set'))
    with get as get, put as put:
        state = random_state(mps)
        get.assert_called_once_with()
        assert state[0].equal(torch.get_rng_state()) and state[1] is get.return_value
        set_random_state(state, mps)
        put.assert_called_once_with(get.return_value)
        set_random_state(state, cpu)
        set_random_state((state[0], None), mps)
        assert put.call_count == 1


def test_casts_of_the_first_pass_are_forgotten_before_the_second():
    calls = []

    def net(x):
        calls.append(torch.is_grad_enabled())
        return x * weight, x

    weight = torch.ones(2, requires_grad=True)
    micro = MicroBatches(net, torch.ones(4, 2), 2)
    with patch('torch.clear_autocast_cache', lambda: calls.append('forget')):
        micro.backward(micro.z.sum())
    assert calls[:4] == [False, False, 'forget', True]


# ------------------------------------------------------------------ prepared
@pytest.mark.parametrize(
    'changed',
    (
        dict(uncertainty='entropy'),
        dict(uncertainty_temperature=0.05),
        dict(pseudo_label='positive'),
    ),
    ids=str,
)
def test_nobody_reads_what_another_part_has_prepared(changed):
    loss = UnReMixLoss(mix=ONLY_U, uncertainty='norm')
    c = loss.contrast(*numbers(2, 16, 8))
    other = UnReMix(mix=ONLY_U, **changed)
    bare = with_prepared(c, None)
    assert_close(other(c), other(bare))
    some = slice(3, 9)
    for moved in (detached(c), with_prepared(c, c.prepared), replace(c)):
        assert_close(other(moved), other(bare))
    assert_close(other(part(c, some)), other(part(bare, some)))
    [(name, value)] = changed.items()
    before = loss.log_weights(c)
    setattr(loss, name, value)
    assert_close(loss.log_weights(c), other(bare))
    assert not torch.allclose(loss.log_weights(c), before)


def test_nobody_reads_it_through_made_up_negatives():
    loss, other = UnReMixLoss(), UnReMix(mix=ONLY_U, uncertainty='entropy')
    c = loss.contrast(*numbers(2, 16, 8))
    mochi = MoCHi(hardest=4, count=3, seed=0)
    more, wanted = (mochi(x) for x in (c, with_prepared(c, None)))
    assert more.logits.equal(wanted.logits)  # drawn anew, not read as a mixture
    assert_close(other(more), other(wanted))
    assert is_own(without_synthetic(more), loss.weights.prepare)
    assert not is_own(more, other.prepare)


def test_a_largest_score_is_ones_own():
    "Of weights that divide by it; an uncertainty would pass for one."
    c = UnReMixLoss(mix=ONLY_U, uncertainty='norm').contrast(*numbers(2, 16, 8))
    hard = RescaledHCL(beta=1.0)
    assert_close(hard(c), hard(with_prepared(c, None)))


def test_the_part_itself_reads_it():
    loss = UnReMixLoss(uncertainty='entropy')
    c = loss.contrast(*numbers(2, 16, 8))
    for same in (c, detached(c), part(c, slice(2, 5)), with_prepared(c, c.prepared)):
        assert prepared_for(same, loss.weights.prepare) is c.prepared
    with patch.object(UnReMix, 'prepare', side_effect=AssertionError):
        by_hand = with_prepared(compare(c.anchors, c.candidates), c.prepared)
        loss.log_weights(by_hand)  # nobody says whose it is


# -------------------------------------------------------------- what learns
class Sharper(nn.Module):
    "Hardness in cosine over a temperature that the loss may have too."

    def __init__(self, temperature):
        super().__init__()
        self.temperature = temperature

    def forward(self, c):
        by_cosine = log_share(c.cosine / self.temperature(), c.negative, c.k)
        return mean_one(by_cosine, c.k)


@chunks
@pytest.mark.parametrize('reduction', ('mean', 'none'))
@pytest.mark.parametrize('how', ('module', 'function'))
def test_a_temperature_that_the_weights_read_too(chunk_size, reduction, how):
    def gradient(chunk_size):
        z1, z2 = numbers(2, 8, 4).requires_grad_()
        t = LearnedTemperature(0.5).double()
        sharper = Sharper(t)
        weights = sharper if how == 'module' else lambda c: sharper(c)
        given = dict(temperature=t, chunk_size=chunk_size, reduction=reduction)
        ContrastiveLoss(weights, **given)(z1, z2).sum().backward()
        return t.x.grad

    assert_close(gradient(chunk_size), gradient(None))


class Returning(nn.Module):
    "A temperature by somebody else."

    def __init__(self, t):
        super().__init__()
        self.t = t

    def forward(self):
        return self.t


@pytest.mark.parametrize('make', (NTXentLoss, HCLLoss, UnReMixLoss))
@pytest.mark.parametrize('pairs_once', (True, False))
def test_a_number_from_a_module_is_a_temperature(make, pairs_once):
    "Refused by its own name, on whichever way the loss is computed."
    z1, z2 = numbers(2, 8, 4)
    for bad in (-0.5, 0, math.nan, math.inf, None):
        loss = make(Returning(bad), pairs_once=pairs_once)
        with pytest.raises(ValueError, match='^temperature must be a number > 0, got'):
            loss(z1, z2)
    found = make(Returning(0.2), pairs_once=pairs_once)(z1, z2)
    assert_close(found, make(0.2, pairs_once=pairs_once)(z1, z2))


@chunks
@pytest.mark.parametrize('make', (NTXentLoss, HCLLoss, UnReMixLoss))
def test_a_temperature_is_one_number(make, chunk_size):
    "A metric would be another loss, and statistics are 0-d."
    z1, z2 = numbers(2, 8, 4)
    for shape in ((4,), (16, 1), (0,)):
        loss = make(Returning(torch.full(shape, 0.2)), chunk_size=chunk_size)
        with pytest.raises(ValueError, match='^temperature must be a tensor of one'):
            loss(z1, z2)
        with pytest.raises(ValueError, match='^temperature must be a tensor of one'):
            compare(*[NTXentLoss().contrast(z1, z2).anchors] * 2, views, loss.temperature())
    t = torch.full((1, 1), 0.2, dtype=torch.float64, requires_grad=True)
    loss, stats = make(Returning(t), chunk_size=chunk_size)(z1, z2, return_stats=True)
    loss.backward()
    one = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    wanted = make(Returning(one), chunk_size=chunk_size)(z1, z2)
    wanted.backward()
    assert_close(loss, wanted)
    assert_close(t.grad, one.grad.expand(1, 1))
    assert stats['temperature'].shape == ()


def test_a_temperature_that_begins_near_a_bound_learns():
    for initial in (0.01 + 1e-12, 0.0100001, 0.07, 0.9999, 1 - 1e-6):
        t = LearnedTemperature(initial)
        t().log().backward()
        assert t.x.isfinite() and t.x.grad > 0, initial
        assert_close(t().item(), initial, rtol=1e-6, atol=0.0)
    for initial in (1 - 1e-8, 1 - 2**-53):
        with pytest.raises(ValueError, match='initial'):
            LearnedTemperature(initial)


@dataclass(frozen=True)
class Mine:
    net: nn.Module

    def __call__(self, c):
        score = self.net(c.cosine.detach()[..., None])[..., 0]
        return torch.where(c.negative, score, -math.inf)


class Held(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, c):
        return Mine(self.net)(c)


def learner():
    torch.manual_seed(0)
    return nn.Linear(1, 1, bias=False).double()


def unheld(net):
    "The ways in which a part can learn without being a module."
    return {
        'dataclass': dict(weights=Mine(net)),
        'function': dict(weights=lambda c: Mine(net)(c)),
        'loss': dict(loss=lambda c, w: InfoNCE()(c, w) * net.weight.sum()),
        'synthesis': dict(
            synthesis=lambda c: replace(c, logits=c.logits * net.weight.sum())
        ),
    }


@pytest.mark.parametrize('reduction', ('mean', 'none'))
@pytest.mark.parametrize('name', unheld(learner()))
def test_gradient_is_refused_rather_than_lost(name, reduction):
    z1, z2 = numbers(2, 8, 4).requires_grad_()
    net = learner()
    parts = unheld(net)[name]
    loss = ContrastiveLoss(**parts, chunk_size=5, reduction=reduction)
    with pytest.raises(ValueError, match='what a part learns with chunk_size must'):
        loss(z1, z2).sum().backward()
    whole = ContrastiveLoss(**parts, reduction=reduction)(z1, z2).sum()
    whole.backward()
    assert net.weight.grad.abs() > 0
    with torch.no_grad():  # nobody learns, so nothing is lost
        assert_close(loss(z1, z2).sum(), whole.detach())


@chunks
def test_a_module_holds_what_it_learns(chunk_size):
    z1, z2 = numbers(2, 8, 4).requires_grad_()
    held, by_hand = Held(learner()), learner()
    ContrastiveLoss(held, chunk_size=chunk_size)(z1, z2).backward()
    ContrastiveLoss(Mine(by_hand))(z1, z2).backward()
    assert_close(held.net.weight.grad, by_hand.weight.grad)


def test_what_does_not_learn_is_nobodys_business():
    z1, z2 = numbers(2, 8, 4).requires_grad_()
    net = learner().requires_grad_(False)
    losses = [ContrastiveLoss(Mine(net), chunk_size=size) for size in (None, 5)]
    assert_close(*(loss(z1, z2) for loss in losses))


class Squared(InfoNCE):
    "A loss of one's own, with the two arguments that are asked for."

    def __call__(self, c, log_w):
        return super().__call__(c, log_w).square()


@pytest.mark.parametrize('weights', (None, HCL(), UnReMix()), ids=str)
def test_a_loss_that_derives_from_info_nce(weights):
    z1, z2 = numbers(2, 8, 4)
    parts = {} if weights is None else dict(weights=weights)
    found = ContrastiveLoss(**parts, loss=Squared())(z1, z2)
    wanted = ContrastiveLoss(**parts, loss=lambda c, w: InfoNCE()(c, w).square())
    assert_close(found, wanted(z1, z2))


# ---------------------------------------------------------------- arguments
def refused(call, told):
    with pytest.raises(ValueError) as caught:
        call()
    assert told in str(caught.value), caught.value


def misfits():
    z1, z2, z3 = numbers(3, 6, 4)
    queue = KeyQueue(8, 4).double()
    return {
        'labels': ((z1, z2), dict(labels=torch.arange(9)), 'labels must be of shape'),
        'ids': (
            (z1, z2),
            dict(sample_ids=torch.arange(12)),
            'sample_ids must be of shape (6), got (12,)',
        ),
        'true labels': (
            (z1, z2),
            dict(true_labels=torch.arange(5)),
            'true_labels must be of shape (6), got (5,)',
        ),
        'third view': ((z1, z2, z3), dict(queue=queue), 'z3 must be left out'),
        'queue': (
            (z1, z2),
            dict(queue=KeyQueue(8, 5)),
            'queue must be of embeddings of size 4, got 5',
        ),
        'hidden': ((z1, z2), dict(hidden=(z1, z2[:3])), 'hidden must be two'),
        'views': ((z1, z2[:1]), {}, 'z2 must be of the shape of z1'),
        'no tensor': ((z1.tolist(), z2), {}, 'z1 must be a floating point tensor'),
    }


@pytest.mark.parametrize('name', misfits())
@pytest.mark.parametrize('how', ('__call__', 'comparison', 'contrast'))
def test_what_does_not_fit_is_refused_by_all(name, how):
    z, given, told = misfits()[name]
    refused(lambda: getattr(NTXentLoss(), how)(*z, **given), told)


@pytest.mark.parametrize('how', ('comparison', 'contrast'))
def test_settings_are_checked_by_all(how):
    z1, z2 = numbers(2, 6, 4)
    loss = HCLLoss()
    loss.chunk_size = 0
    refused(lambda: getattr(loss, how)(z1, z2), 'chunk_size must be')


@pytest.mark.parametrize('part', (JensenShannon, JSD, CACR))
def test_labels_exclude_a_class_prior_under_each_of_its_names(part):
    z1, z2 = numbers(2, 6, 4)
    labels = torch.arange(6) % 3
    told = 'class_prior must be 0 with labels: labels already remove what class_prior'
    for pairs in (None, supervised):
        given = dict(loss=part(class_prior=0.1), pairs=pairs)
        refused(lambda: ContrastiveLoss(**given)(z1, z2, labels=labels), told)
        refused(lambda: LabelledLoss(**given)(z1, z2, true_labels=labels), told)
        assert ContrastiveLoss(loss=part(), pairs=pairs)(z1, z2, labels=labels)
    assert ContrastiveLoss(loss=part(class_prior=0.1))(z1, z2, true_labels=labels)


def test_a_contrast_has_no_loss_that_could_contradict_its_labels():
    z1, z2 = numbers(2, 6, 4)
    labels = torch.arange(6) % 3
    refused(lambda: HCLLoss()(z1, z2, labels=labels), 'tau_plus must be 0')
    assert HCLLoss().contrast(z1, z2, labels=labels).k.tolist() == [8] * 12


class Rule(Around):
    "Somebody's rule around another."

    def __init__(self, rule):
        self.rule = rule

    def restrict(self, roles, anchors, candidates):
        return roles


@pytest.mark.parametrize('how', ('__call__', 'comparison', 'contrast'))
def test_what_needs_labels_warns_without_them(how):
    "Else it would be SimCLR or HCL without a word; a label below 0 is nobody's."
    z1, z2 = numbers(2, 6, 4)
    around = Rule(Without(SupCon(), 'copy')), QueryDocument(supervised)
    parts = [dict(pairs=x) for x in (supervised, SupCon(), *around)]
    for part in (*parts, dict(weights=HSCL()), class_parts(HSCL())):
        call = getattr(ContrastiveLoss(**part), how)
        with pytest.warns(UserWarning, match='without labels: every sample counts as'):
            assert call(z1, z2) is not None
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            assert call(z1, z2, labels=torch.full((6,), -1)) is not None


def test_thresholds_that_nobody_learns_are_told():
    "Else GloFND would be SimCLR without a word."
    told = 'leaves nobody out in a loss without thresholds: GloFNDLoss learns them'
    for pairs in (GloFND(), Rule(Without(GloFND(), 'copy'))):
        for make in (ContrastiveLoss, HCLLoss, LabelledLoss):
            with pytest.warns(UserWarning, match=told):
                make(pairs=pairs)
    loss = NTXentLoss()
    loss.pairs = GloFND()
    with pytest.warns(UserWarning, match=told):
        loss(*numbers(2, 6, 4))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert GloFNDLoss(images=6).eval()(*numbers(2, 6, 4)).isfinite()


def labelled_losses():
    priors = {'oracle': OracleLoss(), 'supcon': LabelledLoss(pairs=supervised)}
    return priors | {'h-scl': LabelledLoss(HSCL(), pairs=SupCon())}


@pytest.mark.parametrize('name', labelled_losses())
def test_who_is_looked_at_is_who_trains(name):
    "The pairs of a loss with labels, by all that show them."
    z1, z2 = numbers(2, 6, 4)
    y, loss = torch.arange(6) % 3, labelled_losses()[name]
    plain = ContrastiveLoss(loss.weights, pairs=loss.pairs, loss=loss.loss)
    wanted = plain.contrast(z1, z2, labels=y)
    c = loss.contrast(z1, z2, true_labels=y)
    assert c.positive.equal(wanted.positive) and c.negative.equal(wanted.negative)
    assert wanted.k.tolist() == [8] * 12
    assert_close(loss.log_weights(c), plain.log_weights(wanted))
    compared = loss.comparison(z1, z2, true_labels=y)
    assert compared.contrast().negative.equal(wanted.negative)
    way = plain.way(plain.comparison(z1, z2, labels=y))
    assert loss.way(compared) == way
    assert loss(z1, z2, true_labels=y) == plain(z1, z2, labels=y)
    for call in (loss, loss.contrast, loss.comparison):
        refused(lambda: call(z1, z2), 'true_labels must be given, got None')
        told = 'labels must be None, since the true ones are taken'
        refused(lambda: call(z1, z2, labels=y + 1, true_labels=y), told)
    refused(lambda: loss.contrast(z1, z2, labels=y), told)


@pytest.mark.parametrize('take_out', (lambda x: Without(x, 'label'), Filled))
def test_no_negatives_through_rules_around_rules(take_out):
    z1, z2 = numbers(2, 6, 4)
    for rule in (
        take_out(OutsideBatch(views)),
        take_out(take_out(OutsideBatch(views))),
    ):
        loss = ContrastiveLoss(pairs=rule)
        refused(lambda: loss(z1, z2), 'negatives must be given, or a queue, where no')
        assert loss(z1, z2, negatives=z2[:3]) > 0
    assert ContrastiveLoss(pairs=take_out(views))(z1, z2) > 0


class ByNorm:
    "A rule that reads an extra."

    reads = ('norm',)

    def __call__(self, anchors, candidates):
        longer = candidates.extra['norm'] > 0
        return views(anchors, candidates).positive, longer[None].repeat(len(anchors), 1)


def long_negatives(anchors, candidates):
    "As `views`, but short vectors are no negatives. It does not say what it reads."
    roles = views(anchors, candidates)
    return roles.positive, roles.negative & (candidates.extra['norm'] > 2)


@dataclass(frozen=True)
class ByLength(InfoNCE):
    "A loss of one's own that derives from one which reads no extra."

    def __call__(self, c, log_w):
        hidden = c.anchors.extra.get('hidden', torch.zeros(len(c.k), 1).double())
        length = c.anchors.extra['norm'].log() + hidden.sum(1)
        return super().__call__(c, log_w) + 0.01 * length.square()


def of_own(c, log_w):
    return ByLength()(c, log_w)


@chunks
@pytest.mark.parametrize(
    'weights', (None, HCL(), lambda c: HCL()(c)), ids=('uniform', 'hcl', 'function')
)
@pytest.mark.parametrize('loss', (of_own, ByLength()), ids=('function', 'class'))
def test_a_loss_gets_what_it_reads_whatever_the_weights(weights, loss, chunk_size):
    z1, z2 = numbers(2, 6, 4)
    hidden = tuple(numbers(2, 6, 3, seed=1))
    given = {} if weights is None else dict(weights=weights)
    given |= dict(chunk_size=chunk_size, reduction='none')
    plain = ContrastiveLoss(**given)(z1, z2)
    norm = torch.cat([z1, z2]).norm(dim=1).log()
    for more in ({}, dict(hidden=hidden)):
        found = ContrastiveLoss(**given, loss=loss)(z1, z2, **more)
        length = norm + torch.cat(hidden).sum(1) if more else norm
        assert_close(found, plain + 0.01 * length.square())
    told = 'hidden must be left out with negatives, whose hidden inputs nobody knows'
    own = ContrastiveLoss(**given, loss=loss)
    refused(lambda: own(z1, z2, hidden=hidden, negatives=z1[:2]), told)


@chunks
@pytest.mark.parametrize(
    'around', (lambda x: x, lambda x: Without(x, 'label')), ids=('alone', 'inside')
)
def test_a_rule_gets_what_it_reads_whatever_the_weights(chunk_size, around):
    z1, z2 = numbers(2, 6, 4)
    loss = ContrastiveLoss(HCL(), pairs=around(long_negatives), chunk_size=chunk_size)
    long = torch.cat([z1, z2]).norm(dim=1) > 2
    c = loss.contrast(z1, z2)
    assert 0 < long.sum() < 12 and c.negative.any(0).equal(long)
    assert_close(loss(z1, z2), InfoNCE()(c, HCL()(c)).mean())


def test_the_losses_and_rules_of_the_library_carry_nothing():
    "A part that says nothing gets all there is; those of the library say so."
    z, hidden = numbers(2, 6, 4), tuple(numbers(2, 6, 3, seed=1))
    given = dict(hidden=hidden, sample_ids=torch.arange(6), labels=torch.arange(6))
    losses = InfoNCE(), decoupled, Decoupled(), CACR(), JensenShannon(), JSD()
    rules = None, views, across, supervised, SupCon(), FNC(), QueryDocument(FNC())
    for parts in [dict(loss=x) for x in losses] + [dict(pairs=x) for x in rules]:
        for queue in (None, KeyQueue(4, 4).double()):
            found = ContrastiveLoss(HCL(), **parts).comparison(*z, **given, queue=queue)
            assert found.candidates.extra == found.anchors.extra == {}, parts
    found = ContrastiveLoss(HCL(), loss=of_own).comparison(*z, hidden=hidden)
    assert set(found.candidates.extra) == {'norm', 'hidden', 'square'}


def test_a_rule_around_another_reads_what_that_one_does():
    rule = Without(OutsideBatch(ByNorm()), 'label')
    assert extras_of([HCL()], rule, labelled=False) == ('norm',)
    assert extras_of([HCL()], Without(views, 'copy'), labelled=False) == ()
    z1, z2 = numbers(2, 6, 4)
    c = ContrastiveLoss(HCL(), pairs=Without(ByNorm(), 'label')).contrast(z1, z2)
    assert 'norm' in c.candidates.extra


@pytest.mark.parametrize('how', ('__call__', 'comparison', 'contrast'))
@pytest.mark.parametrize('kind', ('norm', 'influence'))
def test_hidden_that_would_be_dropped_is_refused(kind, how):
    z1, z2 = numbers(2, 6, 4)
    hidden, more = tuple(numbers(2, 6, 3, seed=1)), numbers(3, 4, seed=2)
    loss = UnReMixLoss(uncertainty=kind)
    call = getattr(loss, how)
    told = 'hidden must be left out with negatives, whose hidden inputs nobody knows'
    refused(lambda: call(z1, z2, hidden=hidden, negatives=more), told)
    call(z1, z2, hidden=hidden)
    call(z1, z2, negatives=more)


def test_hidden_that_nobody_reads_may_be_given():
    z1, z2 = numbers(2, 6, 4)
    hidden, more = tuple(numbers(2, 6, 3, seed=1)), numbers(3, 4, seed=2)
    for loss in (NTXentLoss(), HCLLoss(), UnReMixLoss(uncertainty='entropy')):
        with_hidden = loss(z1, z2, hidden=hidden, negatives=more)
        assert with_hidden == loss(z1, z2, negatives=more)


def test_a_queue_that_stores_no_hidden_is_refused_where_it_is_read():
    z1, z2 = numbers(2, 6, 4)
    hidden = tuple(numbers(2, 6, 3, seed=1))
    found = {}
    for stores in (False, True):
        queue = KeyQueue(4, 4, stores_hidden=stores).double()
        queue.push(z1[:4], hidden[0][:4])
        found[stores] = queue
    loss = UnReMixLoss(uncertainty='norm')
    told = "the queue's stores_hidden must be True where hidden is given and read"
    refused(lambda: loss(z1, z2, hidden=hidden, queue=found[False]), told)
    loss(z1, z2, queue=found[False])
    loss(z1, z2, hidden=hidden, queue=found[True])
    influence = UnReMixLoss(uncertainty='influence')  # goes without
    both = influence(z1, z2, hidden=hidden, queue=found[True])
    assert both == influence(z1, z2, queue=found[True])
