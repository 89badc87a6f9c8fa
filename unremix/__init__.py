"Hard-negative strategies for contrastive learning: one loss, many weightings."
__version__ = "0.1.0"

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING: # what editors see
    from unremix.importance import UnReMixLoss
    from unremix.losses import DebiasedNTXentLoss, NTXentLoss, WeightedNTXentLoss
    from unremix.weights import HCLLoss

__all__ = ['NTXentLoss', 'DebiasedNTXentLoss', 'HCLLoss', 'UnReMixLoss', 'WeightedNTXentLoss']

# Loaded when asked for: what comes before PyTorch may still set how its threads wait (unremix.machine).
_HOMES = {'NTXentLoss': 'losses', 'DebiasedNTXentLoss': 'losses', 'HCLLoss': 'weights', 'UnReMixLoss': 'importance', 'WeightedNTXentLoss': 'losses'}
_MODULES = 'blocks', 'importance', 'losses', 'pairs', 'queues', 'ranks', 'representativeness', 'uncertainty', 'weights'


def __getattr__(name):
    if name in _MODULES: return import_module(f'unremix.{name}')
    if name not in _HOMES: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = globals()[name] = getattr(import_module(f'unremix.{_HOMES[name]}'), name)
    return value


def __dir__(): return sorted({*globals(), *__all__})
