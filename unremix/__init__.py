"Hard-negative strategies for contrastive learning: one loss, many weightings."
__version__ = "0.1.0"

from unremix.importance import UnReMixLoss
from unremix.losses import DebiasedNTXentLoss, NTXentLoss, WeightedNTXentLoss
from unremix.weights import HCLLoss

__all__ = ['NTXentLoss', 'DebiasedNTXentLoss', 'HCLLoss', 'UnReMixLoss', 'WeightedNTXentLoss']
