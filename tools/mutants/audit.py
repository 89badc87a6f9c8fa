"An audit and a kept encoder: what would make a list wrong, or a feature another one, without a word."

TESTS, AUDIT = 'tests/test_audit_exact.py', 'tests/test_audit.py'


def of(file, *changes, tests=TESTS):
    "Mutants of one module: (old, new, why) each."
    return [dict(zip(('old', 'new', 'why'), change), file=file, tests=tests) for change in changes]


MUTANTS = [
    *of('suspects.py',
        ('similarity.diagonal(lo).fill_(-math.inf)', 'similarity.diagonal(0).fill_(-math.inf)', 'no image is its own neighbour, in every block'),
        ('is_second = (mine > other).long()', 'is_second = (mine < other).long()', 'which rank is whose'),
        ('ranks = torch.full((len(unique), 2), k + 1)', 'ranks = torch.full((len(unique), 2), k)', 'a rank that is not known is beyond all known ones'),
        ('around = near.cosine[:, :LOCAL].mean(1)', 'around = near.cosine.mean(1)', 'the surroundings are ten images'),
        ('2 * pairs.cosine - around[pairs.a] - around[pairs.b]', '2 * pairs.cosine - 2 * around[pairs.a]', 'both surroundings count'),
        ('-pairs.rank.float().log().mean(1)', '-pairs.rank.float().mean(1).log()', 'the mean of logarithms'),
        ('F.normalize((near.cosine / temperature).softmax(1))', '(near.cosine / temperature).softmax(1)', 'answers have unit length'),
        ('return (lower + upper) / (2 * len(score))', 'return upper / len(score)', 'equals share a rank')),
    *of('findings.py',
        ('both = torch.cat([views, views.flip(3)], 1)', 'both = torch.cat([views, views], 1)', 'mirrored copies'),
        ('centred = both - both.mean(2, keepdim=True)', 'centred = both', 'brightness does not count'),
        ('length.clamp_min(1.0)', 'length.clamp_min(1e-12)', 'rounding of a flat image is no picture'),
        ('found.append(torch.maximum(of_a, of_b))', 'found.append(of_a)', 'a cut of either image'),
        ('torch.maximum(of_a, of_b)\n\n\ndef copy_score', 'of_a\n\n\ndef copy_score', 'a copy stands out among the pairs of both images'),
        ('is_first & (times[ends] == 1)', 'is_first', 'two equal pairs do not stand out'),
        ('r > AS_IT_IS, torch.maximum(score, r), score', 'r > AS_IT_IS, score, score', 'a picture that is there three times'),
        ('pairs.rank.amin(1) <= CLOSE', 'pairs.rank.amax(1) <= CLOSE', 'near on one side is enough'),
        ('1 - near.cosine[:, :LOCAL].mean(1)', '1 - near.cosine.mean(1)', 'ten neighbours'),
        ('* (of_near >= 0)', '', 'who has no label does not vote'),
        ('size[low] + size[high] <= largest', 'size[low] <= largest', 'no group is larger than asked'),
        ('return 1 - overlap', 'return overlap', 'near, and yet different')),
    *of('audit_lists.py',
        ('others = pairs.only(~is_copy)', 'others = pairs', 'copies are in one list only'),
        ('int(a != b) for a, b in both', 'int(a == b) for a, b in both', 'copies across train and test'),
        ('torch.cat([copies.a, found[\'same\'][0].a])', 'torch.cat([found[\'same\'][0].a, copies.a])', 'copies share an id before others do')),
    *of('kept_encoder.py',
        ('LUMA = 0.299, 0.587, 0.114', 'LUMA = 0.587, 0.299, 0.114', 'green is brighter than red'),
        ('(sized.float() / 255 - self.mean) / self.std', '(sized.float() / 255 - self.mean)', 'inputs have the standard deviation of training')),
    *of('data.py',
        ('ids[i] = first.setdefault(table[name], i)', 'ids[i] = i', 'images of one id are one')),
    *of('machine.py',
        ('left = seconds / fresh * (runs - done)', 'left = seconds / done * (runs - done)', 'runs that were there before took no time')),
    *of('html_page.py',
        ("text.replace('<', '\\\\u003c')", 'text', 'no name ends the script')),
]
