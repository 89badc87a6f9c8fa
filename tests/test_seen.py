"Formulas written out in loops, in float64: what a one-line change of the weightings and losses would break."
import math

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from unremix import blocks
from unremix.importance import Knobs, UnReMixLoss, keep_top, mixture
from unremix.losses import DebiasedNTXentLoss, NTXentLoss, WeightedNTXentLoss, heaviest, log_weighted_sum, over_anchors
from unremix.pairs import Embeddings, from_views, unit_norm
from unremix.queues import KeyQueue
from unremix.representativeness import representativeness, similarity
from unremix.uncertainty import pseudo_logits, uncertainty
from unremix.weights import HCLLoss, hcl

B, D, T = 4, 3, .4

def draw(*shape, seed=0): return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))

Z1, Z2, MORE = draw(B, D), draw(B, D, seed=1), draw(3, D, seed=2)
H = draw(2*B, 5, seed=3)
IDS = torch.tensor([7, 7, 5, 6])
RAW = torch.cat([Z1, Z2])
Z = F.normalize(RAW)
POSITIVE = torch.arange(2*B).roll(B)

def negatives_of(i, ids=None):
    "Columns that are negatives of the anchor, by what the words say."
    others = [j for j in range(2*B) if j not in (i, POSITIVE[i])]
    return others if ids is None else [j for j in others if ids[j % B] != ids[i % B]]

# what the pseudo-task asks of a view: which other view shows its image?

def posterior(z, t):
    logits = z @ z.T/t
    return logits.masked_fill(torch.eye(len(z), dtype=torch.bool), -math.inf).softmax(1)

def last_layer_gradients(t, with_hidden):
    "By autograd: the gradient of each view's pseudo-loss in the last layer, or in the raw embedding."
    found = []
    for j in range(2*B):
        weight = torch.zeros(D, 5, dtype=torch.float64, requires_grad=True)
        bias = RAW[j].clone().requires_grad_()
        z = Z.clone()
        z[j] = F.normalize(weight @ H[j] + bias, dim=0)
        p = posterior(z, t)[j]
        grads = torch.autograd.grad(-p.max().log(), (weight, bias))
        found.append(torch.cat([g.flatten() for g in (grads if with_hidden else grads[1:])]))
    return torch.stack(found)

def contrast(with_hidden=True, **more): return from_views(Z1, Z2, T, hidden=H.split(B) if with_hidden else None, **more)

@pytest.mark.parametrize('with_hidden', (True, False))
@pytest.mark.parametrize('t', (None, .9))
def test_norm_is_the_gradient_norm(with_hidden, t):
    found = uncertainty(contrast(with_hidden), 'norm', t)
    wanted = last_layer_gradients(t or T, with_hidden).norm(dim=1)
    assert_close(found.value, wanted[None])
    unit = (H.square().sum(1) + 1).sqrt() if with_hidden else torch.ones(2*B, dtype=torch.float64)
    assert_close(found.unit, (unit/RAW.norm(dim=1)).mean()/(t or T))
    assert (found.low, found.floor) == (0, .01)

@pytest.mark.parametrize('with_hidden', (True, False))
def test_influence_is_the_cosine_of_gradients(with_hidden):
    g = F.normalize(last_layer_gradients(T, with_hidden))
    found = uncertainty(contrast(with_hidden), 'influence')
    assert_close(found.value, g @ g.T)
    assert found.low == -1

def test_entropy_of_the_answer():
    p = posterior(Z, .3)
    assert_close(uncertainty(contrast(), 'entropy', .3).value, -torch.xlogy(p, p).sum(1)[None])

def test_overlap_of_the_answers():
    p = F.normalize(posterior(Z, .3))
    assert_close(uncertainty(contrast(), 'overlap', .3).value, -p @ p.T)

def test_overlap_of_an_images_mean_answers():
    p = posterior(Z, .3)
    p = F.normalize(p + p.roll(B, 0))
    assert_close(uncertainty(contrast(), 'image_overlap', .3).value, -p @ p.T)

def test_similarity_of_images():
    mean = F.normalize(Z + Z.roll(B, 0))
    assert_close(uncertainty(contrast(), 'image_similarity', .3).value, 1 - ((mean @ mean.T - 1)/.3).exp())

