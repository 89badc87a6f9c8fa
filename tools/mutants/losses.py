"""What a loss is put together from, beyond ids, rules and sums.

Blocks, processes, companions, statistics, synthesis, the class and its knobs.
"""

METHODS = 'tests/test_seam_methods.py tests/test_seam_parts.py'
SEEN = 'tests/test_seen.py'
FROZEN = 'tests/test_frozen.py'
QUEUE = 'tests/test_queue_exact.py'
RANKS = 'tests/test_ranks_exact.py'


def nodes(path, *names):
    return ' '.join(f'tests/test_{path}.py::test_{name}' for name in names)


BLOCK_GRADIENT = nodes(
    'derivatives', 'first_derivatives_in_blocks_by_views_negatives_and_temperature'
)
REFUSED = nodes('derivatives', 'blocks_refuse_whatever_it_is_that_asks')
REFUSED_EACH = nodes('derivatives', 'blocks_refuse_what_they_do_not_know')
WEIGHTED = nodes('weightings', 'mean_one_and_nothing_off_the_negatives')
LEARNED = nodes('weightings', 'a_temperature_that_learns_changes_no_number')
DEBIASED = nodes('debiasing', 'the_weighted_mean_is_debiased')


def of(file, tests, *changes):
    "Mutants of one module: (old, new, why), with a reason where it is harmless."
    keys = 'old', 'new', 'why', 'harmless'
    return [dict(zip(keys, change), file=file, tests=tests) for change in changes]


BLOCKS = (
    of(
        'blocks.py',
        BLOCK_GRADIENT,
        (
            'grads.temperature -= (to_logits * logits).sum() / t.detach()',
            'grads.temperature += (to_logits * logits).sum() / t.detach()',
            'a temperature would learn the wrong way',
        ),
        (
            'grads.temperature -= (to_logits * logits).sum() / t.detach()',
            'grads.temperature -= (to_logits * logits).sum()',
            'a temperature would learn at another pace',
        ),
        (
            'grads.temperature -= (to_logits * logits).sum() / t.detach()',
            'pass',
            'a temperature would learn from the floor of debiasing only',
        ),
        (
            'compare(anchors, candidates, comparison.rule, temperature, own_logits)',
            'compare(anchors, candidates, comparison.rule, float(t), own_logits)',
            'a temperature would not learn from the floor of debiasing',
        ),
    )
    + of(
        'blocks.py',
        REFUSED,
        (
            'require_once(not any(is_transformed(x) for x in inputs))',
            'require_once(not is_transformed(anchors))',
            'a forward-mode derivative by the temperature would be lost',
        ),
    )
    + of(
        'blocks.py',
        REFUSED_EACH,
        (
            'require_once(not torch.is_grad_enabled() and not is_transformed(grad))',
            'require_once(not is_transformed(grad))',
            'a gradient penalty in blocks would be lost without a word',
        ),
        (
            'require_once(not torch.is_grad_enabled())',
            'pass',
            'a gradient penalty on the mean would be lost without a word',
        ),
    )
    + of(
        'blocks.py',
        METHODS,
        (
            'require_once(not torch.is_grad_enabled() and not is_transformed(grad))',
            'require_once(not torch.is_grad_enabled())',
            'a Jacobian in blocks would fail in the middle, or be wrong',
        ),
        (
            'any(x.requires_grad for x in inputs):',
            'any(x.requires_grad for x in inputs[:2]):',
            'of constant embeddings, nothing would be learnt',
        ),
        (
            '        logits.zero_()\n        return losses',
            '        return losses',
            'constant losses would move the embeddings',
        ),
        (
            'torch.zeros_like(logits) if to_logits is None else to_logits',
            'logits if to_logits is None else to_logits',
            'losses that read no logits would move the embeddings along them',
        ),
        (
            'grads.anchors[rows] += to_anchors',
            'pass',
            'a method that reads embeddings would not move the anchors',
        ),
        (
            '(own_logits, anchors.z, candidates.z, t, *parameters)',
            '(own_logits, anchors.z, torch.empty(0).requires_grad_(), t, *parameters)',
            'a method that reads embeddings would not move the candidates',
        ),
    )
)

