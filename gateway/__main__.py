"""`gateway` and `python -m gateway`."""

import sys


def main() -> None:
    """Runs the command line and exits with its status."""
    from gateway.cli.app import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
