"""Stack `dev`: `python -m toolchain.stack up|down|env|caches`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolchain import caches, paths, settings_file
from toolchain.environment import ensure_state, export_lines, full_environment
from toolchain.paths import StateFiles

STACK = "dev"


class StackProblem(Exception):
    """Stack `dev` cannot be brought up or down; the message says what to do."""


@dataclass(frozen=True)
class Checkout:
    """A checkout and the environment whose `pulumi` works on it."""

    root: Path
    bin_folder: Path

    @property
    def files(self) -> StateFiles:
        return StateFiles.of(self.root)

    @property
    def tracked_settings(self) -> Path:
        return self.root / "infra" / "stacks" / f"{STACK}.yaml"

    @property
    def own_settings(self) -> Path:
        return self.root / f"Pulumi.{STACK}.yaml"

    def pulumi(self, *arguments: str) -> int:
        """Run `pulumi` with our terminal, so that its live progress is the user's."""
        return self._run(arguments, capture=False).returncode

    def ask(self, *arguments: str) -> Any:
        """The JSON that `pulumi` answers.

        :raises StackProblem: it failed; with what it wrote.
        """
        done = self._run(arguments, capture=True)
        if done.returncode:
            raise StackProblem(f"`pulumi {' '.join(arguments)}` failed:\n{done.stderr.strip()}")
        return json.loads(done.stdout)

    def _run(self, arguments: Sequence[str], *, capture: bool) -> subprocess.CompletedProcess[str]:
        pulumi = self.bin_folder / "pulumi"
        if not pulumi.exists():
            raise StackProblem(f"there is no working {pulumi}; run `make install`.")
        return subprocess.run(
            [str(pulumi), *arguments],
            cwd=self.root,
            env=full_environment(self.files, self.bin_folder),
            capture_output=capture,
            text=True,
            check=False,
        )


def _curl_lines(url: str, settings: Any) -> list[str]:
    """A line for each of the two models of the tracked settings that the user still serves."""
    config = settings.get("config", {}) if isinstance(settings, dict) else {}
    models = config.get("sixways:models") if isinstance(config, dict) else None
    names = {m.get("name") for m in models or [] if isinstance(m, dict)}
    head = "-H \"Authorization: Bearer $SIXWAYS_KEY\" -H 'Content-Type: application/json'"
    lines = []
    if "minilm" in names:
        body = json.dumps({"model": "minilm", "input": "six ways to ship a model"})
        lines.append(f"curl -s {url}/v1/embeddings {head} -d '{body}'")
    if "smollm2" in names:
        message = {"role": "user", "content": "Write one sentence about the sea."}
        body = json.dumps({"model": "smollm2", "messages": [message], "temperature": 0})
        lines.append(f"curl -s {url}/v1/chat/completions {head} -d '{body}'")
    return lines or [f'curl -s {url}/v1/models -H "Authorization: Bearer $SIXWAYS_KEY"']


def summary(outputs: dict[str, Any], settings: Any) -> str:
    """What a newcomer needs now: addresses, the key, and lines to paste."""
    shown = {
        "URL": outputs.get("url"),
        "Health": outputs.get("health_url"),
        "Dashboard": outputs.get("dashboard"),
        "API key": outputs.get("api_key"),
    }
    lines = ["", f"Stack {STACK} is up.", ""]
    lines += [f"  {name:<10} {value}" for name, value in shown.items() if value]
    if outputs.get("url") and outputs.get("api_key"):
        lines += ["", "Try it:", "", f"  export SIXWAYS_KEY={outputs['api_key']}"]
        lines += [f"  {line}" for line in _curl_lines(str(outputs["url"]), settings)]
    lines += ["", 'Plain pulumi, in this shell: eval "$(make -s env)"   Take it down: make down']
    return "\n".join(lines)


def up(checkout: Checkout, extra: Sequence[str] = ()) -> int:
    """Bring stack `dev` up.

    :param extra: options for `pulumi up`.
    :raises StackProblem: the settings or the CLI are missing.
    """
    _fit_passphrase(checkout, new=ensure_state(checkout.files))
    if not checkout.own_settings.exists():
        if not checkout.tracked_settings.exists():
            raise StackProblem(f"{checkout.tracked_settings} is missing: nothing says what to run.")
        shutil.copyfile(checkout.tracked_settings, checkout.own_settings)
        print(
            f"Settings: {checkout.own_settings.name}, copied from infra/stacks. Change it freely."
        )
    if STACK not in _stacks(checkout) and checkout.pulumi("stack", "init", STACK):
        return 1
    status = checkout.pulumi("up", "--yes", "--refresh", "--stack", STACK, *extra)
    if status:
        return status
    outputs = checkout.ask("stack", "output", "--json", "--show-secrets", "--stack", STACK)
    print(summary(outputs, settings_file.content(checkout.own_settings)))
    return 0


