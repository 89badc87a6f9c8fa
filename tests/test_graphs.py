"Graphs: the Jensen–Shannon loss and its signs, packed graphs and their views, the encoder, scores, and the task in the loop."
import json
import math
import subprocess
import sys
from itertools import combinations, product
from pathlib import Path
from types import SimpleNamespace

import networkx as nx
import pytest
import torch
from torch.testing import assert_close

from unremix.contrast import compare
from unremix.contrastive_loss import ContrastiveLoss
from unremix.embeddings import from_views
from unremix.graph_data import from_networkx, join, load_graphs, pack, to_networkx
from unremix.hard_negatives import HCL, uniform
from unremix.jensen_shannon import JSD, JensenShannon, RescaledHCL, jsd_parts, local_global
from unremix.losses import NTXentLoss
from unremix.rules import across, supervised

ROOT = Path(__file__).resolve().parents[1]
RELEASED = dict(class_prior=.5, legacy_prior=True)


def views(b=6, d=5, seed=0, spread=.7):
    torch.manual_seed(seed)
    z = torch.randn(b, d, dtype=torch.float64)
    return z, z + spread * torch.randn(b, d, dtype=torch.float64)


def contrast(rule=None, t=.5, labels=None, **given):
    e = from_views([*views(**given)], labels=labels)
    return compare(e, e, rule, t) if rule else compare(e, e, temperature=t)


def sp(x): return max(x, 0.) + math.log1p(math.exp(-abs(x)))


def in_loops(c, w, prior=0., released=False):
    "The formulas of the page, from E_pos and E_neg, one pair after the other."
    out = []
    for i in range(len(c.logits)):
        row = list(enumerate(c.logits[i].tolist()))
        good, bad = [T for j, T in row if c.positive[i, j]], [(j, T) for j, T in row if c.negative[i, j]]
        if not good or not bad:
            out.append(0.)
            continue
        mean = lambda x: sum(x) / len(x)
        sign = -1 if released else 1
        e_neg = mean([w[i, j].item() * sp(T) for j, T in bad]) / (1 - prior)
        class_part = prior / (1 - prior) * mean([sp(T) for T in good])
        rest = e_neg - sign * class_part
        rest = rest if released else max(rest, 0.)
        out.append(rest - math.log(2) - (math.log(2) - mean([sp(-T) for T in good])))
    return torch.tensor(out, dtype=torch.float64)


# ---------------------------------------------------------------- the loss

@pytest.mark.parametrize('rule', [None, across, supervised])
@pytest.mark.parametrize('prior,released', [(0., False), (.1, False), (.5, False), (.5, True)])
def test_the_loss_in_loops(rule, prior, released):
    c = contrast(rule, labels=torch.tensor([0, 0, 1, 1, 1, 2]))
    loss = JensenShannon(prior, released)
    for log_w in (uniform(c), HCL(1.5)(c), RescaledHCL(2.)(c)):
        assert_close(loss(c, log_w), in_loops(c, log_w.exp(), prior, released), rtol=0, atol=1e-8)


def test_the_published_form_is_the_released_one():
    "E_pos = log 2 − sp(−T) − τ⁺/(1−τ⁺)·sp(T) and E_neg = w·sp(T)/(1−τ⁺) − log 2."
    c, tau = contrast(), .5
    w = RescaledHCL(1.)(c).exp()
    s = torch.nn.functional.softplus
    positive = (math.log(2) - s(-c.logits) - tau / (1 - tau) * s(c.logits))[c.positive]
    negative = torch.where(c.negative, w * s(c.logits) / (1 - tau) - math.log(2), 0.).sum(1) / c.k
    assert_close(JensenShannon(**RELEASED)(c, w.log()), negative - positive, rtol=0, atol=1e-8)


def test_plain_is_binary_cross_entropy():
    c = contrast()
    entropy = torch.nn.functional.binary_cross_entropy_with_logits
    good, bad = (entropy(c.logits[m], torch.full_like(c.logits[m], y)) for m, y in ((c.positive, 1.), (c.negative, 0.)))
    assert_close(JensenShannon()(c, uniform(c)).mean(), good + bad - 2 * math.log(2))


