"""What shall serve on a host, and the files that say so in a slot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sixways.server import bundles, files, keys, layout, venv
from sixways_bundle.cache import key_of


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model to serve: its name, its bundle's folder here, its digest, and perhaps its variant."""

    name: str
    path: str
    digest: str
    variant: str | None = None

    @property
    def bundle(self) -> bundles.Wanted:
        """Its bundle."""
        return bundles.Wanted(self.digest, Path(self.path))


@dataclass(frozen=True, kw_only=True)
class Release:
    """What shall serve on a host.

    Attributes:
        models: at least one.
        environment: the server's.
        unit: its limits; interpreter and configuration are filled in.
        settings: further fields of the server's configuration.
        keys: who may call.
        keep: releases that stay beside the one that serves.
        ready_seconds: how long the server may take to be ready.
        supervisor: `systemd` or `supervisord`.
    """

    models: tuple[Model, ...]
    environment: venv.Environment
    unit: files.Unit
    settings: Mapping[str, Any]
    keys: keys.Keys
    keep: int
    ready_seconds: float
    supervisor: str

    def config(self, slot: str) -> str:
        """The configuration of its server in a slot."""
        served = []
        for model in self.models:
            entry = {"name": model.name, "path": model.bundle.place, "digest": model.digest}
            served.append(entry | ({"variant": model.variant} if model.variant else {}))
        return files.server_config(
            served,
            keys_file=layout.KEYS,
            host="127.0.0.1",
            port=layout.PORTS[slot],
            **self.settings,
        )

    def unit_in(self, slot: str, venv_id: str) -> files.Unit:
        """The unit of its server in a slot."""
        return replace(
            self.unit,
            python=f"{layout.VENVS}/{venv_id}/bin/python",
            config=layout.config(slot),
            user=layout.USER,
        )

    def id(self, venv_id: str) -> str:
        """Names all that it serves and how; the same in either slot."""
        unit = replace(self.unit_in("slot", venv_id), config=layout.config("slot")).render()
        config = self.config("blue")
        return key_of(unit=unit, config=config, supervisor=self.supervisor)[:12]
