"""What can go wrong, said to the reader: the argument, what was received, what to do."""


class GeodesicError(Exception):
    """Root of every error that `geodesic` raises on purpose.

    Example:
        >>> import torch, geodesic
        >>> try:
        ...     geodesic.straight_path(torch.zeros(2), torch.ones(2), segments=0)
        ... except geodesic.GeodesicError as error:
        ...     print(error)
        segments: expected an integer of at least 1, got 0
    """


class InputError(GeodesicError, ValueError):
    """An argument has the wrong shape, dtype, device or range."""


class DecoderError(GeodesicError, ValueError):
    """A decoder cannot be used: wrong size, coupled rows, training mode, values that are not finite."""


class SettingsError(GeodesicError, ValueError):
    """A settings file or a command line override is missing, malformed or out of range."""


class DataError(GeodesicError, ValueError):
    """A data set is missing or holds values that the model cannot take."""


class RunFolderError(GeodesicError):
    """A run folder exists already, or lacks what a command needs from it."""


class CheckpointError(GeodesicError):
    """Weights are missing, truncated or made for another model."""


class MissingExtraError(GeodesicError, ImportError):
    """A package that an optional part needs is not installed; the text has the line that installs it."""


class TrainingInterrupted(GeodesicError):
    """Training was interrupted; a checkpoint to resume from has been written."""


class TrainingDiverged(GeodesicError):
    """Training ended with weights or an ELBO that are not finite, or that a model without latent points surpasses."""


class SingularMetricError(GeodesicError, ValueError):
    """A metric tensor has no inverse where one is needed."""


class GeodesicWarning(UserWarning):
    """An answer was found that may not be what was asked for; the text says why, and what to do."""
