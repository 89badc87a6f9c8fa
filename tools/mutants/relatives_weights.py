"What the weightings by bands and by solved problems must not lose."

TESTS = 'tests/test_relatives_weights.py'
LOOPS = f'{TESTS}::test_formulas_in_loops'


def of(file, *changes):
    "Mutants of one module: (old, new, test, why)."
    keys = 'old', 'new', 'tests', 'why'
    return [dict(file=file) | dict(zip(keys, change)) for change in changes]


MUTANTS = [
    *of('bands.py',
        (
            'log_share(scores.detach(), c.negative',
            'log_share(scores, c.negative',
            f'{LOOPS} {TESTS}::test_the_gradient_is_that_of_constant_weights',
            'a gradient would flow through weights that are constants',
        ),
        (
            'distance.square() / 2',
            'distance.square()',
            LOOPS,
            'the bell curve of ADNCE would be narrower than asked',
        ),
        (
            '(c.cosine.detach() - self.mu)',
            '(c.logits.detach() - self.mu)',
            LOOPS,
            "ADNCE's band would move with the temperature",
        ),
        (
            'mean_over(cosine, c.positive) - self.below',
            'mean_over(cosine, c.positive) + self.below',
            LOOPS,
            'SimANS would favour what is nearer than the positive',
        ),
        (
            'mean_over(cosine, c.positive) - self.below',
            'torch.where(c.positive, cosine, -1.0).amax(1) - self.below',
            LOOPS,
            'of several positives SimANS would see the nearest only',
        ),
        (
            '(self.inner * c.k + SLACK).floor()',
            '(self.inner * c.k + SLACK).ceil()',
            LOOPS,
            'a ring would leave out one negative more',
        ),
        (
            '(self.outer * c.k - SLACK).ceil() - 1',
            '(self.outer * c.k - SLACK).ceil()',
            LOOPS,
            'a ring would keep one negative more',
        ),
        (
            'between_ranks(c, first, torch.maximum(first, last))',
            'between_ranks(c, first, last)',
            f'{LOOPS} {TESTS}::test_few_images_in_half_precision',
            'a thin ring would keep nobody',
        ),
        (
            'torch.full_like(c.k, self.nearest - 1)',
            'torch.full_like(c.k, self.nearest)',
            LOOPS,
            'top-k would keep k + 1',
        ),
        (
            '(scores <= highest) & (scores >= lowest)',
            '(scores <= highest) & (scores > lowest)',
            LOOPS,
            'the last of the kept ranks would be lost',
        ),
        (
            'self.margin * positive if self.relative else self.margin',
            'self.margin',
            LOOPS,
            'a relative margin would be an absolute one',
        ),
        (
            'kept | (c.negative & none_left)',
            'kept',
            LOOPS,
            'an anchor could lose all of its negatives',
        ),
        (
            'each = (c.k / number).log()',
            'each = (c.k / c.k).log()',
            LOOPS,
            'the kept negatives would not average 1 with those that are dropped',
        ),
        (
            'return torch.where(unclear, math.nan, log_w)',
            'return log_w',
            f'{TESTS}::test_what_is_no_number_is_seen',
            'a selection would hide what is no number',
        ),
        (
            'own = torch.where(nobody, c.negative.to(own.dtype), own)',
            'own = own + 0',
            f'{TESTS}::test_uncertainties_that_are_refused',
            'an anchor without any uncertainty would have no weight at all',
        ),
        (
            'share = own / total.clamp_min(',
            'share = own.sqrt() / total.clamp_min(',
            f'{TESTS}::test_any_uncertainty',
            'the weight would not be the uncertainty',
        ),
        (
            "normalize: str = field(default='sum'",
            "normalize: str = field(default='minmax'",
            f'{TESTS}::test_uncertainties_by_name',
            'the least uncertain negative would always weigh nothing',
        ),
    ),
    *of('solved_weights.py',
        (
            'everybody = candidates.everybody(anchors)',
            'everybody = anchors',
            f'{TESTS}::test_several_processes_are_one',
            'each process would make a plan of its own',
        ),
        (
            "found['log_v']",
            "found['log_u'][: columns.sum()]",
            f'{TESTS}::test_transport_in_loops',
            'candidates would get the potentials of anchors',
        ),
        (
            'torch.where(allowed, cost, math.inf)',
            'torch.where(allowed, cost, 0.0)',
            f'{TESTS}::test_transport_in_loops',
            'anchors would be moved onto themselves',
        ),
        (
            '2 * c.cosine / self.epsilon + g',
            '2 * c.cosine / self.epsilon',
            f'{TESTS}::test_transport_in_loops',
            'no candidate would pay for being liked',
        ),
        (
            '2 * c.cosine / self.epsilon + g',
            'c.logits / self.epsilon + g',
            f'{TESTS}::test_transport_in_loops',
            'the plan would depend on the temperature',
        ),
        (
            'numItermax=steps',
            'numItermax=steps + 1',
            f'{TESTS}::test_transport_in_loops',
            'another number of steps than asked',
        ),
        (
            "raise ValueError(\"transport needs POT: pip install 'unremix[ot]'\") from e",
            'raise',
            f'{TESTS}::test_without_pot_one_sentence',
            'nobody would learn which extra is missing',
        ),
        (
            'v @ between - own * total - at_anchor',
            'v @ between - own * total',
            f'{TESTS}::test_products_without_the_matrix {TESTS}::test_optimality',
            "the border would not be the anchor's",
        ),
        (
            'return times_delta(v, own, between) + ridge * v',
            'return times_delta(v, own, between)',
            f'{TESTS}::test_optimality',
            'the ridge would be ignored',
        ),
        (
            'low = 0.0 if boxed else -math.inf',
            'low = -math.inf',
            f'{TESTS}::test_optimality',
            'the solution would be the shortcut',
        ),
        (
            'high = cost if boxed else math.inf',
            'high = math.inf',
            f'{TESTS}::test_optimality {TESTS}::test_support_vectors_of_scikit_learn',
            'negatives would hold more than C until the end',
        ),
        (
            'ahead = alpha + momentum * (alpha - last)',
            'ahead = alpha',
            f'{TESTS}::test_usual_steps_come_near',
            'a hundred steps would not come near the solution',
        ),
        (
            'level = 2 * k / curvature',
            'level = 1 * k / curvature',
            f'{TESTS}::test_one_who_starts_right_stays',
            'the first step would start from the wrong level',
        ),
        (
            'alpha / total.clamp_min(',
            'alpha.square() / total.clamp_min(',
            f'{TESTS}::test_optimality',
            'weights would not be in proportion to α',
        ),
    ),
]
