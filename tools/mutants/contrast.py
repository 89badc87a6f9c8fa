"""Ids, rules and the contrast: `unremix/contrast.py`."""

FILE = 'contrast.py'
TESTS = 'tests/test_seam.py tests/test_seam_methods.py'

CHANGES = [
    (
        'asked = a.masked_fill(a < 0, UNKNOWN - 1)',
        'asked = a',
        'two images without a label would count as one class',
    ),
    (
        'return same & other_view, ~same',
        'return same, ~same',
        'an anchor would be its own positive',
    ),
    (
        'return same & other_view, ~same',
        'return same & other_view, ~(same & other_view)',
        'an anchor would be its own negative',
    ),
    (
        'return positive, negative & (anchors.view[:, None] != candidates.view)',
        'return positive, negative',
        'CLIP would push images from images',
    ),
    (
        'return positive | (negative & same_class), negative & ~same_class',
        'return positive, negative & ~same_class',
        'SupCon would have no positive of its class',
    ),
    (
        'return positive | (negative & same_class), negative & ~same_class',
        'return positive | (negative & same_class), negative',
        'a SupCon positive would be a negative as well',
    ),
    (
        'return positive | (negative & same_class), negative & ~same_class',
        'return same_class, negative & ~same_class',
        'without a label an anchor would lose its own other view',
    ),
    (
        'return positive, negative & ~shared',
        'return positive & ~shared, negative',
        'a copy of the anchor would stay its negative',
    ),
    (
        'return positive, negative & (candidates.view < 0)',
        'return positive, negative',
        'with a queue, the batch would count as well',
    ),
    (
        'return positive & filled, negative & filled',
        'return positive & filled, negative',
        'empty slots of a queue would be negatives',
    ),
    (
        'logits = (anchors.z / temperature) @ candidates.z.T',
        'logits = (anchors.z * temperature) @ candidates.z.T',
        'a low temperature would flatten',
    ),
    (
        'k = self.negative.sum(1)',
        'k = (self.negative | self.positive).sum(1)',
        'weights would average over the positives too',
    ),
    (
        'prepared: Any = field(init=False, default=None)',
        'prepared: Any = field(default=None)',
        'what was prepared for other candidates would be used without a word',
    ),
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
        'return Embeddings(z, **ids, extra=extra, batch=first.batch)',
        'return Embeddings(z, **ids, extra=extra)',
        'with further candidates nobody would know the views of the batch',
    ),
    (
        'known = [name for name in first.extra if all(name in p.extra for p in others)]',
        'known = []',
        'uncertainty would lose the norms',
    ),
    (
        'return c.positive[rows], c.negative[rows]',
        'return c.positive[: len(rows)], c.negative[: len(rows)]',
        'a method that prepares in parts would see the roles of other anchors',
    ),
    (
        'new = replace(c, logits=c.logits.detach(), anchors=anchors, candidates=candidates)',
        'new = replace(c, anchors=anchors, candidates=candidates)',
        'gradient would flow through weights that are constants',
    ),
]

MUTANTS = [
    dict(file=FILE, tests=TESTS, old=old, new=new, why=why) for old, new, why in CHANGES
]
