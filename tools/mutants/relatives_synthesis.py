"What made-up negatives must not lose: their places, their chances, and what stays real."

TESTS = 'tests/test_relatives_synthesis.py'


def of(file, *changes):
    return [dict(file=file, tests=TESTS) | dict(zip(('old', 'new', 'why'), change)) for change in changes]


MUTANTS = [
    *of('synthesis.py',
        ('of_two, of_one = y.lerp(x, alpha), lonely.lerp(anchor, twice_beta / 2)', 'of_two, of_one = y.lerp(x, alpha), lonely.lerp(anchor, twice_beta)', 'MoCHi: the anchor would get the larger share'),
        ('of_two, of_one = y.lerp(x, alpha)', 'of_two, of_one = y.lerp(x, alpha / 2)', 'MoCHi: mixtures would be near one of the two'),
        ('rank = (x * self.few).long()', 'rank = (x * self.few * 0.99).long()', 'the last of the hardest would be drawn less often'),
        ('most = min(hardest, scores.shape[1])', 'most = min(hardest + 1, scores.shape[1])', 'one too many would count as hard'),
        ('some = (c.k > 0)[:, None] | nobody', 'some = ~nobody', 'an anchor without negatives would get made-up ones'),
        ('some = some & counts', 'pass', 'a warm-up would warm nothing up'),
        ('average = torch.where(made_up, log_w.new_zeros(()), -math.inf)', 'average = torch.where(made_up, log_w.new_zeros(()), 0.0)', 'UnReMix would weigh columns that do not count'),
        ('kinds.append(rank < active * count)', 'kinds.append(rank <= active * count + 1)', 'a warm-up of 0 would let one count'),
        ('c = without_synthetic(c)', 'pass', 'what was made up would be mixed again'),
    ),
    *of('mixtures.py',
        ('x[0].lerp(q, u[0] / 2)', 'x[0].lerp(q, u[0])', 'SynCo, interpolated: more anchor than negative'),
        ('q.lerp(x[1], 1 + u[1] / 2)', 'q.lerp(x[1], 1 + u[1])', 'SynCo, extrapolated: up to twice the distance'),
        ('near.drawn(at).lerp(x[2], u[2])', 'x[2].lerp(near.drawn(at), u[2] / 2)', 'SynCo, mixed: not α ~ U(0, 1)'),
        ('x[3] + self.sigma * noise', 'x[3] + self.sigma**2 * noise', 'SynCo, noisy: a variance in place of a deviation'),
        ('x[4] + self.delta * q', 'x[4] - self.delta * q', 'SynCo, stepped: away from the anchor'),
        ('x[5] + self.eta * q.sign()', 'x[5] + self.eta * q', 'SynCo, signed: a second gradient step'),
        ("'weights': HCL(knobs.beta, knobs.detach)", "'weights': HCL(knobs.beta)", 'SSCL: its switch would do nothing'),
        ("'weights': HCL(knobs.beta, knobs.detach)", "'weights': HCL(1.0, knobs.detach)", 'SSCL: its hardness would do nothing'),
        ("""    source='Dong et al. 2023',
    tau_plus=0.1,""", """    source='Dong et al. 2023',
    tau_plus=0.0,""", 'SSCL would not debias'),
        ('(c.cosine.detach()[:, real] > self.threshold)', '(c.logits.detach()[:, real] > self.threshold)', 'M-Mix: a threshold that depends on the temperature'),
        ('log_share(self.sharpness * cosine, some, count(some))', 'log_share(cosine, some, count(some))', 'M-Mix: its sharpness would do nothing'),
        ('counts = self.mixed(c).any(1, keepdim=True) & active', 'counts = active', 'M-Mix: a negative made of nobody'),
    ),
    *of('one_class.py',
        ('lerp(query, share[:, None] / 2)', 'lerp(query, share[:, None])', 'MiOC: more query than negative'),
        ('counts = c.negative[:, at] & active_part', 'counts = active_part', 'MiOC: a negative made of the positive'),
        ('inner = usable & inside(batch, candidates.z, self.gamma, self.nu)', 'inner = usable', 'MiOC: everybody would be inside'),
        ('return torch.from_numpy(side > -10 * TOLERANCE)', 'return torch.from_numpy(side < 10 * TOLERANCE)', 'MiOC: outside in place of inside'),
        ('usable = candidates.view == MEMORY', 'usable = candidates.view <= MEMORY', 'MiOC: empty slots would be mixed'),
        ('if not (fitted.isfinite().all() and z.isfinite().all()):', 'if False:', 'MiOC: a loss of NaN would die in scikit-learn'),
        ('any_one, inner_one = which.split([self.anywhere, self.inside])', 'inner_one, any_one = which.split([self.anywhere, self.inside])', 'MiOC: the two sets in the wrong order'),
    ),
]