def test_nearness_to_the_boundary():
    cos = Z @ Z.T
    for i in range(2*B):
        middle = (cos[i,negatives_of(i)].mean() + cos[i,POSITIVE[i]])/2
        p = torch.sigmoid((cos[i] - middle)/.1)
        assert_close(uncertainty(contrast(), 'boundary').value[i], torch.minimum(p, 1-p) - .5)

@pytest.mark.parametrize('kind', ('norm', 'influence', 'entropy', 'overlap', 'image_similarity'))
def test_further_candidates_are_asked_but_are_no_answer(kind):
    "An explicit negative answers as a view would that nobody asks about."
    found = uncertainty(contrast(False, negatives=MORE), kind).value
    assert found.shape[1] == 2*B + 3
    assert_close(found[...,:2*B], uncertainty(contrast(False), kind).value)

def test_entropy_of_a_further_candidate():
    p = (F.normalize(MORE) @ Z.T/T).softmax(1)
    assert_close(uncertainty(contrast(False, negatives=MORE), 'entropy').value[0,2*B:], -torch.xlogy(p, p).sum(1))

def test_zero_vector_is_torn_between_all():
    z1 = Z1.clone(); z1[0] = 0
    assert_close(uncertainty(from_views(z1, Z2, T), 'entropy').value[0,0], torch.tensor(math.log(2*B-1), dtype=torch.float64))
    assert uncertainty(from_views(z1, Z2, T), 'norm').value[0,0] == 0

def test_zero_vector_prefers_nobody_by_rounding():
    z1 = draw(50, 7).float(); z1[0] = 0
    assert (pseudo_logits(from_views(z1, z1.roll(1, 0), .05), .05)[0,1:] == 0).all()

def test_two_temperatures_on_one_contrast():
    c = contrast()
    first, second = (uncertainty(c, 'entropy', t).value for t in (.3, .9))
    assert_close(second, uncertainty(contrast(), 'entropy', .9).value)
    assert (first < second).all()

# representativeness

@pytest.mark.parametrize('ids', (None, IDS))
@pytest.mark.parametrize('distance', ('cosine', 'euclidean'))
def test_mean_distance_to_the_other_negatives(distance, ids):
    between = 1 - Z @ Z.T if distance == 'cosine' else (Z[:,None] - Z).norm(dim=2)
    found = representativeness(contrast(labels=ids), distance).value
    for i in range(2*B):
        for j in negatives_of(i, ids):
            others = [k for k in negatives_of(i, ids) if k != j]
            assert_close(found[i,j], between[j,others].mean())

@pytest.mark.parametrize('distance', ('cosine', 'euclidean'))
def test_an_only_negative_is_at_distance_one(distance):
    found = representativeness(from_views(Z1, Z2, T, negatives=MORE[:1], in_batch=False), distance).value
    assert_close(found[:,2*B:], torch.ones(2*B, 1, dtype=torch.float64))

def test_distance_to_a_zero_vector_is_one():
    z1 = Z1.clone(); z1[0] = 0
    c = from_views(z1, Z2, T)
    cos = c.columns.z @ c.columns.z.T
    found = representativeness(c).value
    for i in range(2*B):
        for j in negatives_of(i): assert_close(found[i,j], (1 - cos[j,[k for k in negatives_of(i) if k != j]]).mean())

def test_similarity_is_the_cosine():
    z1 = Z1.clone().requires_grad_()
    found = similarity(from_views(z1, Z2, T))
    assert_close(found.value, Z @ Z.T)
    assert found.low == -1 and found.value.requires_grad
    assert not representativeness(from_views(z1, Z2, T)).value.requires_grad

# weights

def softmax_over(scores, members):
    "(a n) shares over the members of each row, 0 elsewhere."
    p = torch.zeros(2*B, 2*B, dtype=torch.float64)
    for i in range(2*B): p[i,members[i]] = scores[i,members[i]].softmax(0)
    return p

@pytest.mark.parametrize('ids', (None, IDS))
def test_hcl_by_the_formula(ids):
    members = [negatives_of(i, ids) for i in range(2*B)]
    k = torch.tensor([len(m) for m in members])
    found = hcl(contrast(labels=ids), 1.7).exp()
    assert_close(found, softmax_over(1.7*Z @ Z.T/T, members)*k[:,None])

