"Written by somebody who did not write the tests: what a reviewer might try."

SEEN = 'tests/test_seen.py'
PARTS = 'tests/test_seen_parts.py'
TRAINING = 'tests/test_seen_training.py'

def of(file, tests, *changes):
    "Mutants of one module: (old, new, why) each, or with the reason why it is harmless."
    keys = 'old', 'new', 'why', 'harmless'
    return [dict(zip(keys, change), file=file, tests=tests) for change in changes]

UNCERTAINTY = (of(
    'pseudo_task.py',
    SEEN,
    (
        'logits.diagonal(rows.start or 0)',
        'logits.diagonal((rows.start or 0) + 1)',
        'a view is asked about its partner instead of about itself',
    ),
    (
        'asked = c[rows] / task.temperature',
        'asked = c[rows]',
        'the temperature of the pseudo-task',
    ),
    (
        'return -p.mul_(log_p.clamp_min_(lowest))',
        'return p.mul_(log_p.clamp_min_(lowest))',
        'entropy is higher where the encoder is torn',
    ),
    (
        "has_direction = e.extra['norm'][rows].isfinite()",
        "has_direction = e.extra['norm'][rows].isnan().logical_not()",
        'a zero vector finds all views equally near',
    ),
) + of(
    'gradient_norm.py',
    SEEN,
    (
        'best = logits.argmax(1)',
        'best = logits.argmin(1)',
        'the pseudo-label is the best guess',
    ),
    (
        'return step - z * outward',
        'return step',
        'the gradient is that on the sphere',
    ),
    ('(square + 1).sqrt()', 'square.sqrt()', 'the bias of the last layer'),
    (
        'return length / (raw_norm * temperature)',
        'return length / temperature',
        'the length of the raw embedding',
    ),
    (
        'return Directions(v, h / length)',
        'return Directions(v, h)',
        'influence is a cosine',
    ),
    (
        "F.pad(candidates.extra['hidden'], (0, 1), value=1.0)",
        "F.pad(candidates.extra['hidden'], (0, 1), value=0.0)",
        'the bias of the last layer in the influence',
    ),
) + of(
    'uncertainty.py',
    SEEN,
    (
        '(number + view * samples for view in range(count))',
        '(number for view in range(count))',
        'both views of an image answer',
    ),
    (
        'x.div_(temperature).expm1_()',
        'x.div_(temperature / 2).expm1_()',
        'the temperature of `image_similarity`',
    ),
    (
        '(near + far)[:, None] / 2',
        'far[:, None]',
        'the boundary is half-way to the positive',
    ),
    (
        'BOUNDARY_TEMPERATURE = 0.1',
        'BOUNDARY_TEMPERATURE = 0.2',
        'the documented width of the boundary',
    ),
    (
        "Score(gradient_norm, for_all, 0.0, 0.01, None, ('pseudo_label',))",
        "Score(gradient_norm, for_all, 0.0, 1e-4, None, ('pseudo_label',))",
        'near-collapse does not amplify rounding',
    ),
))

REPRESENTATIVENESS = of('representativeness.py', SEEN,
    (
        'return Indicator(c.cosine, low=-1.0)',
        'return Indicator(c.cosine, low=0.0)',
        "negative cosines count in `normalize='sum'`",
    ),
    (
        'return own.sum(0) - own',
        'return own.sum(0) - x.unflatten(0, candidates.batch)[0]',
        'the positive is not among the other negatives',
    ),
    (
        'total.div_((k - 1).clamp_min(1))',
        'total.div_(k.clamp_min(1))',
        'the mean is over the others, without the candidate itself',
    ),
    (
        'constant = sum_o[:, None] - sums.itself',
        'constant = sum_o[:, None]',
        'a zero vector is at distance 1 from everybody but itself',
    ),
    (
        'for view in range(count):',
        'for view in range(1, count):',
        'the anchor is not among its negatives',
    ),
    (
        'for view in range(count):',
        'for view in range(count - 1):',
        'the positive is not among them either',
    ),
    (
        'torch.where(k > 1, total.div_',
        'torch.where(k > 0, total.div_',
        'an only negative is at distance 1',
    ),
    (
        'torch.where(k > 1, total / ',
        'torch.where(k > 0, total / ',
        'by Euclidean distances too',
    ),
    (
        'constants = candidates.detach()',
        'constants = candidates',
        'no gradient through representativeness',
    ),
    (
        "'euclidean': Distance(prepare_euclidean, mean_euclidean_distance)",
        "'euclidean': Distance(prepare_cosine, mean_cosine_distance)",
        "`distance='euclidean'`",
    ),
    (
        'return rule is views and',
        'return',
        'masked negatives in the representativeness',
    ))

