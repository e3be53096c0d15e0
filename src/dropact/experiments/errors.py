"""The errors a user can put right: each message is one line that names what was received and what is accepted."""


class UserError(ValueError):
    """Base of the errors that the command line shows as one line, without a traceback."""


class ConfigError(UserError):
    """A configuration that cannot be run: an unknown name, a wrong type, an impossible combination."""


class DataError(UserError):
    """A data set that is missing, damaged or not what its name promises."""


class RecordError(UserError):
    """A folder of runs that is damaged or belongs to something else; nothing in it was changed."""


class TrainingError(UserError):
    """A run that cannot go on, for instance because its loss is no longer finite."""
