"The same few threads everywhere, asleep while they wait: committed numbers were made with them, and small problems run faster."
import os

from unremix.machine import wait_passively

os.environ.setdefault('OMP_NUM_THREADS', '2')
wait_passively() # before PyTorch is loaded; processes that tests start inherit it