HARD_NEGATIVES = of('hard_negatives.py', SEEN,
    (
        'return torch.where(negative, scores, elsewhere).log_softmax(1)',
        'return scores.log_softmax(1)',
        'only negatives have weights',
    ),
    (
        'return scores.scatter(1, others_at, few).log_softmax(1)',
        'return scores.log_softmax(1)',
        'only negatives have weights, where columns are known',
    ),
    (
        'return log_p + k.log()[:, None]',
        'return log_p',
        'weights average 1',
    ),
    (
        'c.logits.detach() if self.detach else c.logits',
        'c.logits if self.detach else c.logits.detach()',
        '`detach_weights`',
    ),
    (
        'log_share(self.beta * logits',
        'log_share(self.beta * c.temperature * logits',
        'β multiplies cosine/temperature',
    ),
    (
        'is_number(beta) and beta >= 0',
        'is_number(beta)',
        'a negative β is refused',
    ),
    (
        'elsewhere = torch.where(k > 0, -math.inf, 0.0)',
        'elsewhere = torch.full_like(k, -math.inf)',
        'an anchor without negatives gives no NaN',
    ))

LOSSES = of('losses.py', SEEN,
    (
        '''HCL(beta, detach_weights),
            pairs=pairs,
            loss=InfoNCE(tau_plus)''',
        '''HCL(beta, detach_weights),
            pairs=pairs,
            loss=InfoNCE()''',
        '`tau_plus` of HCL',
    )) + of('info_nce.py', SEEN,
    (
        'log_mean = log_negatives - log_total',
        'log_mean = log_negatives',
        'the estimate is a mean',
    ),
    (' - torch.log1p(-tau)', '', 'debiasing divides by 1 − τ⁺'),
    (
        'at_floor = nothing_left | (rest <= floor)',
        'at_floor = nothing_left | (rest <= 2 * floor)',
        'the floor is the least possible value',
    ),
    (
        'tau.log() + log_positive - log_mean',
        'tau.log() - log_positive - log_mean',
        'what is taken out is the positive',
    )) + of('contrastive_loss.py', SEEN,
        (
        'if queue is None else (z1, z2.detach())',
        'if queue is None else (z1, z2)',
        'no gradient into keys',
    )) + of('call.py', SEEN,
        (
        "require(labels is None or not prior, name",
        "require(True, name",
        '`labels` with `tau_plus` are refused',
    ))

STATISTICS = of('statistics.py', SEEN,
    (
        'return Mean(torch.where(some, x, 0.0).sum(), some.sum())',
        'return Mean(torch.where(some, x, 0.0).sum(), torch.ones_like(some).sum())',
        'the mean is over anchors that have negatives',
    ),
    (
        'square = shares(log_w).square().sum(1)',
        'square = shares(log_w).sum(1)',
        'effective number of negatives',
    ),
    (
        'return -torch.xlogy(share, share)',
        'return torch.xlogy(share, share)',
        'sign of the entropy',
    ),
    (
        'tied = (log_w >= last - TIE) & ~above & (log_w > -math.inf)',
        'tied = (log_w >= last - TIE) & ~above',
        'cells that are no negatives are never among the heaviest',
    ),
    (
        'left = places - above.sum(1, keepdim=True)',
        'left = places',
        'ties share the places that are left',
    ),
    (
        '(fraction * k - 1e-6).ceil()',
        '(fraction * k).floor()',
        'the heaviest tenth is rounded up',
    ),
    (
        'torch.where(some, log_w + c.logits, 0.0)',
        'torch.where(some, log_w - c.logits, 0.0)',
        'push is weight times e^s',
    ),
    (
        'return weighted_mean(heaviest(log_w, c.k), c.cosine)',
        'return weighted_mean(log_w.exp(), c.cosine)',
        'hardness is the cosine of the heaviest tenth',
    ),
    (
        'torch.where(c.negative, c.cosine, -1.0).amax(1)',
        'c.cosine.amax(1)',
        'the hardest negative is not the anchor itself',
    ))

CONTRAST = (of(
    'embeddings.py',
    SEEN,
    (
        'zero = square <= NORM_FLOOR**2',
        'zero = square < 0',
        'a zero vector gives no NaN',
    ),
    (
        'NORM_FLOOR = 1e-8',
        'NORM_FLOOR = 1e-6',
        'short vectors keep their direction',
    ),
    (
        'hidden.detach().to(z.dtype)',
        'hidden.to(z.dtype)',
        'no gradient through hidden inputs',
    ),
) + of(
    'rules.py',
    SEEN,
    (
        '~nobody.scatter(1, own, True)',
        '~nobody.scatter(1, own[:, :1], True)',
        'the positive is no negative',
    ),
    (
        'candidates.view < 0)',
        'candidates.view < 1)',
        '`OutsideBatch` excludes all views',
    ),
    (
        'positive_at = own[:, 1:]',
        'positive_at = own[:, 1:].roll(1, 0)',
        'the positive is the other view',
    ),
) + of(
    'contrast.py',
    SEEN,
    (
        'return (anchors.z / temperature) @ candidates.z.T',
        'return anchors.z @ candidates.z.T',
        'the temperature',
    ),
)) + of('companions.py', SEEN,
    (
        'ids.shape[0] == b else ids[b:]',
        'ids.shape[0] == b else ids[:-b]',
        'ids of explicit negatives',
    )) + of('pseudo_task.py', SEEN,
    (
        '0.5 * (c.square().sum(1) + is_zero.to(c.dtype))',
        '0.5 * c.square().sum(1)',
        'a zero vector has cosine 0',
    ))