def _fit_passphrase(checkout: Checkout, *, new: bool) -> None:
    """A new passphrase opens no old salt; settings that hold no secret can do without theirs."""
    own = checkout.own_settings
    if not new or not own.exists():
        return
    if settings_file.has_secrets(settings_file.content(own)):
        checkout.files.passphrase.unlink()
        raise StackProblem(
            f"{own.name} holds secret values (`secure:`), and the passphrase that opens them "
            f"({checkout.files.passphrase}) is gone. Put the file back, or remove those values and "
            "set them again with `pulumi config set --secret` after `make up`."
        )
    settings_file.drop_salt(own)


def _stacks(checkout: Checkout) -> list[str]:
    return [str(stack["name"]) for stack in checkout.ask("stack", "ls", "--json", "--all")]


def down(checkout: Checkout) -> int:
    """Take stack `dev` down and remove what it kept here. If that fails, nothing is removed."""
    if not checkout.files.root.exists():
        print("Nothing is up here.")
        others: list[str] | None = []
    else:
        others = _take_down(checkout)
    if others is None:
        return 1
    locked = _remove_settings(checkout)
    if others:
        names = ", ".join(others)
        print(f"Kept {checkout.files.root}: it holds the state of other stacks ({names}).")
    elif checkout.files.root.exists():
        _remove_state(checkout.files, keep_passphrase=locked)
    print(caches.report(caches.existing(checkout.bin_folder)))
    return 0


def _end_servers(run_folder: Path) -> None:
    """End servers that no state knows of, as an update that was killed may leave them."""
    if not run_folder.is_dir():
        return
    # Not at the top: nothing else here needs the package, and `env` must be quick.
    from sixways.local.process import remove_all

    remove_all(run_folder)


def _remove_state(files: StateFiles, *, keep_passphrase: bool) -> None:
    _end_servers(files.root / "run")
    for entry in files.root.iterdir():
        if keep_passphrase and entry == files.passphrase:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    if keep_passphrase:
        print(f"Removed {files.root}, but for the passphrase of the secrets in your settings.")
    else:
        files.root.rmdir()
        print(f"Removed {files.root}.")


def _take_down(checkout: Checkout) -> list[str] | None:
    """The stacks that are left; None when the destroy failed."""
    ensure_state(checkout.files)
    stacks = _stacks(checkout)
    if STACK in stacks:
        removal = ("stack", "rm", "--yes", "--preserve-config", "--stack", STACK)
        if checkout.pulumi("destroy", "--yes", "--stack", STACK) or checkout.pulumi(*removal):
            print(
                f"Stack {STACK} could not be taken down (see above); its state is kept. "
                "Repair what is named and run `make down` again.",
                file=sys.stderr,
            )
            return None
    return [name for name in stacks if name != STACK]


def _remove_settings(checkout: Checkout) -> bool:
    """Remove the copy of the settings, if it is still one.

    :returns: whether settings stay that only the passphrase opens.
    """
    own = checkout.own_settings
    if not own.exists():
        return False
    content = settings_file.content(own)
    tracked = checkout.tracked_settings
    if tracked.exists() and settings_file.same(content, settings_file.content(tracked)):
        own.unlink()
        print(f"Removed {own.name}: it was as the tracked one.")
        return False
    print(f"Kept {own.name}: it has changes of yours.")
    if settings_file.has_secrets(content):
        return True
    settings_file.drop_salt(own)
    return False


def main(arguments: list[str]) -> int:
    command, extra = (arguments[0] if arguments else ""), arguments[1:]
    checkout = Checkout(paths.CHECKOUT, paths.venv_bin())
    try:
        if command == "up":
            return up(checkout, extra)
        if command == "down":
            return down(checkout)
        if command == "env":
            ensure_state(checkout.files)
            if "PULUMI_CONFIG_PASSPHRASE" in os.environ:
                print(
                    "PULUMI_CONFIG_PASSPHRASE is set in this shell and wins over our file: "
                    "unset it to work on this checkout.",
                    file=sys.stderr,
                )
            print("\n".join(export_lines(checkout.files, checkout.bin_folder)))
            return 0
        if command == "caches":
            print(caches.report(caches.existing(checkout.bin_folder)))
            return 0
    except StackProblem as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print("usage: python -m toolchain.stack up|down|env|caches", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
