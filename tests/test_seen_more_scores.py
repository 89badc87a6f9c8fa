"Scores, comparisons, grids, settings and methods; each was first missed by a mutant."
import dataclasses, random, warnings

import pytest
import torch
from torch.testing import assert_close

from configs import comparison, run_of
from test_compare_exact import CFG
from unremix import batch_sampler, compare as comparing, one_class, rows, table as tables
from unremix.bands import Ring, TopK
from unremix.batch_sampler import BatchSampler, WalkSampler, drawn_for, walked
from unremix.compare_config import CompareConfig, cell_config
from unremix.config_groups import DataConfig, MemoryConfig, ModelConfig, OptimConfig, RunConfig
from unremix.controls import Supervised
from unremix.embeddings import from_views
from unremix.features import linear_probe, standardize
from unremix.grid import Grid, check_shape, line_of
from unremix.one_class import MiOC
from unremix.rows import rows_to_train
from unremix.rules import views
from unremix.sweep import told
from unremix.table import align_columns


# scores and rows

def test_a_feature_that_hardly_varies_is_none():
    "A ten-millionth is noise of rounding; divided by itself it would be as large as any other."
    h = torch.tensor([[0., 0.], [1e-7, 1.], [0., 0.], [1e-7, 1.]], dtype=torch.float64)
    for found in standardize(h, h): assert (found[:, 0] == 0).all() and found[:, 1].abs().max() > .8


def test_a_probe_that_is_not_fitted_to_the_end_is_no_warning():
    "Its steps are a budget, the same for every row."
    x = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert linear_probe(x, torch.arange(40) % 4, x, max_iter=1).shape == (40,)


def test_the_untrained_row_starts_where_the_others_do(monkeypatch):
    "From the weights that the runs start from."
    did = []
    monkeypatch.setattr(rows, 'set_up', lambda cfg: 'a run')
    monkeypatch.setattr(rows, 'start_model', lambda run: did.append(('started', run)))
    monkeypatch.setattr(rows, 'score', lambda run: did.append(('scored', run)) or {'linear': .5})
    assert rows.untrained_scores(run_of()) == {'scores': {'linear': .5}} and did == [('started', 'a run'), ('scored', 'a run')]


def test_no_row_is_trained_twice(monkeypatch):
    monkeypatch.setattr(rows, 'rows_left_out', lambda cfg: {})
    asked = dict(strategies=('simclr', 'supervised'), limit=64, batch_size=16)
    assert rows_to_train(comparison(**asked)) == ['supervised', 'simclr']
    assert rows_to_train(comparison(**asked, supervised=False)) == ['simclr', 'supervised']
    monkeypatch.setattr(rows, 'rows_left_out', lambda cfg: {'supervised': 'no labels'})
    assert rows_to_train(comparison(limit=64, batch_size=16)) == ['simclr', 'debiased', 'hcl', 'unremix']


def test_a_column_that_just_fits():
    assert align_columns([('row', 'one', 'two'), ('a', '1', '2')], width=13) == 'row  one  two\na      1    2'
    assert align_columns([('row', 'one', 'two'), ('a', '1', '2')], width=12) == 'row  one\na      1\n\nrow  two\na      2'


class Axes:
    "What is drawn."
    def __init__(self): self.dots, self.told, self.shown = {}, {}, None
    def scatter(self, x, y, color, label): self.dots.setdefault(label, []).append((x, y))
    def set(self, **told): self.told = told
    def get_legend_handles_labels(self): return [object() for _ in self.dots], list(self.dots)
    def legend(self, handles, labels, fontsize): self.shown = list(labels)


@pytest.mark.parametrize('count, unscored', [(8, False), (9, True)])
def test_methods_without_a_colour_of_their_own(count, unscored):
    "Beyond eight rows they share a place in the legend."
    own = [f'mine{i}' for i in range(count - 1)]
    of_row = lambda i: {k: {'values': [i + j]} for j, k in enumerate(('hardness', 'false_negative_rate', 'effective_negatives'))}
    result = {'config': {'strategies': ['hcl', *own]}, 'rows': {name: of_row(i) for i, name in enumerate(['hcl', *own])}} | ({'unscored': 'why'} if unscored else {})
    ax = Axes()
    tables.draw_negatives(ax, result)
    y = 2 if unscored else 1
    assert ax.dots['hcl'] == [([0], [y])] and sum(ax.dots.values(), []) == [([i], [i + y]) for i in range(count)]
    assert ax.shown == (['hcl', *own] if count == 8 else ['hcl', 'others']) and ax.told['ylabel'] == ('effective negatives' if unscored else 'false-negative rate')


# several runs

def test_how_a_run_of_a_comparison_ended():
    assert comparing.ended({'scores': {'linear': .12345}, 'seconds': 2.6}) == 'linear probe 0.123, training 3 s'
    assert comparing.ended({'scores': {'linear': 0.}, 'seconds': 1.}) == 'linear probe 0.000, training 1 s'
    assert comparing.ended({'scores': {}, 'seconds': 2.4}) == 'no linear probe, training 2 s' and comparing.ended({'failed': 'why'}) == 'failed'



