"Written by somebody who did not write the tests: what a reviewer might try."

SEEN = 'tests/test_seen.py'

def of(file, tests, *changes):
    "Mutants of one module: (old, new, why) each, or with the reason why it is harmless."
    keys = 'old', 'new', 'why', 'harmless'
    return [dict(zip(keys, change), file=file, tests=tests) for change in changes]

UNCERTAINTY = of('uncertainty.py', SEEN,
    ('idx[:v]\n', 'idx[:v].roll(v//2)\n', 'a view is asked about its partner instead of about itself'),
    ('c[candidates]/temperature, c[:v].T)', 'c[candidates], c[:v].T)', 'the temperature of the pseudo-task'),
    ('best = p.argmax(1', 'best = p.argmin(1', 'the pseudo-label is the best guess'),
    ('return v - z*(z*v).sum(1, keepdim=True)', 'return v', 'the gradient is that on the sphere'),
    ('(square + 1).sqrt()', 'square.sqrt()', 'the bias of the last layer'),
    ('/(contrast.columns.norm*temperature)', '/temperature', 'the length of the raw embedding'),
    ('return v, h/torch.linalg.vector_norm(h, dim=1, keepdim=True)', 'return v, h', 'influence is a cosine'),
    ('torch.ones_like(h[:,:1])', 'torch.zeros_like(h[:,:1])', 'the bias of the last layer in the influence'),
    ('return -(log_p.exp()*', 'return (log_p.exp()*', 'entropy is higher where the encoder is torn'),
    ('(idx + v//2) % v, idx)', 'idx, idx)', "both views of an image answer"),
    ('-torch.expm1((z[i] @ z.T', '-torch.expm1(2*(z[i] @ z.T', 'the temperature of `image_similarity`'),
    ('(mean_negative + positive)/2', 'mean_negative', "the boundary is half-way to the positive"),
    ('BOUNDARY_TEMPERATURE = .1', 'BOUNDARY_TEMPERATURE = .2', "the documented width of the boundary"),
    ('.isfinite()) # a zero vector', '.isfinite() | True) # a zero vector', 'a zero vector finds all views equally near'),
    ('t = contrast.detach().shift(), temperature or contrast.temperature', 't = contrast.detach().shift(), contrast.temperature', '`uncertainty_temperature` is used'),
    ('contrast.once((kind, temperature), lambda', 'contrast.once(kind, lambda', 'two temperatures on one contrast'),
    ('norm=Score(gradient_norm, floor=.01)', 'norm=Score(gradient_norm)', 'near-collapse does not amplify rounding'))

REPRESENTATIVENESS = of('representativeness.py', SEEN,
    ('low=-1.)', 'low=0.)', "negative cosines count in `normalize='sum'`"),
    (' - x[contrast.positive_idx]', '', "the positive is not among the other negatives"),
    ('(k-1).clamp_min(1)), 1.)', 'k.clamp_min(1)), 1.)', 'the mean is over the others, without the candidate itself'),
    ('sums[:,-1:] - itself', 'sums[:,-1:]', 'a zero vector is at distance 1 from everybody but itself'),
    ('distances(contrast, contrast.anchor_idx) - ', '', "the anchor is not among its negatives"),
    ('return torch.where(k > 1, total/', 'return torch.where(k > 0, total/', 'an only negative is at distance 1'),
    ('DISTANCES[distance](contrast.detach())', 'DISTANCES[distance](contrast)', 'no gradient through representativeness'),
    ('cosine=mean_cosine_distance, euclidean=mean_euclidean_distance', 'cosine=mean_cosine_distance, euclidean=mean_cosine_distance', "`distance='euclidean'`"))

WEIGHTS = of('weights.py', SEEN,
    ('torch.where(negative, scores, off)', 'scores', 'only negatives have weights'),
    ('return log_p + k.log()[:,None]', 'return log_p', 'weights average 1'),
    ('if detach else contrast.logits', 'if not detach else contrast.logits', '`detach_weights`'),
    ('log_share(beta*logits', 'log_share(beta*contrast.temperature*logits', 'β multiplies cosine/temperature'),
    ('super().__init__(hcl, temperature, tau_plus, **kwargs)', 'super().__init__(hcl, temperature, **kwargs)', '`tau_plus` of HCL'),
    ('is_number(beta) and beta >= 0', 'is_number(beta)', 'a negative β is refused'),
    ('torch.where(k > 0, -math.inf, 0.)', '-math.inf*torch.ones_like(k)', 'an anchor without negatives gives no NaN'))

