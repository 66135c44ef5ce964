"""What every command ends with; a signal's are 128 and its number."""

DONE = 0
FAILED = 1
BAD_INPUT = 2
DONE_WITH_ERRORS = 3
