"""Every error that Salus raises, in one tree.

    SalusError
    ├── UserFixable            shown in one line, without a traceback
    │   ├── InputError         a file, record or value cannot be taken in
    │   │   ├── FormatError    the bytes are not what the format promises
    │   │   ├── UnitError      a unit is unknown, or cannot be converted
    │   │   └── SeveralPatientsError   one patient is wanted, several are there
    │   ├── ConfigError        a recipe, manifest or command line is wrong
    │   ├── StoreError         a store or its key ring cannot give or take something
    │   │   ├── DamagedError   the stored bytes are not those that were written
    │   │   └── WrongKeyError  the key is not the one that sealed it
    │   ├── ModelError         a model folder is incomplete or does not fit
    │   ├── MissingExtra       an optional package is needed
    │   └── ContextLengthError the question does not fit the language model
    └── Bug                    ours: shown in full, with where to report it

A message says what could not be done, the value, where it stands, and what to do. It never holds patient data.
"""

from __future__ import annotations

REPORT_AT = "the project's issue tracker"


class SalusError(Exception):
    """Base of all errors that Salus raises on purpose."""


class UserFixable(SalusError):
    """The person at the keyboard can mend it; shown in one line."""


class InputError(UserFixable):
    """A file, a record or a value cannot be taken in."""


class FormatError(InputError):
    """The bytes of a file are not what its format promises."""


class UnitError(InputError):
    """A unit is unknown to UCUM or cannot be converted to the one required."""


class SeveralPatientsError(InputError):
    """One patient is wanted and the folder holds another number of them."""


class ConfigError(UserFixable):
    """A recipe, cohort manifest, plug-in or command line is wrong."""


class StoreError(UserFixable):
    """A store or its key ring cannot give or take something."""


class DamagedError(StoreError):
    """Stored bytes are not those that were written: changed, cut short, or in another order."""


class WrongKeyError(StoreError):
    """The key is not the one that sealed the object, the store or the key ring."""


class ModelError(UserFixable):
    """A model folder is incomplete, altered, or does not fit the program."""


class ContextLengthError(UserFixable):
    """Question and evidence do not fit the language model's context."""


class MissingExtra(UserFixable):
    """An optional package is needed for what was asked.

    Example:
        >>> str(MissingExtra("decode JPEG-LS", "images"))
        "Cannot decode JPEG-LS: an optional package is not installed. Run: pip install 'salus[images]'"
    """

    def __init__(self, purpose: str, extra: str) -> None:
        """Name what could not be done and the extra that brings it."""
        super().__init__(f"Cannot {purpose}: an optional package is not installed. Run: pip install 'salus[{extra}]'")


class Bug(SalusError):
    """Something that we ourselves guarantee did not hold."""