BLOCKS = of('blocks.py', SEEN,
    (
        'grads.anchors[rows] += to_logits @ candidates',
        'grads.anchors[rows] += (to_logits * t) @ candidates',
        'gradient of the anchors in blocks',
    ),
    (
        'grads.candidates.addmm_(to_logits.T, z)',
        'grads.candidates.addmm_(to_logits.T, z, alpha=float(t))',
        'gradient of the candidates in blocks',
    ),
    (
        'inputs, scale[rows], allow_unused=True',
        'inputs, torch.ones_like(losses), allow_unused=True',
        "weights of the losses with `reduction='none'`",
    ),
    (
        'inputs, scale[rows], allow_unused=True',
        'inputs, scale[: len(logits)], allow_unused=True',
        'weights of later blocks',
    ),
    (
        '/ len(comparison.anchors)\n',
        '/ len(comparison.candidates)\n',
        'the mean in blocks',
    ),
    (
        '*(g * grad for g in',
        '*(g for g in',
        'a factor on the loss in blocks',
    ),
    (
        'so_far += new',
        'so_far.copy_(new)',
        'gradients of all parts add up',
    ),
    (
        'slice(rows.start + some.start, rows.start + some.stop)',
        'slice(some.start, some.stop)',
        'rows of later blocks',
    ))

UNREMIX = of('normalizers.py', SEEN,
        (
        'spread = length / k.sqrt()',
        'spread = length / (k - 1).sqrt()',
        'population standard deviation',
    ),
        (
        'clip: float = CLIP',
        'clip: float = 1.0',
        'scores are clipped at three deviations',
    ),
        (
        'x = (i.value - i.low)',
        'x = i.value',
        'the least possible value counts nothing',
    ),
        (
        'above = value - torch.where(enough, low, 0.0)',
        'above = value',
        'the lowest negative counts nothing with minmax',
    )) + of('unremix.py', SEEN,
        (
        'of.other(u(), c, kappa_u)',
        'of.other(u(), c, kappa_r)',
        'κ of the uncertainty',
    ),
        (
        'of.other(r(), c, kappa_r)',
        'of.other(r(), c, 1.0)',
        'κ of the representativeness',
    ),
        (
        'log_pool(c, knobs.beta * c.logits,',
        'log_pool(c, c.logits,',
        "β with `pool='log'`",
    ),
        (
        'None if u is None else u.of(rows)',
        'u',
        'uncertainty of the anchors of a block',
    ),
        (
        'detached(c) if self.detach else c',
        'detached(c)',
        '`detach_weights=False`',
    )) + of('pools.py', SEEN,
        (
        'total.add_(log_p().exp(), alpha=weight)',
        'total.add_(log_p().exp(), alpha=1 / 3)',
        'λ',
    ),
        (
        'torch.add(scores, score(), alpha=kappa)',
        'torch.add(scores, score(), alpha=-kappa)',
        "sign of κ with `pool='log'`",
    )) + of('choosing.py', SEEN,
        (
        '(k / k.clamp(1, k_keep)).log()',
        '(k / k_keep).log()',
        'weights average 1 where fewer negatives are there than are kept',
    )) + of('knobs.py', SEEN,
        (
        'abs(sum(mix) - 1) < 1e-6',
        'True',
        'a mixture that does not sum to 1 is refused',
    )) + of('unremix.py', 'tests/test_frozen.py',
    (
        'temperature if own is None else own',
        'temperature',
        '`uncertainty_temperature` is used',
    ))

QUEUE = of('queue.py', PARTS,
    (
        "'norm', torch.zeros(size)",
        "'norm', torch.ones(size)",
        'the norm of an empty slot',
    ),
    (
        'numbers[first:], ids[first:]',
        'numbers[: self.size], ids[: self.size]',
        'of more keys than slots the last ones stay',
    ),
    (
        'torch.arange(first, pushed, device',
        'torch.arange(pushed - first, device',
        'where the last ones lie',
    ),
    (
        'slots = (self.pointer + order) % self.size',
        'slots = order % self.size',
        'new keys replace the oldest',
    ),
    (
        'self.pointer.add_(pushed).remainder_(self.size)',
        'self.pointer.add_(1).remainder_(self.size)',
        'the pointer moves by what was written',
    ),
    (
        '.clamp_(max=self.size)',
        '.remainder_(self.size)',
        'a full queue has no empty slot',
    ),
    (
        'self.ids[:, slots] = ids.T',
        'self.ids[:2, slots] = ids.T[:2]',
        'true labels of keys',
    ),
    (
        'all_gather(x.contiguous()).flatten(0, 1)',
        'all_gather(x.contiguous()).transpose(0, 1).flatten(0, 1)',
        'the order of keys of several processes',
    ),
    (
        'slot < queue.valid.to(like.device)',
        'slot <= queue.valid.to(like.device)',
        'the first empty slot',
    ),
    (
        'norm = queue.norm.to(like)',
        'norm = torch.ones_like(queue.norm).to(like)',
        'the raw norm of keys',
    ),
    (
        "extra['square'] = queue.square.to(like)",
        "extra['square'] = 0 * queue.square.to(like)",
        'hidden inputs of keys',
    ),
    (
        'view=view, label=labels, copy=copies)',
        'view=view)',
        'ids of the slots',
    ),
    (
        '_foreach_lerp_(moved, towards, 1 - momentum)',
        '_foreach_lerp_(moved, towards, momentum)',
        'the copy is slow',
    ),
    (
        '_foreach_lerp_(moved, towards, 1 - momentum)',
        '_foreach_lerp_(towards, moved, 1 - momentum)',
        'the copy follows, not the encoder',
    )) + of('call.py', PARTS,
        (
        'rule = OutsideBatch(views) if queued else views',
        'rule = views',
        'the slots are the only negatives',
    ),
        (
        'return anchors[:b], stack(',
        'return anchors[b:], stack(',
        'the queries are the anchors',
    )) + of('embeddings.py', f'{PARTS}::test_columns_of_a_rank',
    (
        '''    return replace(
        first,
        z=torch.cat''',
        '''    return Embeddings(
        batch=first.batch,
        z=torch.cat''',
        'with a queue, several processes share out what is computed',
    ))

