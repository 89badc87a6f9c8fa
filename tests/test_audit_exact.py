"The formulas of an audit and of a kept encoder, in loops over small examples."
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from unremix import suspects
from unremix.audit_lists import Audited, as_csv, audit_lists, image_table, pair_table
from unremix.data import ids_by_name
from unremix.findings import agreement, copy_score, doubt, group_ids, hard_but_different, may_be_copies, strangeness
from unremix.html_page import Card, Grid, Page, Section, render
from unremix.image_sets import Images
from unremix.kept_encoder import Encoder, with_channels, with_size
from unremix.machine import in_words, pace
from unremix.report import as_markdown, verdict_of
from unremix.suspects import OPINIONS, Pairs, nearest_others, pairs_of


def cosines(h):
    z = F.normalize(h)
    return [[float(z[i] @ z[j]) for j in range(len(z))] for i in range(len(z))]


@pytest.fixture(scope='module')
def points():
    h = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    return h, cosines(h)


def order_of(c, i): return sorted((j for j in range(len(c)) if j != i), key=lambda j: -c[i][j])


def test_neighbours_and_ranks(points, monkeypatch):
    h, c = points
    near = nearest_others(h, 12)
    for i in range(40): assert near.place[i].tolist() == order_of(c, i)[:12]
    monkeypatch.setattr(suspects, 'CELLS', 200) # five rows at a time
    assert torch.equal(nearest_others(h, 12).place, near.place)
    pairs = pairs_of(near)
    assert (pairs.a < pairs.b).all() and len({*zip(pairs.a.tolist(), pairs.b.tolist())}) == len(pairs.a)
    for a, b, cosine, (of_b, of_a) in zip(pairs.a.tolist(), pairs.b.tolist(), pairs.cosine.tolist(), pairs.rank.tolist()):
        assert abs(cosine - c[a][b]) < 1e-5
        assert of_b == min(order_of(c, a).index(b) + 1, 13) and of_a == min(order_of(c, b).index(a) + 1, 13)
        assert min(of_a, of_b) <= 12
    assert nearest_others(h, 100).place.shape == (40, 39)


def test_opinions(points):
    h, c = points
    near = nearest_others(h, 12)
    pairs = pairs_of(near)
    told = {name: f(near, pairs) for name, f in OPINIONS.items()}
    around = [sum(c[i][j] for j in order_of(c, i)[:10])/10 for i in range(40)]
    p = []
    for i in range(40):
        e = {j: math.exp(c[i][j]/.1) for j in order_of(c, i)[:12]}
        length = math.sqrt(sum(x*x for x in e.values()))
        p.append({j: x/length for j, x in e.items()})
    for m, (a, b) in enumerate(zip(pairs.a.tolist(), pairs.b.tolist())):
        assert abs(told['csls'][m] - (2*c[a][b] - around[a] - around[b])) < 1e-5
        assert abs(told['mutual'][m] + .5*sum(map(math.log, pairs.rank[m].tolist()))) < 1e-5
        assert abs(told['overlap'][m] - sum(x*p[b].get(j, 0) for j, x in p[a].items())) < 1e-5
    shares = [[(sum(y < x for y in s) + sum(y <= x for y in s))/(2*len(s)) for x in s] for s in (told[k].tolist() for k in ('cosine', 'csls', 'mutual', 'overlap'))]
    assert_close(told['mixture'], torch.tensor(shares).mean(0), atol=1e-5, rtol=0)
    assert_close(hard_but_different(told['overlap']), 1 - told['overlap'])


def test_strangers_and_doubts(points):
    h, c = points
    near = nearest_others(h, 12)
    y = torch.arange(40) % 4 - (torch.arange(40) == 9).long()*10
    against, instead = doubt(near, y)
    for i in range(40):
        order = order_of(c, i)
        assert abs(strangeness(near)[i] - (1 - sum(c[i][j] for j in order[:10])/10)) < 1e-5
        votes = [sum(math.exp(c[i][j]/.1) for j in order[:12] if y[j] == k) for k in range(4)]
        assert instead[i] == max(range(4), key=votes.__getitem__)
        if i == 9: assert against[i].isnan()
        else: assert abs(against[i] - (1 - votes[int(y[i])]/sum(votes))) < 1e-4


