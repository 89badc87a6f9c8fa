"`python -m unremix` is the command `unremix`."
import sys

from unremix.machine import command

if __name__ == '__main__': sys.exit(command())
