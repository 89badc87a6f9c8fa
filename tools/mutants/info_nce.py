"""The loss on a contrast: `unremix/info_nce.py`."""

FILE = 'info_nce.py'
TESTS = 'tests/test_seam.py tests/test_seam_methods.py'

CHANGES = [
    (
        'return torch.where(mask, x, -math.inf).logsumexp(1)',
        'return (x + mask.log()).logsumexp(1)',
        'an anchor without negatives would make the gradient NaN',
    ),
    (
        'torch.where(mask, x, 0.0).sum(1) / mask.sum(1).clamp_min(1)',
        'torch.where(mask, x, 0.0).sum(1)',
        'with several positives their sum would be taken',
    ),
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
        'floor = -1 / temperature',
        'floor = -1',
        'the floor would ignore the temperature',
    ),
    (
        'at_floor = nothing_left | (rest <= floor)',
        'at_floor = nothing_left',
        'the estimate could fall below what any logit allows',
    ),
    (
        'log_positive = log_sum(c.logits, c.positive) - number.log()',
        'log_positive = log_sum(c.logits, c.positive)',
        'several positives would subtract their sum and not their mean',
    ),
    (
        'log_total = torch.where(some, log_sum(log_w, counts), 0.0)',
        'log_total = torch.where(some, c.k.log(), 0.0)',
        'weights that do not average 1 would be debiased by a wrong number',
    ),
    (
        'return torch.where(lacks, 0.0, log_negatives - mean_over(c.logits, c.positive))',
        'return torch.where(lacks, 0.0, log_negatives)',
        'the decoupled loss would not pull the positive',
    ),
]

MUTANTS = [
    dict(file=FILE, tests=TESTS, old=old, new=new, why=why) for old, new, why in CHANGES
]