def test_copies_by_pixels():
    g = torch.Generator().manual_seed(1)
    coarse = torch.rand(6, 1, 5, 5, generator=g)*255
    x = with_size(coarse.byte(), 40)
    assert (agreement(x, x) > .9999).all() and (agreement(x, x.flip(3)) > .9999).all()
    assert (agreement(x, (x.float()*.6 + 20).byte()) > .999).all()
    inner = with_size(x[:, :, 2:38, 2:38].contiguous(), 40)
    assert (agreement(x, inner) > .99).all() and (agreement(inner, x) > .99).all()
    assert (agreement(x, x.roll(1, 0)) < .9).all() and (agreement(x, x.flip(2)) < .9).all()
    flat = torch.full_like(x, 7)
    assert agreement(flat, x).abs().max() < 1e-3


def test_how_much_a_copy_stands_out():
    a, b, r = [0, 0, 2, 4, 4, 7, 8], [1, 2, 3, 5, 6, 9, 9], [.98, .91, .95, .93, .93, .94, .97]
    score = copy_score(Pairs(torch.tensor(a), torch.tensor(b), torch.tensor(r), torch.ones(7, 2).long()), torch.tensor(r))
    for m in range(7):
        others = [r[k] for k in range(7) if k != m and {a[k], b[k]} & {a[m], b[m]}] # of either image, in another pair
        assert abs(score[m] - max(-1, 1 - (1 - r[m])/(1 - max(others)))) < 1e-4
    alone = Pairs(*(torch.tensor(x) for x in ([0, 1], [5, 1], [.0, .0], [[1, 1]]*2)))
    assert_close(copy_score(alone, torch.tensor([.96, .89])), torch.tensor([1 - .04/2, -1.])) # no other pair; below .9
    twice = Pairs(*(torch.tensor(x) for x in ([0, 0], [1, 2], [.0, .0], [[1, 1]]*2)))
    assert_close(copy_score(twice, torch.tensor([.999, .999])), torch.tensor([.999, .999]))


def test_candidates_for_copies_are_near_on_one_side(points):
    pairs = pairs_of(nearest_others(points[0], 12))
    assert may_be_copies(pairs).tolist() == [min(r) <= 3 for r in pairs.rank.tolist()]
    assert pairs.cosine.max() < .999 # the next test has such pairs


def test_a_picture_may_be_there_many_times(points):
    h = torch.cat([points[0][:1].repeat(7, 1), points[0]])
    pairs = pairs_of(nearest_others(h, 12))
    same = (pairs.a < 8) & (pairs.b < 8)
    assert same.sum() == 28 and may_be_copies(pairs)[same].all() and pairs.rank[same].amin(1).max() > 3


def test_groups():
    a, b = torch.tensor([3, 0, 1, 5]), torch.tensor([1, 1, 4, 2])
    assert group_ids(6, a, b, 10).tolist() == [0, 0, 2, 0, 0, 2]
    assert group_ids(6, a, b, 3).tolist() == [0, 0, 2, 0, 4, 2] # 4 came too late
    assert group_ids(6, a, b, 1).tolist() == list(range(6))


def test_lists_without_pixels_or_labels(points):
    h = torch.cat([points[0], points[0][:2]*3]) # two are there twice, at another norm
    audited = Audited(h, [f'{i}.png' for i in range(42)], ['']*42, ['train']*40 + ['test']*2)
    lists = audit_lists(audited, 10, 5)
    copies = pair_table(audited, lists)
    found = [(a, b, s) for k, a, b, s in zip(copies['kind'], copies['name_a'], copies['name_b'], copies['across']) if k == 'copy']
    assert sorted(found) == [('0.png', '40.png', 1), ('1.png', '41.png', 1)]
    assert not {('0.png', '40.png')} & {(a, b) for k, a, b in zip(copies['kind'], copies['name_a'], copies['name_b']) if k != 'copy'}
    same = [x for k, x in zip(copies['kind'], copies['score']) if k == 'same']
    assert same == sorted(same, reverse=True) and len(same) == 10
    images = image_table(audited, lists)
    assert images['id'][40] == images['id'][0] and images['group'][0] == images['id'].count(images['id'][0])
    assert images['doubt'] == [None]*42 and images['suggestion'] == ['']*42


