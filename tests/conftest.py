"The same few threads everywhere: committed numbers were made with them, and small problems run faster."
import os

os.environ.setdefault('OMP_NUM_THREADS', '2')
