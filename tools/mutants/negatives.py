"What the queue, the gathering, the judging of negatives and the micro-batches must not lose; and ids, choices and states of losses."

QUEUE, RANKS = 'tests/test_queue_exact.py', 'tests/test_ranks_exact.py'
SELECTION, MICRO = 'tests/test_selection_exact.py', 'tests/test_micro_batches_exact.py'
IDS, UNREMIX, STATE = 'tests/test_ids.py', 'tests/test_unremix_exact.py', 'tests/test_state_dict.py'
TRAINING = 'tests/test_seen_training.py'


def of(file, tests, *changes):
    "Mutants of one module: (old, new, why), with other tests as a fourth, and as a fifth the reason why it is harmless."
    keys = 'old', 'new', 'why', 'tests', 'harmless'
    return [dict(file=file, tests=tests) | dict(zip(keys, change)) for change in changes]


MUTANTS = [
    *of('queue.py', QUEUE,
        (
            'numbers, ids = numbers[first:], ids[first:]',
            'numbers, ids = numbers[: self.size], ids[first:]',
            'of a batch larger than the queue, the oldest keys would stay',
        ),
        (
            'numbers, ids = numbers[first:], ids[first:]',
            'numbers, ids = numbers[first:], ids[: self.size]',
            'keys would carry the ids of others',
        ),
        (
            'torch.arange(first, pushed, device',
            'torch.arange(pushed - first, device',
            'after a large batch the order of slots is not that of keys',
        ),
        (
            'self.pointer.add_(pushed)',
            'self.pointer.add_(len(numbers))',
            'after a large batch the newest keys would be overwritten first',
        ),
        (
            '.remainder_(self.size)',
            '',
            'the pointer would grow until it overflows',
        ),
        (
            'self.valid.add_(pushed)',
            'self.valid.add_(1)',
            'filled slots would count as empty',
        ),
        (
            '.clamp_(max=self.size)',
            '',
            'the number of keys would be a lie',
        ),
        (
            'slot < queue.valid.to(like.device)',
            'slot < queue.size',
            'empty slots would be negatives',
        ),
        (
            'norm.masked_fill(norm == math.inf, 0.0)',
            'norm.masked_fill(norm == math.inf, 1.0)',
            'a zero key would look like one of length 1',
        ),
        (
            'norm.masked_fill(norm == 0, math.inf)',
            'norm',
            'a zero key would divide by zero',
        ),
        (
            'hidden.to(z.dtype).square().sum(1)',
            'hidden.to(z.dtype).abs().sum(1)',
            'uncertainty of slots from a wrong length',
        ),
        (
            'hidden.to(z.dtype).square().sum(1)',
            'hidden.square().sum(1)',
            'half precision would be squared in half',
        ),
        (
            'if hidden is not None and self.stores_hidden:',
            'if hidden is not None:',
            'a queue that stores none would store it',
        ),
        (
            "'square', torch.zeros(size)",
            "'square', torch.ones(size)",
            'empty slots would have a hidden input',
        ),
        (
            'dict(labels=labels, sample_ids=sample_ids, true_labels=true_labels)',
            'dict(labels=labels, sample_ids=None, true_labels=true_labels)',
            'keys without sample ids',
        ),
        (
            'x.to(unknown) for x in given.values()',
            'x for x in given.values()',
            'ids of other types could not be written beside the mark for no id',
            IDS,
        ),
        (
            'NO_ID = torch.iinfo(torch.int64).min',
            'NO_ID = 0',
            'a key of which nothing is known would be a copy of image 0',
        ),
        (
            'label=labels, copy=copies',
            'label=labels, copy=labels',
            'sample ids would be compared with labels',
        ),
        (
            "'true_label': true_labels",
            "'true_label': labels",
            "statistics with the queue's labels",
        ),
        (
            "if queue.stores_hidden:\n        extra['square']",
            "if True:\n        extra['square']",
            'a queue without hidden inputs would pretend that they are 0',
        ),
        (
            'all_gather(x.contiguous()).flatten(0, 1)',
            'all_gather(x.contiguous()).transpose(0, 1).flatten(0, 1)',
            'keys of several processes in another order than those of one',
            RANKS,
        ),
        (
            'of_all(torch.stack(ids, 1))',
            'torch.stack(ids, 1).repeat(rank_and_size()[1], 1)',
            'every rank would write its own ids under all keys',
            RANKS,
        ),
        (
            'if size == 1:',
            'if True:',
            'every rank would keep a queue of its own',
            RANKS,
        ),
        (
            "require_alike(shape, x.device, where='in a process group')",
            'pass',
            'a push of unequal numbers of keys would hang',
            RANKS,
        ),
        (
            '_foreach_lerp_(moved, towards,',
            '_foreach_lerp_(moved, moved,',
            'the momentum encoder would never move',
        ),
        (
            '0 <= momentum < 1\n',
            '0 <= momentum <= 1\n',
            'an encoder that stands still',
        ),
        (
            'is_float_matrix(hidden) and len(cast(Tensor, hidden)) == len(keys)',
            'is_float_matrix(hidden)',
            'hidden inputs of other keys would be stored',
        )),
    *of('companions.py', QUEUE,
        (
            "require(fits, 'queue', size",
            "require(True, 'queue', size",
            'a traceback instead of a sentence',
        )),
    *of('call.py', QUEUE,
        (
            'return anchors[:b], stack(',
            'return anchors[b:], stack(',
            'keys would be compared instead of queries',
        ),
        (
            'rule = Filled(rule)',
            'pass',
            'empty slots would be negatives',
        ),
        (
            "return Without(rule, 'copy') if copied else rule",
            "return Without(rule, 'label') if copied else rule",
            'labels would be compared instead of sample ids',
        ),
        (
            "rule = Without(rule, 'label')",
            "rule = Without(rule, 'copy')",
            'sample ids would be compared instead of labels',
        )),
    *of('contrastive_loss.py', QUEUE,
        (
            'return Comparison(anchors, candidates, rule, value_of(self.temperature))',
            'return Comparison(anchors, candidates, rule, 0.2)',
            'the temperature would be ignored',
        )),

    *of('steps.py', QUEUE,
        ('    follow(run.follower, encoder, run.cfg.memory.momentum)', '    pass', 'the momentum encoder would never be updated'),
        ('follow(run.follower, encoder, run.cfg.memory.momentum)', 'follow(run.follower, encoder, 0.99)', '--momentum would be ignored'),
        ('sample_ids=shown, true_labels=y, labels=y', 'true_labels=y, labels=y', 'keys without sample ids'),
        ("if run.queue or may_be_twins or", "if may_be_twins or", "an image's own old key would be its negative"),
        ('keys, of_keys = z.chunk(2)[1].detach(), hidden.chunk(2)[1]', 'keys, of_keys = z.chunk(2)[0].detach(), hidden.chunk(2)[0]', 'queries would be pushed as keys')),

    *of('gather.py', RANKS,
        (
            'return all_gather(x.contiguous())',
            'return all_gather(x)',
            'gloo and NCCL refuse what is not contiguous',
        ),
        (
            'in_order(all_gather(x.contiguous()), count, b)',
            'in_order(all_gather(x), count, b)',
            'hidden inputs that are not contiguous would be refused',
        ),
        (
            'all_sum(grad.contiguous().clone())[rank]',
            'grad.contiguous().clone()[rank]',
            'the opinions of other ranks on where a view should move would be lost',
        ),
        (
            'views = batch.transpose(0, 1).flatten(0, 2)',
            'views = batch.flatten(0, 2)',
            'second views would stand elsewhere than their samples say',
        ),
        (
            'e.sample + rank * b',
            'e.sample + rank',
            'anchors of one rank would be taken for those of another',
        ),
        (
            'torch.where(e.sample >= 0, e.sample + rank * b, e.sample)',
            'e.sample + rank * b',
            'an explicit negative would get the number of an image',
        ),
        (
            'parts[:, count * b :].flatten(0, 1)',
            'parts[0, count * b :]',
            'explicit negatives of other ranks would not be gathered',
        ),
        (
            'ids = in_order(all_gather(ids), count, b)',
            'ids = all_gather(ids).flatten(0, 1)',
            'labels of a gathered batch would belong to other images',
        ),
        (
            'ids = in_order(all_gather(ids), count, b)',
            'ids = in_order(ids.expand(size, *ids.shape), count, b)',
            "all ranks' images would carry this rank's labels",
        ),
        (
            'in_order(all_gather(x.contiguous()), count, b)',
            'in_order(x.expand(size, *x.shape), count, b)',
            "'influence' would use the hidden inputs of other images",
        ),
        ('if here == there:', 'if True:', 'uneven batches would hang'),
        (
            'in zip(what, everybody[rank], theirs, strict=True):',
            'in [*zip(what, everybody[rank], theirs, strict=True)][:2]:',
            'only the numbers of views and images would be compared',
        ),
        (
            'require_alike(shapes_of(mine) | (alike or {}),',
            'require_alike(shapes_of(mine),',
            'rules of two ranks would differ',
        ),
        (
            'batch = count, b * size',
            'batch = count, b',
            'only the first views would be in the batch',
        ),
        (
            'z = in_order(_Gather.apply(mine.z), count, b)',
            'z = in_order(_Gather.apply(mine.z.detach()), count, b)',
            "gradient of other ranks' losses would be lost",
        ),
        (
            'shifted = (slice(start + p.start, start + p.stop) for p in parts)',
            'shifted = parts',
            'every rank would compute the first share',
        ),
        (
            'share = -(-len(self) // ranks)',
            'share = len(self) // ranks',
            'the last candidates would have no uncertainty',
        ),
        (
            'rank * share, len(self) - 1',
            'rank * share, len(self)',
            'a traceback where there are more ranks than shares',
        ),
        (
            'return everybody.flatten(0, 1)[: len(self)]',
            'return everybody.flatten(0, 1)',
            'zeros would stand behind the candidates',
        ),
        (
            'everybody = Shared(z,',
            'everybody = Embeddings(z,',
            'every rank would compute the uncertainty of all candidates',
        ),
        ('@cache\n', '', 'the warning would come at every step'),
        ('min(chunk or own, own)', '(chunk or own)', 'the table of costs'),
        (
            "'operations': 3 * 2 * own * n * d",
            "'operations': 2 * own * n * d",
            'the table of costs',
        ),
        ('* (ranks - 1) // ranks', '', 'the table of costs'),
        (
            'self[place.values]',
            'self[place.values.flip(0)]',
            'the anchors of all ranks in another order than those of one process',
        )),
    *of('call.py', RANKS,
        (
            'if processes > 1 and gather:',
            'if False:',
            'gather_distributed would do nothing',
        ),
        (
            '        warn_alone()\n',
            '        pass\n',
            'nobody would say that each process has its own negatives only',
        )),
    *of('contrastive_loss.py', RANKS,
        (
            "'whether sample_ids are given': int(sample_ids is not None)",
            "'whether sample_ids are given': 0",
            'labels of one rank would be taken for sample ids of another',
        )),
    *of('composition.py', RANKS,
        (
            "self.weights(with_prepared(c, self.prepared.get('weights')))",
            'self.weights(c)',
            'what is computed once per step would be sent in every block',
        )),

    *of('selection.py', SELECTION,
        (
            "{'weight': 0.0, 'push': 1.0}",
            "{'weight': 1.0, 'push': 0.0}",
            'the two measures would be swapped',
        ),
        (
            "measure: str = 'push',  # 'weight' or 'push'\n) -> Tensor:",
            "measure: str = 'weight',  # 'weight' or 'push'\n) -> Tensor:",
            'another default than the page says',
        ),
        (
            'x.masked_fill(nobody, 0.0).softmax(1)',
            'x.softmax(1)',
            'an anchor without negatives would give NaN',
        ),
        (
            'some = c.k > 0\n',
            'some = c.k >= 0\n',
            'who has no negatives would count as clean',
        ),
        (
            'mean_one(tilted(c, beta), c.k)',
            'mean_one(tilted(c, abs(beta)), c.k)',
            'the easy half of the yardstick',
        ),
        (
            'steepest: float = 300.0',
            'steepest: float = 30.0',
            'hard weightings would have no verdict',
        ),
        (
            'extrapolate=False',
            'extrapolate=True',
            'a verdict beyond what was measured',
        ),
        (
            'excess = mass - float(',
            'excess = hardness - float(',
            'excess of something else',
        ),
        (
            'if gap(lowest) > 0 or gap(highest) < 0:',
            'if gap(highest) < 0:',
            'a traceback where the family is always harder',
        ),
        (
            'limits: tuple[float, float] = (0.0, 60.0)',
            'limits: tuple[float, float] = (0.0, 30.0)',
            'hard families would have no verdict',
        ),
        (
            'found, _ = self.look(family(beta), measure)',
            "found, _ = self.look(family(beta), 'push')",
            'matched under another measure than judged',
        ),
        (
            'descending=True, stable=True',
            'descending=True, stable=False',
            'equally near negatives in any order',
            SELECTION,
            'on a CPU torch sorts stably either way',
        ),
        (
            'mean = mean_over(by_rank.T, has_rank.T)',
            'mean = mean_over(p.T, has_rank.T)',
            'a profile of places, not of ranks',
        ),
        (
            'profile = profile * c.negative',
            'pass',
            'shares for who is no negative',
        ),
        (
            'return profile / total.clamp_min(smallest)',
            'return profile',
            'profiles that do not sum to one',
        ),
        (
            'near = profile * c.cosine',
            'near = p * c.cosine',
            "the weighting's hardness for its profile's",
        ),
        (
            'np.mean(rows or',
            'np.sum(rows or',
            'knowledge would grow with the number of batches',
        ),
        (
            'p = shares(c, weighting(c), measure)\n        profile',
            'p = shares(c, weighting(c))\n        profile',
            'the measure would be ignored',
        ),
        (
            'passed_on[:, order]',
            'passed_on[order]',
            "whole rows of a placebo: an anchor would get another anchor's scores",
        ),
        ('passed_on[:, order]', 'passed_on', 'a placebo that is none'),
        (
            'torch.Generator().manual_seed(0)',
            'torch.Generator().manual_seed(mask.shape[1])',
            'another permutation than the one documented',
        ),
        (
            "torch.randperm(mask.shape[1], generator=generator, device='cpu')",
            'torch.randperm(mask.shape[1])',
            'a placebo would draw, and another one at every step',
        ),
        (
            'total = (value * mask).sum(1, keepdim=True)',
            'total = value.sum(1, keepdim=True)',
            'the mean would count who is no negative',
        ),
        (
            'total / c.k.clamp_min(1)[:, None]',
            'total / c.k[:, None]',
            'NaN where an anchor has no negatives',
        ),
        (
            'of_uncertainty, of_distance = super().opinions(c, u)',
            'of_distance, of_uncertainty = super().opinions(c, u)',
            'representativeness would be taken for uncertainty',
        ),
        (
            'return swap_candidates(of_uncertainty(), c)',
            'return of_uncertainty()',
            'a placebo that is none',
        ),
        (
            "swap: str = 'u'",
            "swap: str = 'ur'",
            'placebo-u would be placebo-ur',
        )),

    *of('gradient_cache.py', MICRO,
        ('torch.cuda.get_rng_state(device)', 'torch.cuda.get_rng_state()', "another GPU's generator"),
        ('of_gpu = torch.cuda.get_rng_state(device)', 'of_gpu = None', 'dropout on a GPU would drop other units in the second pass'),
        ("        return\n    if device.type == 'cuda':", '        return\n    if True:', 'a run from a GPU could not go on without one'),
        ('    if of_gpu is None:\n        return\n', '', 'a run from a CPU could not go on with a GPU'),
        ('set_rng_state(of_gpu, device)', 'set_rng_state(of_gpu)', "another GPU's generator"),
        ('    torch.set_rng_state(of_cpu)\n', '    pass\n', 'dropout would drop other units in the second pass'),
        ('with torch.no_grad():', 'if True:', 'activations of the whole batch would be kept'),
        ('self.z = z.to(exact)', 'self.z = z', 'the gradient would be rounded to half precision'),
        ('torch.cat(z_parts), torch.cat(hidden_parts)', 'torch.cat(z_parts), torch.cat(z_parts)', 'hidden inputs would be embeddings'),
        (('self.states.append(random_state(self.device))\n'
            '        found = self.model(part)'), ('found = self.model(part)\n'
            '        self.states.append(random_state(self.device))'), 'dropout would drop other units in the second pass'),
        (('            set_random_state(state, self.device)\n'
            '            with torch.autocast'), '            with torch.autocast', 'dropout would drop other units in the second pass'),
        ('backward((z.to(grad.dtype) * grad).sum())', 'backward((z.to(grad.dtype) * grad).mean())', 'a gradient that is too small'),
        ('backward((z.to(grad.dtype) * grad).sum())', 'backward(z.to(grad.dtype).sum())', 'the gradient of something else than the loss'),
        ('z, _ = self.model(part)', '_, z = self.model(part)', 'the gradient through hidden inputs'),
        ('backward((z.to(grad.dtype) * grad).sum())', 'backward((z * grad.to(z.dtype)).sum())', 'the gradient would be rounded to half precision'),
        ('split(self.rows)', 'split(self.rows[-1])', 'parts and their gradients would not fit'),
        ('        set_random_state(after, self.device)\n', '', 'the next step would see the same augmentations again'),
        ('kept = [b.clone() for b in buffers(self.model)]', 'kept = [b for b in buffers(self.model)]', 'BatchNorm would count the batch twice'),
        ('b.copy_(value)  # running statistics have seen the batch already', 'pass  # running statistics have seen the batch already', 'BatchNorm would count the batch twice'),
        ('list(model.buffers()) if isinstance(model, nn.Module) else []', '[]', 'BatchNorm would count the batch twice'),
        ('if isinstance(model, nn.Module) else []', '', 'a function could not be used'),
        ('nn.modules.batchnorm._BatchNorm', 'nn.BatchNorm1d', 'no warning for images'),
        ('if names:', 'if not names:', 'a warning where there is no BatchNorm'),
        ('stacklevel=2', 'stacklevel=1', 'the warning would blame the library')),

    *of('rules.py', IDS,
        (
            'return asked[:, None] == b.clamp_min(UNKNOWN)',
            'return asked[:, None] == b',
            'who is unknown as −2 would be equal to everybody unknown',
        ),
        (
            'asked = a.masked_fill(a < 0, UNKNOWN - 1)',
            'asked = a',
            'all images without a label would be one class',
        ),
        (
            'asked = a.masked_fill(a < 0, UNKNOWN - 1)',
            'asked = a.masked_fill(a <= 0, UNKNOWN - 1)',
            'class 0 would be unknown',
        )),
    *of('embeddings.py', IDS,
        (
            'return ids.long()',
            'return ids',
            'ranks with ids of other types would crash',
            IDS + ' ' + RANKS,
        )),
    *of('arguments.py', IDS,
        (
            'require(ids.dtype in ID_TYPES, name',
            'require(True, name',
            'labels rounded by a floating point type',
        )),
    *of('normalizers.py', UNREMIX,
        (
            'nothing = share <= smallest[:, None]',
            'nothing = share < 0',
            'the logarithm of zero',
        ),
        (
            'ABSENT = -1e4\n',
            'ABSENT = -14.0\n',
            'a millionth of a share would rule the sum at low temperatures',
        ),
        (
            ' & x.isfinite()',
            '',
            'an infinite score would be taken for noise',
        )),
    *of('pools.py', UNREMIX,
        (
            'log_mean = F.threshold(log_mean, math.log(tiny) + 1e-3, ABSENT)',
            'pass',
            'e^−87 would rule the sum at t = .02',
        )),
    *of('choosing.py', UNREMIX,
        ('turn <= left', 'turn < left', 'one too few would be kept'),
        (
            'above | (tied & (turn <= left))',
            'above | tied',
            'all equals would be kept',
        ),
        (
            'kept = kept & (log_w > -math.inf)',
            'pass',
            'who is no negative would be kept',
        ),
        (
            'torch.where(unclear, math.nan, chosen)',
            'chosen',
            'NaN would be hidden: a loss of exactly 0',
        ),
        (
            '    log_w = log_w.detach()\n    few',
            '    few',
            'a graph that nobody needs',
            UNREMIX,
            'comparisons carry no gradient: it only saves a graph',
        ),
        (
            'log_w.shape, generator=generator,',
            'log_w.shape, generator=torch.Generator().manual_seed(0),',
            'the same negatives at every step, whatever the seed',
        )),
    *of('contrastive_loss.py', STATE,
        (
            "state_dict.pop(prefix + '_extra_state', None)",
            'pass',
            'checkpoints of older versions would be refused',
        )),
]
