"Gradients through micro-batches: closed forms, and a diary of who was called when."
import warnings
from unittest.mock import patch

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from unremix import HCLLoss, LearnedTemperature
from unremix.gradient_cache import MicroBatches, buffers, random_state, set_random_state, warn_of_batchnorm

CPU, GPU = torch.device('cpu'), torch.device('cuda', 1)
every_size = pytest.mark.parametrize('size', (1, 2, 3, 7, 10))


class Linear(nn.Module):
    "z = xW, hidden = 2x, and a diary of its calls."
    def __init__(self, dtype=torch.float64):
        super().__init__()
        self.weight = nn.Parameter(torch.arange(6, dtype=dtype).reshape(3, 2))
        self.calls = []

    def forward(self, x):
        self.calls.append((len(x), torch.is_grad_enabled()))
        return x @ self.weight, 2*x


def images(n=7, dtype=torch.float64): return torch.randn(n, 3, dtype=dtype, generator=torch.Generator().manual_seed(0))


@every_size
def test_gradient_in_closed_form(size):
    "Of Σ c·z² + (Σz)²/2, in which every image needs the others."
    model, x = Linear(), images()
    c = torch.arange(14, dtype=torch.float64).reshape(7, 2)
    micro = MicroBatches(model, x, size)
    assert_close(micro.z.detach(), x @ model.weight.detach()); assert_close(micro.hidden, 2*x)
    micro.backward((c*micro.z**2).sum() + micro.z.sum()**2/2)
    z = x @ model.weight.detach()
    assert_close(model.weight.grad, x.T @ (2*c*z + z.sum()))
    parts = [len(p) for p in x.split(size)]
    assert model.calls == [(n, False) for n in parts] + [(n, True) for n in parts]


def test_embeddings_are_leaves_and_hidden_inputs_constants():
    micro = MicroBatches(Linear(), images(), 3)
    assert micro.z.is_leaf and micro.z.requires_grad and micro.z.grad_fn is None and not micro.hidden.requires_grad


@pytest.mark.parametrize('dtype', (torch.float16, torch.bfloat16, torch.float32, torch.float64), ids=str)
def test_gradient_of_half_precision_embeddings_is_not_rounded(dtype):
    model = Linear(dtype)
    micro = MicroBatches(model, images(dtype=dtype), 3)
    wanted = torch.float64 if dtype == torch.float64 else torch.float32
    assert micro.z.dtype == wanted
    coefficients, seen = torch.full((7, 2), 1 + 2.**-12, dtype=wanted), []
    def backward(part): seen.append(part.dtype); part.backward()
    micro.backward((micro.z*coefficients).sum(), backward)
    assert micro.z.grad.equal(coefficients) and seen == [wanted]*3
    assert model.weight.grad.dtype == dtype


@every_size
def test_who_is_called_with_what(size):
    "A number for each micro-batch: Σ g·z, whose gradient is the loss's."
    model, x, given = Linear(), images(), []
    micro = MicroBatches(model, x, size)
    micro.backward((3*micro.z).sum(), lambda part: (given.append(part.detach()), part.backward()))
    wanted = [(3*(p @ model.weight)).sum().detach() for p in x.split(size)]
    assert all(g.ndim == 0 for g in given); assert_close(given, wanted)


def test_gradients_are_added():
    "As those of any `backward`."
    model, x = Linear(), images()
    model.weight.grad = torch.ones(3, 2, dtype=torch.float64)
    micro = MicroBatches(model, x, 3)
    micro.backward(micro.z.sum())
    assert_close(model.weight.grad, 1 + x.sum(0)[:,None].expand(3, 2))


@pytest.mark.parametrize('chunk_size', (None, 4))
def test_what_the_loss_learns_comes_from_the_same_backward(chunk_size):
    "A scaler divides all gradients by its factor, and the temperature's with them."
    def gradients(micro_batches):
        model = Linear()
        loss = HCLLoss(LearnedTemperature(.2).double(), chunk_size=chunk_size)
        scaler = torch.amp.GradScaler('cpu', init_scale=1024.)
        optimizer = torch.optim.SGD([*model.parameters(), *loss.parameters()], .1)
        x = images(8)
        if micro_batches:
            micro = MicroBatches(model, x, 3)
            micro.backward(loss(*micro.z.chunk(2)), lambda part: scaler.scale(part).backward())
        else:
            scaler.scale(loss(*model(x)[0].chunk(2))).backward()
        scaler.unscale_(optimizer)
        return [p.grad for group in optimizer.param_groups for p in group['params']]
    found, wanted = gradients(True), gradients(False)
    assert len(wanted) == 2 and wanted[1].abs() > 1e-4
    assert_close(found, wanted)


