"""The loss on a contrast and its sums: `unremix/info_nce.py`, `unremix/row_sums.py`."""

METHODS = 'tests/test_seam_methods.py tests/test_seam_parts.py'
SEAM = f'tests/test_seam.py {METHODS}'
SEEN = 'tests/test_seen.py'
FROZEN = 'tests/test_frozen.py'
FINITE = 'tests/test_nonfinite.py'


def nodes(path, *names):
    return ' '.join(f'tests/test_{path}.py::test_{name}' for name in names)


UNDER_RULES = nodes('derivatives', 'derivatives_under_every_rule')
HESSIAN = nodes('derivatives', 'all_roads_lead_to_one_hessian')
SECOND = nodes('derivatives', 'first_and_second_derivatives_against_finite_differences')
IN_TILES = nodes('unremix_exact', 'weights_made_some_anchors_at_a_time')
DEBIASED = nodes(
    'debiasing',
    'the_weighted_mean_is_debiased',
    'several_positives_are_taken_out_by_their_mean',
    'directly_and_by_finite_differences',
)


def of(file, tests, *changes):
    "Mutants of one module: (old, new, why), with a reason where it is harmless."
    keys = 'old', 'new', 'why', 'harmless'
    return [dict(zip(keys, change), file=file, tests=tests) for change in changes]


INFO_NCE = (
    of(
        'info_nce.py',
        SEAM,
        (
            'among = log_positives - mean_positive',
            'among = 0 * mean_positive',
            'several positives would not have to share',
        ),
        (
            'against = torch.where(no_negative, 0.0, against)',
            '',
            'an anchor without negatives would have a loss',
        ),
        (
            'tau.log() + log_positive - log_mean',
            'tau.log() - log_mean',
            'debiasing would subtract the same from every anchor',
        ),
        (
            '- torch.log1p(-tau)',
            '',
            'the rest would not be divided by 1 − τ⁺',
        ),
        (
            'floor = -1 / (torch.zeros_like(tau) + temperature)',
            'floor = -torch.ones_like(tau)',
            'the floor would ignore the temperature',
        ),
        (
            'at_floor = nothing_left | (rest <= floor)',
            'at_floor = nothing_left',
            'the estimate could fall below what any logit allows',
        ),
        (
            'sums.log_positives - number.log(),',
            'sums.log_positives,',
            'several positives would subtract their sum and not their mean',
        ),
        (
            'log_sum(log_w, c.negative) if total is None',
            'c.k.log() if total is None',
            'weights that do not average 1 would be debiased by a wrong number',
        ),
        (
            'return or_zero(log_negatives - sums.mean_positive, both)',
            'return or_zero(log_negatives, both)',
            'the decoupled loss would not pull the positive',
        ),
    )
    + of(
        'info_nce.py',
        SEEN,
        (
            'return torch.where(some, x, -math.inf).logsumexp(1)',
            'return (x + mask.log()).logsumexp(1)',
            'an anchor without negatives would make the gradient NaN',
        ),
        (
            'some = mask & (x != -math.inf)',
            'some = mask',
            'an anchor whose negatives have no weight would make the gradient NaN',
        ),
        (
            ' / count(mask).clamp_min(1)',
            '',
            'means would be sums',
        ),
        (
            'torch.where(nothing, 0.0, log_total)',
            'log_total',
            'negatives without weight would send NaN through debiasing',
            'what it is subtracted from is thrown away, and its gradient is zero',
        ),
    )
    + of(
        'info_nce.py',
        FROZEN,
        (
            'if total is None else total.log()',
            'if total is None else total',
            'weights that average 1 would be debiased by their number and not its log',
        ),
        (
            'log_sum(log_w, c.negative) if total is None else total.log()',
            'log_sum(log_w, c.negative)',
            'what the weights add up to would be computed although it is known',
            'the sum is the same number; it takes a pass over the weights',
        ),
        (
            'LINEAR_FROM = 40.0',
            'LINEAR_FROM = 2.0',
            'a loss where negatives are nearer than the positive would be too small',
        ),
    )
    + of(
        'info_nce.py',
        nodes('derivatives', 'second_derivatives_are_finite_where_the_first_are'),
        (
            'safe = torch.where(nothing_left, -1.0, log_own_class)',
            'safe = log_own_class',
            'an anchor far below the floor would have the gradient NaN',
        ),
    )
    + of(
        'info_nce.py',
        FINITE,
        (
            'return or_zero(against + among, ~no_positive)',
            'return against + among',
            'an anchor without positives would have a loss',
        ),
        (
            'return torch.where(some | ~losses.isfinite(), losses, 0.0)',
            'return torch.where(some, losses, 0.0)',
            'NaN would be hidden where an anchor has no negatives',
        ),
        (
            'return torch.where(rest.isnan(), math.nan, at_floor.to(rest.dtype))',
            'return at_floor.to(rest.dtype)',
            'statistics would say "no floor" where nobody knows',
        ),
    )
)

