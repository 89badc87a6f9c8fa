"Loggers see what log.jsonl holds, every line once, however often a run was killed, and change nothing."
import csv, importlib.machinery, importlib.util, json, os, signal, sys, types

import pytest

from configs import run_of
from kills import context
from unremix.cli import main
from unremix.loggers import LOGGERS, check_loggers, listener, told
from unremix.train import train

SMALL = dict(limit=48, batch_size=16, epochs=2, log_every=1, precision='32-true', accelerator='cpu', channels_last=False, save_every=2)


def lines(out): return [json.loads(l) for l in (out/'log.jsonl').read_text().splitlines()]


def rows(out):
    with open(out/'csv/metrics.csv', newline='') as f: return [{k: float(v) for k, v in r.items()} for r in csv.DictReader(f)]


def events(out):
    accumulator = pytest.importorskip('tensorboard.backend.event_processing.event_accumulator')
    found = accumulator.EventAccumulator(str(out/'tensorboard'), size_guidance={'scalars': 0}).Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()['scalars']}


def dies_at(step):
    def die(metrics, now):
        if now == step: os.kill(os.getpid(), signal.SIGKILL)
    return die


def killed(fields, out, step, names): train(run_of(**fields), out, progress=False, loggers=names, on_log=dies_at(step))


def kill_at(step, out, names):
    process = context.Process(target=killed, args=(SMALL, out, step, names))
    process.start(); process.join(120)
    assert process.exitcode == -signal.SIGKILL and not (out/'result.json').exists()


NAMES = ['csv'] + ['tensorboard'] * (importlib.util.find_spec('tensorboard') is not None)


def test_every_line_once_though_killed(tmp_path):
    "Before the first checkpoint, then two steps after one; a buffer of TensorBoard's is lost with each kill."
    for step in 1, 5: kill_at(step, tmp_path, NAMES)
    assert [r['step'] for r in rows(tmp_path)] == list(range(6)) # step 5 was logged, and is taken again
    heard = []
    train(run_of(**SMALL), tmp_path, progress=False, loggers=NAMES, on_log=lambda metrics, step: heard.append({'step': step, **metrics}))
    assert heard == rows(tmp_path) == lines(tmp_path) and [l['step'] for l in heard] == list(range(6))
    if 'tensorboard' in NAMES:
        found = events(tmp_path)
        assert found.keys() == lines(tmp_path)[0].keys() - {'step'}
        for tag, points in found.items():
            assert [s for s, _ in points] == list(range(6))
            assert [v for _, v in points] == pytest.approx([l[tag] for l in lines(tmp_path)], rel=1e-6) # float32


def test_nothing_else_changes(tmp_path):
    "Result, settings, weights' loss, and whose folder it is."
    plain = train(run_of(**SMALL), tmp_path/'plain', progress=False)
    logged = train(run_of(**SMALL), tmp_path/'logged', progress=False, loggers=['csv'], on_log=lambda m, s: m.clear())
    for r in plain, logged: [r.pop(k, None) for k in ('seconds', 'peak_memory_mb')]
    assert plain == logged
    configs = [(tmp_path/p/'config.json').read_bytes() for p in ('plain', 'logged')]
    assert configs[0] == configs[1]
    drop = lambda ls: [{k: v for k, v in l.items() if k != 'images_per_s'} for l in ls]
    assert drop(lines(tmp_path/'plain')) == drop(lines(tmp_path/'logged'))
    heard = []
    assert train(run_of(**SMALL), tmp_path/'plain', progress=False, loggers=['csv'], on_log=lambda *x: heard.append(x))['loss'] == logged['loss']
    assert not heard and not (tmp_path/'plain/csv').exists() # a finished run is only read


class Fake(types.ModuleType):
    "As much of `wandb` as is called."
    Error = type('Error', (Exception,), {})
    def __init__(self):
        super().__init__('wandb')
        self.__spec__, self.inits, self.logged, self.ends = importlib.machinery.ModuleSpec('wandb', None), [], [], []
    def init(self, **asked): self.inits.append(asked); return self
    def log(self, metrics, step): self.logged.append((step, metrics))
    def finish(self, exit_code): self.ends.append(exit_code)


@pytest.fixture
def fake(monkeypatch):
    module = Fake()
    monkeypatch.setitem(sys.modules, 'wandb', module)
    return module


def test_wandb(fake, tmp_path):
    "One id for all starts, the settings beside it, how each start ended, and the whole run in the last one."
    def stop(metrics, step):
        if step == 3: raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): train(run_of(**SMALL), tmp_path, progress=False, loggers=('wandb',), on_log=stop)
    assert fake.ends == [1] and [s for s, _ in fake.logged] == [0, 1, 2, 3]
    fake.logged.clear()
    train(run_of(**SMALL), tmp_path, progress=False, loggers=('wandb',))
    assert fake.ends == [1, 0] and fake.logged == [(l.pop('step'), l) for l in lines(tmp_path)]
    first, second = fake.inits
    assert first == second and first['resume'] == 'allow' and len(first['id']) == 8
    assert first['config']['batch_size'] == 16 and first['dir'] == str(tmp_path) and first['name'] == tmp_path.name
    train(run_of(**SMALL), tmp_path/'other', progress=False, loggers=('wandb',))
    assert fake.inits[-1]['id'] != first['id']