def loss_by_loops(w, tau_plus=0., z=Z, t=T):
    "(a) weighted, debiased InfoNCE of weights that average 1."
    found = []
    for i in range(2*B):
        neg = negatives_of(i)
        s, p = (z[i] @ z.T/t), (z[i] @ z[POSITIVE[i]]/t)
        g = (w[i,neg]*s[neg].exp()).mean()
        g = ((g - tau_plus*p.exp())/(1 - tau_plus)).clamp_min(math.exp(-1/t))
        found.append((1 + len(neg)*g/p.exp()).log())
    return torch.stack(found)

UNIFORM = torch.ones(2*B, 2*B, dtype=torch.float64)

@pytest.mark.parametrize('tau_plus', (0., .1, .6))
@pytest.mark.parametrize('detach', (True, False))
def test_hcl_loss_and_gradient(tau_plus, detach):
    def gradient(of):
        z1 = Z1.clone().requires_grad_()
        loss = of(z1)
        return loss.detach(), torch.autograd.grad(loss.sum(), z1)[0]

    def loops(z1):
        z = F.normalize(torch.cat([z1, Z2]))
        w = (2*B-2)*softmax_over(1.7*z @ z.T/T, [negatives_of(i) for i in range(2*B)])
        return loss_by_loops(w.detach() if detach else w, tau_plus, z)

    criterion = HCLLoss(T, tau_plus, 1.7, detach_weights=detach, reduction='none')
    for found, wanted in zip(gradient(lambda z1: criterion(z1, Z2)), gradient(loops)): assert_close(found, wanted)

def test_negative_beta_is_refused():
    for make in (lambda: hcl(contrast(), -.1), lambda: HCLLoss(beta=-.1)):
        with pytest.raises(ValueError, match='beta must be'): make()

def test_weights_of_an_anchor_without_negatives():
    z1, z2 = Z1[:1].clone().requires_grad_(), Z2[:1]
    assert (hcl(from_views(z1, z2)) == -math.inf).all()
    loss = HCLLoss(tau_plus=0.)(z1, z2)
    loss.backward()
    assert loss == 0 and (z1.grad == 0).all()

# losses

@pytest.mark.parametrize('tau_plus', (.1, .6))
def test_debiased_loss_by_loops(tau_plus):
    wanted = loss_by_loops(UNIFORM, tau_plus)
    assert_close(DebiasedNTXentLoss(T, tau_plus, reduction='none')(Z1, Z2), wanted)
    assert_close(DebiasedNTXentLoss(T, tau_plus)(Z1, Z2), wanted.mean())
    assert_close(DebiasedNTXentLoss(T, tau_plus, reduction='sum')(Z1, Z2), wanted.sum())

def test_simclr_is_a_cross_entropy():
    logits = (Z @ Z.T/T).masked_fill(torch.eye(2*B, dtype=torch.bool), -math.inf)
    assert_close(NTXentLoss(T)(Z1, Z2), F.cross_entropy(logits, POSITIVE))

def test_labels_and_further_negatives():
    "Same-label views drop out of the sum, further negatives join it."
    more = F.normalize(MORE)
    wanted = []
    for i in range(2*B):
        p = Z[i] @ Z[POSITIVE[i]]/T
        neg = torch.cat([Z[negatives_of(i, IDS)], more])
        wanted.append((1 + ((neg @ Z[i])/T - p).exp().sum()).log())
    assert_close(NTXentLoss(T, reduction='none')(Z1, Z2, labels=IDS, negatives=MORE), torch.stack(wanted))

def test_further_negatives_may_have_ids():
    ids = torch.cat([IDS, torch.tensor([7, 5, 9])])
    found = from_views(Z1, Z2, T, negatives=MORE, sample_ids=ids)
    assert found.negative[:,2*B:].tolist() == [[ids[i % B] != ids[B+m] for m in range(3)] for i in range(2*B)]
    assert found.k.tolist() == [len(negatives_of(i, IDS)) + sum(ids[i % B] != ids[B+m] for m in range(3)).item() for i in range(2*B)]

