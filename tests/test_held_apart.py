"What is scored was not trained on: graphs with their labels, texts that are alike."

import pytest
import torch

from unremix.compare_config import CompareConfig
from unremix.config import TrainConfig
from unremix.config_groups import DataConfig
from unremix.rows import rows_left_out, rows_to_train
from unremix.run_folder import look, scored_samples, split_samples
from unremix.text_data import library_pairs, words_of
from unremix.text_task import TextEncoder, cut, find_second, load_texts, own_sentences

HERE = dict(precision='32-true', accelerator='cpu')
LABELLED = 'supervised', 'oracle', 'supcon', 'h-scl'
ON_GRAPHS = HERE | dict(modality='graph', limit=60, batch_size=20)


# graphs


def graphs(**more):
    pytest.importorskip('torch_geometric', reason='the extra graph')
    return TrainConfig.of(ON_GRAPHS | more)


@pytest.mark.parametrize('strategy', LABELLED)
def test_labels_of_scored_graphs_train_nothing(strategy):
    words = 'strategy must be one that needs no labels, since the training graphs are'
    with pytest.raises(ValueError, match=f'{words} the scored ones.*validation'):
        look(graphs(strategy=strategy))
    assert look(graphs(strategy=strategy, validation=30))['train']['graphs'] == 60


def test_graphs_without_labels_train_as_ever():
    assert look(graphs(strategy='hcl'))['test']['graphs'] == 60


def test_the_supervised_row_of_graphs_needs_held_out_ones():
    graphs()
    names = 'simclr', 'hcl'
    asked = CompareConfig.of(ON_GRAPHS | dict(strategies=names))
    [(row, why)] = rows_left_out(asked).items()
    assert row == 'supervised' and 'validation' in why and 'graphs' in why
    assert rows_to_train(asked) == list(names)
    held = asked.but({'validation': 30})
    assert not rows_left_out(held) and rows_to_train(held) == ['supervised', *names]


# texts of one's own


def folder_of(folder, documents):
    for number, lines in enumerate(documents):
        (folder / f'{number:03}.txt').write_text('\n'.join(lines))
    return str(folder)


def lines_of(document, count=9):
    "Sentences that share no word."
    letters = 'abcdefghij'
    name = lambda i: ''.join(letters[int(x)] for x in f'{document:02}{i:02}')
    return [f'{name(i)}k {name(i)}l {name(i)}m {name(i)}n' for i in range(count)]


def texts_of(pairs):
    return [frozenset(words_of(x)) for x in pairs.first + pairs.second]


def test_no_sentence_is_in_two_pairs(tmp_path):
    documents = [lines_of(i) for i in range(12)]
    pairs = own_sentences(folder_of(tmp_path, documents))
    assert len(pairs) == 12 * 4 and len(set(texts_of(pairs))) == 2 * len(pairs)
    assert pairs.first[:4] == tuple(documents[0][:8:2])
    assert pairs.second[:4] == tuple(documents[0][1:8:2])


def test_repeated_sentences_are_in_one_pair(tmp_path):
    "As the second text of one pair, the first of another, or both of one."
    again = 'This line is said again'
    documents = [lines_of(i, 6) for i in range(4)]
    documents[0][1:2] = [again]
    documents[1][2:3] = [again.upper() + '!']  # the same words
    documents[2][0:2] = [documents[2][0]] * 2
    pairs = own_sentences(folder_of(tmp_path, documents))
    seen = texts_of(pairs)
    assert len(set(seen)) == len(seen) and sum('again' in x for x in seen) == 1
    assert pairs.source.count('1') == 2 and pairs.source.count('2') == 2
    long = ' '.join(lines_of(9, 5))  # twenty words
    other = f'{long} more'
    folder = tmp_path / 'alike'
    folder.mkdir()
    documents = [[long, *lines_of(0, 3)], [*lines_of(1, 3), other]]
    assert len(own_sentences(folder_of(folder, documents))) == 3


def test_which_files_are_texts(tmp_path):
    "Endings in any case of letters; hidden files and folders are none."
    documents = [lines_of(i, 8) for i in range(4)]
    folder_of(tmp_path, documents)
    (tmp_path / '003.txt').rename(tmp_path / '003.TXT')
    (tmp_path / '.hidden.txt').write_text('\n'.join(lines_of(7)))
    (tmp_path / '._000.txt').write_bytes(b'\0\x05\x16\x07\xff')  # macOS leaves these
    (tmp_path / 'd.txt').mkdir()
    pairs = own_sentences(tmp_path)
    assert len(pairs) == 4 * 4 and {*pairs.source} == {*'0123'}
    with pytest.raises(ValueError, match='data_root must be a folder of .txt files'):
        own_sentences(tmp_path / 'd.txt')


