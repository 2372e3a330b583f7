"""The exceptions that are shown to a user as a single line."""


class InputError(Exception):
    """Something the user can mend: a file, a key, a value or the machine's limits.

    The message is one line that names the file, line or key and says what to do. The command line prints it without a
    traceback and exits with code 2.
    """


class Interrupted(Exception):
    """The user stopped the fit; everything done so far is in the checkpoint. The message says how to go on."""
