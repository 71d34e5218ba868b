"""The one error that the local instance raises for whatever it can foresee."""

from __future__ import annotations

from pgml.errors import APIConnectionError


class LocalInstanceError(APIConnectionError):
    """The local instance could not do what was asked; the text says why, and what to do."""
