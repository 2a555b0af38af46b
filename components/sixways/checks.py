"""Checks of a component's plain inputs: every problem is collected, and raised once."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeGuard

import pulumi

from sixways_bundle import Problem

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""A model's name: it is part of URLs and of paths."""
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
"""A bundle's digest (`Bundle.digest`)."""


class InputsRefused(pulumi.RunError):
    """A component's inputs cannot be used; carries every problem.

    A `RunError`: Pulumi prints the message alone, since the inputs are wrong and not the program.
    """

    def __init__(self, what: str, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        lines = "".join(f"\n  - {problem}" for problem in self.problems)
        super().__init__(f"{what} cannot be used as given:{lines}")


def is_plain(value: object) -> bool:
    """Whether the value, and everything in it, is known now and can be checked."""
    if isinstance(value, Mapping):
        return all(is_plain(item) for item in value.values())
    if isinstance(value, list | tuple):
        return all(is_plain(item) for item in value)
    return not isinstance(value, pulumi.Output)


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a number; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_address(text: str) -> bool:
    """Whether it is an IP address, in its usual form."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


class Checks:
    """Collects what is wrong with the inputs of one component.

    Values that are still outputs are passed over: the provider checks them.
    """

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def add(self, field: str, value: object, accepted: str, fix: str = "") -> None:
        """Notes a problem; see `Problem` for the words."""
        self.problems.append(Problem(field, "" if value is None else str(value), accepted, fix))

    def known(self, given: Mapping[str, Any], args: type, prefix: str = "") -> None:
        """Every key is a field of the TypedDict `args`: a typo is not ignored in silence.

        The name alone is shown: what stands under a mistyped key may be a secret.
        """
        accepted = sorted(args.__annotations__)
        for key in sorted(set(given) - set(accepted)):
            self.add(f"{prefix}{key}", key, ", ".join(accepted), "correct or remove the name")

    def required(self, given: Mapping[str, Any], *fields: str, prefix: str = "") -> None:
        """Each field is there and not empty."""
        for field in fields:
            if given.get(field) is None or given[field] in ("", [], {}):
                self.add(f"{prefix}{field}", None, "a value", f"add {field}")

    def one_of(self, field: str, value: object, accepted: Collection[str], fix: str = "") -> None:
        """The value, where one is given, is among those accepted."""
        if value is not None and is_plain(value) and value not in accepted:
            self.add(field, value, ", ".join(accepted), fix)

    def matches(
        self, field: str, value: object, pattern: re.Pattern[str], accepted: str, fix: str = ""
    ) -> None:
        """The text, where one is given, has that form. Other types are told by `misfits`."""
        told = any(problem.field == field for problem in self.problems)
        if isinstance(value, str) and not told and not pattern.fullmatch(value):
            self.add(field, value, accepted, fix)

    def number(
        self,
        field: str,
        value: object,
        least: float,
        most: float,
        *,
        whole: bool = False,
        fix: str = "",
    ) -> None:
        """The value, where one is given, is a number from `least` to `most`, both included."""
        if value is None or not is_plain(value):
            return
        right = is_number(value) and least <= value <= most and (not whole or value == int(value))
        if not right:
            kind = "a whole number" if whole else "a number"
            self.add(field, value, f"{kind} from {least:g} to {most:g}", fix)

    def networks(self, field: str, values: object) -> None:
        """Each text of a list is a network: `10.0.0.0/8`, or one address."""
        for index, value in enumerate(values if isinstance(values, list) else ()):
            if not isinstance(value, str):
                continue
            try:
                ipaddress.ip_network(value)
                if "%" in value:  # after it Python takes anything for an interface's name
                    raise ValueError("it names an interface")
            except ValueError as error:
                accepted = f"a network, e.g. 10.0.0.0/8 ({error})"
                self.add(f"{field}[{index}]", value, accepted, "correct it")

    def certificate(self, field: str, value: object) -> None:
        """The text, where one is given, is a certificate chain's, and not a file's name."""
        if isinstance(value, str) and value and "-----BEGIN CERTIFICATE-----" not in value:
            self.add(field, "(not shown)", "the text of a certificate (PEM)",
                     "give the file's content, not its name")  # fmt: skip

    def private_key(self, field: str, value: object) -> None:
        """The text, where one is given, is a private key's that opens without a passphrase."""
        if not isinstance(value, str) or not value:
            return
        if "PRIVATE KEY-----" not in value or "ENCRYPTED" in value:
            self.add(field, "(not shown)", "the text of a private key (PEM) without a passphrase",
                     "give the file's content; openssl pkey takes the passphrase away",
                     )  # fmt: skip

    def refuse(self, what: str) -> None:
        """Raises what was found, if anything was.

        Args:
            what: names the component: `SageMakerEndpoint search`.

        Raises:
            InputsRefused: there are problems.
        """
        if self.problems:
            raise InputsRefused(what, self.problems)
