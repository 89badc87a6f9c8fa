"Losses, pairs, scores and the task of text."

TEXT = 'tests/test_text.py'


def of(file, *changes):
    "Mutants of one module: (test, old, new, why), with a reason where it is harmless."
    keys = 'old', 'new', 'why', 'harmless'
    return [dict(zip(keys, rest), file=file, tests=f'{TEXT}::test_{test}') for test, *rest in changes]


MUTANTS = [
    *of(
        'sentence_loss.py',
        ('roles_of_queries_and_documents', 'meet = asks[:, None] != asked', 'meet = asks[:, None] | ~asked',
         'queries would be compared with queries'),
        ('roles_of_queries_and_documents', 'anchors=found.anchors[: len(z1)]', 'anchors=found.anchors',
         'documents would be anchors unasked'),
        ('penalty_is_hcl_with_a_margin', 'penalty = self.alpha * c.cosine.detach()', 'penalty = self.alpha * c.logits.detach()',
         'the strength would depend on the temperature'),
        ('as_multiple_negatives_ranking_loss', 'penalty = self.alpha * c.cosine.detach()', 'penalty = self.alpha * c.cosine',
         'gradient would flow through the penalty'),
        ('uniform_is_cross_entropy_of_documents', 'negatives = torch.cat(mined) if mined else None', 'negatives = mined[0] if mined else None',
         'only the first column of mined negatives would count'),
        ('repeated_texts_by_labels', 'dict(negatives=negatives, sample_ids=ids)', 'dict(negatives=negatives)',
         'repeated texts would be negatives of each other'),
        ('cache_is_the_plain_form', 'micro.backward(loss * grad)', 'micro.backward(loss)',
         'accumulated gradients would be too large'),
        ('settings_of_a_sentence_loss', 'return known.tau_plus or 0.0', 'return 0.0',
         'HCL would not be debiased unless it is asked for'),
        ('settings_of_a_sentence_loss', "usual = known.criterion is None and known.place != 'batch'", 'usual = known.criterion is None',
         'a strategy that chooses batches would do nothing'),
    ),
    *of(
        'gradient_cache.py',
        ('cache_keeps_the_precision_of_the_first_pass', 'with torch.autocast(self.device.type, self.dtype, self.in_autocast):', 'with torch.autocast(self.device.type, enabled=False):',
         'the second pass would be in another precision'),
        ('features_are_split_by_rows', 'return x[start : start + size] if has_rows else x', 'return x[start : start + size]',
         'what has no rows would be cut'),
        ('cache_is_the_plain_form', 'grads = self.z.grad.split(self.rows)', 'grads = self.z.grad.split(self.rows[0])',
         'gradients of the last micro-batch of a column would go to the next column'),
    ),
    *of(
        'text_data.py',
        ('neighbours_and_splits', 'if all(both):', 'if any(both):', 'short sentences would be pairs'),
        ('neighbours_and_splits', 'pairs[held_out & ~seen]', 'pairs[held_out]', 'copies of training pairs would be tested'),
        ('near_duplicates_in_loops', 'shared >= least * (size[row]', 'shared > least * (size[row]',
         'texts of the same words would not be duplicates'),
        ('near_duplicates_in_loops', 'linked = alike(pairs.first, least) + alike(pairs.second, least)', 'linked = alike(pairs.first, least)',
         'copied code would be missed'),
        ('functions_of_a_source', 'node.body, node.decorator_list = node.body[1:], []', 'node.decorator_list = []',
         'the summary would be part of the code'),
        ('functions_of_a_source', 'if NO_LIBRARY & set(within) or', 'if', "the library's own tests would be data"),
        ('words_and_tokens', 'return 1 + zlib.crc32(word.encode()) % (size - 1)', 'return zlib.crc32(word.encode()) % size',
         'a word could be padding'),
    ),
    *of(
        'text_scores.py',
        ('search_scores_in_loops', "f'mrr@{cut}': (hit / rank)[:, :cut].amax(1)", "f'mrr@{cut}': (hit / rank).amax(1)",
         'MRR would look beyond its cut'),
        ('search_scores_in_loops', 'gain[: min(int(n), cut)].sum()', 'gain[: int(n)].sum()', 'the best order would have more than the cut allows'),
        ('search_scores_in_loops', 'hit[:, :depth].sum(1) / total', 'hit[:, :depth].amax(1)', 'recall would be a hit rate'),
        ('mined_negatives_are_the_nearest_wrong_ones', 'limit = (right - relative_margin * right.abs()).clamp_max(highest)',
         'limit = (right * (1 - relative_margin)).clamp_max(highest)', 'a margin would be turned around for negative cosines'),
        ('mined_negatives_are_the_nearest_wrong_ones', 'wrong = (cosine <= limit) & (ids[own][:, None] != ids)', 'wrong = cosine <= limit',
         'copies of the right document would be mined'),
        ('mined_negatives_are_the_nearest_wrong_ones', 'most = min(skip + count, len(d))', 'most = min(count, len(d))', 'skipping would leave fewer'),
        ('sts_and_probes_of_a_known_encoder', 'float(fitted.score(test, labels[1]))', 'float(fitted.score(train, labels[0]))',
         'TREC would be scored on its training part'),
    ),
    *of(
        'text_encoder.py',
        ('encoder_reads_words_alone', 'weight = is_word[..., None].to(states.dtype)', 'weight = torch.ones_like(states[..., :1])', 'padding would count'),
        ('encoder_reads_words_alone', 'seen[:, 0] = True  # who sees nobody would become NaN', 'pass', 'an empty text would be NaN',
         'newer PyTorch gives zeros to a row that is masked everywhere; older ones gave NaN'),
        ('encoder_reads_words_alone', 'self.words(x) + self.places(place)', 'self.words(x)', 'the order of words would not matter'),
    ),
    *of(
        'text_task.py',
        ('bag_and_search', 'bag.scatter_add_(1, x % BAG, (x != 0).float())', 'bag.scatter_add_(1, x % BAG, torch.ones_like(x).float())',
         'padding would be a word'),
        ('bag_and_search', '(x, x.flip(1))', '(x, x)', 'a text would search for itself'),
        ('samples_and_views', 'y = torch.where(y < 0, -1 - torch.arange(len(y)), y)', 'y = y', 'texts without a class would be of one'),
        ('samples_and_views', "if name == 'twice' and part == 'train':", "if name == 'twice':", 'the search would look for the text itself'),
    ),
]
