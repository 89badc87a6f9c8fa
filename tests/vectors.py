"Vectors around ten centres, as a task of one's own: `--modality vectors:TASK`."

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unremix.image_sets import fingerprint_of
from unremix.tasks import Task, Views


@dataclass(frozen=True)
class Columns:
    "Inputs that are no tensor: one of (n 3) and one of (n 5)."

    three: Tensor
    five: Tensor

    def __len__(self):
        return len(self.three)

    def __getitem__(self, idx):
        assert idx.dtype == torch.int64 and idx.ndim == 1  # nothing else is promised
        return Columns(self.three[idx], self.five[idx])

    def to(self, device):
        return Columns(self.three.to(device), self.five.to(device))

    @property
    def device(self):
        return self.three.device


@dataclass(frozen=True)
class Vectors:
    x: Columns
    y: Tensor
    classes: tuple
    name: str
    fingerprint: str

    def __len__(self):
        return len(self.y)


@dataclass(frozen=True)
class Twins(Vectors):
    ids: Tensor


def load(data, part, limit):
    n = min(limit or 300, 300)
    y = torch.arange(300) % 10
    centres = 2 * torch.randn(10, 8, generator=torch.Generator().manual_seed(0))
    noise = torch.Generator().manual_seed(1 + (part == 'test'))
    x = centres[y] + torch.randn(300, 8, generator=noise)
    stored, classes = fingerprint_of(x, y), tuple('abcdefghij')
    given = Columns(x[:n, :3], x[:n, 3:]), y[:n], classes, data.dataset, stored
    if data.dataset == 'twins':
        return Twins(*given, ids=7 + torch.arange(n) // 2)
    return Vectors(*given)


class Noisy(Views):
    def one(self, x, which):  # the second view is the noisier one
        both = self.plain(x)
        return both + (0.5 + which) * torch.randn_like(both)

    def plain(self, x):
        return torch.cat([x.three, x.five], 1)


def encoder(cfg, train):
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
    net.out_dim = 16
    return net


def norm_and_sum(train):
    shift = torch.cat([train.x.three, train.x.five], 1).mean(0)

    def features(x):
        centred = torch.cat([x.three, x.five], 1) - shift
        return torch.stack([centred.norm(dim=1), centred.sum(1)], 1)

    return features


def mean_norm(features, train, test):
    return {'mean_norm': features(test.x).norm(dim=1).mean().item()}


TASK = Task(
    name='vectors',
    units='vectors',
    datasets=('gauss', 'twins'),
    encoders=('line',),
    load=load,
    views=lambda cfg, train: Noisy(),
    make_encoder=encoder,
    baseline='norm and sum',
    features=norm_and_sum,
    defaults={'batch_size': 30},
    quick={'limit': 90, 'batch_size': 30},
    refuses=('image_size', 'augment_strength'),
    more_scores=mean_norm,
)