BY_TABLES = (
    of('table_sums.py', UNDER_RULES,
        (
            'return (total.log() + peak).squeeze(1), x.div_(total.clamp_min(smallest))',
            'return (total.log() + peak).squeeze(1), x.div_(total)',
            'an anchor without negatives would make the gradient NaN',
        ),
        (
            'peak = peak.masked_fill(peak == -math.inf, 0.0)',
            'pass',
            'an anchor without negatives would make the loss NaN',
        ),
        (
            'mean_positive = torch.where(positive, logits, 0.0).sum(1) / number',
            'mean_positive = torch.where(positive, logits, 0.0).sum(1)',
            'with several positives their sum would be taken',
        ),
        (
            'share, positive, p, q, m / number)',
            'share, positive, p, q, m)',
            'of several positives, each would be pulled as if it were alone',
        ),
        (
            'return torch.addcmul(each, share, to_share)',
            'return share * to_share',
            'positives would not be pulled',
        ),
        (
            'product - share * torch.where(positive, of_positives, of_negatives)',
            'product',
            'second derivatives would lack the softmax’s own',
        ),
        (
            'of_negatives = product.sum(1, keepdim=True) - of_positives',
            'of_negatives = product.sum(1, keepdim=True)',
            'second derivatives of negatives would mix with those of positives',
        ),
        (
            'm = torch.where(positive, step, 0.0).sum(1) / number',
            'm = torch.where(positive, step, 0.0).sum(1)',
            'a wrong forward-mode derivative where there are several positives',
        ),
        (
            'q = torch.where(negative, moved, 0.0).sum(1)',
            'q = moved.sum(1)',
            'a forward-mode derivative in which positives are negatives too',
        ))
    + of('table_sums.py', nodes('derivatives', 'a_third_derivative'),
        (
            'to_weights = torch.where(negative, grad, 0.0)',
            'to_weights = grad',
            'weights that a loss does not read would have a gradient',
        ))
    + of('table_sums.py', nodes('derivatives', 'derivatives_under_every_rule', 'a_third_derivative'),
        (
            'step = step + torch.where(negative, log_w, 0.0)',
            'step = step + log_w',
            'a forward-mode derivative by weights that a loss does not read',
        ))
    + of('table_sums.py', METHODS,
        (
            'moved - share * torch.where(positive, p[:, None], q[:, None])',
            'moved',
            'forward-mode derivatives of a gradient would lack the softmax’s own',
        ),
        (
            'sums_and_share(*(x[rows] for x in inputs))',
            'sums_and_share(*(x[: rows.stop - rows.start] for x in inputs))',
            'of a large batch, all parts would be the first',
        ),
        (
            'grad[rows] = gradient(*(x[rows] for x in inputs))',
            'grad[rows] = gradient(*(x[: rows.stop - rows.start] for x in inputs))',
            'of a large batch, all parts would have the gradient of the first',
        ))
)

BY_COLUMNS = (
    of(
        'row_sums.py',
        SECOND,
        (
            'grad = grad + product - share * product.sum(1, keepdim=True)',
            'grad = grad + product',
            'second derivatives would lack the softmax’s own',
        ),
        (
            'grad = add(1, positive_at, to_positives)',
            'pass',
            'positives would not be pulled',
        ),
        (
            'grad = add(1, positive_at, to_positives)',
            'grad = add(1, positive_at, -to_positives)',
            'positives would be pushed away',
        ),
        (
            'total = moved.sum(1)',
            'total = moved.amax(1)',
            'a forward-mode derivative of the nearest negative only',
        ),
    )
    + of(
        'row_sums.py',
        HESSIAN,
        (
            'moved - share * total[:, None]',
            'moved',
            'forward-mode derivatives of a gradient would lack the softmax’s own',
        ),
    )
    + of(
        'row_sums.py',
        METHODS,
        (
            'return Sums(own.logsumexp(1), log_negatives, own.sum(1) / number)',
            'return Sums(own.amax(1), log_negatives, own.sum(1) / number)',
            'of several views, the nearest would be the only positive',
        ),
        (
            'return Sums(own.logsumexp(1), log_negatives, own.sum(1) / number)',
            'return Sums(own.logsumexp(1), log_negatives, own.sum(1))',
            'of several views, the sum would be taken and not the mean',
        ),
    )
    + of(
        'row_sums.py',
        METHODS,
        (
            'return torch.where(negative, x, -math.inf)',
            'return x',
            'who is no negative would be pushed away',
        ),
        (
            'return x.scatter_(1, others_at, few)',
            'return x',
            'where columns are known, the anchor would be pushed from itself',
        ),
        (
            'free = to_weights is None and not torch.is_grad_enabled()',
            'free = not torch.is_grad_enabled()',
            'weights of positives would have a gradient',
        ),
        (
            'free = to_weights is None and not torch.is_grad_enabled()',
            'free = to_weights is None',
            'a graph would be written over',
            'PyTorch follows what is written in place, and nothing else holds `grad`',
        ),
    )
    + of(
        'row_sums.py',
        IN_TILES,
        (
            'None if others_at is None else others_at[rows]',
            'None if others_at is None else others_at[: len(weighted)]',
            'of a large batch, all parts would leave out the columns of the first',
        ),
        (
            'weighted = logits[rows] + log_w[rows]',
            'weighted = logits[rows] + log_w[: len(logits[rows])]',
            'of a large batch, all parts would have the weights of the first',
        ),
    )
)

MUTANTS = [*INFO_NCE, *BY_TABLES, *BY_COLUMNS]
