"""What is raised in a function that nobody waits for."""


class Cancelled(BaseException):
    """Nobody waits for the result any more: the caller went away, or the item timed out.

    It is raised in the running function, on the main thread, between two of its bytecodes; a wait such as `time.sleep`
    ends for it. Functions may raise it too. It is no `Exception`, for the reason that `asyncio.CancelledError` is none:
    code that catches those, to go on or to try again, shall let it pass.
    """

    # The name under which users import it, which callers see in error messages.
    __module__ = "procpool"
