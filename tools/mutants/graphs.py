"Graphs: the Jensen–Shannon loss and its signs, packed graphs, views, the encoder, scores."

TESTS = 'tests/test_graphs.py'


def of(file, names, *changes):
    "Mutants of one module and the tests that are to notice."
    tests = ' '.join(f'{TESTS}::test_{name}' for name in names.split())
    keys = 'old', 'new', 'why', 'harmless'
    return [dict(zip(keys, c), file=file, tests=tests) for c in changes]


MUTANTS = (
    of(
        'pieces.py',
        'infograph_in_the_loop_is_the_loss_without_it',
        (
            'log_w = self.weights(c)\n            loss',
            "log_w = self.weights(c).where(~c.negative, 0.0)\n            loss",
            'hard negatives would not count',
        ),
        (
            'loss = self.loss(c, log_w).mean()',
            'loss = self.loss(c, log_w).sum()',
            'large graphs would set the size of a step',
        ),
        (
            'c = local_global(pieces, wholes, whole_of)',
            "c = local_global(pieces, wholes, whole_of, anchors='graphs')",
            "a graph would count once, and not each of its nodes, as InfoGraph's do",
        ),
        (
            "OF_PIECES = 'effective_negatives', ",
            "OF_PIECES = 'negative_similarity', ",
            'the log would call inner products cosines',
        ),
    )
    + of(
        'pieces.py',
        'infograph_is_refused_before_work_starts all_takes_pieces_where_there_are_some',
        ('    of_pieces=True,', '', 'images would be trained with a loss of nodes'),
        ('    has_temperature=False,', '', 'a temperature would be asked for and not used'),
    )
    + of(
        'steps.py',
        'infograph_in_the_loop_is_the_loss_without_it',
        (
            'made = run.model(run.views.plain(x))',
            'made = run.model(run.views.one(x, 0))',
            'InfoGraph would be trained on changed graphs',
        ),
    )
    + of(
        'tasks.py',
        'infograph_is_refused_before_work_starts',
        (
            "require(task.pieces is not None, 'strategy', what, name)",
            'pass',
            'a run on images would fail after its data were loaded',
        ),
        (
            "    'head_hidden',\n",
            '',
            'fields that nothing reads would be taken',
        ),
    )
    + of(
        'run_parts.py',
        'infograph_in_the_loop_is_the_loss_without_it infograph_begins_with_the_encoder_of_the_others',
        (
            '        return task.pieces(encoder)',
            '        return task.pieces(task.make_encoder(cfg, samples))',
            'a difference from other strategies would be one of the first weights',
        ),
    )
    + of(
        'evaluate.py',
        'infograph_goes_on_exactly',
        (
            'if head is None or not isinstance(run.criterion, ContrastiveLoss):',
            'if not isinstance(run.criterion, ContrastiveLoss):',
            'a trained run of pieces would fail when it is scored',
        ),
    )
    + of(
        'table.py',
        'infograph_is_a_row_of_a_quick_comparison',
        (
            "if not row.keys() & {'hardness', 'overhead'}:",
            "if 'hardness' not in row:",
            'the cost of a step of InfoGraph would not be told',
        ),
    )
    + of(
        'registry.py',
        'all_takes_pieces_where_there_are_some',
        (
            'if pieces or not s.of_pieces}',
            'if True}',
            '`--strategies all` would be refused on images',
        ),
    )
    + of(
        'sentence_loss.py',
        'a_loss_for_texts_is_not_one_of_pieces',
        (
            "require(not known.of_pieces, 'strategy', 'one that compares whole texts', name)",
            'pass',
            'texts would be compared by a loss of nodes without a word',
        ),
    )
    + of(
        'jensen_shannon.py',
        'the_loss_in_loops',
        (
            'pull = mean_over(softplus(-c.logits), c.positive)',
            'pull = mean_over(softplus(c.logits), c.positive)',
            'positives would be pushed',
        ),
        (
            'push = mean_over(log_w.exp() * cost, c.negative)',
            'push = mean_over(cost, c.negative)',
            'the weights would not count',
        ),
        (
            'rest = push + own if self.legacy_prior else push - own',
            'rest = push - own if self.legacy_prior else push + own',
            'the signs of the debiasing would be exchanged',
        ),
        (
            'return rest / (1 - self.class_prior)',
            'return rest',
            'the mixture would not be solved for its part',
        ),
        (
            'return -math.inf if self.legacy_prior else 0.0',
            'return -math.inf',
            'an estimate of costs could be negative',
        ),
        (
            'pull + push - 2 * math.log(2)',
            'pull + push - math.log(2)',
            'the value would be no bound of a divergence',
        ),
    )
    + of(
        'jensen_shannon.py',
        'nobody_to_compare_with',
        (
            'both = c.positive.any(1) & (log_w != -math.inf).any(1)',
            'both = c.positive.any(1)',
            'an anchor without negatives would be trained',
        ),
    )
    + of(
        'jensen_shannon.py',
        'the_weight_rises_with_the_score',
        (
            'slope = (-2 if self.legacy_sign else 2) * self.beta',
            'slope = (2 if self.legacy_sign else -2) * self.beta',
            'the released sign would be the usual one',
        ),
    )
    + of(
        'jensen_shannon.py',
        'the_weights_in_loops the_scale_is_that_of_all_anchors',
        (
            'size = torch.where(c.negative, c.logits.detach().abs(), 0.0).amax()',
            'size = c.logits.detach().abs().amax()',
            'an anchor and itself would set the scale',
        ),
        (
            'largest = c.prepared if is_own(c, self.prepare) else largest_score(c)',
            'largest = largest_score(c)',
            'blocks of anchors would have scales of their own',
        ),
    )
    + of(
        'jensen_shannon.py',
        'local_global_in_loops',
        (
            "if anchors == 'nodes':",
            "if anchors != 'nodes':",
            'nodes and graphs would be exchanged',
        ),
        (
            'scores = nodes.to(local.z.dtype) @ graphs.to(local.z.dtype).T',
            'scores = local.z @ whole.z.T',
            'InfoGraph would have cosines',
        ),
    )
    + of(
        'graph_data.py',
        'any_index_is_that_of_a_list the_union_is_that_of_networkx',
        (
            'return place + (start - before).repeat_interleave(count)',
            'return place',
            'an index would take other nodes',
        ),
        (
            'nodes = ranges(self.first_node[idx], size)',
            'nodes = ranges(self.first_node[idx] * 0, size)',
            'graphs would get the tags of the first one',
        ),
        (
            'return self.edges + offset[:, None]',
            'return self.edges',
            'all graphs would share their nodes',
        ),
    )
    + of(
        'graph_data.py',
        'what_is_refused',
        (
            'inside = (low >= 0) & (low < high)',
            'inside = (low >= 0)',
            'loops and reversed edges would be taken',
        ),
    )
    + of(
        'graph_data.py',
        'the_atlas_is_exact',
        (
            'torch.tensor(TRIANGLES), right=True) - 1',
            'torch.tensor(TRIANGLES)) - 1',
            'the classes would be shifted by one triangle',
        ),
    )
    + of(
        'graph_task.py',
        'views every_node_is_dropped_as_often a_walk_is_a_walk',
        (
            'return place < left[graphs.graph_of]',
            'return place <= left[graphs.graph_of]',
            'one node too many would stay',
        ),
        (
            'stays = keep[low] & keep[high]',
            'stays = keep[low] | keep[high]',
            'edges would lead to nodes that are gone',
        ),
        (
            'by_number = number.argsort()',
            'by_number = torch.arange(len(number))',
            'the first nodes would always stay',
        ),
        (
            'v = (u + 1 + (step * (size - 1)).long()) % size',
            'v = (u + (step * size).long()) % size',
            'an edge could be a loop',
        ),
        (
            'turn = (torch.rand(n, device=device) * degree[at]).long()',
            'turn = 0 * degree[at]',
            'a walk would always turn the same way',
        ),
        (
            'forgets = place < some_of(graphs.size, ratio)[graphs.graph_of]',
            'forgets = place <= some_of(graphs.size, ratio)[graphs.graph_of]',
            'one tag too many would be forgotten',
        ),
    )
    + of(
        'graph_encoder.py',
        'gin_in_dense_matrices',
        (
            'x = norm(conv(x, edge_index).relu())',
            'x = norm(conv(x, edge_index)).relu()',
            'the encoder would be another one than InfoGraph has',
        ),
        (
            'index_add(0, graphs.graph_of, x)',
            'index_reduce(0, graphs.graph_of, x, "mean")',
            'a graph would be the mean of its nodes',
        ),
    )
    + of(
        'graph_scores.py',
        'wl_kernel_is_that_of_others',
        (
            'pair = scrambled(number + 1) + heard',
            'pair = heard',
            'a node would forget its own colour',
        ),
    )
    + of(
        'graph_scores.py',
        'folds_cannot_see_what_they_predict',
        (
            'machine = chosen_machine(table, classes, seen, inner_folds)',
            'machine = chosen_machine(table, classes, np.arange(n), inner_folds); seen = np.arange(n)',
            'the machine would be fitted to what it predicts',
        ),
    )
)
