"""The openai package's namespace: ``client.models``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgml.errors import NotFoundError
from pgml.objects import Model, ModelList

if TYPE_CHECKING:
    from pgml.request import Caller


class Models:
    """The openai package's ``client.models``: what ``pgml.models`` has for the current role."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def list(self) -> ModelList:
        """Return the models that can be called."""
        models = self._caller.client.models(self._caller.seconds())
        return ModelList(Model(model) for model in models["data"])

    def retrieve(self, model: str) -> Model:
        """Return one of the models that can be called.

        Args:
            model: Its name.

        Raises:
            NotFoundError: There is none of that name.

        """
        return find(self.list(), model)


class AsyncModels:
    """The openai package's ``client.models``: what ``pgml.models`` has for the current role."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def list(self) -> ModelList:
        """Return the models that can be called."""
        models = await self._caller.client.models_async(self._caller.seconds())
        return ModelList(Model(model) for model in models["data"])

    async def retrieve(self, model: str) -> Model:
        """Return one of the models that can be called.

        Args:
            model: Its name.

        Raises:
            NotFoundError: There is none of that name.

        """
        return find(await self.list(), model)


def find(models: ModelList, name: str) -> Model:
    """Return the model of a name, or raise what names those there are."""
    for model in models:
        if model.id == name:
            return model
    names = ", ".join(repr(model.id) for model in models) or "none"
    raise NotFoundError(
        f"model {name!r} does not exist",
        sqlstate="42704",
        param="model",
        hint=f"The models that you can call are {names}.",
    )
