"Image and caption: the loss of CLIP, and what captions say."

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from unremix.contrastive_loss import ContrastiveLoss
from unremix.data import load_dataset
from unremix.hard_negatives import HCL
from unremix.image_sets import Images
from unremix.image_text import NOUNS, TEMPLATES, caption_images, same_text
from unremix.image_text import same_text_mass, tokens_of, traits, words_of, zero_shot
from unremix.rules import across

EXACT = dict(atol=1e-10, rtol=0)


@pytest.mark.parametrize('t', (0.01, 0.07, 0.5))
@pytest.mark.parametrize('b, d', ((2, 3), (7, 5), (16, 16)))
@pytest.mark.parametrize('chunk_size', (None, 3))
def test_open_clip_agrees(b, d, t, chunk_size):
    "In value and gradient, whole and in blocks."
    clip = pytest.importorskip('open_clip.loss', reason='needs open_clip_torch')
    generator = torch.Generator().manual_seed(b)
    draw = lambda: torch.randn(b, d, dtype=torch.float64, generator=generator)
    both = draw().requires_grad_(), draw().requires_grad_()
    theirs = clip.ClipLoss()(*map(F.normalize, both), 1 / t)
    how = dict(pairs=across, temperature=t, chunk_size=chunk_size)
    for weights in ({}, {'weights': HCL(beta=0.0)}):
        ours = ContrastiveLoss(**weights, **how)(*both)
        assert_close(ours, theirs, **EXACT)
        grads = [torch.autograd.grad(x, both, retain_graph=True) for x in (ours, theirs)]
        assert_close(*grads, atol=1e-10, rtol=1e-10)


def test_hard_negatives_across():
    "HCL across modalities, in loops: both directions, nobody of the own modality."
    torch.manual_seed(0)
    u, v = torch.randn(2, 5, 4, dtype=torch.float64).unbind()
    a, c = F.normalize(u), F.normalize(v)
    losses = []
    for x, y in ((a, c), (c, a)):
        for i in range(5):
            s = [(x[i] @ y[j] / 0.1) for j in range(5)]
            others = [s[j] for j in range(5) if j != i]
            total = sum((2 * o).exp() for o in others)
            hard = sum(4 * (2 * o).exp() / total * o.exp() for o in others)
            losses.append((1 + hard / s[i].exp()).log())
    loss = ContrastiveLoss(HCL(beta=2.0), pairs=across, temperature=0.1)
    assert_close(loss(u, v), torch.stack(losses).mean(), **EXACT)


def test_same_caption_is_no_negative():
    "With `sample_ids` the loss is that without the pairs of one caption."
    torch.manual_seed(0)
    u, v = torch.randn(2, 6, 4, dtype=torch.float64).unbind()
    ids = torch.tensor([0, 1, 0, 2, 3, 1])
    s = F.normalize(u) @ F.normalize(v).T / 0.1
    other = (ids[:, None] != ids) | torch.eye(6, dtype=torch.bool)
    kept = s.masked_fill(~other, float('-inf'))
    target = torch.arange(6)
    expected = (F.cross_entropy(kept, target) + F.cross_entropy(kept.T, target)) / 2
    loss = ContrastiveLoss(pairs=across, temperature=0.1)
    assert_close(loss(u, v, sample_ids=ids), expected, **EXACT)
    mass = lambda **known: same_text_mass(
        loss.log_weights(loss.contrast(u, v, **known)), ids
    )
    assert mass(sample_ids=ids) == 0
    # equal weights of 5 negatives: four of six anchors have one of their caption
    assert_close(mass(), torch.tensor(4 / 6 / 5, dtype=torch.float64))


def drawn(columns, value, n=1):
    x = torch.zeros(n, 1, 28, 28, dtype=torch.uint8)
    x[..., 5:20, :columns] = value
    return Images(x, torch.zeros(n, dtype=torch.int64), ('boot',), 'drawn')


@pytest.mark.parametrize(
    'columns, value, told',
    (
        (22, 171, ('pale', 'narrow')),
        (23, 170, ('dark', 'wide')),
        (28, 255, ('pale', 'wide')),
        (1, 41, ('dark', 'narrow')),
        (28, 40, ('dark', 'narrow')),  # nothing is visible
    ),
)
def test_traits_are_read_off_the_pixels(columns, value, told):
    assert traits(drawn(columns, value)) == [told]


def test_captions_say_what_is_true_and_leave_things_out():
    images = drawn(28, 255, n=4000)
    found = caption_images(images, seed=3)
    assert found == caption_images(images, seed=3) != caption_images(images, seed=4)
    share = lambda part: sum(part in text.split() for text in found) / 4000
    for word in ('pale', 'wide', 'boot', 'bootie', 'photo'):
        assert abs(share(word) - 0.5) < 0.04, word
    assert share('dark') == share('narrow') == 0
    forms = len(TEMPLATES) * 2 * 4
    assert len(set(found)) == forms == same_text(found).max() + 1
    with pytest.raises(ValueError, match="classes must be among T-shirt, .* got .'0'"):
        caption_images(load_dataset('digits'))


def test_tokens():
    words = words_of(['a dark boot', 'a bag'])
    assert words == ['a', 'bag', 'boot', 'dark']
    found = tokens_of(['a bag', 'a dark new boot'], words)
    assert found.tolist() == [[1, 2, 0], [1, 4, 3]]


def test_zero_shot_asks_for_the_nearest_class():
    "An encoder whose images lie on the captions of their class gets all right."
    images = load_dataset('fashion_mini', 'test', limit=50)
    words = words_of(caption_images(images))

    class Perfect:
        shift = 0

        def image(self, x):
            y = (images.y + self.shift) % 10
            return F.one_hot(y, 10).float(), None

        def text(self, tokens):
            nouns = {n: i for i, of in enumerate(NOUNS.values()) for n in of}
            said = [[words[t - 1] for t in row if t] for row in tokens.tolist()]
            y = [next(nouns[w] for w in row if w in nouns) for row in said]
            return F.one_hot(torch.tensor(y), 10).float(), None

    all_words = words_of([' '.join(words), 'a photo of this is bootie'])
    words[:] = sorted({*all_words, *(n for of in NOUNS.values() for n in of)})
    model = Perfect()
    assert zero_shot(model, images, words) == 1
    model.shift = 1
    assert zero_shot(model, images, words) == 0