GATHER = of('gather.py', PARTS,
    (
        'return all_sum(grad.contiguous().clone())[rank]',
        'return grad[rank]',
        "gradient from the other processes' losses",
    ),
    (
        'return all_sum(grad.contiguous().clone())[rank]',
        'return all_sum(grad.contiguous().clone())[0]',
        "gradient of one's own rows",
    ),
    (
        'views = batch.transpose(0, 1).flatten(0, 2)',
        'views = batch.transpose(0, 1).flip(0).flatten(0, 2)',
        'order of the views',
    ),
    (
        'e.sample + rank * b',
        'e.sample',
        'the anchors of this rank',
    ),
    (
        'batch = count, b * size',
        'batch = count, b',
        'the positives',
    ),
    (
        'rank * share, len(self) - 1',
        '0, len(self) - 1',
        'each process computes a share of its own',
    ),
    (
        'ids = in_order(all_gather(ids), count, b)',
        'ids = all_gather(ids).flatten(0, 1)',
        'ids of explicit negatives',
    ),
    (
        'share = -(-len(self) // ranks)',
        'share = len(self) // ranks',
        'the last candidates are computed too',
    ),
    (
        'for name, x in mine.extra.items()',
        "for name, x in mine.extra.items() if name == 'norm'",
        'hidden inputs of other processes',
    ),
    (
        'torch.cat([views, parts[:, count * b :].flatten(0, 1)])',
        'views',
        'explicit negatives of other processes',
    ),
    (
        'ids = in_order(all_gather(ids), count, b)',
        'ids = in_order(ids.expand(size, *ids.shape), count, b)',
        'ids of other processes',
    ),
    (
        "labelled = len(e) if 'true_label' in e.extra else 0",
        'labelled = 0',
        'a hang where ranks differ in true labels',
    ),
    ('if here == there:', 'if here <= there:', 'every rank is told'),
    (
        'received = (n - own) *',
        'received = n *',
        'the table of costs',
    ),
    (
        'min(chunk or own, own) * n',
        'own * n',
        'the table of costs with `chunk_size`',
    ))

SELECTION = of('selection.py', PARTS,
    (
        "MEASURES = {'weight': 0.0, 'push': 1.0}",
        "MEASURES = {'weight': 1.0, 'push': 1.0}",
        'share of the weight',
    ),
    (
        'return p * c.negative',
        'return p',
        'shares off the negatives',
        'the log weights are −inf there already; rows without negatives are left out '
        'of every mean',
    ),
    (
        'mean_cosine = (p * c.cosine).sum(1)',
        'mean_cosine = (p * c.logits).sum(1)',
        'hardness is a cosine',
    ),
    (
        'return hardness / count, mass / count',
        'return hardness / count, mass',
        'mean over batches',
    ),
    (
        'betas = (slopes * self.temperature).tolist()',
        'betas = slopes.tolist()',
        'the β that is told',
    ),
    (
        "self.look(weighting, 'weight') for",
        "self.look(weighting, 'push') for",
        'the yardstick is of the weight',
    ),
    (
        '* self.temperature - MEASURES[measure]',
        '* self.temperature',
        'β by the push',
    ),
    (
        'excess = mass - float(as_hard)',
        'excess = float(as_hard) - mass',
        'the sign of the excess',
    ),
    (
        'if gap(lowest) > 0 or gap(highest) < 0:',
        'if gap(lowest) > 0:',
        'NaN where no β is hard enough',
    ),
    (
        'self.judge(family(own_beta), measure)',
        'self.judge(family(own_beta))',
        'the measure that was asked',
    ),
    (
        'hardness, mass = self.look(weighting, measure)',
        "hardness, mass = self.look(weighting, 'push')",
        'the measure that is judged',
    ),
    (
        'descending=True, stable=True',
        'descending=False, stable=True',
        'the profile goes from the nearest down',
    ),
    (
        'more = (p - profile) * own',
        'more = (profile - p) * own',
        'the sign of knowledge',
    ),
    (
        'passed_on = torch.where(mask, value, mean)',
        'passed_on = value',
        "the anchor's own score in a placebo",
    ),
    (
        'value=passed_on[:, order]',
        'value=passed_on[:, order.sort().values]',
        'a placebo is permuted',
    ),
    (
        'torch.Generator().manual_seed(0)',
        'torch.Generator().manual_seed(1)',
        'numbers of placebo runs are repeated',
    ),
    (
        'return other_uncertainty, other_distance if both else of_distance',
        'return other_uncertainty, of_distance',
        "the double placebo's representativeness",
    ))

