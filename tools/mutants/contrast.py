"Ids, rules, the contrast and its parts, and the tiles that count its cells."

METHODS = 'tests/test_seam_methods.py tests/test_seam_parts.py'
SEAM = f'tests/test_seam.py {METHODS}'
ROLES = 'tests/test_ids.py::test_roles_are_what_the_ids_say'
FROZEN = 'tests/test_frozen.py'
PARTS = ' '.join(
    f'tests/test_weightings.py::test_{name}'
    for name in (
        'blocks_of_rows_give_the_same_rows',
        'a_replaced_contrast_is_a_fresh_one',
    )
)


def of(file, tests, *changes):
    "Mutants of one module: (old, new, why), with a reason where it is harmless."
    keys = 'old', 'new', 'why', 'harmless'
    return [dict(zip(keys, change), file=file, tests=tests) for change in changes]


IDS = of(
    'rules.py',
    SEAM,
    (
        'asked = a.masked_fill(a < 0, UNKNOWN - 1)',
        'asked = a',
        'two images without a label would count as one class',
    ),
) + of(
    'embeddings.py',
    SEAM,
    (
        'torch.arange(count, device=sample.device).repeat_interleave(b)',
        'torch.arange(count, device=sample.device).repeat(b)',
        'views would be mistaken for each other',
    ),
    (
        'UNKNOWN if copies is None else copies.repeat(count)',
        'UNKNOWN if copies is None else copies.repeat_interleave(count)',
        'copies of other images would be taken out',
    ),
    (
        'UNKNOWN if labels is None else labels.repeat(count)',
        'UNKNOWN',
        'labels would be dropped without a word',
    ),
    (
        'return e.view * samples + e.sample',
        'return e.sample',
        'second views would be weighed as if they were first ones',
    ),
)

BY_PLACE = of(
    'rules.py',
    SEAM,
    (
        'view = (anchors.view[:, None] + turn) % count',
        'view = turn + 0 * anchors.view[:, None]',
        'second views would be their own positives',
    ),
    (
        'own = view * samples + anchors.sample[:, None]',
        'own = view + count * anchors.sample[:, None]',
        'positives would stand in the columns of other images',
    ),
    (
        'positive_at = own[:, 1:]',
        'positive_at = own',
        'an anchor would be its own positive',
    ),
    (
        '~nobody.scatter(1, own, True)',
        '~positive',
        'an anchor would be its own negative',
    ),
    (
        'others_at=own)',
        'others_at=positive_at)',
        'in sums by columns, an anchor would be its own negative',
    ),
    (
        'others_at=own)',
        'others_at=own[:, :1])',
        'in sums by columns, the positive would be a negative as well',
    ),
    (
        'positive_at=positive_at, others_at=own)',
        'positive_at=own[:, :1], others_at=own)',
        'in sums by columns, an anchor would be its own positive',
    ),
)

PROMISES = of(
    'embeddings.py',
    ROLES,
    (
        'p is not None and p.sample is self.sample and p.view is self.view',
        'p is not None and p.view is self.view',
        'images with other numbers would be found where the old ones were',
    ),
    (
        'p is not None and p.sample is self.sample and p.view is self.view',
        'p is not None and p.sample is self.sample',
        'views with other numbers would be found where the old ones were',
    ),
) + (
    of(
        'rules.py',
        f'{ROLES} {METHODS}',
        (
            'if anchors.kept.views_of == batch and candidates.kept.closed:',
            'if candidates.kept.closed:',
            'an anchor that is no view would be taken for the last image',
        ),
        (
            'if anchors.kept.views_of == batch and candidates.kept.closed:',
            'if anchors.kept.views_of == batch:',
            'a further candidate that shows the image would be its negative',
        ),
    )
    + of(
        'embeddings.py',
        f'{ROLES} {METHODS}',
        (
            'closed=first.kept.closed and no_views)',
            'closed=first.kept.closed)',
            'behind a batch, who shows one of its images would be a negative',
        ),
        (
            'all(p.closed and p.views_of is None for p in kept)',
            'all(p.closed for p in kept)',
            'of two batches, one behind the other, only the first would be known',
        ),
        (
            'promise=Promise(sample, view, closed=first',
            'promise=Promise(sample, view, first.kept.views_of, closed=first',
            'an explicit negative as an anchor would be taken for a view',
        ),
        (
            'return Embeddings(self.z[idx], *ids, extra=extra, promise=promise)',
            'return replace(self, z=self.z[idx], sample=ids[0], view=ids[1], '
            'label=ids[2], copy=ids[3], extra=extra, '
            'promise=promise._replace(closed=self.kept.closed))',
            'some of the candidates would be taken for all of them',
        ),
        (
            'nameless = isinstance(sample, int) and sample < 0',
            'nameless = True',
            'who is said to show an image would be its negative',
        ),
    )
)

