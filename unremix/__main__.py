"`python -m unremix` is the `unremix` command."
import sys

from unremix.cli import main

if __name__ == '__main__': sys.exit(main())
