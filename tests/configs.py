"Configurations from keywords, as the tests write them."
from unremix.compare_config import CompareConfig
from unremix.config import TrainConfig


def run_of(**fields): return TrainConfig.of(fields)


def comparison(**fields): return CompareConfig.of(fields)


# Grids that are declared and not run yet: the log says so of each.
NOT_RUN = {'cifar10'}
