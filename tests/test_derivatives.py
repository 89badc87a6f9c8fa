"""Derivatives beyond the first: right for whole matrices, and one sentence wherever they are not offered."""
import math

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.testing import assert_close

from unremix import DebiasedNTXentLoss, HCLLoss, NTXentLoss, UnReMixLoss, WeightedNTXentLoss
from unremix.losses import contrastive_loss, log_weighted_sum, uniform
from unremix.pairs import from_views
from unremix.queues import KeyQueue
from unremix.weights import hcl

b, d = 3, 4
LOSSES = dict(
    ntxent=lambda **k: NTXentLoss(.5, **k),
    ntxent_cold=lambda **k: NTXentLoss(.1, **k),
    debiased=lambda **k: DebiasedNTXentLoss(.5, **k),
    hcl=lambda **k: HCLLoss(.5, **k),
    unremix_similarity=lambda **k: UnReMixLoss(.5, mix=(0, 1, 0), detach_weights=False, **k),
    unremix_attached=lambda **k: UnReMixLoss(.5, tau_plus=.1, mix=(0, 1, 0), detach_weights=False, **k))
CONSTANT = dict( # the weights are constants, so that no difference quotient knows the gradient
    hcl_detached=lambda **k: HCLLoss(.5, detach_weights=True, **k),
    unremix_similarity_detached=lambda **k: UnReMixLoss(.5, mix=(0, 1, 0), **k),
    unremix=lambda **k: UnReMixLoss(.5, **k),
    unremix_log=lambda **k: UnReMixLoss(.5, pool='log', uncertainty='overlap', **k),
    top=lambda **k: UnReMixLoss(.5, select='top', k_keep=2, **k))
every_loss = pytest.mark.parametrize('name', LOSSES)
every_constant = pytest.mark.parametrize('name', CONSTANT)


def numbers(*shape, seed=0): return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def leaves(): return [x.requires_grad_() for x in numbers(2, b, d).unbind()]


@every_loss
@pytest.mark.parametrize('reduction', ('mean', 'none'))
def test_first_and_second_derivatives_against_finite_differences(name, reduction):
    loss = LOSSES[name](reduction=reduction)
    assert gradcheck(loss, leaves(), check_forward_ad=True)
    assert gradgradcheck(loss, leaves())


@pytest.mark.parametrize('companion', ('negatives', 'labels', 'sample_ids', 'queue'))
def test_second_derivatives_with_companions(companion):
    queue = KeyQueue(4, d).double()
    queue.push(numbers(4, d, seed=5))
    negatives = numbers(2, d, seed=3).requires_grad_()
    loss = HCLLoss(.5, tau_plus=0.)
    given = dict(labels=torch.tensor([0, 1, 0]), sample_ids=torch.tensor([2, 1, 2]), queue=queue)
    if companion == 'negatives':
        def f(z1, z2, more): return loss(z1, z2, negatives=more)
        assert gradgradcheck(f, [*leaves(), negatives])
    elif companion == 'queue': # the keys, too, are constants
        z1, z2 = leaves()
        assert gradgradcheck(lambda z: loss(z, z2.detach(), queue=queue), [z1])
    else: assert gradgradcheck(lambda z1, z2: loss(z1, z2, **{companion: given[companion]}), leaves())


def frozen_weights(loss, z1, z2):
    "The loss with its weights written down beforehand: what detaching means, for derivatives of any order."
    log_w = loss.log_weights(loss.contrast(z1, z2)).detach()
    def f(a, c): contrast = from_views(a, c, .5); return contrastive_loss(contrast, log_w, loss.tau_plus, contrast.k).mean()
    return f


@every_constant
def test_detached_weights_are_constants_in_all_derivatives(name):
    loss, z = CONSTANT[name](), leaves()
    f = frozen_weights(loss, *z)
    assert gradgradcheck(f, z)
    def both(g): first = torch.autograd.grad(g(*z), z, create_graph=True); return [*first, *torch.autograd.grad(sum(x.square().sum() for x in first), z)]
    assert_close(both(loss), both(f))
    direction = tuple(numbers(2, b, d, seed=7))
    plain = tuple(x.detach() for x in z)
    assert_close(torch.func.jvp(loss, plain, direction), torch.func.jvp(f, plain, direction))
    def along(g): return torch.func.jvp(torch.func.grad(g), plain, direction)
    assert_close(along(loss), along(f))