MODELS = of('encoders.py', PARTS,
    ('padding = size // 2', 'padding = 0', 'padding'),
    ('padding, bias=False)', 'padding)', 'a bias before BatchNorm'),
    ('x[:, :, ::2, ::2]', 'x[:, :, 1::2, 1::2]', 'which pixels the shortcut takes'),
    ('(0, 0, 0, 0, 0, self.new_channels)', '(0, 0, 0, 0, self.new_channels, 0)', 'which channels are new'),
    ('(self.branch(x) + shortcut).relu()', 'self.branch(x).relu() + shortcut', 'ReLU after the sum'),
    ('        conv(in_channels, 32, 5, 2),\n        nn.ReLU(),', '        conv(in_channels, 32, 5, 2),\n        nn.Identity(),', 'the first ReLU'),
    ('nn.AdaptiveAvgPool2d(2)', 'nn.AdaptiveMaxPool2d(2)', 'mean pooling'),
    ('conv(32, 64, 3, 2)', 'conv(32, 64, 5, 2)', 'the size of the small encoder'),
    ('image_size < 96', 'image_size <= 96', 'the stem at 96 pixels'),
    ('1 if image_size < 48 else 2', '1 if image_size <= 48 else 2', 'the stem at 48 pixels'),
    ('        net.maxpool = nn.Identity()\n', '', 'no pooling of small images'),
    ("mode='fan_out', nonlinearity", "mode='fan_in', nonlinearity", 'the initialisation of the stem'),
    ('nn.Conv2d(in_channels, 64, 7, 2, 3, bias=False)', 'nn.Conv2d(in_channels, 64, 7, 1, 3, bias=False)', 'the stem of large grey images'),
    ('isinstance(image_size, int) and image_size >= 8', 'isinstance(image_size, int) and image_size >= 1', 'images that are too small are refused'),
    ('nn.BatchNorm1d(hidden_dim), nn.ReLU())', 'nn.BatchNorm1d(hidden_dim), nn.Identity())', "the head's non-linearity"),
    ('nn.Sequential(linear, nn.BatchNorm1d(hidden_dim), nn.ReLU())', 'nn.Sequential(linear, nn.Identity(), nn.ReLU())', "the head's BatchNorm"),
    ('return self.last(hidden), hidden', 'return self.last(hidden), features', 'what is handed out as hidden'),
    ("resnet('resnet50', channels, size)", "resnet('resnet18', channels, size)", 'ResNet-50'))

TRAIN = [
    *of('devices.py', TRAINING,
    ('(self.step < 0) & ~loss.isfinite()', '~loss.isfinite()', 'the first bad step is told')),
    *of('run_parts.py', TRAINING,
    (('    torch.manual_seed(cfg.run.seed)\n'
        '    encoder'), ('    torch.manual_seed(0)\n'
        '    encoder'), 'a seed of its own for the weights'),
    ('head = ProjectionHead(encoder.out_dim, width, out_dim)', 'head = ProjectionHead(encoder.out_dim, width)', '`--head-out`'),
    ('stores_hidden=True)', 'stores_hidden=False)', 'hidden inputs of keys')),
    *of('steps.py', TRAINING,
    ('return peak * (step + 1) / warmup', 'return peak * step / warmup', 'the first step learns'),
    ('return LR_SCHEDULES[schedule](peak, step - warmup, total - warmup)', 'return LR_SCHEDULES[schedule](peak, step, total)', 'the cosine begins after the warm-up'),
    ('progress = min(int(progress * (steps + 1)), steps) / steps', 'progress = min(int(progress * steps), steps) / steps', 'plateaus of equal length'),
    ('progress = min(step / max(total - 1, 1), 1)', 'progress = step / total', 'the last step of a schedule'),
    ('progress = min(int(', 'progress = max(int(', 'plateaus end at the end'),
    (('    for group in run.optimizer.param_groups:\n'
        "        group['lr'] = now['lr']"), '', 'the learning rate is used'),
    ('    assign_all(run.criterion, {knob: now[knob] for knob in run.start})\n', '', 'schedules are used'),
    ('with torch.no_grad(), run.fabric.autocast():', 'with torch.no_grad():', 'keys at the precision of the queries'),
    ('with torch.no_grad(), run.fabric.autocast():', 'with run.fabric.autocast():', 'no graph of the keys is kept'),
    ('key_z, key_hidden = run.follower(keys)', 'key_z, key_hidden = run.follower(queries)', 'keys show the other view'),
    ('key_z, key_hidden = run.follower(keys)', 'key_z, key_hidden = run.model(keys)', 'keys are made by the momentum encoder'),
    ('.chunk(run.fabric.world_size)[run.fabric.global_rank]', '.chunk(run.fabric.world_size)[0]', 'every process works on its own share'),
    ('seed = run.cfg.run.seed * 1_000_003 + epoch + 1', 'seed = run.cfg.run.seed * 1_000_003 + 1', 'another order in every epoch'),
    ('seed = run.cfg.run.seed * 1_000_003 + epoch + 1', 'seed = 1_000_003 + epoch + 1', 'another order for every seed'),
    (('    if run.fabric.global_rank:\n'
        '        torch.manual_seed(seed * 1_009 + run.fabric.global_rank)'), '', 'processes draw views of their own'),
    (('    torch.manual_seed(seed)\n'
        '    order'), ('    torch.manual_seed(seed + run.fabric.global_rank)\n'
        '    order'), 'all processes share one order'),
    ('order = torch.randperm(len(run.samples))[: run.steps * run.cfg.optim.batch_size]', 'order = torch.randperm(len(run.samples))', 'incomplete batches are dropped'),
    (('        if i < done:\n'
        '            continue'), '', 'a continued epoch repeats nothing'),
    ('views = run.views(x)', 'views = run.augment(x).repeat(2, 1, 1, 1)', 'two different views'),
    (('        hidden=hidden.chunk(2),\n'
        '        true_labels=y,'), '        true_labels=y,', 'the uncertainty of UnReMix uses hidden'),
    ('max_norm=limit', 'clip_val=limit', 'the norm is clipped, not each value'),
    ('if cfg.optim.clip_grad:', 'if False:', '`--clip-grad`'),
    ('        run.optimizer.zero_grad()\n', '', 'gradients do not add up over steps'),
    ('sample_ids=shown, true_labels=y, labels=y', 'sample_ids=shown, labels=y', 'false negatives in the queue are counted')),
]