RULES = (
    of(
        'rules.py',
        SEAM,
        (
            'return fewer_negatives(roles, other_view)',
            'return roles',
            'CLIP would push images from images',
        ),
        (
            'positive = roles.positive | (roles.negative & same_class)',
            'positive = roles.positive',
            'SupCon would have no positive of its class',
        ),
        (
            'return Roles(positive, roles.negative & ~same_class)',
            'return Roles(positive, roles.negative)',
            'a SupCon positive would be a negative as well',
        ),
        (
            'positive = roles.positive | (roles.negative & same_class)',
            'positive = same_class',
            'without a label an anchor would lose its own other view',
        ),
        (
            'return fewer_negatives(roles, ~shared)',
            'return roles',
            'a copy of the anchor would stay its negative',
        ),
        (
            'return fewer_negatives(roles, candidates.view < 0)',
            'return roles',
            'with a queue, the batch would count as well',
        ),
        (
            'roles = fewer_negatives(roles, filled)',
            'roles = roles',
            'empty slots of a queue would be negatives',
        ),
        (
            'positive=roles.positive & filled',
            'positive=roles.positive',
            'empty slots of a queue could be positives',
        ),
    )
    + of(
        'rules.py',
        ROLES,
        (
            'return Roles(same & other_view, ~same)',
            'return Roles(same, ~same)',
            'by ids, an anchor would be its own positive',
        ),
        (
            'return Roles(same & other_view, ~same)',
            'return Roles(same & other_view, ~(same & other_view))',
            'by ids, an anchor would be its own negative',
        ),
    )
    + of(
        'rules.py',
        'tests/test_arguments.py::test_what_a_rule_returns',
        (
            'require(fits, what, lambda',
            'require(True, what, lambda',
            'a rule that returns numbers would be a traceback or a wrong loss',
        ),
    )
    + of(
        'rules.py',
        FROZEN,
        (
            'positive_at=known.positive_at)',
            'positive_at=known.positive_at, others_at=known.others_at)',
            'who was taken out of the negatives would still be weighed',
        ),
    )
)

