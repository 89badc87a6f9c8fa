"Scores, tables, rows and grids; each was first missed by a mutant."
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from configs import comparison, run_of
from test_compare_exact import CFG, cell, play  # noqa: F401
from test_sweep_exact import GRID, of_cell, play as play_sweep  # noqa: F401
from unremix import compare as module, several_runs, sweep as sweeping, table as tables
from unremix.compare import folder_name, paced
from unremix.evaluate import feature_scores
from unremix.features import choose_penalty, knn, linear_probe
from unremix.grid import images_of, read_grid
from unremix.rows import summarize
from unremix.safe_files import FolderInUse, hold, read_json
from unremix.several_runs import limited, time_steps
from unremix.sweep import by_cell, sweep


# ---- tests/test_evaluate_exact.py

def at(*cosines):
    c = torch.tensor(cosines, dtype=torch.float64)
    return torch.stack([c, (1 - c*c).sqrt()], 1)


EAST = at(1.)


def test_two_hundred_neighbours_vote():
    "Sixty of class 0 are nearest and 140 of class 1 hardly further: they win only if all of them are asked. Ten votes are of class 0."
    train, y = at(*[1.]*60, *[.999]*140, *[.99]*300), torch.tensor([0]*60 + [1]*140 + [0]*300)
    found = feature_scores(train, y, EAST, torch.tensor([1]))
    assert (found['knn10'], found['knn200']) == (0., 1.)
    train, y = at(*[1.]*60, *[.999]*139, *[.998]*300), torch.tensor([0]*60 + [1]*60 + [2]*79 + [0]*300)
    assert feature_scores(train, y, EAST, torch.tensor([2]))['knn200'] == 1. # of the rest one more votes


def test_ten_neighbours_vote_unless_told():
    train, y = at(*[.9]*4, *[.8]*6, *[.7]*9), torch.tensor([0]*4 + [1]*6 + [0]*9)
    assert knn(train, y, EAST).item() == 1 and knn(train, y, EAST, 7).item() == 0 == knn(train, y, EAST, 19).item()


def test_the_probe_of_every_result(monkeypatch):
    "Numbers that all results share: two penalties, a hundred steps, a tolerance."
    made = []
    class Probe:
        def __init__(self, C, max_iter, tol): made.append((C, max_iter, tol))
        def fit(self, x, y): return self
        def score(self, x, y): return 0.
        def predict(self, x): return np.zeros(len(x), int)
    monkeypatch.setattr('sklearn.linear_model.LogisticRegression', Probe)
    linear_probe(torch.randn(50, 3), torch.arange(50) % 5, torch.randn(4, 3))
    assert made == [(.01, 100, 1e-3), (.1, 100, 1e-3), (.01, 100, 1e-3)]


def test_the_fifth_on_which_the_penalty_is_chosen_is_always_the_same():
    x, y, held = np.arange(20.)[:, None], np.arange(20) % 2, []
    class Probe:
        def __init__(self, c, a, b): self.seen = sorted(a[:, 0].astype(int).tolist())
        def score(self, a, b): held.append((self.seen, sorted(a[:, 0].astype(int).tolist()))); return 0.
    choose_penalty(x, y, (1.,), Probe)
    assert held == [([3, 4, 5, 7, 8, 11, 16, 18], [2, 12, 17, 19])]


# ---- tests/test_compare_exact.py

@pytest.mark.parametrize('threads', (None, 3))
def test_a_result_says_how_many_threads_it_had(threads, play, tmp_path, monkeypatch):
    "Its runs, and its timed steps."
    timed = []
    monkeypatch.setattr(module, 'step_seconds', lambda cfg: timed.append(torch.get_num_threads()) or {})
    with limited(2):
        result = module.compare(CFG.but({'threads': threads}), tmp_path/'run', progress=False)
    assert result['threads'] == (threads or 2) == read_json(tmp_path/'run'/'result.json')['threads'] and timed == [threads or 2]


def test_what_decides_how_many_workers(monkeypatch):
    "Runs of all rows and seeds, steps of each, bytes of the images."
    asked = []
    monkeypatch.setattr(module, 'usual_workers', lambda *args: asked.append(args) or 1)
    cfg = comparison(limit=64, batch_size=16, epochs=3, strategies=('simclr', 'hcl'), seeds=4, workers=None)
    paced(cfg, 'cpu')
    paced(cfg.but({'supervised': False, 'seeds': 1}), 'cuda')
    assert asked == [(3*4, 4*3, 'cpu', 64*28*28), (2, 4*3, 'cuda', 64*28*28)]


def test_runs_that_were_there_take_no_time(play, tmp_path, monkeypatch, capsys):
    "Two of four are read at once; the third ends after ten seconds, so that the fourth will take as long."
    clock = iter((0., 0., 0., 10., 20.))
    for name, seed in (('simclr', 3), ('hcl', 3)):
        folder = tmp_path/f'{name}-seed{seed}'
        folder.mkdir()
        (folder/'result.json').write_text('{}')
    monkeypatch.setattr(module.time, 'perf_counter', lambda: next(clock))
    module.run_cells(CFG, tmp_path)
    ends = [line.split('; ')[1] for line in capsys.readouterr().err.splitlines()]
    assert ends == ['run 1 of 4', 'run 2 of 4', 'run 3 of 4, about 10 s left', 'run 4 of 4']