FEATURES = of('features.py', TRAINING,
    ("mean = h_train.mean(0)\n    sd = h_train.std(0)", "mean = h_test.mean(0)\n    sd = h_test.std(0)", 'test images do not tell the scale'),
    (" * varies", "", 'constant features become 0'),
    ("best = penalties[0]", "best = penalties[-1]", 'the documented choice for few images'),
    ("probe(best, x, y).predict(asked)", "probe(penalties[0], x, y).predict(asked)", 'the chosen penalty is used'),
    ("counts.min().item() < 2:", "counts.min().item() < 1:", 'a class of one image'),
    ("math.floor(0.4 * len(y))", "len(y)", 'every class fits into both parts', "the other bound, a fifth, is always the smaller one"),
    ("train_size=0.4, test_size=0.2", "train_size=.8, test_size=.2", 'documented sizes'),
    ("stratify=y, random", "stratify=None, random", 'each class its share'),
    (".score(held_x, held_y)", ".score(fit_x, fit_y)", 'the penalty is chosen on other images'),
    ("return max(penalties", "return min(penalties", 'the better penalty is chosen'),
    ("train, test = on_sphere(h_train), on_sphere(h_test)", "train, test = h_train, h_test", 'similarity is a cosine'),
    ("    cosines = cosines[:, :k].double()\n    places = places[:, :k]\n", "", 'ten neighbours, not 200'),
    ("(behind / temperature)", "(behind * temperature)", 'votes are weighed by e^{cosine/t}'),
    ("    if temperature is None:\n", "    if True:\n", 'votes are weighed'),
    ("between = one - other", "between = h1 - h2", 'alignment on the sphere'),
    ("(-t * squared)", "(-t * squared**0.25)", 'squared distances'),
    ("math.log(n * (n - 1) / 2)", "math.log(n * n / 2)", 'a mean over pairs, each once'),
    ("(h - h.mean(0)).double()", "h.double()", 'the rank of centred features'))

EVALUATE = of('evaluate.py', TRAINING,
    ("    encoder.eval()\n", "", 'evaluation mode'),
    ("    encoder.train(mode)\n", "    encoder.train()\n", 'the mode afterwards is that before'),
    ("    encoder.train(mode)\n", "", 'training goes on in training mode'),
    ("enabled=dtype is not None", "enabled=False", 'features at the precision of the training'),
    ("'16-mixed': torch.float16", "'16-mixed': torch.bfloat16", 'features at the precision of the training'),
    ("    return all(\n        torch.equal(as", "    return any(\n        torch.equal(as", 'an encoder that changes while it is scored'),
    ("'knn200': (200, 0.1)", "'knn200': (200, 1.)", 'the temperature that others use'),
    ("if len(classes) == whole:", "if True:", 'a rest with few negatives does not count as a batch'),
    ("given = dict(hidden=(h1, h2), true", "given = dict(true", 'the strategy sees hidden'),
    ("zip(*parts)", "list(zip(*parts))[:1]", 'all batches count'),
    ("'effective_rank': effective_rank(h_test)", "'effective_rank': effective_rank(h_train)", 'the rank is of the test features'),
    ("for is_right in right['linear']]", "for is_right in right['knn10']]", 'the paired comparison is of the probe'),
    ("torch.Generator().manual_seed(0)", "torch.Generator().manual_seed(torch.seed() % 2**31)", 'the same batches of test images for every run'),
    ("= run.views.plain) -> Tensor:", "= run.augment) -> Tensor:", 'the probe sees images as they are'),
    ("    torch.manual_seed(cfg.run.seed)\n    h1", "    h1", 'scores can be repeated'),
    ("uniformity(h_test)", "uniformity(h_train)", 'uniformity of the test images'),
    ("    head.eval()\n", "", 'the head in evaluation mode'))

