"Every pair once, and the standard scores that it multiplies."

ONCE = 'tests/test_pairs_once.py'


def of(file, names, *changes):
    "Mutants of one module and the tests of `ONCE` that are to notice."
    tests = ' '.join(f'{ONCE}::test_{name}' for name in names.split())
    keys = 'old', 'new', 'why', 'harmless'
    return [dict(zip(keys, c), file=file, tests=tests) for c in changes]


EQUAL = 'equal_to_the_whole_matrix'

MUTANTS = (
    of(
        'pairs_once.py',
        EQUAL,
        (
            'by_sample.diagonal(dim1=1, dim2=3).zero_()',
            'by_sample[0, :, 0].fill_diagonal_(0)',
            'a view is no negative of its other views',
        ),
        (
            'in_views(p, of_rows, 1).diagonal(dim1=0, dim2=2).zero_()',
            'pass',
            "an opinion counts no view of the anchor's own sample",
        ),
        (
            'in_views(p, of_columns, 0).diagonal(dim1=1, dim2=2).zero_()',
            'of_columns.zero_()',
            'a tile of the diagonal is pushed by both roles',
        ),
        (
            'sums[at.columns.rows] += sums_of(p, x, q.columns, 0)',
            'sums[at.columns.rows] += sums_of(p, x, q.rows, 1)',
            'offsets of the anchors in the columns are their own',
        ),
        (
            'if at.rows != at.columns:\n        sums[at.columns.rows]',
            'if True:\n        sums[at.columns.rows]',
            'a tile of the diagonal is added once',
        ),
        (
            'return q.sum(dim).repeat(p.views_of[0])',
            'return q.sum(dim).repeat_interleave(p.views_of[0])',
            'a block lies view by view',
        ),
        (
            'found.append(tilt.share * above',
            'found.append(above',
            'the shares λ of a mixture',
        ),
        (
            'return k.log() + ratios(p, f).sum(0).log() + 1 / p.temperature',
            'return k.log() + ratios(p, f).sum(0).log()',
            'the largest logit is taken out and has to be put back',
        ),
        (
            'moves = 0.0 if tilt.constant else tilt.slope',
            'moves = tilt.slope',
            'constant weights get no gradient',
        ),
        (
            'up = (1 + moves) * mine',
            'up = mine',
            'the gradient through the weights of HCL',
        ),
        (
            'part = each / each.sum(0).clamp_min(smallest) * to',
            'part = each / each.sum(0).clamp_min(smallest) * to.mean()',
            'each anchor has a gradient of its own',
        ),
        (
            'addcmul_(q.columns[:, None], each)',
            'addcmul_(q.columns[:, None], each.flip(1))',
            'the gradient of a candidate asks what its anchor thinks of it',
        ),
        (
            'cut(total, columns).addmm_(g.T, z[rows])',
            'cut(total, columns).addmm_(g.T, z[columns][: len(g)])',
            'columns are pushed by the rows',
        ),
        (
            'return total.div_(p.temperature)',
            'return total',
            'the gradient of a cosine is that of a logit over the temperature',
        ),
        (
            'both = e if tilt.slope == 1 else e.pow(tilt.slope)',
            'both = e',
            'β other than 1',
        ),
    )
    + of(
        'pairs_once.py',
        'with_labels_and_ids',
        (
            'same = (mine == ids[at.columns.rows]) & (mine >= 0)',
            'same = mine == ids[at.columns.rows]',
            'unknown labels are equal to nobody',
        ),
    )
    + of(
        'pairs_in_a_loss.py',
        'with_labels_and_ids',
        (
            'clear(p, negative, at)',
            'clear(replace(p, ids=()), negative, at)',
            'K counts the negatives that are left',
        ),
        (
            'return None if others is None else (*others, rule.name)',
            'return None if others is None else (rule.name,)',
            'labels and sample ids together',
        ),
    )
    + of(
        'pairs_in_a_loss.py',
        'views_and_small_batches',
        (
            'others = (z.roll(-turn * samples, 0) for turn in range(1, count))',
            'others = (z.roll(-samples, 0) for turn in range(1, count))',
            'three views have two positives',
        ),
    )
    + of(
        'pairs_in_a_loss.py',
        'what_takes_the_whole_matrix a_subclass_without_methods',
        (
            'say = None if changed else weights.tilts',
            'say = weights.tilts',
            'a subclass that weighs in its own way is not asked for its tilts',
        ),
        (
            'if not tilts or spread(tilts, t) > SPREAD[e.z.dtype]:',
            'if not tilts:',
            'a cold temperature would lose far negatives',
        ),
        (
            'of_tilts.append((1 + tilt.slope) * 2 / temperature + 2 * bound)',
            'of_tilts.append(2 / temperature + 2 * bound)',
            'a large β has a larger range',
        ),
        (
            'of_tilts.append((1 + tilt.slope) * 2 / temperature + 2 * bound)',
            'of_tilts.append((1 + tilt.slope) * 2 / temperature)',
            'a large κ has a larger range',
        ),
    )
    + of(
        'pairs_in_a_loss.py',
        'calls_that_take_the_whole_matrix',
        (
            'and count * samples == e.z.shape[0]',
            'and True',
            'further negatives are no anchors',
            'with further candidates nobody promises that all are views of the batch',
        ),
    )
    + of(
        'pairs_in_a_loss.py',
        'second_derivatives no_second_derivative_with_chunk_size',
        (
            'require_once(p.keep)',
            'require_once(True)',
            'chunk_size would make a whole matrix',
        ),
        (
            'z, to, create_graph=True)',
            'z, to)',
            'a gradient penalty would be differentiated as a constant',
        ),
    )
    + of(
        'pairs_once.py',
        'memory_of_tiles products_of_a_step',
        (
            'if p.keep:\n            kept.append',
            'if True:\n            kept.append',
            'chunk_size keeps no tile',
        ),
    )
    + of(
        'pairs_in_a_loss.py',
        'backward_under_autocast',
        (
            'with full_precision(z):',
            'if True:',
            'tiles computed again would be those of half precision',
        ),
    )
    + of(
        'pairs_in_a_loss.py',
        'tiles_do_not_outlive_the_backward_pass',
        (
            'ctx.rest = p, found, whole',
            'ctx.rest, ctx.kept = (p, found, whole), kept',
            'the next step would hold the tiles of two',
        ),
    )
    + of(
        'offsets.py',
        f'offsets_against_loops {EQUAL}',
        (
            'x = x - x.mean(0)',
            'x = x - x.mean()',
            'the sum over all candidates is zero only if they are centred',
        ),
        (
            'mean = -of_own.sum(0) / k',
            'mean = -of_own.sum(0) / len(x)',
            'the mean is over the negatives',
        ),
        (
            '- of_own.square().sum(0)',
            '',
            "views of the anchor's own sample are no negatives",
        ),
        (
            'variance = square / k - mean.square()',
            'variance = square / k',
            'the deviation is from the mean of the negatives',
        ),
        (
            'return first.add_(self.second.turned(candidates, anchors))',
            'return first.add_(self.first.turned(candidates, anchors))',
            'the logarithmic pool adds both opinions',
        ),
        (
            'bound = kappa * CLIP',
            'bound = CLIP',
            'scores are clipped before κ multiplies them',
        ),
        (
            'line = torch.addcmul(self.shifts[anchors], self',
            'line = torch.addcmul(-self.shifts[anchors], self',
            'a line begins at the mean of the negatives',
        ),
        (
            'torch.addcmul(self.shifts[anchors].T, self.slopes[anchors].T, asked)',
            'torch.addcmul(self.shifts[anchors].T, asked, asked)',
            'the columns ask in their own unit',
        ),
    )
    + of(
        'offsets.py',
        'special_batches',
        (
            'floor + smallest)',
            'smallest)',
            'rounding noise would become an opinion',
        ),
    )
    + of(
        'tiles.py',
        EQUAL,
        (
            'for columns in found[i:]:',
            'for columns in found[i + 1 :]:',
            'pairs within a tile of the diagonal count',
        ),
        (
            'for some in slices(samples, max(1, side // count)):',
            'for some in slices(samples, side):',
            'a tile is as large as it says, and not larger',
            'only speed and memory depend on the size of a tile',
        ),
        (
            'return torch.cat(parts, 1).view(x.shape)',
            'return torch.cat(parts).view(x.shape)',
            'every view gets its own loss',
        ),
    )
    + of(
        'gradient_norm.py',
        f'gradient_by_pairs {EQUAL}',
        (
            'tile.sub_(shift[rows, None])',
            'pass',
            'the exponentials are symmetric',
        ),
        (
            'tile.fill_diagonal_(lowest)',
            'pass',
            'the own view is no answer',
        ),
        (
            'best.update(tile, columns, rows, 0)',
            'pass',
            'the likeliest answer may stand in the other half',
        ),
        (
            'mean[columns].addmm_(tile.T, c[rows])',
            'mean[columns].addmm_(tile.T, c[columns][: len(tile)])',
            'a tile serves its columns',
        ),
        (
            'view = torch.where(better, at + answers.start, self.view[asked])',
            'view = torch.where(better, at, self.view[asked])',
            'answers have the number of the batch',
        ),
    )
    + of(
        'gradient_norm.py',
        'norm_at_a_low_temperature',
        (
            '2 / t <= SPREAD[e.z.dtype]',
            'True',
            'far views would drop out of the task',
        ),
    )
    + of(
        'representativeness.py',
        f'offsets_against_loops {EQUAL}',
        (
            'anchors = torch.cat([-sums.others.c, one], 1) / (k - 1)',
            'anchors = torch.cat([sums.others.c, one], 1) / (k - 1)',
            'far from the others and not near',
        ),
    )
    + of(
        'pairs_once.py',
        EQUAL,
        (
            'in_views(p, to, 0).addcmul_(by_sample, q.rows)',
            'in_views(p, to, 0).add_(by_sample)',
            'the gradient of an opinion',
        ),
    )
    + [
        dict(
            file='info_nce.py',
            old='if not self.tau_plus:\n            return two_sums(*sums)\n'
            '        log_negatives',
            new='if True:\n            return two_sums(*sums)\n        log_negatives',
            tests='tests/test_frozen.py',
            why='debiasing from sums alone',
        )
    ]
    + of(
        'unremix.py',
        f'offsets_against_loops {EQUAL} calls_that_take_the_whole_matrix '
        'what_takes_the_whole_matrix special_batches',
        (
            'if not by_score or not is_plain(comparison.rule, e) or e.batch[1] < 3:',
            'if not by_score or e.batch[1] < 3:',
            'labels take negatives out of the mean and the deviation',
        ),
        (
            'if kind.per_anchor is not for_all:',
            'if False:',
            'an uncertainty of the anchor is no vector',
        ),
        (
            "if knobs.distance != 'cosine':",
            'if False:',
            'Euclidean distances are no product',
        ),
        (
            'floor = kind.floor * known.uncertainty.unit',
            'floor = kind.floor',
            'noise is measured in units of the gradient',
        ),
        (
            'return (similarity, *others) if knobs.mix[1] else tuple(others)',
            'return (similarity, *others)',
            'an opinion without a share costs nothing',
            'its share is zero, so it changes no number, only the time',
        ),
        (
            'similarity = Tilt(knobs.mix[1], knobs.beta, knobs.detach)',
            'similarity = Tilt(knobs.mix[1], knobs.beta, True)',
            'detach_weights=False sends a gradient through the similarity',
        ),
    )
)