CONTRAST = (
    (
        of(
            'contrast.py',
            SEAM,
            (
                'return (anchors.z / temperature) @ candidates.z.T',
                'return (anchors.z * temperature) @ candidates.z.T',
                'a low temperature would flatten',
            ),
            (
                'k=count(self.negative)',
                'k=count(self.negative | self.positive)',
                'weights would average over the positives too',
            ),
            (
                'prepared: Any = field(init=False, default=None)',
                'prepared: Any = field(default=None)',
                'what was prepared for other candidates would be used without a word',
            ),
            (
                'return Roles(c.positive[rows], c.negative[rows])',
                'return Roles(c.positive[: len(rows)], c.negative[: len(rows)])',
                'a method that prepares in parts would see the roles of other anchors',
            ),
            (
                'logits=c.logits.detach(),\n',
                'logits=c.logits,\n',
                'gradient would flow through weights that are constants',
            ),
            (
                'return self.logits * self.temperature',
                'return self.logits',
                'a cosine would grow as the temperature falls',
            ),
        )
        + of(
            'embeddings.py',
            SEAM,
            (
                'extra=extra,\n        promise=Promise(sample, view, closed=first',
                'extra=extra,\n        batch=(0, 0),\n'
                '        promise=Promise(sample, view, closed=first',
                'with further candidates nobody would know the views of the batch',
            ),
            (
                '[name for name in first.extra if all(name in p.extra for p in others)]',
                '[]',
                'uncertainty would lose the norms',
            ),
        )
    )
    + of(
        'contrast.py',
        PARTS,
        (
            'if rows is None else self.anchors[rows]',
            'if rows is None else self.anchors[: len(self.anchors[rows])]',
            'every block would be the first one',
        ),
        (
            'c.positive[rows],\n        c.negative[rows],\n        c.anchors',
            'c.positive[: len(c.anchors[rows])],\n'
            '        c.negative[: len(c.anchors[rows])],\n        c.anchors',
            'some anchors would have the roles of others',
        ),
        (
            'None if at is None else at[rows]',
            'None if at is None else at[: len(c.anchors[rows])]',
            'some anchors would be weighed with the columns of others',
        ),
        (
            'prepared=c.prepared, **columns)\n\n\ndef is_own',
            '**columns)\n\n\ndef is_own',
            'what depends on all anchors would be prepared from some',
        ),
        (
            'if is_own(c, prepare):\n        return c.prepared',
            'pass',
            'what depends on all anchors would be prepared in every block',
        ),
        (
            '# as in `Roles`, where the rule has said so\n'
            '    positive_at: Tensor | None = field(init=False, default=None)\n'
            '    others_at: Tensor | None = field(init=False, default=None)',
            'positive_at: Tensor | None = field(default=None)\n'
            '    others_at: Tensor | None = field(default=None)',
            'with other tables, the columns of the old ones would be summed',
        ),
    )
    + (
        of(
            'rules.py',
            METHODS,
            (
                'positive_at: Tensor | None = field(init=False, default=None)  # (a p)',
                'positive_at: Tensor | None = field(default=None)  # (a p)',
                'roles with other positives would be summed by the old columns',
            ),
            (
                'others_at: Tensor | None = field(init=False, default=None)  # (a q)',
                'others_at: Tensor | None = field(default=None)  # (a q)',
                'roles with other negatives would be summed by the old columns',
            ),
        )
        + of(
            'contrast.py',
            METHODS,
            (
                'prepared=c.prepared, **columns)\n\n\ndef is_own',
                'prepared=c.prepared)\n\n\ndef is_own',
                'some anchors at a time would be summed by tables, which is slower',
            ),
            (
                'return with_fields(replace(c, made=made), prepared=prepared, **columns_of(c))',
                'return with_fields(replace(c, made=made), prepared=prepared)',
                'every loss would be summed by tables, which is slower',
            ),
            (
                'return with_fields(new, prepared=c.prepared, **columns_of(c))',
                'return with_fields(new, prepared=c.prepared)',
                'UnReMix would be summed by tables, which is slower',
            ),
            (
                'temperature = temperature.detach()',
                'pass',
                'statistics would hold the graph of a temperature that learns',
            ),
            (
                'anchors = replace(c.anchors.detach(), extra',
                'anchors = replace(c.anchors, extra',
                'what is prepared would not be told that embeddings are constants',
                'it is computed under `no_grad`',
            ),
        )
        + of(
            'embeddings.py',
            METHODS,
            (
                'return torch.cat(parts).detach()',
                'return torch.cat(parts)',
                'alone, gradient would flow where among processes it does not',
            ),
        )
    )
)

TILES = of(
    'tiles.py',
    METHODS,
    (
        'WORDS = 255',
        'WORDS = 256',
        'of 2,048 negatives in a row, none would be counted',
    ),
    (
        'mask.shape[1] % 8 == 0',
        'mask.shape[1] % 4 == 0',
        'twelve candidates would be no whole number of words',
    ),
    (
        'if not row_by_row or mask.storage_offset() % 8:',
        'if False:',
        'a table with other strides could not be counted',
    ),
    (
        'return torch.stack(sums, 1).view(torch.uint8).sum(1)',
        'return torch.stack(sums, 1).sum(1)',
        'columns of a word would be added as its bytes stand',
    ),
) + of(
    'tiles.py',
    'tests/test_derivatives.py::test_blocks_refuse_whatever_it_is_that_asks',
    (
        'return forward_ad.unpack_dual(x).tangent is not None',
        'return False',
        'a forward-mode derivative in blocks would be lost without a word',
    ),
)

MUTANTS = [*IDS, *BY_PLACE, *PROMISES, *RULES, *CONTRAST, *TILES]