def test_folders_of_rows():
    "As they were made before, so that a comparison goes on; names that every system allows."
    names = {'simclr': 'simclr', 'hcl(beta=2)': 'hcl(beta=2)', 'hcl(beta=1e+3, tau_plus=-.5)': 'hcl(beta=1e+3,_tau_plus=-.5)',
             'mine:Ring': 'mine_Ring', "unremix(select='top')": 'unremix(select=_top_)', 'a/b\\c': 'a_b_c', 'größe': 'größe'}
    assert {row: folder_name(row) for row in names} == names


def test_stl10_with_its_unlabelled_images_has_no_supervised_row():
    "Told before 2.5 GB are downloaded."
    with pytest.raises(ValueError, match=r'supervised must be off \(--no-supervised\), since most images of stl10_all have no label, got True'): comparison(dataset='stl10_all')
    assert comparison(dataset='stl10_all', supervised=False).train.data.dataset == 'stl10_all'


def test_timed_steps_are_plain_ones(monkeypatch):
    "No statistics in them, whatever is logged; and two steps of warm-up before."
    logged = []
    def set_up(cfg): logged.append(cfg.run.log_every); return cfg.strategy
    def steps(run, epoch): yield from [(0, torch.zeros(()), {})]*4
    monkeypatch.setattr(several_runs, 'set_up', set_up)
    monkeypatch.setattr(several_runs, 'epoch_steps', steps)
    waits = iter((0., 9., 0., 7., 0., 1., 0., 2.)) # start and end of four steps, as they would be read
    monkeypatch.setattr(several_runs.time, 'perf_counter', lambda: next(waits))
    assert time_steps({'a': run_of(limit=64, batch_size=16, log_every=1)}, 2) == {'a': [1., 2.]}
    assert logged == [10**9]


def test_threads_of_scikit_learn_too():
    "The probe's linear algebra has pools of its own, which PyTorch's number does not reach."
    import sklearn.linear_model  # noqa: F401  # which loads them
    from threadpoolctl import threadpool_info, threadpool_limits
    blas = lambda: {p['num_threads'] for p in threadpool_info() if p['user_api'] == 'blas'}
    with threadpool_limits(2):
        assert blas() == {2}
        with limited(1): assert blas() == {1}
        assert blas() == {2}


# ---- tests/test_compare_exact.py, the figure

ROWS = {'simclr': cell('1010', '1000', hardness=.25, false_negative_rate=.5, knn10=.125),
        'hcl': cell('1110', '1100', hardness=.75, false_negative_rate=1., knn10=.125)}


def figure_of(**more):
    rows = summarize(ROWS, 'simclr', {})
    fig = tables.draw({'rows': rows, 'config': {'reference': 'simclr', 'strategies': ['simclr', 'hcl']}} | more)
    return rows, *fig.axes


def test_what_the_figure_shows():
    "Left every seed's accuracy, with the binomial error around the reference; right false negatives against hardness."
    rows, left, right = figure_of()
    dots = [c.get_offsets()[:, 0].tolist() for c in left.collections if len(c.get_offsets()) == 2]
    assert dots[:2] == [[.5, .25], [.75, .5]]
    [band] = left.patches
    across = band.get_patch_transform().transform_path(band.get_path()).vertices[:, 0] # a rectangle, or before matplotlib 3.9 a polygon
    assert_close([across.min(), across.max()], [.375 - rows['simclr']['test_error'], .375 + rows['simclr']['test_error']])
    assert [c.get_offsets().tolist() for c in right.collections] == [[[.25, .5]]*2, [[.75, 1.]]*2]
    assert [t.get_text() for t in right.get_legend().get_texts()] == ['simclr', 'hcl'] and right.get_ylabel() == 'false-negative rate'


# ---- tests/test_sweep_exact.py

def test_cells_that_see_other_images_are_looked_at_one_by_one():
    fields = dict(modality='text', dataset='twice'), dict(dataset='digits'), dict(data_root='x'), dict(limit=9), dict(validation=9), dict(image_size=32), dict(sample_ids='t.csv', dataset='imagefolder'), dict(start_from='x')
    seen = [images_of(run_of(**f)) for f in ({}, *fields)]
    assert len(set(seen)) == len(seen)


def test_a_grid_lacks_its_name(tmp_path):
    (tmp_path/'grid.toml').write_text('[cells]\na = {}\n')
    with pytest.raises(ValueError, match=r"^grid must be a file with experiment, got \['cells'\]$"): read_grid(tmp_path/'grid.toml')
    (tmp_path/'grid.toml').write_text('experiment = 3\n[cells]\na = {}\n')
    with pytest.raises(ValueError, match='^experiment must be a text, got 3$'): read_grid(tmp_path/'grid.toml')


def test_two_sweeps_do_not_write_into_one_file(play_sweep, tmp_path):
    asked, out = play_sweep(), tmp_path/'lines.jsonl'
    with hold(tmp_path/'lines.jsonl.in_use', 'test'):
        with pytest.raises(FolderInUse, match='lines.jsonl. is in use: process'): sweep(GRID, out, tmp_path/'runs', progress=False)
    assert not asked and not out.exists()
    assert len(sweep(GRID, out, tmp_path/'runs', progress=False)) == 3 and not list(tmp_path.glob('*.in_use'))


@pytest.mark.parametrize('name', ('start', 'sample_ids', 'data'))
def test_lines_of_other_files_are_another_setting(name):
    with pytest.raises(ValueError, match=f"^{name} of cell 'hcl' must be one for all its lines"): by_cell([of_cell(0) | {name: 'ab'}, of_cell(1) | {name: 'cd'}])
