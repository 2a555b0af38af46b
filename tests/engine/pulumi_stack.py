"""A stack of the real Pulumi CLI, for tests."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Stack:
    """One stack of the project in `project`.

    As a context manager it makes the stack and, at the end, destroys what is still in it:

        with Stack(project, pulumi_env) as stack:
            stack.config(word="hello")
            stack.up()
            assert stack.outputs()["word"] == "hello"
    """

    project: Path
    """Folder with Pulumi.yaml."""
    env: dict[str, str]
    """The fixture `pulumi_env`."""
    name: str = "test"
    timeout_s: float = 300.0
    """Limit of one command."""
    _up: bool = field(default=False, init=False)
    # What was read since the last command: each reading takes the CLI a second.
    _read: dict[tuple[str, ...], str] = field(default_factory=dict, init=False)

    def __enter__(self) -> Stack:
        self.run("stack", "init", self.name)
        return self

    def __exit__(self, *_: object) -> None:
        if self._up:
            self.destroy()

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`pulumi ARGUMENTS` in the project; stdout holds stderr too.

        With `check` a failing command fails the test and shows all it wrote.
        """
        self._read.clear()
        try:
            return self._run(*arguments, check=check)
        finally:
            self._read.clear()

    def _run(self, *arguments: str, check: bool) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["pulumi", "--color", "never", "--non-interactive", *arguments],
            cwd=self.project,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=self.timeout_s,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(
                f"pulumi {' '.join(arguments)}: status {done.returncode}\n{done.stdout}"
            )
        return done

    def config(self, **values: str) -> None:
        """Plain settings of the project's own namespace."""
        for name, value in values.items():
            self.run("config", "set", "--stack", self.name, name, value)

    def secret(self, **values: str) -> None:
        for name, value in values.items():
            self.run("config", "set", "--stack", self.name, "--secret", name, value)

    def up(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`pulumi up --yes`; a second run is checked with `up("--expect-no-changes")`."""
        self._up = True
        command = ("up", "--yes", "--stack", self.name, *arguments)
        return self.run(*command, check=check)

    def preview(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("preview", "--stack", self.name, *arguments, check=check)

    def destroy(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = self.run("destroy", "--yes", "--stack", self.name, *arguments)
        self._up = False
        return done

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs, secrets in clear."""
        command = ("stack", "output", "--json", "--show-secrets", "--stack", self.name)
        answer: dict[str, Any] = self._json(*command)
        return answer

    def resources(self) -> list[dict[str, Any]]:
        """What the state holds, as `pulumi stack export` shows it."""
        state = self._json("stack", "export", "--stack", self.name)
        found: list[dict[str, Any]] = state["deployment"].get("resources", [])
        return found

    def _json(self, *command: str) -> Any:
        if command not in self._read:
            self._read[command] = self._run(*command, check=True).stdout
        return json.loads(self._read[command])