def test_only_further_negatives():
    found = from_views(Z1, Z2, T, negatives=MORE, in_batch=False)
    assert found.k.tolist() == [3]*2*B and not found.negative[:,:2*B].any() and not found.all_others

def test_an_anchor_without_negatives_costs_nothing():
    z1 = Z1[:2].clone().requires_grad_()
    loss = NTXentLoss(T)(z1, Z2[:2], labels=torch.tensor([1, 1]))
    loss.backward()
    assert loss == 0 and z1.grad.abs().max() == 0

def test_labels_exclude_a_class_prior():
    with pytest.raises(ValueError, match='tau_plus must be 0 with labels'): DebiasedNTXentLoss(T)(Z1, Z2, labels=IDS)

def test_keys_get_no_gradient():
    queue = KeyQueue(5, D)
    queue.push(MORE)
    z1, z2 = (z.clone().requires_grad_() for z in (Z1, Z2))
    NTXentLoss(T)(z1, z2, queue=queue).backward()
    assert z1.grad.abs().max() > 0 and z2.grad is None

def test_mean_over_anchors_that_have_negatives():
    assert over_anchors(torch.tensor([1., math.nan, 4]), torch.tensor([True, False, True])) == 2.5
    assert over_anchors(torch.tensor([math.nan]), torch.tensor([False])) == 0

def test_deselected_negatives_are_not_among_the_heaviest():
    log_w = torch.tensor([[0., -math.inf, -math.inf, -math.inf]])
    assert heaviest(log_w, torch.tensor([3.]), 1.).tolist() == [[1, 0, 0, 0]]

def test_members_of_the_heaviest_share_the_last_places():
    log_w = torch.tensor([[3., 1, 1, 1, 0, -math.inf], [2, 2, 1, 1, 1, 1]])
    k = torch.tensor([5., 6.])
    assert_close(heaviest(log_w, k, .4), torch.tensor([[1, 1/3, 1/3, 1/3, 0, 0], [1, 1, .25, .25, .25, .25]]))
    assert heaviest(log_w, k, .1).tolist() == [[1, 0, 0, 0, 0, 0], [.5, .5, 0, 0, 0, 0]]

def test_statistics_by_loops():
    labels, cos = torch.tensor([0, 0, 1, 1]), Z @ Z.T
    _, found = HCLLoss(T, .6, 1.7)(Z1, Z2, true_labels=labels, return_stats=True)
    rows = []
    for i in range(2*B):
        neg = negatives_of(i)
        s, same = cos[i,neg], (labels[torch.tensor(neg) % B] == labels[i % B]).double()
        w = (1.7*s/T).softmax(0)
        push = (2.7*s/T).softmax(0)
        g = len(neg)*(w*(s/T).exp()).sum()/len(neg)
        p = cos[i,POSITIVE[i]]/T
        rest = (g - .6*p.exp())/.4
        rows.append(dict(positive_similarity=cos[i,POSITIVE[i]], negative_similarity=s.mean(), hardest_similarity=s.max(),
                         clamped_fraction=(rest <= math.exp(-1/T)).double(), effective_negatives=1/w.square().sum(),
                         weight_entropy=-(w*w.log()).sum(), false_negative_rate=same[s.argmax()], hardness=s.max(),
                         false_negative_mass=(w*same).sum(), hard_false_negative_mass=(push*same).sum()))
    wanted = {name: torch.stack([r[name] for r in rows]).mean().float() for name in rows[0]}
    assert 0 < wanted['clamped_fraction'] < 1
    assert_close(found, wanted, rtol=1e-5, atol=1e-6)

def test_log_weighted_sum_of_a_row_without_weights():
    logits = draw(2, 3).requires_grad_()
    log_w = torch.tensor([[0., -1, -math.inf], [-math.inf]*3], dtype=torch.float64)
    found = log_weighted_sum(logits, log_w)
    assert_close(found[0], (logits[0] + log_w[0]).logsumexp(0))
    assert found[1] == -math.inf
    found[0].backward()
    assert_close(logits.grad, torch.stack([(logits[0] + log_w[0]).softmax(0), torch.zeros(3, dtype=torch.float64)]).detach())

