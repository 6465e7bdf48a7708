"""`python -m bot`: the same as `sidestep`."""

from bot.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