GATHER = of(
    'gather.py',
    RANKS,
    (
        'found.new_zeros((share - len(own), *found.shape[1:]))',
        'found.new_zeros((0, *found.shape[1:]))',
        'a last share that is smaller could not be sent',
    ),
    (
        'for name, x in mine.extra.items()',
        "for name, x in mine.extra.items() if name != 'true_label'",
        'statistics would not know the classes of other processes',
    ),
) + of(
    'gather.py',
    RANKS,
    (
        'promise = Promise(sample, view, closed=closed)',
        'promise = Promise(sample, view, closed=True)',
        'a further candidate that shows an image would be its negative',
    ),
)

COMPANIONS = (
    of(
        'companions.py',
        SEEN,
        (
            'label, copy = of_images(labels, b), of_images(sample_ids, b)',
            'label, copy = of_images(sample_ids, b), of_images(labels, b)',
            'images of one class would be taken for copies',
        ),
        (
            'label_of, copy_of = of_others(labels, b), of_others(sample_ids, b)',
            'label_of, copy_of = of_others(sample_ids, b), of_others(labels, b)',
            'further negatives of one class would be taken for copies',
        ),
        (
            'true_labels[:b].repeat(len(z))',
            'true_labels[:b].repeat_interleave(len(z))',
            'statistics would look at the classes of other images',
        ),
    )
    + of(
        'companions.py',
        QUEUE,
        (
            'if reads is None:\n            return None',
            'if reads is None:\n            continue',
            'a weighting that does not say what it reads would find nothing',
        ),
        (
            "asked = set(extra) | {'square'} if reads is None else set(reads)",
            'asked = set(extra) if reads is None else set(reads)',
            'uncertainty of a queue would forget hidden inputs',
        ),
    )
    + of(
        'companions.py',
        nodes('ranks_exact', 'hidden_on_one_rank_only_of_a_loss'),
        (
            'for k, x in extra.items() if k in asked}',
            'for k, x in extra.items()}',
            'what nobody reads would be sent',
        ),
    )
)

STATISTICS = of(
    'statistics.py',
    SEEN,
    (
        'total / number)',
        'total / number.clamp_min(1))',
        'statistics of nobody would be the best there are',
    ),
    (
        'return weighted_mean(shares(log_w), false_negatives(c))',
        'return weighted_mean(heaviest(log_w, c.k), false_negatives(c))',
        'the weight on false negatives would be that of the heaviest tenth',
    ),
    (
        'return c.negative & same',
        'return same',
        'the positive would be a false negative',
    ),
) + of(
    'statistics.py',
    METHODS,
    (
        "found['positive_similarity'] = over(similar, has_positives)",
        "found['positive_similarity'] = over(similar, has_negatives)",
        'anchors without positives would count as far from theirs',
    ),
    (
        'over(f(c, log_w), has_negatives)',
        'over(f(c, log_w), has_positives)',
        'anchors without positives would be left out, those without negatives not',
    ),
    (
        'has_negatives, has_positives = c.k > 0, count(c.positive) > 0',
        'has_negatives, has_positives = c.k > 0, c.k > 0',
        'anchors without negatives would not count for their positives',
    ),
    (
        'log_w = torch.where(c.negative, log_w.detach(), -math.inf)',
        'log_w = log_w.detach()',
        'weights that a loss does not read would count',
    ),
    (
        'F.pad(equal(own, theirs), (0, c.synthetic))',
        'equal(own, theirs)',
        'a traceback instead of statistics of synthetic negatives',
    ),
    (
        'F.pad(equal(own, theirs), (0, c.synthetic))',
        'F.pad(equal(own, theirs), (0, c.synthetic), value=True)',
        'synthetic negatives would be false ones',
    ),
)