def test_which_files_are_modules(tmp_path):
    code = 'def f(a):\n    "Do it at once {}."\n    return a\n'
    (tmp_path / 'a.py').write_text(code.format('now'))
    (tmp_path / 'd.py').mkdir()
    (tmp_path / 'd.py' / 'b.py').write_text(code.format('later'))
    for hidden in ('.ipynb_checkpoints', 'd.py/.git'):
        (tmp_path / hidden).mkdir()
        (tmp_path / hidden / 'c.py').write_text(code.format('never'))
    found = library_pairs(tmp_path)
    assert found.first == ('Do it at once now.', 'Do it at once later.')


def test_an_ideal_search_of_own_sentences_finds_all(tmp_path):
    folder = folder_of(tmp_path, [lines_of(i) for i in range(12)])
    data = DataConfig(modality='text', dataset='sentences', data_root=folder)
    train, test = (load_texts(data, part, None) for part in ('train', 'test'))
    place = {
        tuple(test.x[i, j].tolist()): (i, j) for i in range(len(test)) for j in (0, 1)
    }

    def embed(x):  # next to a text is its pair's other text, before all others
        h = torch.zeros(len(x), len(test) + 1)
        for row, text in zip(h, x[:, 0]):
            i, j = place[tuple(text.tolist())]
            row[i], row[-1] = 1, 0.5 * j
        return h

    assert find_second(embed, train, test) == {'mrr@10': 1.0, 'recall@10': 1.0}


# texts that `validation` holds out


def texts(dataset, n, **more):
    fields = dict(modality='text', dataset=dataset, validation=n)
    return TrainConfig.of(HERE | fields | more)


def scores_of_chance(train, test):
    torch.manual_seed(0)
    encoder = TextEncoder().eval()
    with torch.no_grad():
        return find_second(lambda x: encoder(cut(x[:, 0])), train, test)['mrr@10']


@pytest.mark.parametrize('dataset', ['docstrings', 'twice'])
@pytest.mark.parametrize('n', [50, 400])
def test_held_out_texts_are_of_other_modules(dataset, n):
    cfg = texts(dataset, n)
    train, held = split_samples(cfg)[0], scored_samples(cfg)
    assert len(held) == n and len(train) > 1500
    whole = load_texts(DataConfig(modality='text', dataset='docstrings'), 'train', None)
    place = {tuple(x.flatten().tolist()): i for i, x in enumerate(whole.x)}
    of_held = [place[tuple(x.flatten().tolist())] for x in held.x]
    assert not (held.x[:, 0] == held.x[:, 1]).all(1).any()
    by_first = {}
    for i, x in enumerate(whole.x[:, 0].tolist()):
        by_first.setdefault(tuple(x), []).append(i)
    of_train = [i for x in train.x[:, 0].tolist() for i in by_first[tuple(x)]]
    # no near-duplicate of what is trained on
    ids = whole.ids
    assert not torch.isin(ids[of_held], ids[of_train]).any()
    assert scores_of_chance(train, held) < 0.3
    same = bool(torch.equal(train.x[:, 0], train.x[:, 1]))
    assert same == (dataset == 'twice')
    assert len(held.y.unique()) >= 3


def test_no_module_is_in_both_parts(monkeypatch):
    import unremix.text_task as module

    seen = []
    real = module.as_samples
    monkeypatch.setattr(
        module,
        'as_samples',
        lambda pairs, name: seen.append(pairs) or real(pairs, name),
    )
    rest, held = module.hold_out_texts(texts('docstrings', 100).data, 100)
    of_held, of_rest = seen
    assert len(of_rest) == len(rest) and not set(of_rest.source) & set(of_held.source)


def test_the_limit_counts_what_is_left():
    train, held = split_samples(texts('docstrings', 100, limit=60))
    assert len(train) == 60 and len(held) == 100


def test_own_documents_are_held_out_whole(tmp_path):
    folder = folder_of(tmp_path, [lines_of(i) for i in range(12)])
    train, held = split_samples(texts('sentences', 6, data_root=folder))
    whole = split_samples(texts('sentences', None, data_root=folder))[0]
    assert len(held) == 6 and len(train) == len(whole) - 8  # four pairs a document


def test_more_than_whole_documents_leave_is_refused(tmp_path):
    folder = folder_of(tmp_path, [lines_of(i) for i in range(3)])
    whole = split_samples(texts('sentences', None, data_root=folder))[0]
    most = len(whole) - 4
    assert len(split_samples(texts('sentences', most, data_root=folder))[1]) == most
    with pytest.raises(ValueError, match=f'validation must be at most {most}'):
        split_samples(texts('sentences', most + 1, data_root=folder))


def test_held_out_texts_are_the_same_ones_each_time():
    cfg = texts('docstrings', 40)
    first, second = scored_samples(cfg), scored_samples(cfg)
    assert torch.equal(first.x, second.x) and first.fingerprint == second.fingerprint
