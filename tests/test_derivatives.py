"""Derivatives beyond the first.

Right for whole matrices, and one sentence wherever they are not offered.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.testing import assert_close

from unremix import ContrastiveLoss, DebiasedNTXentLoss, HCLLoss, NTXentLoss
from unremix import UnReMixLoss
from unremix.contrast import compare
from unremix.embeddings import from_views
from unremix.hard_negatives import HCL, uniform
from unremix.info_nce import InfoNCE, decoupled
from unremix.queue import KeyQueue
from unremix.row_sums import row_sums
from unremix.rules import OutsideBatch, across, supervised, views

b, d = 3, 4
SIMILARITY = dict(mix=(0, 1, 0), detach_weights=False)
LOSSES = dict(
    ntxent=lambda t=0.5, **k: NTXentLoss(t, **k),
    ntxent_cold=lambda t=0.1, **k: NTXentLoss(t, **k),
    debiased=lambda t=0.5, **k: DebiasedNTXentLoss(t, **k),
    hcl=lambda t=0.5, **k: HCLLoss(t, **k),
    hcl_decoupled=lambda t=0.5, **k: ContrastiveLoss(
        HCL(), loss=decoupled, temperature=t, **k
    ),
    unremix_similarity=lambda t=0.5, **k: UnReMixLoss(t, **SIMILARITY, **k),
    unremix_attached=lambda t=0.5, **k: UnReMixLoss(t, 0.1, **SIMILARITY, **k),
)
# the weights are constants, so that no difference quotient knows the gradient
LOG = dict(pool='log', uncertainty='overlap')
TOP = dict(select='top', k_keep=2)
CONSTANT = dict(
    hcl_detached=lambda t=0.5, **k: HCLLoss(t, detach_weights=True, **k),
    unremix_similarity_detached=lambda t=0.5, **k: UnReMixLoss(t, mix=(0, 1, 0), **k),
    unremix=lambda t=0.5, **k: UnReMixLoss(t, **k),
    unremix_log=lambda t=0.5, **k: UnReMixLoss(t, **LOG, **k),
    top=lambda t=0.5, **k: UnReMixLoss(t, **TOP, **k),
)
ALL = LOSSES | CONSTANT
every_loss = pytest.mark.parametrize('name', LOSSES)
every_constant = pytest.mark.parametrize('name', CONSTANT)
all_losses = pytest.mark.parametrize('name', ALL)


def numbers(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def leaves(count=2):
    return [x.requires_grad_() for x in numbers(count, b, d).unbind()]


class Given(nn.Module):
    "A temperature of which a derivative is wanted."

    def __init__(self, t):
        super().__init__()
        self.t = t

    def forward(self):
        return self.t


def warm(t=0.4):
    return torch.tensor(t, dtype=torch.float64, requires_grad=True)


@every_loss
@pytest.mark.parametrize('reduction', ('mean', 'none'))
def test_first_and_second_derivatives_against_finite_differences(name, reduction):
    loss = LOSSES[name](reduction=reduction)
    assert gradcheck(loss, leaves(), check_forward_ad=True)
    assert gradgradcheck(loss, leaves())


@every_loss
def test_derivatives_by_the_temperature(name):
    "Mixed ones with the embeddings included."

    def f(z1, z2, t):
        return LOSSES[name](Given(t), reduction='none')(z1, z2)

    assert gradcheck(f, [*leaves(), warm()], check_forward_ad=True)
    assert gradgradcheck(f, [*leaves(), warm()])


def one_way(anchors, candidates):
    "The first view has no positives and the second no negatives."
    mine, theirs = anchors.view[:, None], candidates.view
    return mine > theirs, mine < theirs


RULES = dict(
    three_views=(3, views, {}),
    several_positives=(2, supervised, dict(labels=torch.tensor([0, 1, 0]))),
    three_and_several=(3, supervised, dict(labels=torch.tensor([0, 1, 0]))),
    no_negatives=(2, supervised, dict(labels=torch.tensor([0, 0, 0]))),
    across=(3, across, {}),
    own=(2, one_way, {}),
)


@pytest.mark.parametrize('rule', RULES)
@pytest.mark.parametrize(
    'name', ('ntxent', 'hcl', 'hcl_decoupled', 'unremix_similarity')
)
def test_derivatives_under_every_rule(name, rule):
    count, pairs, given = RULES[rule]
    loss = LOSSES[name](pairs=pairs, reduction='none')
    if 'labels' in given and name == 'hcl':
        loss.tau_plus = 0.0

    def f(*z):
        return loss(*z, **given)

    assert gradcheck(f, leaves(count), check_forward_ad=True)
    assert gradgradcheck(f, leaves(count))


@pytest.mark.parametrize(
    'companion', ('negatives', 'only_negatives', 'labels', 'sample_ids', 'queue')
)
def test_second_derivatives_with_companions(companion):
    queue = KeyQueue(4, d).double()
    queue.push(numbers(4, d, seed=5))
    negatives = numbers(2, d, seed=3).requires_grad_()
    loss = HCLLoss(0.5, tau_plus=0.0)
    ids = dict(labels=torch.tensor([0, 1, 0]), sample_ids=torch.tensor([2, 1, 2]))
    z1, z2 = leaves()
    if companion.endswith('negatives'):
        loss.pairs = OutsideBatch(views) if companion == 'only_negatives' else None

        def f(z1, z2, more):
            return loss(z1, z2, negatives=more)

        assert gradgradcheck(f, [z1, z2, negatives])
    elif companion == 'queue':  # the keys, too, are constants

        def f(z, more):
            return loss(z, z2.detach(), queue=queue, negatives=more)

        assert gradgradcheck(lambda z: loss(z, z2.detach(), queue=queue), [z1])
        assert gradgradcheck(f, [z1, negatives])
    else:
        given = {companion: ids[companion]}
        assert gradgradcheck(lambda z1, z2: loss(z1, z2, **given), [z1, z2])


def contrast_of(*z, temperature=0.5):
    e = from_views(list(z))
    return compare(e, e, views, temperature)


def frozen_weights(loss, *z):
    "The loss with its weights written down: what detaching means in any order."
    log_w = loss.log_weights(loss.contrast(*z)).detach()

    def f(*z, t=0.5):
        c = contrast_of(*z, temperature=t)
        return loss.loss(c, log_w, c.k).mean()

    return f


@every_constant
def test_detached_weights_are_constants_in_all_derivatives(name):
    loss, z = CONSTANT[name](), leaves()
    f = frozen_weights(loss, *z)
    assert gradgradcheck(f, z)

    def both(g):
        first = torch.autograd.grad(g(*z), z, create_graph=True)
        return [*first, *torch.autograd.grad(sum(x.square().sum() for x in first), z)]

    assert_close(both(loss), both(f))
    direction = tuple(numbers(2, b, d, seed=7))
    plain = tuple(x.detach() for x in z)
    expected = torch.func.jvp(f, plain, direction)
    assert_close(torch.func.jvp(loss, plain, direction), expected)

    def along(g):
        return torch.func.jvp(torch.func.grad(g), plain, direction)

    assert_close(along(loss), along(f))


@every_constant
def test_detached_weights_are_constants_of_the_temperature_too(name):
    "A cosine is logit times temperature: no way around leads into the weights."
    z, t = leaves(3), warm()
    loss = CONSTANT[name](Given(t))
    f = frozen_weights(loss, *z)

    def both(value):
        first = torch.autograd.grad(value, [*z, t], create_graph=True)
        total = sum(x.square().sum() for x in first)
        return [value.detach(), *first, *torch.autograd.grad(total, [*z, t])]

    assert_close(both(loss(*z)), both(f(*z, t=t)))


@all_losses
def test_all_roads_lead_to_one_hessian(name):
    loss = ALL[name]()
    z1, z2 = (x.detach() for x in leaves())

    def f(z):
        return loss(z, z2)

    by_double_backward = torch.autograd.functional.hessian(f, z1)
    assert by_double_backward.abs().max() > 1e-3
    for vectorize in (True, False):
        found = torch.autograd.functional.hessian(f, z1, vectorize=vectorize)
        assert_close(found, by_double_backward)
    assert_close(torch.func.hessian(f)(z1), by_double_backward)
    for jacobian in (torch.func.jacrev, torch.func.jacfwd):
        assert_close(jacobian(torch.func.grad(f))(z1), by_double_backward)
    z = z1.clone().requires_grad_()
    step = numbers(b, d, seed=9)
    (gradient,) = torch.autograd.grad(f(z), z, create_graph=True)
    (gradient * step).sum().backward()
    assert_close(z.grad, torch.einsum('ijkl,kl->ij', by_double_backward, step))


@all_losses
def test_vmap_over_batches_is_a_loop(name):
    loss = ALL[name]()
    many = numbers(3, 2, b, d)

    def f(z):
        return loss(z[0], z[1])

    for g in (f, torch.func.grad(f)):
        assert_close(torch.func.vmap(g)(many), torch.stack([g(z) for z in many]))


def test_a_gradient_penalty_is_that_of_a_loss_written_with_pytorch():
    def by_hand(z1, z2):
        z = F.normalize(torch.cat([z1, z2]), dim=1)
        s = (z @ z.T / 0.5).masked_fill(torch.eye(2 * b, dtype=torch.bool), -math.inf)
        return F.cross_entropy(s, torch.arange(2 * b).roll(b))

    def penalty(loss):
        z = leaves()
        value = loss(*z)
        gradient = torch.autograd.grad(value, z, create_graph=True)
        total = value + sum(g.square().sum() for g in gradient)
        total.backward()
        return torch.stack([x.grad for x in z])

    def by_backward(loss):
        z = leaves()
        loss(*z).backward(create_graph=True)
        first = [x.grad for x in z]
        for x in z:
            x.grad = None
        square = sum(g.square().sum() for g in first)
        return torch.stack(torch.autograd.grad(square, z))

    assert_close(penalty(NTXentLoss()), penalty(by_hand))
    assert_close(by_backward(NTXentLoss()), by_backward(by_hand))


@pytest.mark.parametrize('which', ('log_positives', 'log_negatives', 'mean_positive'))
def test_a_third_derivative(which):
    "Of each sum over an anchor's cells, by logits and weights."
    z, w = numbers(2, b, d), numbers(2 * b, 2 * b, seed=1)
    c = contrast_of(*z)

    def logits(x):
        tables = c.positive, c.negative, c.anchors, c.candidates, c.temperature
        return type(c)(x, *tables)

    def simple(x, log_w):
        over = c.positive if which.endswith(('positives', 'positive')) else c.negative
        if which == 'mean_positive':
            return torch.where(over, x, 0.0).sum(1) / over.sum(1)
        weighted = x + log_w if which == 'log_negatives' else x
        return torch.where(over, weighted, -math.inf).logsumexp(1)

    def third(f):
        x, log_w = c.logits.clone().requires_grad_(), w.clone().requires_grad_()
        y = f(x, log_w).square()
        for _ in range(2):
            inputs = dict(create_graph=True, materialize_grads=True)
            y = torch.cat(torch.autograd.grad(y.square().sum(), (x, log_w), **inputs))
        found = torch.autograd.grad(
            y.square().sum(), (x, log_w), materialize_grads=True
        )
        return torch.stack(found)

    def fast(x, log_w):
        return getattr(row_sums(logits(x), log_w), which)

    assert third(simple).abs().max() > 1e-3
    assert_close(third(fast), third(simple))


def edge_cases():
    eye, zero, same = torch.eye(4), torch.zeros(4, 4), torch.ones(4, 4)
    one_zero = eye * torch.tensor([0.0, 1.0, 1.0, 1.0])[:, None]
    return dict(
        orthogonal=(eye, eye),
        zero=(zero, zero),
        one_zero=(one_zero, eye),
        collapsed=(same, same),
        one_image=(eye[:1], eye[1:2]),
        opposite=(eye, -eye),
        three_views=(eye, same, -eye),
    )


@pytest.mark.parametrize('case', edge_cases())
@all_losses
def test_second_derivatives_are_finite_where_the_first_are(name, case):
    for t in (0.5, 0.01):
        z = [x.clone().requires_grad_() for x in edge_cases()[case]]
        temperature = torch.tensor(t, requires_grad=True)
        loss = ALL[name](Given(temperature))
        inputs = [*z, temperature]
        first = torch.autograd.grad(loss(*z), inputs, create_graph=True)
        second = torch.autograd.grad(sum(g.sum() for g in first), inputs)
        assert all(x.isfinite().all() for x in (*first, *second)), f't={t}'


# ------------------------------------------------------- where it is not offered

SENTENCE = 'chunk_size keeps a gradient and not its graph'


def by_dual(f, z):
    with forward_ad.dual_level():
        return f(forward_ad.make_dual(z, torch.ones_like(z)))


def by_dual_without_gradient(f, z):
    return by_dual(f, z.detach())


def by_backward(f, z):
    f(z).backward(create_graph=True)
    z.grad.square().sum().backward()


def by_penalty(f, z):
    value = f(z)
    (gradient,) = torch.autograd.grad(value, z, create_graph=True)
    (value + gradient.square().sum()).backward()


def by_grad(f, z):
    (gradient,) = torch.autograd.grad(f(z), z, create_graph=True)
    torch.autograd.grad(gradient.square().sum(), z)


def by_scaled(f, z):
    "A gradient that comes in and is itself differentiable."
    (gradient,) = torch.autograd.grad(f(z) * z.sum(), z, create_graph=True)
    torch.autograd.grad(gradient.square().sum(), z)


def by_vectorized_hessian(f, z):
    torch.autograd.functional.hessian(f, z, vectorize=True)


def by_forward_hessian(f, z):
    how = dict(vectorize=True, outer_jacobian_strategy='forward-mode')
    torch.autograd.functional.hessian(f, z, **how)


def by_functional_jvp(f, z):
    torch.autograd.functional.jvp(f, z, torch.ones_like(z), create_graph=True)


ROUTES = dict(
    backward=by_backward,
    penalty=by_penalty,
    grad=by_grad,
    scaled=by_scaled,
    dual=by_dual,
    dual_without_gradient=by_dual_without_gradient,
    gradgradcheck=lambda f, z: gradgradcheck(f, [z]),
    functional_hessian=torch.autograd.functional.hessian,
    functional_hessian_vectorized=by_vectorized_hessian,
    functional_hessian_forward=by_forward_hessian,
    functional_hvp=lambda f, z: torch.autograd.functional.hvp(f, z, torch.ones_like(z)),
    functional_vhp=lambda f, z: torch.autograd.functional.vhp(f, z, torch.ones_like(z)),
    functional_jvp=by_functional_jvp,
    functional_jacobian=lambda f, z: torch.autograd.functional.jacobian(
        f, z, create_graph=True
    ),
    func_grad=lambda f, z: torch.func.grad(f)(z),
    func_vjp=lambda f, z: torch.func.vjp(f, z)[1](torch.ones(())),
    func_jvp=lambda f, z: torch.func.jvp(f, (z,), (z,)),
    func_hessian=lambda f, z: torch.func.hessian(f)(z),
    func_jacrev=lambda f, z: torch.func.jacrev(f)(z),
    func_jacfwd=lambda f, z: torch.func.jacfwd(f)(z),
    func_vmap=lambda f, z: torch.func.vmap(f)(torch.stack([z, z])),
    func_linearize=lambda f, z: torch.func.linearize(f, z),
)


def assert_refused(route, f, z):
    with pytest.raises(NotImplementedError) as e:
        ROUTES[route](f, z)
    said = str(e.value)
    assert SENTENCE in said and 'chunk_size=None' in said and '\n' not in said


@pytest.mark.parametrize('route', ROUTES)
@pytest.mark.parametrize('reduction', ('mean', 'sum', 'none'))
@pytest.mark.parametrize(
    'make', (NTXentLoss, UnReMixLoss, HCLLoss), ids=lambda make: make.__name__
)
def test_blocks_refuse_what_they_do_not_know(route, reduction, make):
    z1, z2 = leaves()
    loss, weights = make(chunk_size=2, reduction=reduction), numbers(2 * b)

    def f(z):
        value = loss(z, z2.detach())
        return value @ weights if reduction == 'none' else value

    assert_refused(route, f, z1)


class Tilted(nn.Module):
    "A weighting with a parameter, of which the loss depends through a zero only."

    def __init__(self, x):
        super().__init__()
        self.register_parameter('beta', None)
        self._parameters['beta'] = x

    def forward(self, c):
        return HCL(detach=True)(c) + 0 * self._parameters['beta'].sum()


@pytest.mark.parametrize('route', ('penalty', 'func_grad', 'dual'))
@pytest.mark.parametrize('where', ('z2', 'z3', 'negatives', 'temperature', 'parameter'))
def test_blocks_refuse_whatever_it_is_that_asks(route, where):
    z1, z2 = (x.detach() for x in leaves())
    if where == 'parameter' and route != 'penalty':
        pytest.skip('a parameter made inside a transform is no parameter')

    def f(x):
        given = {'z2': (z1, x), 'z3': (z1, z2, x)}.get(where, (z1, z2))
        negatives = x if where == 'negatives' else None
        weights = Tilted(x) if where == 'parameter' else uniform
        t = Given(x.square().mean()) if where == 'temperature' else 0.5
        loss = ContrastiveLoss(weights, temperature=t, chunk_size=2)
        return loss(*given, negatives=negatives)

    assert_refused(route, f, z1.clone().requires_grad_())


def test_first_derivatives_in_blocks_still_come_by_every_road():
    z1, z2 = leaves()
    loss, whole = NTXentLoss(chunk_size=2), NTXentLoss()
    assert gradcheck(loss, [z1, z2])
    expected = torch.autograd.grad(whole(z1, z2), z1)[0]
    for vectorize in (False, True):
        found = torch.autograd.functional.jacobian(
            lambda z: loss(z, z2.detach()), z1, vectorize=vectorize
        )
        assert_close(found, expected)
    value = loss(z1, z2)
    for _ in range(2):
        found = torch.autograd.grad(value, z1, retain_graph=True)[0]
        assert_close(found, expected)
    value.backward()
    assert_close(z1.grad, expected)


@every_loss
def test_first_derivatives_in_blocks_by_views_negatives_and_temperature(name):
    negatives = numbers(2, d, seed=3).requires_grad_()

    def f(z1, z2, z3, more, t):
        loss = LOSSES[name](Given(t), chunk_size=2, reduction='none')
        return loss(z1, z2, z3, negatives=more)

    assert gradcheck(f, [*leaves(3), negatives, warm()])


@pytest.mark.parametrize('rule', (views, supervised), ids=('views', 'supervised'))
def test_memory_of_the_first_derivative_is_not_held_by_the_second(rule):
    "One matrix is kept, and nothing of it outlives the loss."
    kept = {}

    def pack(x):
        if x.numel() == 64 * 64:
            kept[x.untyped_storage().data_ptr()] = x.dtype
        return x

    z1, z2 = numbers(2, 32, 4).requires_grad_().unbind()
    e = from_views([z1, z2], labels=torch.arange(32) % 5)
    c = compare(e, e, rule)
    log_w = uniform(c)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        InfoNCE()(c, log_w)
    # where positives are no columns, the rule's tables are kept as well, which exist
    tables = [torch.bool] * 2 if rule is supervised else []
    assert sorted(kept.values(), key=str) == [*tables, torch.float64]
