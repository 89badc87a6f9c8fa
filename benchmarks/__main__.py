"`python -m benchmarks [losses | scale | loop] [OPTIONS]`; --help lists the options."

import sys

from unremix.machine import draw_into_files, spell_out, wait_passively


def main() -> int:  # exit status
    # before PyTorch is loaded, as the command `unremix` does
    wait_passively()
    draw_into_files()
    spell_out()

    from unremix import cli

    from benchmarks.command import run

    return cli.main(run=run)


if __name__ == '__main__':
    sys.exit(main())
