"""Time and memory of the losses and of the training loop.

`python -m benchmarks` measures, from the folder that holds this one; see
nbs/library/90_bench.ipynb and 91_scale.ipynb. The wheel of the library leaves it out.
"""
