"""A run begins with the weights that it names, with all of them, and with no others.

The oracle is the file itself: what the encoder holds before the first step, and what the
encoder that a finished run leaves gives for the same images.
"""

import json
import sys

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import unremix.train
from unremix.checkpoint import load_checkpoint
from unremix.cli import main
from unremix.compare import compare
from unremix.compare_config import CompareConfig
from unremix.config import TrainConfig
from unremix.encoders import make_encoder
from unremix.evaluate import evaluate
from unremix.kept_encoder import load_encoder
from unremix.run_parts import set_up, start_model
from unremix.starting_weights import fitting, further_part, prefixes, start_encoder
from unremix.train import train

SMALL = dict(
    limit=64, batch_size=16, epochs=1, log_every=1, precision='32-true', accelerator='cpu'
)
GREY = 1, 1, 28, 28


@pytest.fixture(scope='module')
def earlier(tmp_path_factory):
    "A finished run."
    out = tmp_path_factory.mktemp('earlier') / 'run'
    train(TrainConfig.of(SMALL | {'seed': 7}), out, progress=False)
    return out


def started(source, **more):
    "The run before its first step."
    run = set_up(TrainConfig.of(SMALL | {'start_from': str(source)} | more))
    start_model(run)
    return run


def encoder_in(path):
    state = load_checkpoint(path / 'checkpoint.pt')['model']
    mine = 'encoder.'
    return {k.removeprefix(mine): x for k, x in state.items() if k.startswith(mine)}


def same(found, wanted):
    assert list(found) == list(wanted)
    for name, x in wanted.items():
        assert_close(found[name], x, rtol=0, atol=0)


# ---------------------------------------------------------------- what is taken


@pytest.mark.parametrize('strategy', ('simclr', 'unremix', 'supervised'))
def test_the_encoder_is_that_of_the_file_and_the_head_is_fresh(earlier, strategy):
    run = started(earlier, strategy=strategy)
    fresh = set_up(TrainConfig.of(SMALL | {'strategy': strategy}))
    same(run.model.module.encoder.state_dict(), encoder_in(earlier))
    same(run.model.module.head.state_dict(), fresh.model.module.head.state_dict())
    weight = '0.0.weight'
    ours, other = (r.model.module.encoder.state_dict()[weight] for r in (run, fresh))
    assert (ours - other).abs().max() > 0.01  # the check can fail


def test_features_are_those_of_the_encoder_that_the_run_left(earlier):
    run, kept = started(earlier), load_encoder(earlier)
    x = run.samples.x[:8]
    encoder = run.model.module.encoder.eval()
    assert_close(encoder(run.views.plain(x)), kept(run.views.plain(x)))


def test_the_slow_encoder_of_a_queue_starts_too(earlier):
    run = started(earlier, queue_size=32)
    same(run.follower.state_dict(), run.model.module.state_dict())


def test_training_begins_there(earlier, tmp_path):
    "With a learning rate of almost nothing, the encoder stays where it started."
    given = {'start_from': str(earlier), 'lr': 1e-12, 'weight_decay': 0.0}
    train(TrainConfig.of(SMALL | given), tmp_path / 'run', progress=False)
    found, wanted = encoder_in(tmp_path / 'run'), encoder_in(earlier)
    for name, x in wanted.items():
        if 'running' not in name and 'num_batches' not in name:
            assert_close(found[name], x, rtol=0, atol=1e-6)
    train(TrainConfig.of(SMALL | {'lr': 1e-12}), tmp_path / 'fresh', progress=False)
    other = encoder_in(tmp_path / 'fresh')['0.0.weight']
    assert (other - wanted['0.0.weight']).abs().max() > 0.01


