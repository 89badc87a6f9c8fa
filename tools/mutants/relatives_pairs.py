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
        'factor = without_labels(c) if self.full_count else c.k',
        'factor = c.k',
        'the released factor would be the number of negatives',
    ),
    (
        'of_class = c.positive[:, : len(c.candidates)] & other_image',
        'of_class = c.positive[:, : len(c.candidates)]',
        'the paired view would count as a negative',
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

MUTANTS = LABELS + FALSE + LOSSES
