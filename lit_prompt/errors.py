"""The one exception that is shown to a user as a single line."""


class InputError(Exception):
    """Something the user can mend: a file, a key, a value or the machine's limits.

    The message is one line that names the file, line or key and says what to do. The command line prints it without a
    traceback and exits with code 2.
    """