def test_every_row_of_a_comparison_begins_there(earlier, tmp_path):
    given = {'start_from': str(earlier), 'lr': 1e-12, 'weight_decay': 0.0}
    cfg = CompareConfig.of(
        SMALL | given | dict(strategies=('simclr', 'hcl'), seeds=2, timed_steps=0)
    )
    result = compare(cfg, tmp_path / 'out', progress=False)
    untrained = result['rows']['untrained']['linear']['values']
    assert untrained[0] == untrained[1]  # no seed in it
    fresh = CompareConfig.of(SMALL | dict(strategies=('simclr',), timed_steps=0))
    without = compare(fresh, tmp_path / 'fresh', progress=False)['rows']['untrained']
    assert without['linear']['values'][0] != without['linear']['values'][1]
    for folder in sorted(tmp_path.glob('out/*-seed*/checkpoint.pt')):
        found = encoder_in(folder.parent)['0.0.weight']
        assert_close(found, encoder_in(earlier)['0.0.weight'], rtol=0, atol=1e-6)
    assert len(list(tmp_path.glob('out/*-seed*/checkpoint.pt'))) == 6


# ---------------------------------------------------------------- files of other programs

NESTS = {
    'plain': lambda s: s,
    'lightly': lambda s: {'state_dict': {'backbone.' + k: x for k, x in s.items()}},
    'data parallel': lambda s: {'model': {'module.encoder.' + k: x for k, x in s.items()}},
    'with a classifier': lambda s: s | {'fc.weight': torch.zeros(10, 512)},
    'half': lambda s: {k: x.half() if x.is_floating_point() else x for k, x in s.items()},
    'old': lambda s: {k: x for k, x in s.items() if 'num_batches' not in k},
    'parameters': lambda s: {k: nn.Parameter(x, False) for k, x in s.items()},
}


@pytest.mark.parametrize('nest', NESTS)
@pytest.mark.parametrize('ending', ('pth', 'pt', 'bin', 'safetensors'))
def test_files_of_other_programs(nest, ending, tmp_path):
    torch.manual_seed(5)
    net = make_encoder('small', 1, 28)
    table = NESTS[nest](net.state_dict())
    path = tmp_path / f'weights.{ending}'
    if ending == 'safetensors':
        save = pytest.importorskip('safetensors.torch').save_file
        flat = next((x for x in table.values() if isinstance(x, dict)), table)
        save({k: x.detach().clone() for k, x in flat.items()}, path)
    else:
        torch.save(table, path)
    other = make_encoder('small', 1, 28)
    start_encoder(other, str(path), 'small', GREY)
    tolerance = 1e-3 if nest == 'half' else 0
    for name, x in net.state_dict().items():
        assert_close(other.state_dict()[name], x, rtol=tolerance, atol=tolerance)
    assert next(other.parameters()).requires_grad


def test_an_exported_encoder(earlier, tmp_path):
    pytest.importorskip('safetensors')
    path = tmp_path / 'encoder.safetensors'
    assert main(['export', str(earlier), '--to', 'safetensors', '--out', str(path)]) == 0
    same(started(path).model.module.encoder.state_dict(), encoder_in(earlier))


def test_torchvisions_resnet_with_its_stem(tmp_path):
    import torchvision.models

    torch.manual_seed(2)
    theirs = torchvision.models.resnet18(weights=None)
    path = tmp_path / 'resnet18.pth'
    torch.save(theirs.state_dict(), path)
    net = make_encoder('resnet18', 3, 96)
    start_encoder(net, str(path), 'resnet18', (1, 3, 96, 96))
    theirs.fc = nn.Identity()
    x = torch.randn(2, 3, 96, 96)
    assert_close(net.eval()(x), theirs.eval()(x))
    small = make_encoder('resnet18', 3, 32)
    shapes = r"'conv1.weight' is \(64, 3, 7, 7\) there and \(64, 3, 3, 3\)"
    with pytest.raises(ValueError, match=shapes):
        start_encoder(small, str(path), 'resnet18', (1, 3, 32, 32))


def test_published_weights_of_torchvision(tmp_path, monkeypatch):
    "As if they had been downloaded before."
    import torchvision.models

    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    url = torchvision.models.get_model_weights('resnet18').DEFAULT.url
    place = tmp_path / 'hub' / 'checkpoints' / url.split('/')[-1]
    place.parent.mkdir(parents=True)
    torch.manual_seed(2)
    theirs = torchvision.models.resnet18(weights=None).state_dict()
    torch.save(theirs, place)
    net = make_encoder('resnet18', 3, 96)
    start_encoder(net, 'published', 'resnet18', (1, 3, 96, 96))
    assert_close(net.state_dict()['conv1.weight'], theirs['conv1.weight'])