SYNTHESIS = of(
    'synthesis.py',
    METHODS,
    (
        'z = F.normalize(z.detach(), dim=-1)',
        'z = F.normalize(z, dim=-1)',
        'gradient would flow into what was made up',
    ),
    (
        'z = F.normalize(z.detach(), dim=-1)',
        'z = z.detach()',
        'mixtures would be shorter, so farther, than any embedding',
    ),
    (
        "torch.einsum(pairs, c.anchors.z, z) / c.temperature",
        "torch.einsum(pairs, c.anchors.z, z)",
        'synthetic negatives would have no temperature',
    ),
    (
        'torch.cat([c.negative, some], 1)',
        'torch.cat([c.negative, nobody], 1)',
        'synthetic negatives would be nobody',
    ),
    (
        'return with_prepared(more, c.prepared)',
        'return more',
        'what was prepared once would be prepared in every block',
    ),
    (
        'logits=c.logits[:, :n]',
        'logits=c.logits[:, -n:]',
        'opinions would be asked about columns that stand elsewhere',
    ),
    (
        'return with_prepared(fewer, c.prepared)',
        'return fewer',
        'what was prepared once would be prepared in every block',
    ),
    (
        'rank = (x * self.few).long()',
        'rank = (x * (self.few - 1)).long()',
        'the last of the hardest negatives would never be drawn',
    ),
    (
        'first, second, share = (x[own] for x in prepared_for',
        'first, second, share = (x[: len(own)] for x in prepared_for',
        'every block would draw what the first has drawn',
    ),
    (
        'scores.topk(most, 1)',
        'scores.topk(most, 1, largest=False)',
        'the easiest negatives would be mixed',
    ),
    (
        'few = c.k.clamp(1, most)[:, None]',
        'few = torch.full_like(c.k, most)[:, None]',
        'an anchor with few negatives would be mixed with its positive',
    ),
    (
        'most = min(hardest, scores.shape[1])',
        'most = hardest',
        'a traceback where a batch has fewer candidates than `hardest`',
    ),
    (
        'scores = torch.where(c.negative, c.logits.detach(), -math.inf)',
        'scores = c.logits.detach()',
        'an anchor would be mixed with itself and pushed away from it',
    ),
    (
        'y.lerp(x, alpha)',
        'y.lerp(x, 0.5)',
        'mixtures would always be half-way',
    ),
    (
        'y.lerp(x, alpha)',
        'x.lerp(x, alpha)',
        'mixtures would be copies',
    ),
    (
        'torch.Generator().manual_seed(seed)',
        'torch.Generator().manual_seed(0)',
        '`seed` would have no effect',
    ),
    (
        'shape = 3, views * samples, self.count + self.with_anchor',
        'shape = 3, views * samples, 1 + self.with_anchor',
        '`count` would have no effect',
    ),
    (
        'average = torch.where(made_up, log_w.new_zeros(()), -math.inf)',
        'average = torch.where(made_up, -math.inf, log_w.new_zeros(()))',
        'synthetic negatives would have no weight',
    ),
)

CLASS = (
    of('composition.py', DEBIASED,
        (
            'if type(loss) is InfoNCE and known:',
            'if type(loss) is InfoNCE:',
            'weights that promise nothing would be debiased by a wrong number',
        ))
    + of('composition.py', FROZEN,
        (
            'return loss(c, log_w, c.k)',
            'return loss(c, log_w, c.k + 1)',
            'weights that average 1 would be debiased by a wrong number',
        ),
        (
            'seen.append(statistics(c, log_w, method.loss))',
            'seen[:] = [statistics(c, log_w, method.loss)]',
            'statistics would be those of the last block',
        )) + of('call.py', FROZEN,
        (
            'if labelled:',
            'if False:',
            '`labels` would be ignored',
        ))
    + of(
        'contrastive_loss.py',
        SEEN,
        (
            'return tuple(p for p in self.parameters() if p.requires_grad)',
            'return ()',
            'in blocks, parameters of a weighting would not learn',
        ),
    )
    + of('call.py', nodes('bad_input', 'one_clear_sentence'),
        (
            'some = negatives is not None or queue is not None or not is_outside(pairs)',
            'some = True',
            'a loss without any negative would be 0 without a word',
        )) + of('learned_temperature.py', nodes('bad_input', 'one_clear_sentence'),
        (
            'require(0 < lowest < initial,',
            'require(0 < lowest,',
            'a temperature that begins at its bound would never learn',
        ),
        (
            'require(initial < highest,',
            'require(True,',
            'a temperature that begins at its bound would never learn',
        ))
    + of('composition.py', nodes('arguments', 'what_a_weighting_returns'),
        (
            'require(fits, name, lambda:',
            'require(True, name, lambda:',
            'weights of another shape would be spread over all negatives',
        ))
    + of('call.py', nodes('unremix_exact', 'who_would_draw_twice_is_refused'),
        (
            'require(not (twice and draws),',
            'require(True,',
            'loss and gradient would be of two draws',
        ))
    + of('call.py', METHODS,
        (
            'views if pairs is None else pairs]',
            'views]',
            'a rule that says what it reads would find nothing',
        )) + of('composition.py', METHODS,
        (
            "self.synthesis(with_prepared(c, self.prepared.get('synthesis')))",
            'self.synthesis(c)',
            'in blocks, a synthesis would draw anew for each',
        ),
        (
            "with_prepared(c, self.prepared.get('weights'))",
            "with_prepared(c, self.prepared.get('synthesis'))",
            'weights would be given what the synthesis has prepared',
        ),
        (
            'comparison.anchors.detach(), comparison.candidates.detach()\n'
            '    temperature = comparison.temperature',
            'comparison.anchors, comparison.candidates\n'
            '    temperature = comparison.temperature',
            'what is prepared would not be told that embeddings are constants',
            'it is computed under `no_grad`',
        )) + of('contrastive_loss.py', METHODS,
        (
            "stats['temperature'] = temperature.detach().float()",
            'pass',
            'nobody would see which temperature was learnt',
        )) + of('learned_temperature.py', METHODS,
        (
            'x = math.log(below) - math.log(above)',
            'x = math.log(below)',
            'a learnt temperature would not begin where it was told',
        ),
        (
            '(low + (high - low) * self.x.sigmoid()).exp()',
            '(low - self.x.sigmoid().log()).exp()',
            'a learnt temperature would have no upper bound',
        ),
        (
            '(low + (high - low) * self.x.sigmoid()).exp()',
            '(high + self.x.sigmoid().log()).exp()',
            'a learnt temperature would have no lower bound',
        ),
        (
            'require(0 < lowest < initial,',
            'require(lowest < initial,',
            'a lowest temperature of 0 would be NaN at the first step',
        ))
)

