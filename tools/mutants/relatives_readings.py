"The readings of UnReMix: pseudo-labels, a mean of scores, the gradient of a candidate."

READINGS = 'tests/test_relatives_readings.py'


def of(file, names, *changes):
    "Mutants of one module and the tests of `READINGS` that are to notice."
    tests = ' '.join(f'{READINGS}::test_{name}' for name in names.split())
    keys = 'old', 'new', 'why', 'harmless'
    return [dict(zip(keys, c), file=file, tests=tests) for c in changes]


PARTNER = 'the_true_partner_against_autograd'
CANDIDATE = 'the_gradient_of_a_candidate_against_loops'
SCORES = 'a_mean_of_scores_against_loops'
ONCE = 'pairs_once_or_not_gives_the_same'

MUTANTS = (
    of(
        'pseudo_task.py',
        PARTNER,
        (
            'turn = torch.arange(1, count, device=seen.device)',
            'turn = torch.arange(count, device=seen.device)',
            'a view would be its own right answer',
        ),
        (
            'own = (number[:, None] + turn * samples) % in_batch(e)',
            'own = (number[:, None] + turn) % in_batch(e)',
            'the right answer would be a view of another image',
        ),
        (
            'seen[own].mean(1)',
            'seen[own].sum(1)',
            'with three views, the right answers would count twice',
        ),
        (
            'torch.where(is_view[:, None], seen[own].mean(1), seen[best])',
            'seen[own].mean(1)',
            'a further candidate would get the partners of a view',
        ),
        (
            'if count < 2:',
            'if count < 1:',
            'a batch of one view has no partners',
        ),
    )
    + of(
        'gradient_norm.py',
        PARTNER,
        (
            'label = PSEUDO_LABELS[task.pseudo_label](task, slice(0, n), best.view)',
            'label = c[best.view]',
            'the choice of a pseudo-label would be ignored',
        ),
    )
    + of(
        'gradient_norm.py',
        CANDIDATE,
        (
            'compared = positive | negative',
            'compared = negative',
            'the softmax of the loss has its positives in the denominator',
        ),
        (
            'return log_p.exp() * (negative & positive.any(1, keepdim=True))',
            'return log_p.exp() * positive.any(1, keepdim=True)',
            'the pull on positives would count too',
        ),
        (
            'return log_p.exp() * (negative & positive.any(1, keepdim=True))',
            'return log_p.exp() * negative',
            'anchors without positives have no loss',
        ),
        (
            'torch.addmm(-o, c[places',
            'torch.addmm(o, c[places',
            'the logits would be others',
        ),
        (
            'total.addmm_(p.T, some.z)',
            'total = torch.mm(p.T, some.z)',
            'only the last block of anchors would count',
        ),
    )
    + of(
        'gradient_norm.py',
        'every_process_has_all_anchors',
        (
            'anchors = candidates.everybody(anchors)',
            'pass',
            'each process would score candidates by its own anchors',
        ),
    )
    + of(
        'uncertainty.py',
        'the_gradient_of_a_candidate_against_loops a_pseudo_label_is_read_or_refused',
        (
            "prepare_uncertainty(e, kind, t, 'argmax', a, rule)",
            "prepare_uncertainty(e, kind, t, 'argmax', a)",
            'a contrast made by hand would be scored by another rule',
        ),
        (
            'read = pseudo_label == labels[0] or name in UNCERTAINTIES[kind].reads',
            'read = True',
            'a pseudo-label that nobody reads would be tuned',
        ),
    )
    + of(
        'normalizers.py',
        'a_mean_of_scores_against_loops gradient_through_a_mean_of_scores',
        (
            'return (deviation / spread).clamp(-CLIP, CLIP)',
            'return (deviation / spread.detach()).clamp(-CLIP, CLIP)',
            'gradient flows through the standard deviation too',
        ),
        (
            'return (deviation / spread).clamp(-CLIP, CLIP)',
            'return deviation',
            'similarity would not be measured in standard deviations',
        ),
    )
    + of(
        'unremix.py',
        SCORES,
        (
            'mix_u, mix_a, mix_r = (knobs.beta * share for share in knobs.mix)',
            'mix_u, mix_a, mix_r = knobs.mix',
            'the mean of scores would have no sharpness',
        ),
        (
            'by_a = mix_a, lambda: similarity_score(c)',
            'by_a = mix_r, lambda: similarity_score(c)',
            'the shares would belong to other opinions',
        ),
    )
    + of(
        'unremix.py',
        ONCE,
        (
            "by_score = by_score and self.pool != 'score'",
            'pass',
            'half of the matrix would compute another pool',
        ),
    )
    + of(
        'unremix.py',
        'the_candidate_asks_the_rule_and_all_anchors a_pseudo_label_is_read_or_refused',
        (
            'u = prepare_uncertainty(candidates, *kind, anchors, rule)',
            'u = prepare_uncertainty(candidates, *kind[:2], "argmax", anchors, rule)',
            'pseudo_label would never reach the task',
        ),
        (
            'u = prepare_uncertainty(candidates, *kind, anchors, rule)',
            'u = prepare_uncertainty(candidates, *kind)',
            'the rule of the loss would not be asked',
        ),
    )
    + of(
        'knobs.py',
        'unread_numbers_are_refused',
        (
            "if knobs.pool == 'score':",
            "if knobs.pool == 'scores':",
            'κ would be tuned although nobody reads it',
        ),
    )
    + of(
        'readings.py',
        'the_other_view_only the_drawing',
        (
            "return {'weights': knobs, 'pairs': across}",
            "return {'weights': knobs}",
            'views of the same kind would be negatives',
        ),
        (
            '= (0.54, 0.25, 0.21)',
            '= (0.25, 0.54, 0.21)',
            'the measured shares would belong to other opinions',
        ),
    )
)