@pytest.mark.parametrize('small,large', [('resnet18', 'resnet34'), ('resnet50', 'resnet101')])
def test_a_deeper_resnet_is_not_cut(small, large):
    "It has every tensor of the smaller one, of the same shape."
    import torchvision.models

    net = make_encoder(small, 3, 96)
    state = getattr(torchvision.models, large)(weights=None).state_dict()
    assert set(net.state_dict()) <= set(state)
    with pytest.raises(ValueError, match='holds a larger encoder'):
        fitting(net, state, 'x')
    fitting(net, getattr(torchvision.models, small)(weights=None).state_dict(), 'x')


@pytest.mark.parametrize('name', ('convnext_atto', 'vit_tiny_patch16_224', 'resnet10t'))
def test_a_classifier_of_timm_is_left_alone(name):
    timm = pytest.importorskip('timm', reason='timm is not installed')
    whole = timm.create_model(name).state_dict()
    net = timm.create_model(name, num_classes=0)
    found = fitting(net, {'module.' + k: x for k, x in whole.items()}, 'x')
    assert len(found) == len(whole) - 2  # weight and bias of the classifier


def test_further_parts():
    own = ['stem.weight', 'blocks.0.a.weight', 'blocks.1.a.weight', 'norm.weight']
    assert further_part(own, own) is None
    assert further_part(['head.weight', 'blocks.head.weight', 'queue'], own) is None
    assert further_part(['stem.num_batches_tracked'], own) is None
    for name in ('blocks.2.a.weight', 'blocks.10.weight', 'stem.bias', 'blocks.1.a.bias'):
        assert further_part([*own, name], own) == name


def test_a_prefix_ends_with_a_dot():
    assert prefixes({'x0.weight': 1, '0.weight': 1}, ['0.weight']) == ['']
    assert prefixes({'a.b': 1, 'c.a.b': 1}, ['a.b']) == ['', 'c.']
    assert prefixes({}, ['a.b']) == []


# ---------------------------------------------------------------- what is refused

REFUSED = {
    'two encoders': (
        lambda s: {p + k: x for k, x in s.items() for p in ('query.', 'key.')},
        'a file with one such encoder',
    ),
    'another encoder': (
        lambda s: make_encoder('resnet18', 1, 28).state_dict(),
        "does not hold this encoder, such as its '0.0.weight'",
    ),
    'a part': (
        lambda s: {k: x for k, x in s.items() if not k.startswith('2.')},
        "does not hold this encoder, such as its '2.0.weight'",
    ),
    'colours': (
        lambda s: make_encoder('small', 3, 28).state_dict(),
        "'0.0.weight' is (32, 3, 5, 5) there and (32, 1, 5, 5) for these images",
    ),
    'not finite': (
        lambda s: s | {'2.0.weight': s['2.0.weight'] / 0},
        "numbers in '2.0.weight' that are not finite",
    ),
    'a prefixed part': (
        lambda s: {'net.' + k: x for k, x in s.items() if k != '4.branch.0.weight'},
        "does not hold this encoder, such as its '4.branch.0.weight'",
    ),
    'a further block': (
        lambda s: {'net.' + k: x for k, x in (s | {'4.0.weight': s['0.0.weight']}).items()},
        "holds a larger encoder, with '4.0.weight' besides",
    ),
    'a bias': (
        lambda s: s | {'0.0.bias': torch.zeros(32)},
        "holds a larger encoder, with '0.0.bias' besides",
    ),
    'too large for float32': (
        lambda s: s | {'0.0.weight': s['0.0.weight'].double() * 1e300},
        "numbers in '0.0.weight' that are not finite",
    ),
    'no tensors': (lambda s: {'epoch': 3}, 'a file of named tensors'),
    'a list': (lambda s: [1, 2], 'a file of named tensors'),
}


