"""The errors a user can put right: each message is one line that names what was received and what is accepted."""


class UserError(ValueError):
    """Base of the errors that the command line shows as one line, without a traceback."""


class ConfigError(UserError):
    """A configuration that cannot be run: an unknown name, a wrong type, an impossible combination."""


class DataError(UserError):
    """A data set that is missing, damaged or not what its name promises."""


class RecordError(UserError):
    """A folder of runs that is damaged or belongs to something else; nothing in it was changed."""


class NoRunsError(RecordError):
    """A folder of runs none of which is finished yet."""


class TrainingError(UserError):
    """A run that cannot go on, for instance because its loss is no longer finite."""


class DivergedError(TrainingError):
    """The loss or the weights of a run are no longer finite: of this run alone, so that others may be trained.

    Args:
        step: the first that is known to be so, from 0.
        epoch: the one it belongs to, from 1.
    """

    def __init__(self, sentence: str, step: int, epoch: int) -> None:
        super().__init__(sentence, step, epoch)  # all of them, to come whole from another process
        self.sentence, self.step, self.epoch = sentence, step, epoch

    def __str__(self) -> str:
        return self.sentence
