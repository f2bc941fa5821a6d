"""The one error type whose message is meant for the person at the terminal."""


class TuningError(Exception):
    """Bad input or a run that can't go on. The message names the parameter, the rule and the value."""