def test_runs_that_were_begun_with_other_images(tmp_path, monkeypatch):
    "Their comparison was killed before it wrote down its own."
    looked, seen = {'train': {}, 'test': {}}, []
    (tmp_path/'simclr-seed3').mkdir()
    (tmp_path/'simclr-seed3'/'data.json').write_text('{}')
    monkeypatch.setattr(comparing, 'look', lambda cfg: looked)
    monkeypatch.setattr(comparing, 'rows_left_out', lambda cfg: {'supervised': 'of a reason'})
    monkeypatch.setattr(comparing, 'check_data', lambda folder, now: seen.append(folder))
    monkeypatch.setattr(comparing, 'tell', seen.append)
    assert comparing.look_at_all(CFG, tmp_path) is looked
    assert seen == [tmp_path, tmp_path/'simclr-seed3', 'no row supervised: of a reason']


# settings

def test_defaults_of_a_comparison_and_a_grid():
    "Those that results and texts take for granted."
    assert CompareConfig().own_fields() == dict(strategies=('simclr', 'debiased', 'hcl', 'unremix'), reference='simclr', seeds=2, supervised=True, timed_steps=8, workers=1, threads=None)
    grid = Grid('x', {'a': {}})
    assert (grid.base, grid.vary, grid.seeds, grid.seed) == ({}, {}, 3, 0)


DEFAULTS = {TopK: dict(nearest=16),
            MiOC: dict(anywhere=8, inside=8, gamma=.01, nu=.01, seed=None, active=1.), BatchSampler: dict(restart=.1, candidates=1000, neighbours=100, every=100)}


@pytest.mark.parametrize('kind', DEFAULTS)
def test_defaults_of_a_method(kind): assert dataclasses.asdict(kind()) == DEFAULTS[kind]


def with_queue(**fields): return MemoryConfig(queue_size=8, **fields)


EDGES = [(DataConfig, 'limit', 1, 0), (DataConfig, 'validation', 1, 0), (DataConfig, 'image_size', 8, 7), (DataConfig, 'augment_strength', 2., 2.01), (DataConfig, 'augment_strength', 0., -.01),
         (ModelConfig, 'head_hidden', 1, 0), (ModelConfig, 'head_out', 2, 1), (OptimConfig, 'batch_size', 2, 1), (OptimConfig, 'lr', 1e-9, 0.), (OptimConfig, 'weight_decay', 0., -1e-9),
         (MemoryConfig, 'queue_size', 0, -1), (with_queue, 'momentum', 0., -.1), (with_queue, 'momentum', .9999, 1.), (MemoryConfig, 'micro_batch', 2, 1),
         (RunConfig, 'seed', 2**31 - 1, 2**31), (RunConfig, 'seed', 0, -1), (RunConfig, 'save_every', 1, 0), (RunConfig, 'devices', 1, 0)]


@pytest.mark.parametrize('kind, name, good, bad', EDGES, ids=lambda x: getattr(x, '__name__', x))
def test_the_last_value_that_is_allowed(kind, name, good, bad):
    assert getattr(kind(**{name: good}), name) == good
    with pytest.raises(ValueError, match=f'^{name} must be .*, got '): kind(**{name: bad})


def test_settings_that_do_not_fit_each_other():
    for fields, words in ((dict(batch_size=2, devices=2), r'batch_size must be a multiple of devices × num_nodes \(2\), 2 images or more each, got 2'),
                          (dict(strategy='supervised', dataset='imagefolder', data_root='x', sample_ids='t.csv'), 'sample_ids must be None with supervised, which has no negatives')):
        with pytest.raises(ValueError, match=f'^{words}'): run_of(**fields)
    assert run_of(batch_size=4, devices=2).run.processes == 2


def test_the_knob_behind_the_name_counts():
    assert run_of(strategy='hcl(beta=2)', beta=3.).knobs.beta == 2. == run_of(strategy='hcl', beta=2.).knobs.beta


def test_as_many_threads_as_a_machine_may_have():
    for name in ('workers', 'threads'):
        assert getattr(comparison(**{name: 1024}), name) == 1024
        with pytest.raises(ValueError, match=f'^{name} must be 1024 or fewer, got 1025$'): comparison(**{name: 1025})


def test_what_one_row_may_have_of_its_own():
    cfg = comparison(temperature=.4, strategies=('simclr(temperature=.2)', 'hcl(tau_plus=.3)'))
    assert [(c.loss.temperature, c.loss.tau_plus) for c in (cell_config(cfg, row, 0) for row in cfg.strategies)] == [(.2, None), (.4, .3)]
    assert cell_config(cfg, 'supervised', 0).loss.temperature == .5  # which has none