@pytest.mark.parametrize('case', REFUSED)
def test_refused_in_one_sentence_before_anything_is_written(case, tmp_path, capsys):
    make, words = REFUSED[case]
    path = tmp_path / 'weights.pth'
    torch.save(make(make_encoder('small', 1, 28).state_dict()), path)
    out = tmp_path / 'run'
    args = ['train', '--out', str(out), '--start-from', str(path), '--limit', '64']
    assert main([*args, '--batch-size', '16']) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in error and 'start_from' in error
    assert not list(out.glob('*.json')) and not list(out.glob('*.pt'))


class Trap:
    "Unpickled, it leaves a file."

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, 'w')


def test_no_code_of_a_file_runs(tmp_path, capsys):
    bait = tmp_path / 'bait'
    torch.save({'0.0.weight': Trap(str(bait))}, tmp_path / 'weights.pth')
    args = ['train', '--out', str(tmp_path / 'run'), '--start-from']
    assert main([*args, str(tmp_path / 'weights.pth')]) == 2
    assert 'without running code' in capsys.readouterr().err
    assert not bait.exists()


@pytest.mark.parametrize('kind', ('missing', 'empty folder', 'text', 'cut', 'empty'))
@pytest.mark.parametrize('ending', ('pth', 'safetensors'))
def test_no_file_of_weights(kind, ending, tmp_path, capsys):
    path = tmp_path / f'weights.{ending}'
    if kind == 'empty folder':
        path.mkdir()
    if kind == 'text':
        path.write_text('weights')
    if kind == 'empty':
        path.touch()
    if kind == 'cut':
        torch.save(make_encoder('small', 1, 28).state_dict(), path)
        path.write_bytes(path.read_bytes()[:1000])
    args = ['train', '--out', str(tmp_path / 'run'), '--start-from', str(path)]
    assert main([*args, '--limit', '64', '--batch-size', '16']) == 2
    error = capsys.readouterr().err
    assert 'start_from' in error and 'Traceback' not in error


@pytest.mark.parametrize('ending', ('pth', 'safetensors'))
def test_a_damaged_file_is_one_sentence_or_read(ending, tmp_path):
    "Cut anywhere, or with bytes changed; what can be read all the same is checked as any file."
    path = tmp_path / f'weights.{ending}'
    state = make_encoder('small', 1, 28).state_dict()
    if ending == 'pth':
        torch.save(state, path)
    else:
        pytest.importorskip('safetensors.torch').save_file(state, path)
    whole = path.read_bytes()
    random = torch.Generator().manual_seed(0)
    refused = 0
    for trial in range(60):
        at = int(torch.randint(len(whole), (), generator=random))
        if trial % 3 == 0:
            at = at % 3000  # where names and headers are
        path.write_bytes(whole[:at] if trial % 2 else whole[:at] + b'!?!' + whole[at + 3 :])
        net = make_encoder('small', 1, 28)
        try:
            start_encoder(net, str(path), 'small', GREY)
        except ValueError as e:
            assert 'start_from' in str(e) and '\n' not in str(e)
            refused += 1
        assert all(x.isfinite().all() for x in net.state_dict().values())
    assert refused >= 30  # all that were cut


def test_images_of_another_size(earlier):
    "The stem of `small` has no size."
    run = started(earlier, image_size=20)
    same(run.model.module.encoder.state_dict(), encoder_in(earlier))


def test_missing_weights_are_told_before_images_are_read(tmp_path, monkeypatch, capsys):
    import unremix.run_folder

    def read(*given):
        raise AssertionError('images were read')

    monkeypatch.setattr(unremix.run_folder, 'split_samples', read)
    for command in ('train', 'compare'):
        out = str(tmp_path / command)
        assert main([command, '--out', out, '--start-from', 'no/such/run']) == 2
        assert "got 'no/such/run'" in capsys.readouterr().err


def test_published_weights_that_nobody_publishes():
    with pytest.raises(ValueError, match='small, whose weights nobody publishes'):
        TrainConfig.of({'encoder': 'small', 'start_from': 'published'})
    TrainConfig.of({'encoder': 'resnet18', 'start_from': 'published'})


