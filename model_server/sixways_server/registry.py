"""The models of this server: what is loaded, what still loads, and who to ask for which name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from sixways_server.engines.base import EmbeddingEngine, Engine, TensorEngine, TextEngine
from sixways_server.errors import BadRequest, NotReady, UnknownModel

E = TypeVar("E", bound=Engine)


class Registry:
    """Names to engines.

    Args:
        names: every model this server will serve, loaded or not.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._engines: dict[str, Engine | None] = dict.fromkeys(names)
        self.created = int(time.time())
        self.draining = False
        self.others_ready: Callable[[], bool] = lambda: True
        """Whether the other workers of this server have been ready too."""

    def add(self, name: str, engine: Engine) -> None:
        """The engine of `name` is loaded."""
        self._engines[name] = engine

    @property
    def names(self) -> list[str]:
        """Every name, in the order of the configuration."""
        return list(self._engines)

    @property
    def engines(self) -> list[Engine]:
        """What is loaded."""
        return [engine for engine in self._engines.values() if engine is not None]

    @property
    def loading(self) -> list[str]:
        """Names of what is not loaded yet."""
        return [name for name, engine in self._engines.items() if engine is None]

    @property
    def ready(self) -> bool:
        """Whether every model is loaded and answers, and the server is not about to end."""
        return not (self.draining or self.loading or self.broken) and self.others_ready()

    @property
    def broken(self) -> list[str]:
        """Names of what is loaded and takes no requests at present."""
        return [name for name, engine in self._engines.items() if engine and not engine.ready]

    def get(self, name: str) -> Engine:
        """The engine of that name.

        Raises:
            UnknownModel: there is none.
            NotReady: it is still loading.
        """
        try:
            engine = self._engines[name]
        except KeyError:
            have = ", ".join(self._engines)
            shown = name if len(name) <= 80 else name[:77] + "..."
            raise UnknownModel(
                f"model: {shown!r} is not served here; served are: {have}", field="model"
            ) from None
        if engine is None:
            raise NotReady(f"model {name!r} is still loading; try again", retry_after=1)
        return engine

    def choose(self, name: str | None, able: Callable[[Engine], bool], wanted: str) -> Engine:
        """The engine of that name; without a name, the only one that is able.

        Args:
            name: the name that the request gives, or None.
            able: whether an engine could answer the request.
            wanted: what it is to do, in words (`make embeddings`).

        Raises:
            UnknownModel, NotReady: as `get`; without a name, NotReady while any model loads.
            BadRequest: no name, and none or several are able; names them.
        """
        if name is not None:
            return self.get(name)
        if self.loading:
            raise NotReady(
                f"no model is named and {', '.join(self.loading)} still loads; try again",
                retry_after=1,
            )
        found = [engine for engine in self.engines if able(engine)]
        if len(found) == 1:
            return found[0]
        names = ", ".join(engine.info.name for engine in found)
        raise BadRequest(
            f"model: is missing; name one of: {names}"
            if found
            else f"model: is missing, and no model here can {wanted}; served are: "
            + ", ".join(f"{e.info.name} ({e.info.task})" for e in self.engines),
            field="model",
        )

    def embedding(self, name: str) -> EmbeddingEngine:
        """The encoder of that name.

        Raises:
            UnknownModel, NotReady: as `get`.
            BadRequest: it makes something else.
        """
        return self._of_kind(name, EmbeddingEngine, "embeddings")  # type: ignore[type-abstract]

    def text(self, name: str) -> TextEngine:
        """The language model of that name; raises as `embedding`."""
        return self._of_kind(name, TextEngine, "text")  # type: ignore[type-abstract]

    def tensor(self, name: str) -> TensorEngine:
        """The model over tensors of that name; raises as `embedding`."""
        return self._of_kind(name, TensorEngine, "tensors")  # type: ignore[type-abstract]

    def _of_kind(self, name: str, kind: type[E], wanted: str) -> E:
        engine = self.get(name)
        if isinstance(engine, kind):
            return engine
        able = [e.info.name for e in self.engines if isinstance(e, kind)]
        hint = f"use one of: {', '.join(able)}" if able else "this server has no model that does"
        raise BadRequest(
            f"model: {name!r} does not make {wanted} (its task is {engine.info.task}); {hint}",
            field="model",
        )