def test_wandb_that_cannot_begin(fake, tmp_path, capsys):
    def refuse(**asked): raise Fake.Error('no API key')
    fake.init = refuse
    assert main(['train', '--limit', '32', '--batch-size', '16', '--epochs', '1', '--out', str(tmp_path/'run'), '--loggers', 'wandb']) == 2
    assert capsys.readouterr().err.splitlines()[-1] == 'unremix: error: loggers: wandb cannot begin: no API key'
    assert not (tmp_path/'run/log.jsonl').read_text()


@pytest.mark.parametrize('args, said', [
    (['--loggers', 'pdf'], "loggers must be some of csv, tensorboard, wandb, got ('pdf',)"),
    (['--loggers', 'csv', 'wandb'], "loggers: wandb is not installed: pip install wandb, or 'unremix[loggers]'"),
    (['--loggers', 'tensorboard'], "loggers: tensorboard is not installed: pip install tensorboard, or 'unremix[loggers]'")], ids=str)
def test_refused_before_any_work(args, said, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr('unremix.loggers.find_spec', lambda name: None)
    assert main(['train', '--out', str(tmp_path/'run'), *args]) == 2
    assert capsys.readouterr().err == f'unremix: error: {said}\n'
    with pytest.raises(ValueError) as e: train(run_of(**SMALL), tmp_path/'run', loggers=tuple(args[1:]))
    assert str(e.value) == said and not (tmp_path/'run').exists()


def test_a_hook_is_a_function_or_has_log_metrics(tmp_path):
    for wrong in 3, 'csv', object():
        with pytest.raises(ValueError, match='on_log must be a function of'): train(run_of(**SMALL), tmp_path/'run', on_log=wrong)
    assert not (tmp_path/'run').exists()
    from lightning_fabric.loggers import CSVLogger
    logger = CSVLogger(tmp_path, name='', version='csv')
    assert listener(logger) == logger.log_metrics and listener(print) is print
    train(run_of(**SMALL), tmp_path/'run', progress=False, on_log=logger) # closed by the run: it writes every 100 steps
    assert rows(tmp_path) == lines(tmp_path/'run')


def test_only_the_first_process_tells(tmp_path, monkeypatch):
    monkeypatch.setitem(LOGGERS, 'csv', None) # would fail if it were made
    (tmp_path/'log.jsonl').write_text('{"step": 0, "loss": 1.0}\n')
    run, heard = types.SimpleNamespace(fabric=types.SimpleNamespace(is_global_zero=False), cfg=run_of(**SMALL)), []
    with told(run, tmp_path, ['csv'], lambda *x: heard.append(x)) as tell: tell({'loss': 1.}, 1)
    assert not heard


def test_a_name_is_no_list_of_names():
    with pytest.raises(ValueError, match="got 'csv'"): check_loggers('csv')


@pytest.mark.parametrize('words, said', [(['compare', '--loggers', 'csv'], 'loggers is an option of `unremix train` alone'),
                                         (['compare', '--loggers=csv'], 'loggers is an option of `unremix train` alone')], ids=str)
def test_refused_elsewhere(words, said, tmp_path, capsys):
    assert main([*words, '--out', str(tmp_path/'run')]) == 2
    assert capsys.readouterr().err == f'unremix: error: {said}\n' and not (tmp_path/'run').exists()


def test_a_grid_has_no_loggers(tmp_path, capsys):
    (tmp_path/'g.toml').write_text('experiment = "e"\nbase = {loggers = ["csv"]}\n[cells]\na = {strategy = "hcl"}\n')
    assert main(['sweep', str(tmp_path/'g.toml'), '--out', str(tmp_path/'o.jsonl'), '--runs', str(tmp_path/'runs')]) == 2
    said = capsys.readouterr().err
    assert said.count('\n') == 1 and 'loggers is no' in said


def test_nobody_hears_what_is_no_number(tmp_path):
    "The file says null where a number is NaN; TensorBoard would refuse it."
    (tmp_path/'log.jsonl').write_text('{"step": 0, "loss": 1.0, "hardness": null}\n')
    run = types.SimpleNamespace(fabric=types.SimpleNamespace(is_global_zero=True), cfg=run_of(**SMALL))
    heard = []
    with told(run, tmp_path, NAMES, lambda metrics, step: heard.append((step, metrics))) as tell: tell({'loss': 2., 'hardness': None}, 1)
    assert heard == [(0, {'loss': 1.}), (1, {'loss': 2.})]
    assert [r['loss'] for r in rows(tmp_path)] == [1., 2.]
