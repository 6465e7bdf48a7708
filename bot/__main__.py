"""`python -m bot`: the same as `sidestep`."""

import sys

_INTERRUPTED = 128 + 2  # as a shell tells it


def main() -> None:
    """The console script."""
    try:
        from bot.cli import main as command

        command()
    except KeyboardInterrupt:  # from the second in which all that is being loaded; later a command sees to it
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
