"""What a server is told: a JSON file or a `ServerConfig`, checked as a whole before it starts."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import msgspec

from sixways_bundle.errors import BundleError, Problem

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
DUMMY = "dummy:"
MOST_WORKERS = 64


class ModelConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model to serve.

    Attributes:
        name: the name requests use; it is part of URLs.
        path: the bundle's folder, or `dummy:embeddings` / `dummy:chat` for a stand-in in tests.
        variant: the variant to serve; None takes the first this machine has an engine for.
        digest: the digest the bundle must have; None accepts any.
    """

    name: str
    path: str
    variant: str | None = None
    digest: str | None = None

    @property
    def is_dummy(self) -> bool:
        """Whether it is a stand-in that computes nothing."""
        return self.path.startswith(DUMMY)


class ServerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything a server is told.

    Attributes:
        models: what to serve; at least one.
        keys_file: JSON file with the hashes of the keys that may call (see `auth`).
        host: the address to listen on.
        port: the TCP port; 0 picks a free one, or the predecessor's where there is one.
        handover: unix socket path over which a successor gets the listening socket; None: none.
        status_file: JSON file that tells how far the server is; None: none.
        max_body_bytes: a larger request body is refused with 413.
        max_inputs: texts one embeddings request may hold.
        queue_limit: inputs of an encoder that may be accepted and not yet answered; over it
            requests get 429. At least `max_inputs`. Language models have a bound of their own.
        queue_seconds: how long an input of an encoder may have to wait, judged by the recent
            throughput; over it 429. Bounds the latency of what is accepted under overload. None:
            only `queue_limit` counts, which is best for those who embed whole collections.
        workers: processes that serve, under Gunicorn if more than one. Each opens every model
            for itself, so memory grows with them; `queue_limit` is of each.
        threads: processor threads a model may use in one worker; None: what the processors and
            the cgroup grant, divided among the workers.
        cache_gb: memory for keys and values of a language model in one worker, in 10^9 bytes,
            also of what was answered before (a prompt that begins alike is not computed again);
            it is taken as it is used. None: a quarter of what is free, at most 4, divided among
            the workers.
        request_seconds: longest time from a request's headers to the end of its answer; then it
            gets 504 and its work ends. None or 0: no limit. The default is as long as OpenAI's
            clients wait. A request may ask for less (`X-Request-Timeout`).
        drain_seconds: longest time between SIGTERM and the end of the process.
        linger_seconds: how long an idle connection stays open after SIGTERM. Longer than HTTP
            clients keep idle connections (httpx: 5), so that none writes into a closing one.
        console: whether `/` shows the console page.
        graphql: whether `/graphql` is served; needs the extra [graphql].
        public_key: with it, only bundles signed by its private key are served.
    """

    models: tuple[ModelConfig, ...]
    keys_file: Path
    host: str = "127.0.0.1"
    port: int = 5000
    handover: Path | None = None
    status_file: Path | None = None
    max_body_bytes: int = 8 * 1024 * 1024
    max_inputs: int = 2048
    queue_limit: int = 2048
    queue_seconds: float | None = None
    workers: int = 1
    threads: int | None = None
    cache_gb: float | None = None
    request_seconds: float | None = 600.0
    drain_seconds: float = 30.0
    linger_seconds: float = 6.0
    console: bool = True
    graphql: bool = False
    public_key: Path | None = None

    @classmethod
    def from_dict(cls, raw: dict[str, Any], *, base: Path | None = None) -> ServerConfig:
        """Reads decoded JSON; relative paths start at `base`, or the working directory.

        Raises:
            BundleError: it is wrong; carries every problem.
        """
        problems: list[Problem] = []
        values: dict[str, Any] = {}
        fields = {field.name: field for field in msgspec.structs.fields(cls)}
        for name in raw.keys() - fields.keys():
            problems.append(Problem(name, str(raw[name]), "one of " + ", ".join(sorted(fields))))
        for name, field in fields.items():
            if name not in raw:
                if field.required:
                    problems.append(Problem(name, "", _ACCEPTED[name]))
                continue
            try:
                values[name] = msgspec.convert(raw[name], field.type, dec_hook=_decode_path)
            except msgspec.ValidationError as error:
                problems.append(
                    Problem(name, str(raw[name]), f"{_ACCEPTED.get(name, 'another type')}: {error}")
                )
        if problems:
            raise BundleError("the server's configuration is wrong", problems)
        if base is not None:
            values = {name: _below(base, value) for name, value in values.items()}
        config = cls(**values)
        config.check()
        return config

    def check(self) -> None:
        """Looks at every value, files included, and opens no model.

        Raises:
            BundleError: carries every problem found.
        """
        problems = [*self._check_models(), *self._check_numbers(), *self._check_paths()]
        if problems:
            raise BundleError("the server's configuration is wrong", problems)

    def _check_models(self) -> list[Problem]:
        problems = []
        if not self.models:
            problems.append(Problem("models", "", "at least one model"))
        seen: set[str] = set()
        for index, model in enumerate(self.models):
            where = f"models[{index}]"
            if not _NAME.fullmatch(model.name):
                problems.append(
                    Problem(f"{where}.name", model.name, "letters, digits, '.', '_' and '-'")
                )
            if model.name in seen:
                problems.append(Problem(f"{where}.name", model.name, "a name that is not yet used"))
            seen.add(model.name)
            if not model.is_dummy and not Path(model.path).is_dir():
                problems.append(
                    Problem(f"{where}.path", model.path, "the folder of a bundle",
                            "build one: sixways bundle build --help")
                )  # fmt: skip
        return problems

    def _check_numbers(self) -> list[Problem]:
        problems = []
        if not 0 <= self.port <= 65535:
            problems.append(Problem("port", str(self.port), "0 to 65535; 0 picks a free port"))
        if not 1 <= self.workers <= MOST_WORKERS:
            problems.append(
                Problem("workers", str(self.workers), f"a whole number from 1 to {MOST_WORKERS}")
            )
        if not 0 <= (self.request_seconds or 0) < math.inf:
            problems.append(
                Problem("request_seconds", str(self.request_seconds),
                        "seconds; 0 or null for no limit")
            )  # fmt: skip
        for name in ("max_body_bytes", "max_inputs", "queue_limit", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                problems.append(Problem(name, str(value), "a whole number from 1"))
        if self.max_inputs > self.queue_limit:
            problems.append(
                Problem("max_inputs", str(self.max_inputs), f"up to queue_limit {self.queue_limit}")
            )
        for name in ("queue_seconds", "cache_gb"):
            limit = getattr(self, name)
            if limit is not None and not 0 < limit < math.inf:
                problems.append(Problem(name, str(limit), "a number over 0, or null"))
        for name in ("drain_seconds", "linger_seconds"):
            value = getattr(self, name)
            if not 0 <= value <= 3600:
                problems.append(Problem(name, str(value), "seconds, 0 to 3600"))
        return problems

    def _check_paths(self) -> list[Problem]:
        problems = []
        if not self.keys_file.is_file():
            problems.append(
                Problem("keys_file", str(self.keys_file), "a JSON file with hashes of keys",
                        "make one: python -m sixways_server.auth FILE")
            )  # fmt: skip
        if self.public_key is not None and not self.public_key.is_file():
            problems.append(Problem("public_key", str(self.public_key), "a public key (PEM)"))
        for name in ("handover", "status_file"):
            path: Path | None = getattr(self, name)
            if path is not None and not path.parent.is_dir():
                problems.append(
                    Problem(name, str(path), "a path in a folder that exists",
                            f"mkdir -p {path.parent}")
                )  # fmt: skip
        return problems


def load_config(path: Path) -> ServerConfig:
    """Reads a JSON file; relative paths in it start at its folder.

    Raises:
        BundleError: the file cannot be read or is wrong; it carries every problem.
    """
    try:
        raw = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise BundleError(
            "the server has no configuration",
            [Problem("config", str(path), f"a readable JSON file ({error.strerror})")],
        ) from None
    except msgspec.DecodeError as error:
        raise BundleError(
            "the server's configuration is not JSON",
            [Problem("config", str(path), f"a JSON object ({error})")],
        ) from None
    return ServerConfig.from_dict(raw, base=path.resolve().parent)


_ACCEPTED = {
    "models": 'a list of {"name", "path", "variant"}',
    "keys_file": "a path",
    "host": "an address or host name",
    "port": "a whole number, 0 to 65535",
    "handover": "a path or null",
    "status_file": "a path or null",
    "public_key": "a path or null",
    "console": "true or false",
    "request_seconds": "seconds; 0 or null for no limit",
    "cache_gb": "a number over 0, or null",
    "graphql": "true or false",
}


def _decode_path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    raise TypeError(f"expected a path, got {value!r}")


def _below(base: Path, value: object) -> object:
    if isinstance(value, Path):
        return base / value
    if isinstance(value, tuple):
        return tuple(
            model if model.is_dummy else msgspec.structs.replace(model, path=str(base / model.path))
            for model in value
        )
    return value
