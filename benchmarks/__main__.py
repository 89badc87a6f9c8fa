"`python -m benchmarks [losses | scale | loop] [OPTIONS]`; --help lists the options."

import sys

from unremix.machine import draw_into_files, spell_out, wait_passively


def main() -> int:  # exit status
    if sys.argv[1:2] == ['loop']:  # trains as the command `unremix` does
        wait_passively()  # before PyTorch is loaded
    # losses are measured as a program finds them that imports the library
    draw_into_files()
    spell_out()

    from unremix import cli

    from benchmarks.command import run

    return cli.main(run=run)


if __name__ == '__main__':
    sys.exit(main())