LOSSES = of('losses.py', SEEN,
    ('log_g = log_sum - log_k', 'log_g = log_sum', 'the estimate is a mean'),
    (' - math.log1p(-tau_plus)', '', 'debiasing divides by 1 − τ⁺'),
    ('clamped = ~room | (rest <= -1/temperature)', 'clamped = ~room | (rest <= -2/temperature)', 'the floor is the least possible value'),
    ('math.log(tau_plus) + positive_logit', 'math.log(tau_plus) - positive_logit', 'what is taken out is the positive'),
    ('some.sum().clamp_min(1)\n', 'len(some)\n', 'the mean is over anchors that have negatives'),
    ('effective = 1/share.square()', 'effective = 1/share', 'effective number of negatives'),
    ("-torch.xlogy(share, share)", "torch.xlogy(share, share)", 'sign of the entropy'),
    ('(log_w == last) & (log_w > -math.inf)', 'log_w == last', 'cells that are no negatives are never among the heaviest'),
    ('left = (places - above.sum(1, keepdim=True))', 'left = places', 'ties share the places that are left'),
    ('(fraction*k - 1e-6).ceil()', '(fraction*k).floor()', 'the heaviest tenth is rounded up'),
    ('(log_w + contrast.logits).masked_fill(', '(log_w - contrast.logits).masked_fill(', 'push is weight times e^s'),
    ('hardness=mean_over(top,', 'hardness=mean_over(w,', 'hardness is the cosine of the heaviest tenth'),
    ("cos.masked_fill(~c.negative, -1.).amax(1)", "cos.amax(1)", 'the hardest negative is not the anchor itself'),
    ("z2 if queue is None else z2.detach()", "z2", 'no gradient into keys'),
    ('labels is None or not self.tau_plus', "labels is None or True", '`labels` with `tau_plus` are refused'))

PAIRS = of('pairs.py', SEEN,
    ('zero = norm <= NORM_FLOOR', 'zero = norm < 0', 'a zero vector gives no NaN'),
    ('NORM_FLOOR = 1e-8', 'NORM_FLOOR = 1e-6', 'short vectors keep their direction'),
    ('hidden.detach().to(z.dtype)', 'hidden.to(z.dtype)', 'no gradient through hidden inputs'),
    ('column_ids = torch.cat([ids[:b], ids])', 'column_ids = torch.cat([ids, ids[:b]])', 'ids of explicit negatives'),
    ('torch.stack([anchor_idx, positive_idx], 1)', 'anchor_idx[:,None]', 'the positive is no negative'),
    ('>= 2*b)', '>= b)', '`in_batch=False` excludes both views'),
    ("idx.roll(b), 2*b, temperature", "idx.roll(1), 2*b, temperature", 'the positive is the other view'),
    ("logits = torch.matmul(z/self.temperature", "logits = torch.matmul(z", 'the temperature'),
    ("self.in_batch and not self.ids and", "self.in_batch and", 'masked negatives in the representativeness'),
    (".5*(c.square().sum(1) + zero)", ".5*c.square().sum(1)", 'a zero vector has cosine 0'))

BLOCKS = of('blocks.py', SEEN,
    ('to_positive[:,None]*z, alpha=1/t)', 'to_positive[:,None]*z)', 'gradient of the keys in blocks'),
    ('.addmm_(to_logits.T, z, alpha=1/t)', '.addmm_(to_logits.T, z)', 'gradient of the candidates in blocks'),
    ('weights[part], allow_unused=True', 'torch.ones_like(own), allow_unused=True', "weights of the losses with `reduction='none'`"),
    ('losses_of, weights[block], parameters, grads', 'losses_of, weights[:size], parameters, grads', "weights of later blocks"),
    ('lambda *args: _SumInBlocks.apply(*args)/len(args[0])', 'lambda *args: _SumInBlocks.apply(*args)/args[2]', 'the mean in blocks'),
    ('tuple(g*grad for g', 'tuple(g for g', 'a factor on the loss in blocks'),
    ('if g is not None: grad += g', 'if g is not None: grad.copy_(g)', 'gradients of all parts add up'),
    ("block.start+part.start, block.start+part.stop", "part.start, part.stop", 'rows of later blocks'))

IMPORTANCE = of('importance.py', SEEN,
    ('keepdim=True)/k.sqrt()', 'keepdim=True)/(k-1).sqrt()', 'population standard deviation'),
    ('clip:float=3.', 'clip:float=1.', 'scores are clipped at three deviations'),
    ('(indicator.value - indicator.low)', 'indicator.value', 'the least possible value counts nothing'),
    ('x = (value - torch.where(enough, low, 0.))', 'x = value', 'the lowest negative counts nothing with minmax'),
    ('contrast, knobs.kappa[0])), (la', 'contrast, knobs.kappa[1])), (la', 'κ of the uncertainty'),
    ('contrast, knobs.kappa[1]))) if weight', 'contrast, 1.))) if weight', 'κ of the representativeness'),
    ('.exp(), alpha=weight)', '.exp(), alpha=1/3)', 'λ'),
    ('scores = knobs.beta*contrast.logits', 'scores = contrast.logits', "β with `pool='log'`"),
    ('scores = scores + kappa*standard_score', 'scores = scores - kappa*standard_score', "sign of κ with `pool='log'`"),
    ('u and u.of(rows)', 'u', 'uncertainty of the anchors of a block'),
    ('(contrast.detach() if knobs.detach else contrast)', 'contrast.detach()', '`detach_weights=False`'),
    ('log_each = (k/k.clamp(1, k_keep))', 'log_each = (k/k_keep)', 'weights average 1 where fewer negatives are there than are kept'),
    ("abs(sum(mix)-1) < 1e-6", "True", 'a mixture that does not sum to 1 is refused'))

MUTANTS = [*UNCERTAINTY, *REPRESENTATIVENESS, *WEIGHTS, *LOSSES, *PAIRS, *BLOCKS, *IMPORTANCE]