def test_forces_are_two_sigmoids():
    c = contrast()
    T = c.logits.detach().clone().requires_grad_()
    e = c.anchors
    free = compare(e, e, temperature=1., logits=T)
    JensenShannon()(free, uniform(free)).sum().backward()
    wanted = torch.where(c.positive, -torch.sigmoid(-T), 0.) + torch.where(c.negative, torch.sigmoid(T) / c.k[:, None], 0.)
    assert_close(T.grad, wanted.detach())


@pytest.mark.parametrize('released,best', [(False, None), (True, 0.)])
def test_the_sign_of_the_prior(released, best):
    "At τ⁺ = .5 the released sign has its optimum at score 0 of a positive; the derived one has none."
    e = from_views([torch.eye(2, dtype=torch.float64)[:, :2]] * 2)
    T = torch.full((4, 4), 3., dtype=torch.float64)
    forces = []
    for score in (-2., 0., 2.):
        x = T.clone()
        x[compare(e, e).positive] = score
        x.requires_grad_()
        c = compare(e, e, temperature=1., logits=x)
        JensenShannon(.5, released)(c, uniform(c)).sum().backward()
        forces.append(x.grad[c.positive].mean().item())
    if released:
        assert forces[0] < 0 < forces[2] and abs(forces[1]) < 1e-12
    else:
        assert max(abs(f + 1) for f in forces) < 1e-12


def test_the_floor_takes_the_push_away():
    c = contrast(spread=.01)
    x = c.logits.detach() - 20. * c.negative + 5. * c.positive
    x.requires_grad_()
    free = compare(c.anchors, c.candidates, temperature=1., logits=x)
    loss = JensenShannon(.5)
    loss(free, uniform(free)).sum().backward()
    assert (loss.at_floor(free, uniform(free)) == 1).all() and (x.grad[free.negative] == 0).all() and (x.grad[free.positive] < 0).all()
    assert (JensenShannon()(free, uniform(free)) > -2 * math.log(2)).all()
    assert not JensenShannon(**RELEASED).at_floor(free, uniform(free)).any()


def test_clamped_fraction_tells_of_the_floor():
    z1, z2 = views(spread=.01)
    _, stats = ContrastiveLoss(loss=JensenShannon(.9), temperature=.1)(z1, z2, return_stats=True)
    _, none = ContrastiveLoss(loss=JensenShannon(), temperature=.1)(z1, z2, return_stats=True)
    assert stats['clamped_fraction'] > .5 and none['clamped_fraction'] == 0


def test_nobody_to_compare_with():
    "An anchor without positives or negatives has loss 0 and no gradient."
    z = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    pairs = local_global(z, z[:1], torch.zeros(3, dtype=torch.long))
    loss = JensenShannon(.1)(pairs, RescaledHCL()(pairs))
    loss.sum().backward()
    assert (loss == 0).all() and (z.grad == 0).all()


# ---------------------------------------------------------------- the weights

@pytest.mark.parametrize('beta', [.5, 2.])
@pytest.mark.parametrize('legacy', [False, True])
def test_the_weight_rises_with_the_score(beta, legacy):
    c = contrast()
    w, T = RescaledHCL(beta, legacy)(c).exp(), c.logits
    for i in range(len(T)):
        cells = c.negative[i].nonzero()[:, 0].tolist()
        for a, b in combinations(cells, 2):
            if T[i, a] != T[i, b]: assert ((w[i, a] > w[i, b]) == (T[i, a] > T[i, b])).item() != legacy
    push = ((w * T)[c.negative].mean() - T[c.negative].mean()).item()
    assert (push < 0) == legacy


@pytest.mark.parametrize('legacy', [False, True])
def test_the_weights_in_loops(legacy):
    c = contrast()
    T, slope = c.logits, (-2 if legacy else 2) * 1.5
    largest = max(abs(T[i, j].item()) for i, j in c.negative.nonzero().tolist())
    for i in range(len(T)):
        e = {j: math.exp(slope * T[i, j].item() / largest) for j in c.negative[i].nonzero()[:, 0].tolist()}
        for j, x in e.items(): assert abs(RescaledHCL(1.5, legacy)(c)[i, j].exp().item() - len(e) * x / sum(e.values())) < 1e-8
    assert_close(RescaledHCL(0.)(c), uniform(c))