@pytest.mark.parametrize('name', [*LOSSES, *CONSTANT])
def test_all_roads_lead_to_one_hessian(name):
    loss = (LOSSES | CONSTANT)[name]()
    z1, z2 = (x.detach() for x in leaves())
    def f(z): return loss(z, z2)
    by_double_backward = torch.autograd.functional.hessian(f, z1)
    assert by_double_backward.abs().max() > 1e-3
    for vectorize in (True, False): assert_close(torch.autograd.functional.hessian(f, z1, vectorize=vectorize), by_double_backward)
    assert_close(torch.func.hessian(f)(z1), by_double_backward)
    assert_close(torch.func.jacrev(torch.func.grad(f))(z1), by_double_backward)
    assert_close(torch.func.jacfwd(torch.func.grad(f))(z1), by_double_backward)
    z = z1.clone().requires_grad_()
    step = numbers(b, d, seed=9)
    gradient, = torch.autograd.grad(f(z), z, create_graph=True)
    (gradient*step).sum().backward()
    assert_close(z.grad, torch.einsum('ijkl,kl->ij', by_double_backward, step))


@pytest.mark.parametrize('name', [*LOSSES, *CONSTANT])
def test_vmap_over_batches_is_a_loop(name):
    loss = (LOSSES | CONSTANT)[name]()
    many = numbers(3, 2, b, d)
    def f(z): return loss(z[0], z[1])
    assert_close(torch.func.vmap(f)(many), torch.stack([f(z) for z in many]))
    assert_close(torch.func.vmap(torch.func.grad(f))(many), torch.stack([torch.func.grad(f)(z) for z in many]))


def test_a_gradient_penalty_is_that_of_a_loss_written_with_pytorch():
    def by_hand(z1, z2):
        z = F.normalize(torch.cat([z1, z2]), dim=1)
        s = (z @ z.T/.5).masked_fill(torch.eye(2*b, dtype=torch.bool), -math.inf)
        return F.cross_entropy(s, torch.arange(2*b).roll(b))
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
        for x in z: x.grad = None
        return torch.stack(torch.autograd.grad(sum(g.square().sum() for g in first), z))
    assert_close(penalty(NTXentLoss()), penalty(by_hand))
    assert_close(by_backward(NTXentLoss()), by_backward(by_hand))


def test_a_third_derivative():
    x, w = numbers(2, 3).requires_grad_(), numbers(2, 3, seed=1)
    def third(f):
        y = f(x)
        for _ in range(2): y = torch.autograd.grad(y.square().sum(), x, create_graph=True)[0]
        return torch.autograd.grad(y.square().sum(), x)[0]
    assert_close(third(lambda x: log_weighted_sum(x, w)), third(lambda x: (x + w).logsumexp(1)))


def edge_cases():
    eye, zero, same = torch.eye(4), torch.zeros(4, 4), torch.ones(4, 4)
    return dict(orthogonal=(eye, eye), zero=(zero, zero), one_zero=(eye*torch.tensor([0., 1., 1., 1.])[:,None], eye), collapsed=(same, same),
                one_image=(eye[:1], eye[1:2]), opposite=(eye, -eye))


@pytest.mark.parametrize('case', edge_cases())
@pytest.mark.parametrize('name', [*LOSSES, *CONSTANT])
def test_second_derivatives_are_finite_where_the_first_are(name, case):
    for t in (.5, .01):
        z = [x.clone().requires_grad_() for x in edge_cases()[case]]
        loss = (LOSSES | CONSTANT)[name]()
        loss.temperature = t
        first = torch.autograd.grad(loss(*z), z, create_graph=True)
        second = torch.autograd.grad(sum(g.sum() for g in first), z)
        assert all(x.isfinite().all() for x in (*first, *second)), f't={t}'


# where it is not offered ----------------------------------------------------------------------------------------------------------------------

SENTENCE = 'chunk_size keeps a gradient and not its graph'


def by_dual(f, z):
    with forward_ad.dual_level(): return f(forward_ad.make_dual(z, torch.ones_like(z)))


def by_dual_without_gradient(f, z): return by_dual(f, z.detach())


def by_backward(f, z):
    f(z).backward(create_graph=True)
    z.grad.square().sum().backward()


def by_penalty(f, z):
    value = f(z)
    gradient, = torch.autograd.grad(value, z, create_graph=True)
    (value + gradient.square().sum()).backward()


def by_grad(f, z):
    gradient, = torch.autograd.grad(f(z), z, create_graph=True)
    torch.autograd.grad(gradient.square().sum(), z)


def by_scaled(f, z): # a gradient that comes in and is itself differentiable
    gradient, = torch.autograd.grad(f(z)*z.sum(), z, create_graph=True)
    torch.autograd.grad(gradient.square().sum(), z)


