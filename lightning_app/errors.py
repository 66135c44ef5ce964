"""The one error that a user can mend."""


class BadInputError(ValueError):
    """Something the user gave can't be used.

    Its text is the single line that the command prints before it ends with exit code 2: which flag or file, what was
    found, what would be right.
    """