def test_the_scale_is_that_of_all_anchors():
    z1, z2 = views(b=9)
    parts = jsd_parts(JSD(beta=1., class_prior=.1))
    whole = ContrastiveLoss(**parts, reduction='none')(z1, z2)
    for chunk in (1, 4, 7): assert_close(ContrastiveLoss(**parts, chunk_size=chunk, reduction='none')(z1, z2), whole)
    e = from_views([z1, z2])
    c = compare(e, e, temperature=.5)
    assert_close(parts['loss'](c, parts['weights'](c)), whole)
    assert_close(ContrastiveLoss(RescaledHCL(1.), temperature=.5)(z1, z2), ContrastiveLoss(RescaledHCL(1.), temperature=.5)(3 * z1, z2))


def test_equal_scores_are_uniform_and_zeros_are_finite():
    z = torch.zeros(4, 3, requires_grad=True)
    loss = ContrastiveLoss(**jsd_parts(JSD(beta=2.)))(z, z)
    loss.backward()
    assert abs(loss.item()) < 1e-6 and z.grad.isfinite().all()


# ---------------------------------------------------------------- nodes and graphs

@pytest.mark.parametrize('anchors', ['nodes', 'graphs'])
def test_local_global_in_loops(anchors):
    torch.manual_seed(3)
    of = torch.tensor([0, 0, 0, 1, 2, 2, 3])
    nodes, graphs = torch.randn(7, 5, dtype=torch.float64), 3 * torch.randn(4, 5, dtype=torch.float64)
    c = local_global(nodes, graphs, of, anchors)
    table = nodes @ graphs.T
    own = of[:, None] == torch.arange(4)
    wanted = (table, own) if anchors == 'nodes' else (table.T, own.T)
    assert_close(c.logits, wanted[0])
    assert (c.positive == wanted[1]).all() and (c.negative == ~wanted[1]).all()
    for loss, weights in ((JensenShannon(), uniform), (JensenShannon(.1), RescaledHCL(1.)), (JensenShannon(**RELEASED), RescaledHCL(1., True))):
        found = loss(c, weights(c))
        assert_close(found, in_loops(c, weights(c).exp(), loss.class_prior, loss.legacy_prior), rtol=0, atol=1e-8)
    order = torch.randperm(7)
    turned = local_global(nodes[order], graphs, of[order], anchors)
    assert_close(JensenShannon()(turned, uniform(turned)).mean(), JensenShannon()(c, uniform(c)).mean())


@pytest.mark.parametrize('of', ([0, 1, 2], [0, -1, 1]))
def test_a_node_of_a_graph_that_is_not_there_is_refused(of):
    "Its loss would be 0 without a word."
    nodes, graphs = torch.ones(3, 4), torch.ones(2, 4)
    for kind in (torch.int64, torch.int32):
        with pytest.raises(ValueError, match='^graph_of must be from 0 to 1, got (2|-1)$'):
            local_global(nodes, graphs, torch.tensor(of, dtype=kind))
    local_global(nodes, graphs, torch.tensor([0, 1, 1], dtype=torch.uint8))
    local_global(nodes[:0], graphs, torch.tensor([], dtype=torch.int64))


def test_local_global_has_gradients():
    torch.manual_seed(0)
    inputs = [torch.randn(n, 3, dtype=torch.float64, requires_grad=True) for n in (5, 3)]
    of = torch.tensor([0, 1, 1, 2, 2])

    def loss(nodes, graphs):
        c = local_global(nodes, graphs, of)
        return JensenShannon(.1)(c, uniform(c))
    assert torch.autograd.gradcheck(loss, inputs)


@pytest.mark.parametrize('call,sentence', [
    (lambda: JensenShannon(-.1), 'class_prior must be a number in [0, 1), got -0.1'),
    (lambda: JensenShannon(.1, legacy_prior=1), 'legacy_prior must be True or False, got 1'),
    (lambda: JSD(beta=-1), 'beta must be a number ≥ 0, got -1'),
    (lambda: RescaledHCL(0., legacy_sign=True), 'legacy_sign must be False at beta = 0, got True'),
    (lambda: JensenShannon()(contrast(), torch.zeros(2, 2)), 'log_w must be of shape (12, 12), got (2, 2)'),
    (lambda: local_global(torch.ones(2, 3), torch.ones(2, 4), torch.zeros(2).long()), 'nodes must be 4 wide, as the graphs are, got 3'),
    (lambda: pack([2], [1], [[1, 0]], [0, 0]), "edges must be pairs u < v of nodes within the graph, got '1 others'"),
    (lambda: pack([2, 1], [1], [[0, 1]], [0, 0, 0]), 'edge_counts must be one number per graph, got (1,)'),
])
def test_what_is_refused(call, sentence):
    with pytest.raises(ValueError) as e: call()
    assert str(e.value) == sentence