READING = 'tests/test_data_exact.py tests/test_seen_parts.py'
DATA = of('image_sets.py', READING,
    ('torch.searchsorted(in_order, in_order)', 'torch.searchsorted(in_order, in_order, right=True)', 'ranks start at 0'),
    ('for_test = rank_in_class(torch.as_tensor(y)) % 5', 'for_test = torch.arange(len(y)) % 5', 'each class has its share of tested digits'),
    ("F.interpolate(pixels, 28, mode='bilinear')", "F.interpolate(pixels, 28, mode='nearest')", 'digits are enlarged smoothly'),
    ('return replace(found, classes=CLOTHES)', 'return found', 'the names of the clothes'),
    ('offset=4 + 4 * dimensions)', 'offset=16)', 'labels in IDX files'),
    ('download=True, **part)', 'download=False, **part)', 'a data set is downloaded where it is missing')) + of('augmentation.py', READING,
    ('jitter: float = 0.4', 'jitter: float = 0.3', 'the default recipe'),
    ('hue: float = 0.1  # change of hue, in turns; colours only', 'hue: float = 0.2  # change of hue, in turns; colours only', 'the default recipe'),
    ('grey: float = 0.2  # probability of losing the colours; colours only', 'grey: float = 0.1  # probability of losing the colours; colours only', 'the default recipe'),
    ("'cifar100': COLOUR", "'cifar100': Recipe()", 'CIFAR-100 is augmented as CIFAR-10'),
    ("'mnist': Recipe(flip=False)", "'mnist': Recipe()", 'digits of MNIST are not mirrored'),
    ("    'imagefolder': COLOUR,\n", '', 'the recipe of folders'),
    ('align_corners=False,', 'align_corners=True,', 'crops sit where they should to half a pixel', 'measured: kornia maps the centres of the corner pixels onto each other either way, and the crops agree to 1e-6'),
    ('if recipe.flip:', 'if not recipe.flip:', 'what may be mirrored'),
    ('std, recipe, strength)', 'std, recipe)', '`--augment-strength`'),
    ('mean = x.mean((0, 2, 3))', 'mean = x.mean().expand(x.shape[1])', 'each colour has its mean'),
    ('clamp_min(1e-3)', 'clamp_min(.5)', 'dark images are normalised'),
    ('return self.normalised(x.float() / 255)', 'return x.float() / 255 - self.mean', 'what evaluation sees is normalised')) + of('data.py', READING,
    ('known = samples.y >= 0\n    return', 'known = samples.y > -2\n    return', 'unlabelled images are not scored'),
    ('in_turns = rank_in_class(images.y).argsort(stable=True)', 'in_turns = torch.arange(len(images))', 'classes take turns in a limit'),
    ('image_size or 64', 'image_size or 32', 'the documented size of folders'),
    ('choose(images, stays.nonzero().flatten()), choose(images, out)', 'images, choose(images, out)', 'held-out images are not trained on'),
    ('+ 0.5) * count / validation', '+ 0.5) * count / validation / 2', 'held-out images are spread over all classes'),
    ('images.x.shape[-2:] == (size, size)', 'images.x.shape[-1] == size', 'images that are not square are resized'))

RUNS = [
    *of('safe_files.py', 'tests/test_runs_exact.py tests/test_run_folder.py tests/test_faults.py',
    (('f.flush()\n'
        '            os.fsync(f.fileno())'), 'f.flush()', 'a power cut leaves whole files'),
    (('        if keep and path.exists():\n'
        '            os.replace(path, keep)'), '', 'the checkpoint before is kept'),
    ('return value if math.isfinite(value) else None', 'return value', 'json without NaN')),
    *of('run_folder.py', 'tests/test_runs_exact.py tests/test_run_folder.py tests/test_faults.py',
    ("['step'] < step]", "['step'] <= step]", 'no step is twice in the log')),
    *of('checkpoint.py', 'tests/test_runs_exact.py tests/test_run_folder.py tests/test_faults.py',
    ("'done': state.get('done', 0),", "'done': 0,", 'a run goes on inside an epoch'),
    ("path.with_name(path.stem + '_before' + path.suffix)", 'path.with_name(path.stem + path.suffix)', 'the checkpoint before has a name of its own'),
    ("EXTRAS = 'criterion', 'queue', 'follower'", "EXTRAS = 'criterion', 'follower'", 'the queue goes on'),
    ("EXTRAS = 'criterion', 'queue', 'follower'", "EXTRAS = 'criterion', 'queue'", 'the momentum encoder goes on'),
    ('weights_only=True', 'weights_only=False', 'no code in a checkpoint is run'),
    ('for p in (path, before(path)) if p.exists()', 'for p in (path,) if p.exists()', 'a damaged checkpoint is not the end'),
    ("warnings.warn(f'{e}; going on from {instead!r} instead', stacklevel=2)", "print(f'{e}; going on from {instead!r} instead')", 'a damaged checkpoint is told'),
    ("'precision': run.fabric.strategy.precision.state_dict()", "'precision': {}", 'the scaler of 16 bits goes on'),
    ('missing = NEEDED - set(', 'missing = set() - set(', 'a foreign file is told')),
    *of('train.py', 'tests/test_runs_exact.py tests/test_run_folder.py tests/test_faults.py',
    ("'--error-unmatch', '__init__.py'", "'__init__.py'", "another repository's commit is not ours"),
    ("'--always', '--dirty', '--exclude=*'", "'--always', '--exclude=*'", 'changed code is told')),
]

