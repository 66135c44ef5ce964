"""What the commands that need no torch share: a plain parser, whose errors are those of all commands."""

import argparse
from typing import NoReturn

from lightning_app.errors import BadInputError


class PlainParser(argparse.ArgumentParser):
    """A parser that answers within a fraction of a second.

    Args:
        command: Its name.
        description: What it does.
    """

    def __init__(self, command: str, description: str) -> None:
        super().__init__(prog=f"steps-to-epsilon {command}", description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Refuses a command line.

        Raises:
            BadInputError: Always.
        """
        raise BadInputError(f"{message}; {self.prog} --help shows what it takes")