# ---------------------------------------------------------------- graphs

SOME = [nx.path_graph(5), nx.complete_graph(4), nx.empty_graph(3), nx.star_graph(4), nx.cycle_graph(6), nx.petersen_graph()]


def same(a, b): return all((x == y).all() for x, y in zip(a.parts, b.parts))


def test_any_index_is_that_of_a_list():
    graphs = from_networkx(SOME)
    for idx in ([0, 5, 5, 2], [2], [3, 1, 0], []):
        chosen = graphs[torch.tensor(idx, dtype=torch.long)]
        assert len(chosen) == len(idx)
        for place, number in enumerate(idx):
            assert sorted(to_networkx(chosen, place).edges) == sorted(map(lambda e: tuple(sorted(e)), SOME[number].edges))
    assert same(graphs[torch.tensor([1, 3])], from_networkx([SOME[1], SOME[3]]))
    assert same(join(graphs[:2], graphs[2:]), graphs) and same(graphs.to('cpu'), graphs) and graphs.nbytes > 0


def test_the_union_is_that_of_networkx():
    graphs, union = from_networkx(SOME), nx.disjoint_union_all(SOME)
    assert {tuple(e) for e in graphs.union_edges.tolist()} == {tuple(sorted(e)) for e in union.edges}
    assert graphs.edge_index.shape == (2, 2 * union.number_of_edges())
    assert graphs.degree.tolist() == [union.degree[v] for v in range(len(union))]


@pytest.fixture(scope='module')
def atlas(): return load_graphs('atlas')