def test_nobody_publishes_an_encoder_of_graphs():
    pytest.importorskip('torch_geometric', reason='the extra `graph` is not installed')
    with pytest.raises(ValueError, match='gin, whose weights nobody publishes'):
        TrainConfig.of({'modality': 'graph', 'start_from': 'published'})


def test_nothing_changes_where_the_tensors_do_not_fit():
    net = make_encoder('small', 1, 28)
    before = {k: x.clone() for k, x in net.state_dict().items()}
    state = dict(before)
    last = list(state)[-2]
    state[last] = torch.zeros(3)
    with pytest.raises(ValueError, match='does not fit the encoder'):
        fitting(net, state, 'x')
    same(net.state_dict(), before)


# ---------------------------------------------------------------- stopping and going on


def stop_at(step, monkeypatch):
    "The process ends when this step is logged."
    log = unremix.train.Log.__call__

    def until(self, run, at, loss, values):
        if at == step:
            raise KeyboardInterrupt
        log(self, run, at, loss, values)

    monkeypatch.setattr(unremix.train.Log, '__call__', until)


@pytest.mark.parametrize('step', (1, 6))  # before the first checkpoint, after it
def test_stopped_and_continued_is_the_same_run(earlier, step, tmp_path, monkeypatch):
    cfg = TrainConfig.of(SMALL | {'epochs': 2, 'start_from': str(earlier)})
    train(cfg, tmp_path / 'whole', progress=False)
    with monkeypatch.context() as m:
        stop_at(step, m)
        with pytest.raises(KeyboardInterrupt):
            train(cfg, tmp_path / 'parts', progress=False)
    train(cfg, tmp_path / 'parts', progress=False)
    same(encoder_in(tmp_path / 'parts'), encoder_in(tmp_path / 'whole'))


def test_other_weights_under_the_same_path(tmp_path, monkeypatch, capsys):
    path, out = tmp_path / 'weights.pth', tmp_path / 'run'
    cfg = TrainConfig.of(SMALL | {'epochs': 2, 'start_from': str(path)})
    torch.save(make_encoder('small', 1, 28).state_dict(), path)
    with monkeypatch.context() as m:
        stop_at(6, m)
        with pytest.raises(KeyboardInterrupt):
            train(cfg, out, progress=False)
    torch.save(make_encoder('small', 1, 28).state_dict(), path)
    with pytest.raises(ValueError, match='made with other weights under start_from'):
        train(cfg, out, progress=False)
    rows = dict(strategies=('simclr',), seeds=1, supervised=False, timed_steps=0)
    comparison = CompareConfig.of(SMALL | rows | {'start_from': str(path)})
    compare(comparison, tmp_path / 'compare', progress=False)
    (tmp_path / 'compare' / 'result.json').unlink()
    torch.save(make_encoder('small', 1, 28).state_dict(), path)
    with pytest.raises(ValueError, match='made with other weights under start_from'):
        compare(comparison, tmp_path / 'compare', progress=False)


def test_a_finished_run_needs_them_no_more(tmp_path):
    path, out = tmp_path / 'weights.pth', tmp_path / 'run'
    torch.save(make_encoder('small', 1, 28).state_dict(), path)
    cfg = TrainConfig.of(SMALL | {'start_from': str(path)})
    result = train(cfg, out, progress=False)
    assert len(result['start']) == 16
    assert json.loads((out / 'data.json').read_text())['start'] == result['start']
    path.unlink()
    assert train(cfg, out, progress=False) == result
    assert 0 <= evaluate(out)['scores']['linear'] <= 1
    load_encoder(out)


def test_runs_of_before_have_no_such_field(tmp_path):
    out = tmp_path / 'run'
    cfg = TrainConfig.of(SMALL)
    result = train(cfg, out, progress=False)
    saved = json.loads((out / 'config.json').read_text())
    del saved['model']['start_from']
    (out / 'config.json').write_text(json.dumps(saved))
    assert train(cfg, out, progress=False) == result
    assert 'start' not in result


# ---------------------------------------------------------------- timm


@pytest.fixture
def timm():
    return pytest.importorskip('timm', reason='timm is not installed')