# pairs

def test_unit_norm():
    raw = torch.tensor([[3., 4], [0, 0], [1e-9, 0], [1e-7, 0]], requires_grad=True)
    z, norm = unit_norm(raw)
    assert_close(z, torch.tensor([[.6, .8], [0, 0], [0, 0], [1, 0]]))
    assert_close(norm, torch.tensor([5, math.inf, math.inf, 1e-7]))
    assert not norm.requires_grad and unit_norm(raw.half())[0].dtype == torch.float32

def test_views_and_their_partners():
    c = contrast()
    assert c.anchor_idx.tolist() == list(range(2*B)) and c.positive_idx.tolist() == POSITIVE.tolist()
    assert_close(c.logits, Z @ Z.T/T)
    assert_close(c.positive_logit, (Z*Z[POSITIVE]).sum(1)/T)
    assert c.positive.tolist() == torch.eye(2*B, dtype=torch.bool)[POSITIVE].tolist()
    assert c.k.tolist() == [2*B-2]*2*B and c.n_views == 2*B and c.all_others

def test_hidden_is_squared_without_gradient():
    e = Embeddings.from_raw(RAW, H.clone().requires_grad_())
    assert_close(e.hidden_square(), H.square().sum(1))
    assert not e.hidden.requires_grad

# blocks

LOSSES = {'simclr': lambda **k: NTXentLoss(T, **k), 'hcl': lambda **k: HCLLoss(T, .1, 1.7, **k),
          'unremix': lambda **k: UnReMixLoss(T, .1, detach_weights=False, **k)}

class Learnt(WeightedNTXentLoss):
    "HCL whose β is learnt."
    def __init__(self, **kwargs):
        super().__init__(lambda c: None, T, **kwargs)
        self.beta = torch.nn.Parameter(torch.tensor(1.3, dtype=torch.float64))

    def log_weights(self, c):
        scores = (self.beta*c.logits).masked_fill(~c.negative, -math.inf)
        return (scores.log_softmax(1) + c.k.log()[:,None])

@pytest.mark.parametrize('make', (*LOSSES.values(), Learnt), ids=(*LOSSES, 'learnt'))
@pytest.mark.parametrize('reduction', ('mean', 'sum', 'none'))
@pytest.mark.parametrize('size', (1, 3, 8))
def test_blocks_are_the_whole(make, reduction, size):
    def of(chunk_size):
        inputs = [x.clone().requires_grad_() for x in (Z1, Z2, MORE)]
        criterion = make(reduction=reduction, chunk_size=chunk_size)
        loss, stats = criterion(*inputs[:2], negatives=inputs[2], true_labels=IDS, return_stats=True)
        factor = 1 if reduction != 'none' else torch.arange(1., 2*B+1)
        (loss*factor*2).sum().backward()
        return loss.detach(), [x.grad for x in (*inputs, *criterion.parameters())], stats
    for found, wanted in zip(of(size), of(None)): assert_close(found, wanted)

def test_blocks_without_gradient():
    with torch.no_grad(): assert_close(NTXentLoss(T, chunk_size=3)(Z1, Z2), NTXentLoss(T)(Z1, Z2))

# importance

KNOBS = dict(mix=(.5, .2, .3), beta=1.7, kappa=(.6, 1.4))

def opinions_by_loops(kind='norm', ids=None):
    c = contrast(labels=ids)
    u, r = uncertainty(c, kind), representativeness(c)
    return (u.value.expand(2*B, 2*B), u.low), (Z @ Z.T, -1.), (r.value, 0.)

def score_of(x, neg):
    x = x[neg]
    return ((x - x.mean())/x.std(correction=0)).clamp(-3, 3)

@pytest.mark.parametrize('ids', (None, IDS))
def test_linear_mixture_of_softmaxes(ids):
    (u, _), (cos, _), (r, _) = opinions_by_loops(ids=ids)
    found = mixture(contrast(labels=ids), Knobs(**KNOBS)).exp()
    for i in range(2*B):
        neg = negatives_of(i, ids)
        shares = .5*(.6*score_of(u[i], neg)).softmax(0) + .2*(1.7*cos[i,neg]/T).softmax(0) + .3*(1.4*score_of(r[i], neg)).softmax(0)
        assert_close(found[i,neg], len(neg)*shares)
        assert_close(found[i].sum(), found.new_tensor(len(neg)))

