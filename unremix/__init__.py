"Hard-negative strategies for contrastive learning: rules, weights, losses."

__version__ = "0.1.0"

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what editors see
    from unremix.contrast import Contrast as Contrast
    from unremix.contrastive_loss import ContrastiveLoss as ContrastiveLoss
    from unremix.learned_temperature import LearnedTemperature as LearnedTemperature
    from unremix.embeddings import Embeddings as Embeddings
    from unremix.embeddings import from_views as from_views
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
    from unremix.rules import across as across
    from unremix.rules import OutsideBatch as OutsideBatch
    from unremix.rules import supervised as supervised
    from unremix.rules import views as views
    from unremix.rules import Without as Without
    from unremix.synthesis import MoCHi as MoCHi
    from unremix.unremix import UnReMix as UnReMix

# Loaded when asked for: what comes before PyTorch may still set how its threads wait
# (unremix.machine), and nobody loads what is not needed.
_NAMES = {
    'contrast': 'Contrast',
    'embeddings': 'Embeddings from_views',
    'hard_negatives': 'HCL uniform',
    'info_nce': 'InfoNCE decoupled',
    'contrastive_loss': 'ContrastiveLoss',
    'learned_temperature': 'LearnedTemperature',
    'losses': 'DebiasedNTXentLoss HCLLoss NTXentLoss UnReMixLoss',
    'queue': 'KeyQueue follow',
    'rules': 'OutsideBatch Without across supervised views',
    'synthesis': 'MoCHi',
    'unremix': 'UnReMix',
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}
_MODULES = (
    'blocks',
    'gather',
    'gradient_norm',
    'pseudo_task',
    'representativeness',
    'statistics',
    'uncertainty',
)

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