@pytest.mark.parametrize('size', (0, -1, 2.5, None))
@pytest.mark.parametrize('views', (images(), [{'x': images()}]), ids=('tensor', 'dictionary'))
def test_a_size_that_is_none(views, size):
    with pytest.raises(ValueError, match='size must be a whole number ≥ 1, got'):
        MicroBatches(lambda x: (x, x), views, size)


class Noisy(nn.Module):
    "Its embedding is what the generator gives, written down at each call."
    def __init__(self):
        super().__init__()
        self.scale, self.drawn = nn.Parameter(torch.ones(())), []

    def forward(self, x):
        self.drawn.append(torch.rand(len(x), 1))
        return self.scale*self.drawn[-1], x


@every_size
def test_the_same_is_drawn_both_times(size):
    torch.manual_seed(0)
    model = Noisy()
    micro = MicroBatches(model, images(), size)
    torch.rand(5) # as a loss that draws
    after = torch.get_rng_state()
    micro.backward(micro.z.sum())
    first, second = model.drawn[:len(model.drawn)//2], model.drawn[len(model.drawn)//2:]
    assert_close(first, second, rtol=0, atol=0)
    assert len({x[0].item() for x in first}) == len(first) # and every micro-batch its own
    assert torch.get_rng_state().equal(after) # the next step draws on
    assert_close(model.scale.grad, torch.cat(first).sum())


@every_size
def test_running_statistics_see_the_batch_once(size):
    class Encoder(nn.Module):
        def __init__(self): super().__init__(); self.norm = nn.BatchNorm1d(3, momentum=.5).double()
        def forward(self, x): z = self.norm(x); return z, x

    if size == 1: pytest.skip('BatchNorm needs two')
    model, alone, x = Encoder(), Encoder(), images(8)
    if size in (7,): x = x[:7]
    if size == 3: x = x[:6]
    micro = MicroBatches(model, x, size)
    micro.backward(micro.z.sum())
    for part in x.split(size): alone(part)
    assert_close(dict(model.named_buffers()), dict(alone.named_buffers()))
    assert model.norm.num_batches_tracked == len(x.split(size))


def test_buffers():
    norm = nn.BatchNorm1d(3)
    assert [id(b) for b in buffers(nn.Sequential(norm))] == [id(b) for b in norm.buffers()] and len(buffers(norm)) == 3
    assert buffers(lambda x: x) == []


def test_a_function_will_do():
    weight = torch.ones(3, 2, dtype=torch.float64, requires_grad=True)
    micro = MicroBatches(lambda x: (x @ weight, x), images(), 4)
    micro.backward(micro.z.sum())
    assert_close(weight.grad, images().sum(0)[:,None].expand(3, 2))


def test_the_state_of_this_machines_generator():
    torch.manual_seed(3)
    state = random_state(CPU)
    wanted = torch.rand(2)
    assert state[1] is None
    set_random_state(state, CPU)
    assert torch.rand(2).equal(wanted)


def test_the_state_of_a_gpus_generator():
    "Of the device asked for; a run that goes on elsewhere leaves it."
    with patch('torch.cuda.get_rng_state') as get, patch('torch.cuda.set_rng_state') as put:
        state = random_state(GPU)
        get.assert_called_once_with(GPU)
        assert state[0].equal(torch.get_rng_state()) and state[1] is get.return_value
        set_random_state(state, GPU)
        put.assert_called_once_with(get.return_value, GPU)
        set_random_state(state, CPU); set_random_state((state[0], None), GPU)
        assert put.call_count == 1


@pytest.mark.parametrize('layers, named', (([nn.Linear(2, 2)], ''), ([nn.GroupNorm(1, 2), nn.LayerNorm(2)], ''), ([nn.Linear(2, 2), nn.BatchNorm1d(2), nn.BatchNorm2d(2)], "BatchNorm (2 layers, first '1')"),
    ([nn.SyncBatchNorm(2)], "BatchNorm (1 layers, first '0')")))
def test_warning(layers, named):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        warn_of_batchnorm(nn.Sequential(*layers), 4)
    if not named: assert not seen; return
    text = str(seen[0].message)
    assert len(seen) == 1 and text.startswith('micro_batch=4: ') and named in text and 'from 4 images at a time' in text
    assert seen[0].filename == __file__ # the caller is to blame
