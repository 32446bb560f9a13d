"""The one way to say that input is bad."""

from __future__ import annotations


class InputError(Exception):
    """Input that a program cannot go on with.

    The message is for the user: it names the file, the place in it, what is wrong and what to do.
    Programs print it without a traceback and exit with 1.
    """
