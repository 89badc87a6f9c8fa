"Hard-negative strategies for contrastive learning: rules, weights, losses."

__version__ = "0.1.0"

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what editors see
    from unremix.contrast import across as across
    from unremix.contrast import Contrast as Contrast
    from unremix.contrast import Embeddings as Embeddings
    from unremix.contrast import from_views as from_views
    from unremix.contrast import OutsideBatch as OutsideBatch
    from unremix.contrast import supervised as supervised
    from unremix.contrast import views as views
    from unremix.contrast import Without as Without
    from unremix.contrastive_loss import ContrastiveLoss as ContrastiveLoss
    from unremix.contrastive_loss import LearnedTemperature as LearnedTemperature
    from unremix.hard_negatives import HCL as HCL
    from unremix.hard_negatives import uniform as uniform
    from unremix.info_nce import InfoNCE as InfoNCE
    from unremix.info_nce import decoupled as decoupled
    from unremix.losses import DebiasedNTXentLoss as DebiasedNTXentLoss
    from unremix.losses import HCLLoss as HCLLoss
    from unremix.losses import NTXentLoss as NTXentLoss
    from unremix.losses import UnReMixLoss as UnReMixLoss
    from unremix.queue import KeyQueue as KeyQueue
    from unremix.queue import follow as follow
    from unremix.synthesis import MoCHi as MoCHi
    from unremix.unremix import UnReMix as UnReMix

# Loaded when asked for: what comes before PyTorch may still set how its threads wait
# (unremix.machine), and nobody loads what is not needed.
_NAMES = {
    'contrast': (
        'Contrast Embeddings OutsideBatch Without across from_views supervised views'
    ),
    'hard_negatives': 'HCL uniform',
    'info_nce': 'InfoNCE decoupled',
    'contrastive_loss': 'ContrastiveLoss LearnedTemperature',
    'losses': 'DebiasedNTXentLoss HCLLoss NTXentLoss UnReMixLoss',
    'queue': 'KeyQueue follow',
    'synthesis': 'MoCHi',
    'unremix': 'UnReMix',
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}
_MODULES = ('blocks', 'gather', 'representativeness', 'statistics', 'uncertainty')

__all__ = sorted(_HOMES)  # type: ignore[misc]  # the names of the block above


def __getattr__(name: str) -> Any:
    if name in _MODULES or name in _NAMES:
        return import_module(f'unremix.{name}')
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = getattr(import_module(f'unremix.{_HOMES[name]}'), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
