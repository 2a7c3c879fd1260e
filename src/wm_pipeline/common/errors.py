"""What is raised when the input is at fault, and not the program."""


class InputError(ValueError):
    """An option or a file is not what is needed; the message is for the user.

    One sentence that names the file or option, what was expected and what was found,
    and where a stage is to be run, which. ``kedro run`` prints it without a traceback.
    """