def test_no_copy_is_cut_or_taken_for_a_near_image(points):
    h = torch.cat([points[0], points[0][:12]*3]) # twelve are there twice, and three pairs per list are asked for
    audited = Audited(h, [str(i) for i in range(52)], ['']*52, ['']*52)
    table = pair_table(audited, audit_lists(audited, 3, 5))
    pairs = {kind: {(a, b) for k, a, b in zip(table['kind'], table['name_a'], table['name_b']) if k == kind} for kind in ('copy', 'same')}
    assert pairs['copy'] == {(str(i), str(40 + i)) for i in range(12)}
    assert len(pairs['same']) == 3 and not pairs['same'] & pairs['copy']
    ids = image_table(audited, audit_lists(audited, 3, 5))['id']
    assert ids[:12] == ids[40:]


def test_any_file_name_comes_back_from_a_table(tmp_path):
    names = ['a\rb.png', 'a\nb.png', 'a\r\nb.png', '"a".png', 'a,b;c\td', ' a ', "'", '\u2028', 'é\x1a', '\r', 'plain']
    (tmp_path/'t.csv').write_bytes(as_csv({'name': names, 'id': [3]*len(names), 'doubt': [.5]*len(names)}).encode())
    images = Images(torch.zeros(11, 1, 8, 8), torch.zeros(11).long(), (), 'x', names=tuple(names))
    assert ids_by_name(images, tmp_path/'t.csv').tolist() == [0]*11
    assert as_csv({'name': ['a', 'b'], 'x': [1., None]}) == 'name,x\na,1\nb,\n'


def test_ids_by_name(tmp_path):
    images = Images(torch.zeros(4, 1, 8, 8), torch.zeros(4).long(), (), 'imagefolder', names=tuple('dcba'))
    (tmp_path/'t.csv').write_text('id,name\n3,a\n9,b\n3,c\n9,elsewhere\n')
    assert ids_by_name(images, tmp_path/'t.csv').tolist() == [0, 1, 2, 1]


def test_preparation():
    net = nn.Flatten()
    net.out_dim = 48
    encoder = Encoder(net, 'none', {'channels': 3, 'size': 4, 'mean': [.5, .25, 0.], 'std': [.5, 1., 2.]})
    x = torch.full((1, 1, 8, 8), 51, dtype=torch.uint8)
    assert_close(encoder.prepare(x)[0, :, 0, 0], torch.tensor([(.2 - .5)/.5, .2 - .25, .2/2]))
    rgb = torch.tensor([10, 200, 30], dtype=torch.uint8).view(1, 3, 1, 1)
    assert with_channels(rgb, 1).item() == round(.299*10 + .587*200 + .114*30)
    assert encoder.features(x).shape == (1, 48) and with_channels(x, 1) is x


def test_pace():
    assert pace(1, 0, 3, 50.) == 'run 1 of 3, about 2 min left' and pace(3, 0, 3, 50.) == 'run 3 of 3'
    assert pace(5, 4, 6, 7.) == 'run 5 of 6, about 7 s left' and pace(4, 4, 6, 0.) == 'run 4 of 6'
    assert in_words(.1) == 'about 1 s' and in_words(90*60) == 'about 1.5 h'


def test_pages_escape_what_is_told():
    page = Page('<b>', 'a & b', [Section('x', grid=Grid(['n'], [Card([], '</script><script>alert(1)</script>', [1.5])]))])
    text = render(page)
    assert '<b>' not in text and 'a &amp; b' in text and '</script><script>alert' not in text
    assert as_markdown(['a|b'], [['1']]) == '| a/b |\n| --- |\n| 1 |\n'


def test_verdicts():
    row = {'n': 3, 'linear': {}}
    better = {'n': 3, 'difference': .021, 'error': .004, 'verdict': 'better', 'p': .001}
    result = {'config': {'reference': 'simclr', 'strategies': ('simclr', 'hcl'), 'seeds': 3}, 'rows': {'simclr': row, 'hcl': better, 'pixels': {**better, 'verdict': 'worse'}}}
    assert verdict_of(result) == '3 seeds per row. Against simclr, in points of the linear probe: hcl +2.1 ± 0.4 better.'
    result['rows']['hcl'] = {'n': 0, 'failed': 'loss is nan'}
    assert verdict_of(result).endswith('Failed: hcl.')
    result['unscored'] = 'no image has a label'
    assert 'Accuracies are left out, since no image has a label.' in verdict_of(result)
