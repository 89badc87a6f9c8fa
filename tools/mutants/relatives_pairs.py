"Pairs, losses and who shares a batch: at least one mutant of each method."

TESTS = 'tests/test_relatives_pairs.py'


def of(file, test, *changes):
    "Mutants of one module: (old, new, why)."
    keys = 'old', 'new', 'why'
    tests = f'{TESTS}::{test}'
    return [dict(zip(keys, change), file=file, tests=tests) for change in changes]


LABELS = of(
    'with_labels.py',
    'test_h_scl',
    (
        'factor = self.number(c) if self.full_count else c.k',
        'factor = c.k',
        'the released factor would be the number of negatives',
    ),
    (
        'mine, theirs = unlabelled(anchors), unlabelled(candidates)',
        'mine, theirs = anchors, candidates',
        'labels would take from the factor whom they take from the negatives',
    ),
    (
        'scores = self.beta * c.logits.detach()',
        'scores = -self.beta * c.logits.detach()',
        'the easiest negatives would weigh most',
    ),
)
LABELS += of(
    'with_labels.py',
    'test_no_gradient_flows_through_the_weights_of_h_scl',
    (
        'scores = self.beta * c.logits.detach()',
        'scores = self.beta * c.logits',
        'gradient would flow through weights that are constants',
    ),
)
LABELS += of(
    'rules.py',
    'test_supcon',
    (
        'positive = roles.positive | (roles.negative & same_class)',
        'positive = roles.positive',
        'SupCon would know no positive but the paired view',
    ),
)
LABELS += of(
    'controls.py',
    'test_a_run_trains_with_its_true_labels',
    (
        'labels=true_labels,\n            sample_ids',
        'labels=None,\n            sample_ids',
        'a run would train without its labels',
    ),
)

FALSE = of(
    'false_negatives.py',
    'test_fnc',
    (
        'highest = torch.maximum(highest, cosine)',
        'highest = torch.minimum(highest, cosine)',
        'all views of an image would have to agree',
    ),
    (
        'cosine = z[view * samples + anchors.sample] @ z.T',
        'cosine = anchors.z.detach() @ z.T',
        'only the anchor itself would be asked',
    ),
    (
        'return negative & (score >= last) & (score > self.threshold)',
        'return negative & (score > self.threshold)',
        'everybody beyond the threshold would be a suspect',
    ),
    (
        'return negative & (score >= last) & (score > self.threshold)',
        'return negative & (score >= last)',
        'the threshold would not count',
    ),
    (
        'return Roles(roles.positive | suspects, fewer.negative)',
        'return Roles(roles.positive | suspects, roles.negative)',
        'what is attracted would stay a negative',
    ),
)

LOSSES = of(
    'cacr.py',
    'test_cacr_is_the_released_formula',
    (
        'near = expected(cost, self.tau_pos * cost, c.positive)',
        'near = expected(cost, -self.tau_pos * cost, c.positive)',
        'near positives would count most',
    ),
    (
        'far = expected(cost, log_w - self.tau_neg * cost, c.negative)',
        'far = expected(cost, log_w + self.tau_neg * cost, c.negative)',
        'far negatives would count most',
    ),
    (
        'own = positive if self.legacy_sign else -self.repulsion * positive',
        'own = positive',
        'debiasing would always push the positive',
    ),
    (
        'return (away + self.class_prior * own) / (1 - self.class_prior)',
        'return away + self.class_prior * own',
        'the share of other classes would not be divided by',
    ),
)
LOSSES += of(
    'cacr.py',
    'test_cacr_has_no_temperature_and_a_gradient_through_its_shares',
    (
        'cost = 2 - 2 * c.cosine  #',
        'cost = 2 - 2 * c.logits  #',
        'the temperature would scale the distances',
    ),
)
LOSSES += of(
    'cacr.py',
    'test_cacr_takes_weights_as_a_prior',
    (
        'far = expected(cost, log_w - self.tau_neg * cost, c.negative)',
        'far = expected(cost, -self.tau_neg * cost, c.negative)',
        'weights would have no effect',
    ),
)
LOSSES += of(
    'cacr.py',
    'test_decoupled',
    (
        'return decoupled(c, log_w)',
        'return decoupled(c, log_w + c.logits)',
        'negatives would be pushed as at half the temperature',
    ),
)

