"""`python -m lightning_app` is `steps-to-epsilon`."""

import sys

from lightning_app.cli import main

if __name__ == "__main__":
    sys.exit(main())