def test_logarithmic_mixture():
    (u, _), (cos, _), (r, _) = opinions_by_loops()
    found = mixture(contrast(), Knobs(**KNOBS | dict(pool='log'))).exp()
    for i in range(2*B):
        neg = negatives_of(i)
        assert_close(found[i,neg], len(neg)*(1.7*cos[i,neg]/T + .6*score_of(u[i], neg) + 1.4*score_of(r[i], neg)).softmax(0))

@pytest.mark.parametrize('kind', ('norm', 'influence', 'boundary'))
def test_mixture_of_sums(kind):
    three = opinions_by_loops(kind)
    found = mixture(contrast(), Knobs(**KNOBS | dict(normalize='sum', uncertainty=kind))).exp()
    for i in range(2*B):
        neg = negatives_of(i)
        shares = [(x[i,neg] - low).clamp_min(0)/(x[i,neg] - low).clamp_min(0).sum() for x, low in three]
        assert_close(found[i,neg], len(neg)*sum(m*s for m, s in zip(KNOBS['mix'], shares)), rtol=1e-5, atol=1e-5)

def test_mixture_of_ranges():
    three = opinions_by_loops()
    found = mixture(contrast(), Knobs(**KNOBS | dict(normalize='minmax'))).exp()
    for i in range(2*B):
        neg = negatives_of(i)
        above = [x[i,neg] - x[i,neg].min() for x, _ in three]
        assert_close(found[i,neg], len(neg)*sum(m*a/a.sum() for m, a in zip(KNOBS['mix'], above)), rtol=1e-5, atol=1e-5)

@pytest.mark.parametrize('normalize', ('softmax', 'sum', 'minmax'))
def test_equal_opinions_are_uniform(normalize):
    same = torch.ones(B, D, dtype=torch.float64)
    found = mixture(from_views(same, same, T), Knobs(normalize=normalize)).exp()
    assert_close(found.sum(1), torch.full((2*B,), 2.*B-2, dtype=torch.float64))
    for i in range(2*B): assert_close(found[i,negatives_of(i)], torch.ones(2*B-2, dtype=torch.float64))

@pytest.mark.parametrize('kind', ('norm', 'influence', 'image_similarity'))
def test_parts_of_a_mixture_are_the_whole(kind, monkeypatch):
    "Anchors are worked on some at a time; 16 at least."
    def weights():
        views = from_views(draw(12, D), draw(12, D, seed=1), T)
        return mixture(views, Knobs(**KNOBS | dict(uncertainty=kind)))
    whole = weights()
    monkeypatch.setattr(blocks, 'CACHE_CELLS', 1)
    assert_close(weights(), whole)

def test_only_similarity_is_hcl():
    z1, z2 = (torch.nn.Parameter(z.clone()) for z in (Z1, Z1))
    for detach in (True, False):
        a, b = UnReMixLoss(T, mix=(0, 1, 0), beta=1.7, detach_weights=detach)(z1, Z2), HCLLoss(T, 0., 1.7, detach_weights=detach)(z2, Z2)
        assert_close(a, b)
        assert_close(*(torch.autograd.grad(x, z)[0] for x, z in ((a, z1), (b, z2))))

def test_kept_negatives_count_alike():
    log_w = torch.tensor([[.3, -math.inf, .9, .1], [-math.inf, .2, -math.inf, -math.inf]])
    found = keep_top(log_w, torch.tensor([3., 1.]), 2).exp()
    assert_close(found, torch.tensor([[1.5, 0, 1.5, 0], [0, 1, 0, 0]]))

@pytest.mark.parametrize('fields', (dict(mix=(.5, .5, .1)), dict(mix=(1.5, -.5, 0)), dict(kappa=(-1., 0.)), dict(beta=-1.), dict(pool='log', normalize='sum'),
                                    dict(uncertainty='doubt'), dict(uncertainty_temperature=0.), dict(distance='far')), ids=str)
def test_knobs_out_of_range(fields):
    with pytest.raises(ValueError): Knobs(**fields)