@pytest.mark.parametrize('name', ('resnet10t', 'vit_tiny_patch16_224', 'mobilenetv3_small_050'))
def test_networks_of_timm(timm, name):
    net = make_encoder('timm:' + name, 1, 32)
    x = torch.randn(2, 1, 32, 32)
    assert net.training and net.eval()(x).shape == (2, net.out_dim)
    more = {'img_size': 32} if name.startswith('vit') else {}
    theirs = timm.create_model(name, num_classes=0, in_chans=1, **more)
    start = {'x.' + k: v for k, v in theirs.state_dict().items()}
    net.load_state_dict(fitting(net, start, 'theirs'))
    assert_close(net.eval()(x), theirs.eval()(x))


def test_a_run_with_timm(timm, tmp_path, capsys):
    weights = tmp_path / 'w.pth'
    torch.manual_seed(4)
    theirs = timm.create_model('resnet10t', num_classes=10, in_chans=1)
    torch.save(theirs.state_dict(), weights)
    out = tmp_path / 'run'
    given = {'encoder': 'timm:resnet10t', 'start_from': str(weights), 'lr': 1e-12}
    train(TrainConfig.of(SMALL | given), out, progress=False)
    encoder = load_encoder(out)
    assert_close(encoder.net.conv1[0].weight, theirs.conv1[0].weight)
    capsys.readouterr()
    for to in ('timm', 'safetensors'):
        path = tmp_path / f'{to}.safetensors'
        assert main(['export', str(out), '--to', to, '--out', str(path)]) == 0
    again = timm.create_model('resnet10t', num_classes=0, in_chans=1)
    from safetensors.torch import load_file

    again.load_state_dict(load_file(tmp_path / 'timm.safetensors'))
    x = torch.randn(2, 1, 28, 28)
    assert_close(again.eval()(x), encoder(x))
    assert_close(load_encoder(tmp_path / 'safetensors.safetensors')(x), encoder(x))


@pytest.mark.parametrize(
    'name,words',
    [
        ('timm:no_such_net', 'a name of `timm.list_models\\(\\)` after timm:'),
        ('timm:', 'a name of `timm.list_models\\(\\)` after timm:'),
        ('timm:resnet18.nobody', 'a name of `timm.list_models\\(\\)` after timm:'),
        ('other:resnet18', "one of \\['small', 'resnet18', 'resnet50', 'timm:NAME'"),
    ],
)
def test_unknown_networks(timm, name, words):
    with pytest.raises(ValueError, match=words):
        TrainConfig.of({'encoder': name})


def test_a_size_that_the_network_cannot_take(timm):
    words = 'a network for 1 channels and 8 pixels cannot be had'
    with pytest.raises(ValueError, match=words):
        make_encoder('timm:vit_tiny_patch16_224', 1, 8)  # smaller than a patch


def test_without_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, 'timm', None)
    with pytest.raises(ValueError, match=r"pip install 'unremix\[export\]'"):
        TrainConfig.of({'encoder': 'timm:resnet18'})
    TrainConfig.of({'encoder': 'resnet18'})


def test_published_weights_of_timm(timm, monkeypatch):
    "Asked for with the channels of the images; what cannot be had is one sentence."
    asked = []
    create = timm.create_model

    def make(name, pretrained, **given):
        asked.append((name, pretrained, given['in_chans']))
        return create(name, pretrained=False, **given)

    monkeypatch.setattr(timm, 'create_model', make)
    net = make_encoder('timm:resnet10t', 1, 32)
    before = torch.random.get_rng_state()
    start_encoder(net, 'published', 'timm:resnet10t', (5, 1, 32, 32))
    assert asked == [('resnet10t', False, 1), ('resnet10t', True, 1)]
    assert torch.random.get_rng_state().equal(before)

    def fail(*given, **more):
        raise OSError('no network')

    monkeypatch.setattr(timm, 'create_model', fail)
    words = r'its published weights for 1 channels .*OSError: no network'
    with pytest.raises(ValueError, match=words):
        start_encoder(net, 'published', 'timm:resnet10t', (5, 1, 32, 32))
