"Own texts and graphs, and what measures: odd ones are scored, counted, or refused in one sentence."

import random
import signal
import subprocess
import tracemalloc
import warnings

import networkx as nx
import numpy as np
import pytest
import torch
from torch import nn

import benchmarks.command
import benchmarks.process
import benchmarks.scale
import unremix.text_data
from unremix.config_groups import DataConfig
from unremix.graph_data import from_networkx, graph_set, load_graphs, pack
from unremix.graph_scores import degree_histogram, kernel_svc, tag_histogram
from unremix.graph_task import by_folds
from unremix.image_files import DatasetMissing
from unremix.text_data import (
    TextPairs,
    alike,
    embedded_pairs,
    is_held_out,
    library_pairs,
    near_duplicates,
    split_by_source,
    words_of,
)
from unremix.text_scores import mine_negatives, probe_in_folds, probe_scores, sts_scores
from unremix.text_task import load_texts

# ---------------------------------------------------------------- texts


def some_texts(n, seed, words=30, longest=9):
    "Texts of frequent and of rare words, some of which are alike, repeated or empty."
    chance = random.Random(seed)
    often = [1 / (i + 1) for i in range(words)]
    names = ['w' + chr(97 + i // 26) + chr(97 + i % 26) for i in range(words)]
    drawn = lambda: chance.choices(names, often, k=chance.randrange(longest))
    texts = [drawn() for _ in range(n)]
    for at in chance.sample(range(n), n // 3):
        copied = list(texts[chance.randrange(n)])
        texts[at] = copied + drawn()[: chance.randrange(3)]
    return tuple(' '.join(text) for text in texts)


def all_compared(texts, least):  # (n n) bool
    "Every text with every text, as the definition says."
    sets = [set(words_of(text)) for text in texts]
    near = np.zeros((len(texts), len(texts)), dtype=bool)
    for i, a in enumerate(sets):
        for j, b in enumerate(sets):
            shared = np.int64(len(a & b))
            near[i, j] = shared > 0 and shared >= least * len(a | b)
    return near


@pytest.mark.parametrize('least', [1e-9, 0.3, 0.5, 2 / 3, 0.8, 0.9, 1])
def test_near_duplicates_are_those_of_all_pairs(least):
    for seed in range(4):
        n = 60 + seed
        pairs = TextPairs(some_texts(n, seed), some_texts(n, 9 + seed), ('0',) * n)
        first, second = (all_compared(x, least) for x in (pairs.first, pairs.second))
        for rows in (7, 512):
            assert (alike(pairs.first, least, rows).toarray() == first).all()
        linked = first | second | np.eye(n, dtype=bool)
        for _ in range(6):
            linked = linked.astype(int) @ linked > 0
        number = np.unique(linked.argmax(1), return_inverse=True)[1]
        assert near_duplicates(pairs, least).tolist() == number.tolist()


def test_a_word_of_all_texts_compares_nobody():
    texts = [f'the a of q{"y" * (i % 50)}{"z" * (i // 50)}' for i in range(3000)]
    tracemalloc.start()
    found = alike(texts, 0.8, rows=len(texts))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.nnz == len(texts)
    assert most < 20e6  # a cell for every two texts would be a hundred million bytes


def test_near_duplicates_are_looked_for_once(monkeypatch):
    calls, real = [], alike
    counted = lambda texts, *more: calls.append(len(texts)) or real(texts, *more)
    monkeypatch.setattr(unremix.text_data, 'alike', counted)
    made = lambda: TextPairs(some_texts(40, 99), some_texts(40, 98), ('0',) * 40)
    ids = near_duplicates(made())
    assert calls == [40, 40]
    kept = ids.clone()
    ids += 1  # what is given is one's own
    assert torch.equal(near_duplicates(made()), kept) and calls == [40, 40]
    near_duplicates(made(), 0.5)
    assert calls == [40] * 4


def sentences_of(folder, documents):
    for number, lines in enumerate(documents):
        (folder / f'{number}.txt').write_text('\n'.join(lines))
    return DataConfig(modality='text', dataset='sentences', data_root=str(folder))


def lines_of(number, count=6):
    return [
        ' '.join(f'{x}{number}{i}'.translate(LETTERS) for x in 'abcd')
        for i in range(count)
    ]


LETTERS = str.maketrans('0123456789', 'ghijklmnop')


@pytest.mark.parametrize('count', [2, 3, 4])
def test_two_documents_leave_a_test_part(count, tmp_path):
    data = sentences_of(tmp_path, [lines_of(i) for i in range(count)])
    train, test = (load_texts(data, part, None) for part in ('train', 'test'))
    assert (len(train), len(test)) == (3 * (count - 1), 3)


def test_one_source_at_least_is_trained_on():
    assert is_held_out('4') and is_held_out('6')
    first, second = (tuple(f'{x} {i * "z"}' for i in range(4)) for x in 'ab')
    train, test = split_by_source(TextPairs(first, second, ('4', '4', '6', '6')))
    assert {*train.source} | {*test.source} == {'4', '6'}
    assert len(train) == len(test) == 2


def test_the_split_of_more_sources_is_by_their_names():
    pairs = embedded_pairs()
    train, test = split_by_source(pairs)
    assert (len(train), len(test)) == (2541, 441)
    assert not any(map(is_held_out, train.source)) and all(
        map(is_held_out, test.source)
    )


def test_what_leaves_no_pair_is_refused(tmp_path):
    empty = TextPairs((), (), ())
    assert split_by_source(empty) == (empty, empty) and not len(near_duplicates(empty))
    short = sentences_of(tmp_path, [['Yes, I do.', 'Oh no.']] * 3)
    for part in ('train', 'test'):
        with pytest.raises(
            ValueError, match='data_root must be a folder of .* four words'
        ):
            load_texts(short, part, None)
    repeated = sentences_of(tmp_path, [lines_of(0)] * 3)
    assert len(load_texts(repeated, 'train', None))
    with pytest.raises(ValueError, match='data_root must be .* for the test'):
        load_texts(repeated, 'test', None)
    (tmp_path / '2.txt').write_bytes('Größe und Maße'.encode('latin-1'))
    with pytest.raises(ValueError, match=r"UTF-8, got '.*2\.txt'"):
        load_texts(repeated, 'train', None)


def test_a_folder_without_modules_is_refused(tmp_path):
    (tmp_path / 'm.py').write_text('def f():\n    return 1\n')
    for folder in (tmp_path / 'none', tmp_path):
        with pytest.raises(
            ValueError, match='data_root must be a folder of documented functions'
        ):
            library_pairs(folder)


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float64])
def test_a_model_that_trains_is_scored(dtype):
    torch.manual_seed(0)
    model = nn.Embedding(12, 4)
    seen = []

    def encode(texts):
        h = model(torch.tensor([ord(text) - 97 for text in texts])).to(dtype)
        seen.append(h.requires_grad)
        return h

    pairs = [('a', 'b', 1.0), ('a', 'c', 2.0), ('b', 'c', 3.0)]
    assert -1 <= sts_scores(encode, {'STSB-test': pairs}, ['STS-B'])['STS-B'] <= 1
    rows = [(i % 2, chr(97 + i)) for i in range(12)]
    data = {'MR': rows, 'TREC_train': rows, 'TREC_test': rows}
    found = probe_scores(encode, data, ['MR', 'TREC'], folds=2, inner=2)
    assert all(0 <= x <= 1 for x in found.values()) and not any(seen)
    h = model.weight.to(dtype)
    assert 0 <= probe_in_folds(h, [y for y, _ in rows], folds=2, inner=2) <= 1


def test_documents_of_an_unknown_kind_are_mined():
    at = torch.eye(3)[[0, 0, 1, 2]]
    documents = (
        at + torch.tensor([0.0, 0.5, 0.5, 0.5])[:, None] * torch.eye(3)[[0, 1, 0, 0]]
    )
    mined = lambda same: mine_negatives(
        at[:1], documents, torch.tensor([0]), same=torch.tensor(same)
    ).tolist()
    assert (
        mined([0, 1, 2, 3])
        == mined([-1, -1, -1, -1])
        == mined([-1, -2, -1, 0])
        == [[1]]
    )
    assert mined([0, 0, 1, 2]) == [[2]] and mined([5, 5, -1, -1]) == [[2]]


# ---------------------------------------------------------------- graphs


def told_apart(y):
    torch.manual_seed(0)
    return nn.functional.one_hot(y, 2) * 5.0 + 0.01 * torch.randn(len(y), 2)


def scored(h, y):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        return by_folds(h[:0], y[:0], h, y)


def test_graphs_without_a_label_are_not_scored():
    true = torch.arange(60) % 2
    h, known = told_apart(true), torch.arange(60) % 3 > 0
    found = scored(h, torch.where(known, true, -1))
    assert found['linear'] == 1 and found['correct'] == '1' * 40
    of_labelled = scored(h[known], true[known])
    assert found['correct'] == of_labelled['correct']
    assert found['effective_rank'] == scored(h, true)['effective_rank']


@pytest.mark.parametrize(
    'y', [[-1] * 8, [0] * 8, [0, 1] * 2 + [-1] * 4, [0] * 6 + [1] * 2, []], ids=str
)
def test_without_folds_there_is_the_rank_alone(y):
    y = torch.tensor(y, dtype=torch.long)
    assert set(scored(told_apart(y.clamp_min(0)), y)) == {'effective_rank'}


def test_three_graphs_of_each_class_are_enough():
    y = torch.tensor([0, 1] * 3 + [0] * 5)
    assert scored(told_apart(y), y)['linear'] == 1


def test_an_unknown_tag_is_not_counted():
    graphs = pack([4, 3], [1, 1], [[0, 1], [0, 1]], [0, 1, -1, -1, -1, -1, -1])
    assert tag_histogram(graphs)(graphs).tolist() == [[1, 1], [0, 0]]
    unknown = graphs.with_tags(torch.full((7,), -1))
    assert tag_histogram(unknown)(unknown).tolist() == [[0], [0]]
    assert tag_histogram(unknown)(graphs).tolist() == [[2], [0]]
    assert degree_histogram(graphs)(graphs).tolist() == [[2, 2], [1, 2]]


def test_any_kind_of_graph_of_networkx_is_read():
    path = [(0, 1), (1, 2), (2, 3)]
    twice = [*path, (1, 0), (3, 2)]
    for kind in (nx.Graph, nx.MultiGraph, nx.DiGraph, nx.MultiDiGraph):
        for edges in (path, twice):
            graphs = from_networkx([kind(edges), nx.path_graph(2)])
            assert graphs.edges.tolist() == [list(e) for e in path] + [[0, 1]]
            assert graphs.tag.tolist() == [1, 2, 2, 1, 1, 1]
    with pytest.raises(ValueError, match='edges must be pairs u < v'):
        from_networkx([nx.Graph([(0, 0)])])
    tags = torch.tensor([3, 1, 2])
    assert from_networkx([nx.path_graph(3)], tags).tag.tolist() == [3, 1, 2]
    with pytest.raises(ValueError, match=r'tags must be of shape \(4\), got \(3,\)'):
        from_networkx([nx.path_graph(4)], tags)


MUTAG = dict(
    sizes=[2, 2, 2],
    edge_counts=[1] * 3,
    edges=[[0, 1]] * 3,
    tags=[0] * 6,
    labels=[0, 1, 1],
)


def stored(folder, **changes):
    arrays = {
        f'MUTAG_{k}': np.array(x) for k, x in (MUTAG | changes).items() if x is not None
    }
    np.savez(folder / 'graphs.npz', **arrays)
    return folder / 'graphs.npz'


def test_a_broken_file_of_graphs_is_named(tmp_path):
    path = stored(tmp_path)
    whole = path.read_bytes()
    assert len(load_graphs('mutag', tmp_path)) == 3
    bad = bytearray(whole)
    bad[len(whole) // 4] ^= 255
    np.save(tmp_path / 'one.npy', np.ones(2))
    plain = (tmp_path / 'one.npy').read_bytes()
    for content in (whole[: len(whole) // 2], b'', b'PK\x03\x04', b'words', plain):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r'data_root must .*graphs\.npz.*'):
            load_graphs('mutag', tmp_path)


def test_graphs_that_lack_an_array_are_refused(tmp_path):
    for name in MUTAG:
        stored(tmp_path, **{name: None})
        with pytest.raises(
            DatasetMissing, match=f'data_root has a graphs.npz without MUTAG_{name}'
        ):
            load_graphs('mutag', tmp_path)


@pytest.mark.parametrize('labels', [[0, 1], [0, 1, 1, 0], [[0], [1], [1]]], ids=str)
def test_a_class_for_each_graph(labels, tmp_path):
    stored(tmp_path, labels=labels)
    with pytest.raises(ValueError, match='y must be one class per graph'):
        load_graphs('mutag', tmp_path)
    with pytest.raises(ValueError, match='y must be one class per graph'):
        graph_set(
            from_networkx([nx.path_graph(2)] * 3), torch.tensor(labels), (), 'mine'
        )


def test_a_kernel_of_any_type():
    y = torch.arange(12) % 2
    h = told_apart(y).requires_grad_()
    right = kernel_svc((h @ h.T).bfloat16(), y, folds=3, inner_folds=2)
    assert right.all()


# ---------------------------------------------------------------- benchmarks


@pytest.mark.parametrize(
    'status,stderr,said',
    [
        (-signal.SIGKILL, '', 'killed by signal 9'),
        (1, '', 'status 1'),
        (1, 'Traceback\nMemoryError: none left\n', 'MemoryError: none left'),
    ],
)
def test_how_a_measurement_failed_is_said(status, stderr, said, monkeypatch):
    done = subprocess.CompletedProcess([], status, stdout='', stderr=stderr)
    monkeypatch.setattr(benchmarks.process.subprocess, 'run', lambda *a, **k: done)
    with pytest.raises(OSError) as e:
        benchmarks.process.fresh('pass', 'metric learning')
    assert str(e.value) == f'the measurement of metric learning failed: {said}'


ROW = dict(variant='products', n=512, seconds=0.5, memory_mb=1.0)
SCALE = 'scale --largest 512 --rounds 1 --variants products --out'.split()


def measured(monkeypatch):
    calls = []
    monkeypatch.setattr(
        benchmarks.scale, 'fresh', lambda *a, **k: calls.append(a) or [ROW]
    )
    return calls


def test_where_results_go_is_asked_first(monkeypatch, tmp_path):
    calls = measured(monkeypatch)
    (tmp_path / 'file').write_text('')
    for out in (tmp_path, tmp_path / 'file' / 'scale.json'):
        for name in ('losses', 'scale', 'loop'):
            with pytest.raises(
                ValueError, match='out must be a file that can be written'
            ):
                benchmarks.command.run([name, '--rounds', '1', '--out', str(out)])
    assert not calls


def test_a_table_is_printed_before_it_is_written(monkeypatch, tmp_path, capsys):
    measured(monkeypatch)
    out = tmp_path / 'new' / 'scale.json'
    assert benchmarks.command.run([*SCALE, str(out)]) == 0
    told = capsys.readouterr().out
    assert told.index('time/products') < told.index(f'\n\nwritten: {out}')
    kept = out.read_text()

    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('os.fsync', full)
    with pytest.raises(OSError, match='No space left on device'):
        benchmarks.command.run([*SCALE, str(out)])
    assert 'time/products' in capsys.readouterr().out
    assert out.read_text() == kept and [*out.parent.iterdir()] == [out]
