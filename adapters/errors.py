"""The learner's errors: one class for each decision of the caller, each with its exit status."""

from __future__ import annotations


class WildlaneError(Exception):
    """Base of every error that is told to the user in one line, without a trace."""

    exit_status = 1


class ConfigError(WildlaneError):
    """The configuration or the command line is wrong: correct it and start again."""

    exit_status = 2


class ModelError(WildlaneError):
    """A model file is missing, altered, of another kind, or can't run on the device asked for."""

    exit_status = 3


class DeviceError(ModelError):
    """The GPU asked for can't run the model, or can no longer."""


class StoreError(WildlaneError):
    """What Wildlane keeps on disk (class sets, journal) can't be read or written."""

    exit_status = 4


class DamagedError(StoreError):
    """What is kept on disk can be read, and is not what was written: set it aside and begin anew."""


class InputError(WildlaneError):
    """A picture, video or camera can't be read; the message names it."""

    exit_status = 5


class TeachError(InputError):
    """Teaching was refused; nothing was changed."""
