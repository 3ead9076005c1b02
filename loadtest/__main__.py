"""`python -m loadtest`."""

import sys

if __name__ == "__main__":
    try:
        from loadtest.cli import main

        sys.exit(main(sys.argv[1:]))
    except ModuleNotFoundError as fault:
        absent = (fault.name or "").partition(".")[0]
        # What is missing of our own is another fault.
        if absent == "loadtest":
            raise
        sys.stderr.write(f"loadtest: {absent} is not installed: make loadtest, or pip install -e '.[loadtest]'\n")
        sys.exit(2)