def test_the_atlas_is_exact(atlas):
    several = [g for g in nx.graph_atlas_g() if len(g) > 1]
    assert len(atlas) == len(several) == 1251
    triangles = [sum(nx.triangles(g).values()) // 3 for g in several]
    bins = [(0, 0), (1, 2), (3, 4), (5, 7), (8, 99)]
    assert all(bins[y][0] <= n <= bins[y][1] for y, n in zip(atlas.y.tolist(), triangles))
    again = load_graphs('atlas')
    assert atlas.fingerprint == again.fingerprint and len(atlas.fingerprint) == 16


# ---------------------------------------------------------------- what needs PyTorch Geometric


def pyg(edges, y=None, nodes=4):
    return SimpleNamespace(edge_index=torch.tensor(edges).T, num_nodes=nodes, x=None, y=y)


def test_edges_of_pyg_count_once_in_any_direction():
    from unremix.graph_encoder import from_pyg

    wanted = [[0, 1], [1, 2], [2, 3]]
    for edges in (wanted, [[b, a] for a, b in wanted], [[1, 0], [0, 1], [2, 1], [2, 3], [2, 3]]):
        graphs, labels = from_pyg([pyg(edges, torch.tensor([3])), pyg(edges)])
        assert graphs.edges.tolist() == wanted * 2 and graphs.edge_count.tolist() == [3, 3]
        assert labels.tolist() == [3, -1]  # one without a label is unknown
    with pytest.raises(ValueError, match='edges must be pairs u < v'):
        from_pyg([pyg([[0, 1], [2, 2]])])


@pytest.mark.parametrize('y', [torch.tensor([.5]), torch.tensor([1, 0]), torch.tensor([float('nan')])])
def test_what_is_no_class_is_refused(y):
    from unremix.graph_encoder import from_pyg

    with pytest.raises(ValueError, match='y must be None, or one whole number for each graph'):
        from_pyg([pyg([[0, 1]], y)])


def test_views(atlas):
    from unremix.graph_task import CHANGES, GraphViews, dropped, kept_nodes, masked, rewired, walked
    torch.manual_seed(0)
    n = len(atlas)
    for ratio in (0., .2, .5, .9):
        r = torch.full((n,), ratio)
        keep = dropped(atlas.x, r)
        smaller = kept_nodes(atlas.x, keep)
        assert (smaller.size == (atlas.x.size - (ratio * atlas.x.size).round().long()).clamp_min(1)).all()
        for i in range(0, n, 97):
            g = to_networkx(atlas.x, i)
            stay = keep[atlas.x.graph_of == i].nonzero()[:, 0].tolist()
            wanted = nx.relabel_nodes(g.subgraph(stay), {v: k for k, v in enumerate(stay)})
            assert nx.utils.graphs_equal(to_networkx(smaller, i), nx.Graph(wanted))
        new = rewired(atlas.x, r)
        pack(new.size, new.edge_count, new.edges, new.tag)
        gone = (atlas.x.edge_count * ratio).round().long()
        assert (new.edge_count <= atlas.x.edge_count).all() and (new.edge_count >= atlas.x.edge_count - gone).all()
        walk = walked(atlas.x, r)
        for i in range(0, n, 97):
            if ratio: assert nx.is_connected(to_networkx(atlas.x, i).subgraph(walk[atlas.x.graph_of == i].nonzero()[:, 0].tolist()))
        forgot = torch.zeros(n).index_add(0, atlas.x.graph_of, (masked(atlas.x, r).tag < 0).float())
        assert_close(forgot, (atlas.x.size * ratio).round())
    for change in CHANGES: assert same(GraphViews((change,), 0.)(atlas.x), join(atlas.x, atlas.x))


def test_every_node_is_dropped_as_often():
    from unremix.graph_task import dropped
    torch.manual_seed(0)
    graphs = from_networkx([nx.path_graph(5)] * 4000)
    share = (~dropped(graphs, torch.full((4000,), .4))).view(4000, 5).double().mean(0)
    assert_close(share, torch.full((5,), .4).double(), atol=.03, rtol=0)


def test_a_walk_is_a_walk():
    "From the middle of a path of three nodes, either end is the next with probability one half."
    from unremix.graph_task import walked
    torch.manual_seed(0)
    graphs = from_networkx([nx.path_graph(3)] * 6000)
    found = walked(graphs, torch.full((6000,), .34)).view(6000, 3)
    assert (found.sum(1) == 2).all() and found[:, 1].all()
    assert_close(found.double().mean(0)[[0, 2]], torch.tensor([.5, .5]).double(), atol=.03, rtol=0)


def test_seeds_repeat_views(atlas):
    from unremix.graph_task import GraphViews
    made = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        made.append(GraphViews()(atlas.x[:50]))
    assert same(made[0], made[1]) and not (len(made[0].tag) == len(made[2].tag) and same(made[0], made[2]))


def test_gin_in_dense_matrices(atlas):
    pytest.importorskip('torch_geometric', reason='the extra graph')
    from unremix.graph_encoder import GIN
    torch.manual_seed(0)
    encoder = GIN(atlas.kinds, width=8, layers=2)
    encoder(atlas.x) # moves the means of batch normalisation away from 0
    encoder = encoder.double().eval()
    torch.set_default_dtype(torch.float64)
    try: nodes, h = encoder.nodes(atlas.x), encoder(atlas.x)
    finally: torch.set_default_dtype(torch.float32)
    for i in range(0, len(atlas), 211):
        g, mine = to_networkx(atlas.x, i), atlas.x.graph_of == i
        A = torch.from_numpy(nx.to_numpy_array(g))
        x, seen = torch.eye(atlas.kinds).double()[atlas.x.tag[mine]], []
        for conv, norm in zip(encoder.convs, encoder.norms):
            x = norm(conv.nn(x + A @ x).relu())
            seen.append(x)
        assert_close(nodes[mine], torch.cat(seen, 1))
        assert_close(h[i], torch.cat(seen, 1).sum(0))


def test_graphcl_is_ntxent_of_the_graphs(atlas):
    pytest.importorskip('torch_geometric', reason='the extra graph')
    from unremix.encoders import Model, ProjectionHead
    from unremix.graph_encoder import GIN
    from unremix.graph_task import GraphViews
    torch.manual_seed(0)
    model = Model(GIN(atlas.kinds), ProjectionHead(96, 32, 16))
    z, _ = model(GraphViews()(atlas.x[::100]))
    b = len(z) // 2
    logits = torch.nn.functional.normalize(z.double()) @ torch.nn.functional.normalize(z.double()).T / .2
    logits.fill_diagonal_(-math.inf)
    wanted = torch.nn.functional.cross_entropy(logits, torch.arange(2 * b).roll(b))
    assert_close(NTXentLoss(temperature=.2)(*z.double().chunk(2)), wanted)


def wl_in_loops(graphs, rounds):
    "A colour is a nested tuple; two graphs meet as often as pairs of nodes share one, over all rounds."
    met = torch.zeros(len(graphs), len(graphs), dtype=torch.float64)
    colours = [dict(g.nodes(data='tag')) for g in graphs]
    for step in range(rounds + 1):
        for (i, a), (j, b) in product(enumerate(colours), repeat=2): met[i, j] += sum(x == y for x in a.values() for y in b.values())
        colours = [{v: (of[v], tuple(sorted((of[u] for u in g[v]), key=repr))) for v in g} for g, of in zip(graphs, colours)]
    return met


def wl_of_grakel(graphs, rounds):
    grakel = pytest.importorskip('grakel', reason='another implementation of the kernel')
    theirs = [grakel.Graph({v: list(g[v]) for v in g}, node_labels=dict(g.nodes(data='tag'))) for g in graphs]
    kernel = grakel.WeisfeilerLehman(n_iter=rounds, base_graph_kernel=grakel.VertexHistogram)
    return torch.as_tensor(kernel.fit_transform(theirs)).double()


@pytest.mark.parametrize('theirs', (wl_in_loops, wl_of_grakel))
def test_wl_kernel_is_that_of_others(atlas, theirs):
    from unremix.graph_scores import wl_kernel
    torch.manual_seed(0)
    part = atlas.x[::40]
    part = part.with_tags(torch.randint(3, part.tag.shape)) # degrees would follow from the number of neighbours
    graphs = [to_networkx(part, i) for i in range(len(part))]
    for rounds in (1, 3): assert_close(wl_kernel(part, rounds), theirs(graphs, rounds))


def test_folds_cannot_see_what_they_predict():
    "A kernel that says which graph is which, and nothing else, predicts nothing."
    from unremix.graph_scores import kernel_svc
    y = torch.arange(40) % 2
    right = kernel_svc(torch.eye(40).double(), y, folds=10, inner_folds=3)
    assert right.double().mean() <= .5
    linear = torch.stack([y.double(), torch.ones(40).double()], 1)
    assert kernel_svc(linear @ linear.T, y, folds=10, inner_folds=3).all()
    assert kernel_svc(linear @ linear.T, y, repeats=3).shape == (3, 40)


def test_the_loop_takes_graphs(tmp_path):
    pytest.importorskip('torch_geometric', reason='the extra graph')
    from unremix.compare import compare
    from unremix.compare_config import CompareConfig
    asked = dict(modality='graph', limit=40, batch_size=20, epochs=1, strategies=('simclr', 'hcl', 'unremix', 'jsd(beta=1)'), seeds=1,
                 workers=1, timed_steps=1, accelerator='cpu', precision='32-true')
    result = compare(CompareConfig.of(asked), tmp_path / 'out', progress=False)
    assert {'degree histogram', 'untrained', 'simclr', 'hcl', 'unremix', 'jsd(beta=1)'} <= set(result['rows'])
    data = json.loads((tmp_path / 'out' / 'data.json').read_text())
    assert data['train']['graphs'] == 40


def test_every_strategy_trains_on_graphs(tmp_path, atlas):
    "One step of the loop's loss for each strategy that has a name, on the graphs' embeddings."
    pytest.importorskip('torch_geometric', reason='the extra graph')
    from importlib.util import find_spec
    from unremix.config import TrainConfig
    from unremix.registry import known
    from unremix.run_parts import set_up
    from unremix.steps import epoch_steps
    for name in known():
        if name == 'transport' and not find_spec('ot'): continue
        run = set_up(TrainConfig.of(dict(modality='graph', strategy=name, limit=24, batch_size=12, epochs=1, accelerator='cpu', precision='32-true')))
        losses = [loss.item() for _, loss, _ in epoch_steps(run, 0)]
        assert len(losses) == 2 and all(map(math.isfinite, losses)), name


PIECES = dict(modality='graph', limit=48, batch_size=24, epochs=2, log_every=1, accelerator='cpu', precision='32-true', seed=3)
FORMS = 'infograph', 'infograph(class_prior=0.1)', 'infograph(beta=1)', 'infograph(beta=1, legacy_sign=True)', 'infograph(beta=2, class_prior=0.5, legacy_prior=True)'


@pytest.mark.parametrize('strategy', FORMS)
def test_infograph_in_the_loop_is_the_loss_without_it(strategy):
    "The loss and the gradient of the first step, against a table of nodes and graphs that is built here."
    pytest.importorskip('torch_geometric', reason='the extra graph')
    from unremix.config import TrainConfig
    from unremix.run_parts import set_up
    from unremix.steps import epoch_steps, order_of
    cfg = TrainConfig.of(PIECES | dict(strategy=strategy, lr=1e-9, warmup_epochs=0., weight_decay=0.))
    torch.set_default_dtype(torch.float64)
    try:
        run, other = set_up(cfg), set_up(cfg)
        for r in (run, other): r.model.double()
        graphs = other.samples.x[order_of(other, 0)[:24]]
        nodes, wholes, graph_of = other.model(graphs)
        assert_close(wholes, other.model.global_head(torch.stack([other.model.encoder.nodes(graphs)[graph_of == i].sum(0) for i in range(24)])))
        w = RescaledHCL(cfg.knobs.beta, cfg.knobs.legacy_sign)(local_global(nodes, wholes, graph_of)).exp()
        T, own = nodes @ wholes.T, torch.arange(24) == graph_of[:, None]
        cost, pull = torch.nn.functional.softplus(T), torch.nn.functional.softplus(-T[own])
        push, prior = (w * cost).where(~own, 0.).sum(1) / 23, cfg.knobs.class_prior
        rest = (push + prior * cost[own] if cfg.knobs.legacy_prior else push - prior * cost[own]) / (1 - prior)
        wanted = (pull + (rest if cfg.knobs.legacy_prior else rest.clamp_min(0)) - 2 * math.log(2)).mean()
        wanted.backward()
        seen, step = [], run.optimizer.step
        run.optimizer.step = lambda: (seen.append([p.grad.clone() for p in run.model.parameters()]), step())
        _, loss, values = next(epoch_steps(run, 0))
    finally: torch.set_default_dtype(torch.float32)
    assert abs(loss.item() - wanted.item()) < 1e-8 and math.isfinite(loss.item())
    for ours, p in zip(seen[0], other.model.parameters(), strict=True): assert_close(ours, p.grad, rtol=1e-6, atol=1e-9)
    assert {'effective_negatives', 'weight_entropy', 'clamped_fraction'} == set(values) - {'lr'}
    assert values['effective_negatives'] == pytest.approx(23) if cfg.knobs.beta == 0 else values['effective_negatives'] < 23


def test_infograph_begins_with_the_encoder_of_the_others():
    pytest.importorskip('torch_geometric', reason='the extra graph')
    from unremix.config import TrainConfig
    from unremix.run_parts import set_up
    ours, theirs = (set_up(TrainConfig.of(PIECES | dict(strategy=s))).model.encoder.state_dict() for s in ('infograph', 'simclr'))
    for name, x in theirs.items(): assert torch.equal(ours[name], x)


@pytest.mark.parametrize('fields,sentence', [
    (dict(modality='image'), 'strategy must be one that compares views, since images have no pieces here'),
    (dict(modality='text'), 'strategy must be one that compares views, since texts have no pieces here'),
    (dict(head_out=32), 'head_out must be left at 128 with infograph, which has neither views nor head'),
    (dict(head_hidden=32), 'head_hidden must be left at 512 with infograph'),
    (dict(chunk_size=8), 'chunk_size must be left at None with infograph'),
    (dict(gather_distributed=False), 'gather_distributed must be left at True with infograph'),
    (dict(devices=2), 'devices must be left at 1 with infograph'),
    (dict(temperature=.2), 'temperature must be left at 0.5 with infograph, which has none'),
    (dict(tau_plus=.1), 'tau_plus must be None with infograph'),
    (dict(strategy='infograph(legacy_sign=True)'), 'legacy_sign must be False at beta = 0'),
], ids=str)
def test_infograph_is_refused_before_work_starts(fields, sentence, tmp_path, capsys):
    "In Python, and as one line of the command that leaves no folder."
    pytest.importorskip('torch_geometric', reason='the extra graph')
    from unremix.cli import main
    from unremix.config import TrainConfig
    asked = PIECES | dict(strategy='infograph') | fields
    with pytest.raises(ValueError) as error: TrainConfig.of(asked)
    assert sentence in str(error.value)
    shown = {k: v for k, v in asked.items() if k not in ('gather_distributed',)}
    words = [w for k, v in shown.items() for w in (f'--{k.replace("_", "-")}', str(v))]
    words += ['--no-gather-distributed'] if 'gather_distributed' in fields else []
    assert main(['train', '--out', str(tmp_path / 'run'), *words]) == 2
    told = capsys.readouterr().err
    assert sentence in told and told.count('\n') == 1 and not (tmp_path / 'run').exists()


def test_infograph_goes_on_exactly(tmp_path):
    "A run that stopped in its second epoch ends with the numbers of one that did not; its scores can be asked for again."
    pytest.importorskip('torch_geometric', reason='the extra graph')
    from unremix import train as module
    from unremix.checkpoint import load_checkpoint
    from unremix.config import TrainConfig
    from unremix.evaluate import evaluate, score
    cfg = TrainConfig.of(PIECES | dict(strategy='infograph(beta=1)', beta_end=0., save_every=1))
    finish = lambda run: {'scores': score(run)}
    whole = module.train(cfg, tmp_path / 'whole', finish, progress=False)
    class Stop(Exception): pass
    count = []
    steps = module.epoch_steps
    def stopping(*args, **kwargs):
        for item in steps(*args, **kwargs):
            yield item
            count.append(1)
            if len(count) == 3: raise Stop
    with pytest.MonkeyPatch.context() as m:
        m.setattr(module, 'epoch_steps', stopping)
        with pytest.raises(Stop): module.train(cfg, tmp_path / 'parts', finish, progress=False)
    parts = module.train(cfg, tmp_path / 'parts', finish, progress=False)
    assert whole['loss'] == parts['loss'] and whole['scores'] == parts['scores'] and whole['steps'] == 4
    a, b = (load_checkpoint(tmp_path / x / 'checkpoint.pt')['model'] for x in ('whole', 'parts'))
    for name, x in a.items(): assert torch.equal(x, b[name]), name
    assert {'linear', 'correct', 'alignment'} <= set(whole['scores']) and 'hardness' not in whole['scores']
    assert evaluate(tmp_path / 'whole')['scores'] == whole['scores']


def test_infograph_is_a_row_of_a_quick_comparison(tmp_path, capsys):
    pytest.importorskip('torch_geometric', reason='the extra graph')
    from unremix.cli import main
    out = tmp_path / 'out'
    few = '--limit 40 --batch-size 20 --epochs 1 --seeds 1 --timed-steps 1 --workers 1 --accelerator cpu'.split()
    assert main(['compare', '--modality', 'graph', '--quick', *few, '--out', str(out), '--strategies', 'infograph', 'infograph(beta=1)', 'simclr']) == 0
    rows = json.loads((out / 'result.json').read_text())['rows']
    assert {*rows} == {'infograph', 'infograph(beta=1)', 'simclr', 'untrained', 'degree histogram'}
    left_out = json.loads((out / 'result.json').read_text())['left_out']
    assert left_out == {'supervised': 'the training graphs are the scored ones unless validation is given'}
    assert rows['infograph(beta=1)']['step_seconds'] > 0
    timed = capsys.readouterr().out.split('ms/step')[1]
    assert 'infograph(beta=1)' in timed and 'infograph(beta=1)' in (out / 'table.md').read_text()
    assert main(['strategies']) == 0
    assert 'infograph' in capsys.readouterr().out


def test_all_takes_pieces_where_there_are_some():
    pytest.importorskip('torch_geometric', reason='the extra graph')
    from unremix.compare_config import CompareConfig
    on_graphs = CompareConfig.of(dict(modality='graph', strategies=('all',), limit=40, batch_size=20)).strategies
    assert 'infograph' in on_graphs and 'infograph' not in CompareConfig(strategies=('all',)).strategies


def test_a_loss_for_texts_is_not_one_of_pieces():
    from unremix.sentence_loss import SentenceLoss
    with pytest.raises(ValueError, match="strategy must be one that compares whole texts, got 'infograph'"): SentenceLoss(lambda x: x, 'infograph')


def test_without_the_extra_there_is_one_sentence():
    code = "import sys; sys.modules['torch_geometric'] = None; from unremix.cli import main; main(['train', '--modality', 'graph', '--out', 'nowhere'])"
    hide = "import importlib.util as u; f = u.find_spec; u.find_spec = lambda n, *a: None if n == 'torch_geometric' else f(n, *a); import importlib.util; "
    done = subprocess.run([sys.executable, '-c', hide + code.replace("sys.modules['torch_geometric'] = None; ", '')], capture_output=True, text=True, cwd=ROOT)
    assert "modality='graph' needs torch_geometric: pip install 'unremix[graph]'" in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