OF_COMPARE = 'tests/test_compare_exact.py'
COMPARE = [
    *of('compare_config.py', OF_COMPARE,
    ("| own | {'seed': seed})", "| own | {'seed': cfg.train.run.seed})", 'seeds differ')),
    *of('rows.py', OF_COMPARE,
    ("statistics.stdev(there)", "statistics.pstdev(there)", 's.d. of a sample'),
    ("statistics.fmean(there)", "statistics.median(there)", 'the mean over seeds'),
    ("mark == '1' for mark", "mark != '1' for mark", 'which images are right'),
    ("p * (1 - p) / images", "p * (1 - p)", 'the binomial error'),
    ("return task.baseline, UNTRAINED", "return 'pixels', UNTRAINED", 'the row of raw pixels'),
    ("statistics.median(ratios) - 1", "statistics.median(ratios)", 'overhead is beyond the reference'),
    ("torch.tensor(right).expand", "torch.tensor(right[:1]).expand", 'every seed counts')),
    *of('several_runs.py', OF_COMPARE,
    ("return {name: of_run[warm_up:]", "return {name: of_run", 'the first steps are not timed')),
    *of('compare.py', OF_COMPARE,
    ("partial(untrained_scores, run)", "partial(untrained_scores, cell_config(cfg, reference, 0))", 'an untrained encoder per seed'),
    ("if path.exists():", "if False:", 'an interrupted comparison goes on'),
    ("run.get('seconds', 0) for run in runs)", "run.get('seconds', 0) for run in runs[:1])", 'the seconds of all runs')),
    *of('table.py', OF_COMPARE,
    ("cell_text(row, 'knn200', 100, 1)", "cell_text(row, 'knn10', 100, 1)", 'the columns of the table')),
    *of('significance.py', OF_COMPARE,
    ("return 'better' if difference > 0 else 'worse'", "return 'worse' if difference > 0 else 'better'", 'the verdict'),
    ("d = ours.double() - reference.double()", "d = reference.double() - ours.double()", 'the sign of a difference'),
    ("min(1.0, p[i] * (len(p) - rank))", "min(1.0, p[i])", 'verdicts of several rows'),
    ("highest = max(highest, paid)", "highest = paid", 'raised p values stay in order'),
    ("LEVEL = 0.05", "LEVEL = 0.12", "'better' at 1.5 standard errors"),
    ("max(n - 1, 1)", "1e6 * max(n - 1, 1)", 'few seeds know their error badly'))]

OF_SWEEP = 'tests/test_sweep_exact.py'
SWEEP = [
    *of('grid.py', OF_SWEEP,
    ("fields = grid.base | mine", "fields = mine | grid.base", "a cell's own fields win"),
    ("range(grid.seed, grid.seed + seeds)", "range(seeds)", 'the first seed'),
    ("key=lambda run: run[1].run.seed", "key=lambda run: run[0]", 'seed by seed'),
    ("fields.pop('seeds', grid.seeds)", "(fields.pop('seeds', None), grid.seeds)[1]", "a cell's own number of runs"),
    ("sort_keys=True", "sort_keys=False", 'lines of releases before are found'),
    ("left_out.add('data_root')", "pass", 'the same images elsewhere are the same run'),
    ("if cfg.data.dataset in known.split():", "if True:", 'another folder is another run'),
    ("        if name != 'correct':", "        if True:", 'lines stay short'),
    ("'test' if cfg.data.validation is None else 'validation'", "'test'", 'what was scored'),
    ("*('failed', ", "*(", 'failed runs'),
    ("require('seed' not in fields,", "require(True,", 'seed as a field of a cell')),
    *of('sweep.py', OF_SWEEP,
    ("str(e).split(';')[0]", "str(e)", "no folder of this machine in the results"),
    ("            os.fsync(file.fileno())\n", "", 'a power cut loses no line'),
    ("sum(x - y for x, y", "sum(y - x for x, y", 'the sign of a difference'),
    ("stats.ttest_rel(", "stats.ttest_ind(", 'seeds are paired'),
    (".confidence_interval(confidence)", ".confidence_interval()", 'the confidence that was asked'),
    ("require(len(seeds) > 1", "require(len(seeds) > 0", 'one seed has no interval'))]

MUTANTS = [*UNCERTAINTY, *REPRESENTATIVENESS, *HARD_NEGATIVES, *LOSSES, *STATISTICS,
           *CONTRAST, *BLOCKS, *UNREMIX, *QUEUE, *GATHER, *SELECTION, *MODELS,
           *TRAIN, *FEATURES, *EVALUATE, *DATA, *RUNS, *COMPARE, *SWEEP]