THRESHOLDS = of(
    'false_negatives.py',
    'test_glofnd',
    (
        'moved = own - self.pairs.rate * (self.pairs.alpha - share.to(own))',
        'moved = own + self.pairs.rate * (self.pairs.alpha - share.to(own))',
        'a threshold would run away from its quantile',
    ),
    (
        'return fewer_negatives(roles, ~(cosine > threshold[:, None]))',
        'return fewer_negatives(roles, cosine > threshold[:, None])',
        'all but the suspects would be left out',
    ),
    (
        'self.visits[at] >= self.pairs.warmup',
        'self.visits[at] > self.pairs.warmup',
        'the warm-up would be longer by one',
    ),
    (
        'everybody = with_threshold(comparison, torch.full_like(threshold, math.inf))',
        'everybody = comparison',
        'a negative that is left out would no longer be counted',
    ),
)
THRESHOLDS += of(
    'false_negatives.py',
    'test_glofnd_gets_its_ids_from_the_loop_and_keeps_its_state',
    (
        "self.register_buffer('threshold', torch.ones(images))",
        "self.register_buffer('threshold', torch.ones(images), persistent=False)",
        'a run that was stopped would begin with new thresholds',
    ),
)
THRESHOLDS += of(
    'false_negatives.py',
    'test_glofnd_learns_nothing_of_test_images',
    (
        '        if self.training:\n            self.learn(comparison)',
        '        if True:\n            self.learn(comparison)',
        'scoring a run would move its thresholds',
    ),
)
THRESHOLDS += of(
    'evaluate.py',
    'test_each_trains_and_is_scored',
    (
        'criterion = run.criterion.eval()  #',
        'criterion = run.criterion  #',
        'a run of GloFND could not be scored',
    ),
)
THRESHOLDS += of(
    'steps.py',
    'test_glofnd_gets_its_ids_from_the_loop_and_keeps_its_state',
    (
        "or may_be_twins or getattr(run.criterion, 'asks_ids', False):",
        'or may_be_twins:',
        'a loss that asks for ids would get none',
    ),
)

GRAPH = 'test_neighbours_are_the_nearest_of_those_that_are_drawn'
BATCHES = of(
    'batch_sampler.py',
    GRAPH,
    (
        'return others + (others >= rows[:, None])  # nobody draws itself',
        'return others',
        'an image would be its own neighbour, and one would have none',
    ),
    (
        'best = cosine.masked_fill(again, -2.0).topk(',
        'best = cosine.topk(',
        'an image that is drawn twice would be two neighbours',
    ),
)
BATCHES += of(
    'batch_sampler.py',
    'test_a_walk_goes_back_as_often_as_it_should',
    (
        'goes_back = chance.random() < restart',
        'goes_back = chance.random() < restart / 2',
        'walks would stray twice as far as asked',
    ),
)
BATCHES += of(
    'batch_sampler.py',
    'test_a_walk_that_is_caught_ends',
    (
        'return [*found, *chance.sample(rest, missing)]',
        'return [*found]',
        'a batch would be too small',
    ),
)
BATCHES += of(
    'batch_sampler.py',
    'test_batches_hold_nobody_twice_and_are_harder',
    (
        'node = start if goes_back else int(chance.choice(graph[node]))',
        'node = start if goes_back else chance.randrange(len(graph))',
        'batches would be drawn at random',
    ),
)
BATCHES += of(
    'batch_sampler.py',
    'test_batches_follow_from_seed_and_step',
    (
        "chance = random.Random(f'{self.seed} {step}')",
        "chance = random.Random(f'{self.seed}')",
        'every step would have the same walk',
    ),
    (
        "chance = random.Random(f'{self.seed} {step}')",
        'chance = random.Random()',
        'no run could be repeated',
    ),
)
LOOP = 'test_a_run_draws_its_batches_by_walks_and_goes_on_with_the_same'
BATCHES += of(
    'checkpoint.py',
    LOOP,
    (
        "EXTRAS = 'criterion', 'queue', 'follower', 'sampler'",
        "EXTRAS = 'criterion', 'queue', 'follower'",
        'a run that was stopped would go on with other batches',
    ),
)
BATCHES += of(
    'steps.py',
    LOOP,
    (
        'batch = chosen(run, step, batch)',
        'batch = batch[:]',
        'a run would take no notice of the sampler',
    ),
)
BATCHES += of(
    'run_parts.py',
    'test_embeddings_of_all_images_change_nothing',
    (
        'run.model.eval()  # batches must not depend on who was embedded with whom',
        'pass',
        'statistics of BatchNorm would move with each graph',
    ),
)

MUTANTS = LABELS + FALSE + LOSSES + THRESHOLDS + BATCHES