ROUTES = dict(backward=by_backward, penalty=by_penalty, grad=by_grad, scaled=by_scaled, dual=by_dual, dual_without_gradient=by_dual_without_gradient,
    gradgradcheck=lambda f, z: gradgradcheck(f, [z]),
    functional_hessian=torch.autograd.functional.hessian,
    functional_hessian_vectorized=lambda f, z: torch.autograd.functional.hessian(f, z, vectorize=True),
    functional_hessian_forward=lambda f, z: torch.autograd.functional.hessian(f, z, vectorize=True, outer_jacobian_strategy='forward-mode'),
    functional_hvp=lambda f, z: torch.autograd.functional.hvp(f, z, torch.ones_like(z)),
    functional_vhp=lambda f, z: torch.autograd.functional.vhp(f, z, torch.ones_like(z)),
    functional_jvp=lambda f, z: torch.autograd.functional.jvp(f, z, torch.ones_like(z), create_graph=True),
    functional_jacobian=lambda f, z: torch.autograd.functional.jacobian(f, z, create_graph=True),
    func_grad=lambda f, z: torch.func.grad(f)(z), func_vjp=lambda f, z: torch.func.vjp(f, z)[1](torch.ones(())),
    func_jvp=lambda f, z: torch.func.jvp(f, (z,), (z,)), func_hessian=lambda f, z: torch.func.hessian(f)(z),
    func_jacrev=lambda f, z: torch.func.jacrev(f)(z), func_jacfwd=lambda f, z: torch.func.jacfwd(f)(z),
    func_vmap=lambda f, z: torch.func.vmap(f)(torch.stack([z, z])), func_linearize=lambda f, z: torch.func.linearize(f, z))


@pytest.mark.parametrize('route', ROUTES)
@pytest.mark.parametrize('reduction', ('mean', 'sum', 'none'))
@pytest.mark.parametrize('make', (NTXentLoss, UnReMixLoss, HCLLoss), ids=lambda make: make.__name__)
def test_blocks_refuse_what_they_do_not_know(route, reduction, make):
    z1, z2 = leaves()
    loss, weights = make(chunk_size=2, reduction=reduction), numbers(2*b)
    def f(z): value = loss(z, z2.detach()); return value @ weights if reduction == 'none' else value
    with pytest.raises(NotImplementedError) as e: ROUTES[route](f, z1)
    assert SENTENCE in str(e.value) and 'chunk_size=None' in str(e.value) and '\n' not in str(e.value)


@pytest.mark.parametrize('route', ('penalty', 'func_grad', 'dual'))
@pytest.mark.parametrize('where', ('z2', 'negatives', 'parameter'))
def test_blocks_refuse_whatever_it_is_that_asks(route, where):
    z1, z2 = (x.detach() for x in leaves())
    def f(x):
        if where == 'z2': return NTXentLoss(chunk_size=2)(z1, x)
        if where == 'negatives': return NTXentLoss(chunk_size=2)(z1, z2, negatives=x)
        weighting = Tilted(x)
        return WeightedNTXentLoss(weighting, chunk_size=2)(z1, z2)
    if where == 'parameter' and route != 'penalty': pytest.skip('a parameter made inside a transform is no parameter')
    with pytest.raises(NotImplementedError, match=SENTENCE): ROUTES[route](f, z1.clone().requires_grad_())


class Tilted(torch.nn.Module):
    def __init__(self, x): super().__init__(); self.register_parameter('beta', None); self._parameters['beta'] = x
    def forward(self, contrast): return hcl(contrast, detach=True) + 0*self._parameters['beta'].sum()


def test_first_derivatives_in_blocks_still_come_by_every_road():
    z1, z2 = leaves()
    loss, whole = NTXentLoss(chunk_size=2), NTXentLoss()
    assert gradcheck(loss, [z1, z2])
    expected = torch.autograd.grad(whole(z1, z2), z1)[0]
    assert_close(torch.autograd.functional.jacobian(lambda z: loss(z, z2.detach()), z1), expected)
    assert_close(torch.autograd.functional.jacobian(lambda z: loss(z, z2.detach()), z1, vectorize=True), expected)
    value = loss(z1, z2)
    for _ in range(2): assert_close(torch.autograd.grad(value, z1, retain_graph=True)[0], expected)
    value.backward()
    assert_close(z1.grad, expected)


def test_memory_of_the_first_derivative_is_not_held_by_the_second():
    "The softmax is kept once, and nothing of it outlives the loss."
    sizes = []
    def pack(x): sizes.append((x.untyped_storage().data_ptr(), x.numel())); return x
    z1, z2 = numbers(2, 32, 4).requires_grad_().unbind()
    contrast = from_views(z1, z2)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x): contrastive_loss(contrast, uniform(contrast))
    assert len({where for where, n in sizes if n == 64*64}) == 1
