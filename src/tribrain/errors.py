"""Errors that a user can mend."""


class InputError(ValueError):
    """What the user gave is wrong: the message says what, and what would be right.

    The command line prints the message as one line and exits with code 2.
    """


class InputWarning(UserWarning):
    """Something was left out or read in a particular way; the run goes on."""