KNOBS = (
    of(
        'losses.py',
        nodes('arguments', 'numbers_of_numpy_are_numbers'),
        (
            'setattr(loss, self.part, changed)',
            'pass',
            'a schedule would have no effect',
        ),
        (
            'setattr(loss, self.part, changed)',
            "setattr(loss, 'weights', changed)",
            'a schedule of `tau_plus` would take the place of the weights',
        ),
    )
    + of(
        'losses.py',
        METHODS,
        (
            "kappa = Knob('weights', 'kappa')",
            "kappa = Knob('weights', 'mix')",
            'a schedule of κ would move λ',
        ),
        (
            "uncertainty_temperature = Knob('weights', 'uncertainty_temperature')",
            "uncertainty_temperature = Knob('weights', 'beta')",
            'a schedule of one temperature would move β',
        ),
    )
    + of(
        'losses.py',
        FROZEN,
        (
            'kappa=kappa,\n            uncertainty=',
            'uncertainty=',
            '`kappa` of UnReMix would be ignored',
        ),
        (
            'distance=distance,\n',
            '',
            '`distance` of UnReMix would be ignored',
        ),
        (
            """weights,
            pairs=pairs,
            loss=InfoNCE(tau_plus),""",
            """weights,
            pairs=pairs,""",
            '`tau_plus` of UnReMix would be ignored',
        ),
        (
            """weights,
            pairs=pairs,
            loss""",
            """weights,
            loss""",
            '`pairs` of UnReMix would be ignored',
        ),
        (
            """uniform,
            pairs=pairs,
            loss=InfoNCE(tau_plus),""",
            """uniform,
            pairs=pairs,""",
            '`tau_plus` of the debiased loss would be ignored',
        ),
    )
)

UNREMIX = (
    of(
        'unremix.py',
        FROZEN,
        (
            "{'norm': ('square',), 'influence': ('hidden',)}",
            "{'norm': ('square',)}",
            "'influence' would forget hidden inputs",
        ),
        (
            "{'norm': ('square',), 'influence': ('hidden',)}",
            "{'influence': ('hidden',)}",
            "'norm' would forget hidden inputs",
        ),
        (
            'prepare_distance(candidates, rule, self.distance)',
            'prepare_distance(candidates, rule)',
            '`distance` would be ignored, or meet what was prepared for another',
        ),
    )
    + of('normalizers.py', METHODS,
        (
            'zero = c.cosine - c.cosine.detach()',
            'zero = 0.0',
            'with minmax, `detach_weights=False` would have no effect',
        ))
    + of(
        'hard_negatives.py',
        WEIGHTED,
        (
            'torch.zeros_like(c.logits).scatter(1, c.others_at, -math.inf)',
            'torch.zeros_like(c.logits)',
            'uniform weights would have a weight for the anchor itself',
        ),
        (
            'torch.where(c.negative, c.logits.new_zeros(()), -math.inf)',
            'torch.zeros_like(c.logits)',
            'uniform weights would have a weight for who was taken out',
        ),
    )
)

MUTANTS = [
    *BLOCKS,
    *GATHER,
    *COMPANIONS,
    *STATISTICS,
    *SYNTHESIS,
    *CLASS,
    *KNOBS,
    *UNREMIX,
]