@pytest.mark.parametrize('fields, words', [(dict(seeds=0), 'seeds must be a whole number ≥ 1'), (dict(seed=-1), 'seed must be a whole number ≥ 0'), (dict(cells={}), 'cells must be a table of one cell or more'),
                                           (dict(vary={'lr': .1}), "vary 'lr' must be a list of values"), (dict(vary={'lr': []}), "vary 'lr' must be one value or more"), (dict(base=3), 'base must be a table'), (dict(cells={'a': 3}), "cell 'a' must be a table of fields")], ids=str)
def test_grids_that_are_none(fields, words):
    with pytest.raises(ValueError, match=f'^{words}'): check_shape(dataclasses.replace(Grid('x', {'a': {}}), **fields))


def test_all_that_a_line_says_of_its_run():
    of_result = 'failed again unscored seconds peak_memory_mb device threads precision code torch data start sample_ids'.split()
    line = line_of('x', 'a', run_of(), dict.fromkeys(reversed(of_result), 1) | {'loss': 2., 'steps': 3, 'scores': {}})
    assert list(line) == ['experiment', 'cell', 'dataset', 'strategy', 'knobs', 'seed', 'epochs', 'scored_on', *of_result, 'key']


def test_how_a_run_of_a_sweep_ended():
    assert told({'linear': .12344, 'seconds': 2.6}) == 'linear 0.1234, 3 s'
    assert told({'linear': 0., 'seconds': 1.}) == 'linear 0.0000, 1 s'
    assert told({'linear': None, 'seconds': 60.4}) == 'linear –, 60 s' and told({'failed': 'why', 'linear': .5}) == 'why'


# methods

def test_labels_are_learnt_in_single_precision():
    z = torch.tensor([[300., 0.], [0., 301.]])
    loss = Supervised()(z.bfloat16(), z.bfloat16(), true_labels=torch.tensor([1, 1]))
    assert loss.dtype == torch.float32
    assert_close(loss, torch.tensor(150.))


def test_numbers_of_methods_that_are_refused():
    assert Ring(outer=1.).outer == 1. and MiOC(nu=1.).nu == 1. and BatchSampler(restart=1.).restart == 1.
    for make in (lambda: MiOC(gamma=0.), lambda: MiOC(nu=1.01), lambda: MiOC(anywhere=-1), lambda: MiOC(inside=-1), lambda: BatchSampler(restart=1.01), lambda: BatchSampler(every=0)):
        with pytest.raises(ValueError, match=' must be '): make()


def test_a_sphere_with_nobody_inside(monkeypatch):
    "Then any negative will do."
    monkeypatch.setattr(one_class, 'inside_sphere', lambda fitted, z, gamma, nu: torch.zeros(len(z), dtype=torch.bool))
    e = from_views([torch.eye(3), torch.eye(3)])
    shared = MiOC(anywhere=0, inside=40, seed=0).prepare(e, e, views, .5)
    assert len(shared.z) == 40 and set(shared.at.tolist()) == set(range(6))


def test_a_walk_is_patient():
    "On a ring, with many ways back, all are met in the order of the ring."
    ring = [[(i + 1) % 6] for i in range(6)]
    for seed in range(5): assert walked(ring, 2, 6, .5, random.Random(seed)) == [2, 3, 4, 5, 0, 1]
    assert sorted(walked([[1], [0], [2]], 0, 3, .1, random.Random(0))) == [0, 1, 2]  # caught, and the rest at random


def test_seeds_of_graphs(monkeypatch):
    seeds = []
    monkeypatch.setattr(batch_sampler, 'proximity_graph', lambda z, candidates, neighbours, seed: seeds.append((candidates, neighbours, seed)) or torch.zeros(4, 2, dtype=torch.int32))
    sampler = WalkSampler(BatchSampler(candidates=3, neighbours=2), 4, 2, seed=2)
    sampler.rebuild(torch.eye(4), 5)
    sampler.step = 7
    sampler.rebuild(torch.eye(4))
    assert seeds == [(3, 2, 2_000_011), (3, 2, 2_000_013)]


def test_walks_over_a_small_set():
    "All images may be in one batch; all others are candidates where few are."
    sampler = WalkSampler(BatchSampler(), 4, 4)
    assert sorted(sampler.batch(0).tolist()) == [0, 1, 2, 3] and len(sampler) == 1
    with pytest.raises(ValueError, match='^batch_size must be at most the 4 images, got 5$'): WalkSampler(BatchSampler(), 4, 5)
    with pytest.raises(ValueError, match='^z must be of 4 rows, got 3$'): sampler.rebuild(torch.eye(3))
    generator = torch.Generator().manual_seed(0)
    assert drawn_for(torch.tensor([0, 3]), 5, 4, generator).tolist() == [[1, 2, 3, 4], [0, 1, 2, 4]]
    assert drawn_for(torch.tensor([0, 3]), 5, 3, generator).shape == (2, 3)
