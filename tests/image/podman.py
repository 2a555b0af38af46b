"""podman for tests: builds an image, runs containers, reads what they say.

Where podman needs other settings than its defaults, `CONTAINERS_CONF` and
`CONTAINERS_STORAGE_CONF` name its files.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from sixways.image import BuildContext
from tests.ports import free_port


def podman(
    *arguments: str, seconds: float = 60, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """`podman ARGUMENTS`; stdout holds stderr too."""
    done = subprocess.run(
        ["podman", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
    if check and done.returncode:
        raise AssertionError(f"podman {' '.join(arguments)}:\n{done.stdout[-4000:]}")
    return done


def build(context: BuildContext, tag: str) -> None:
    """Builds the image; unchanged layers are taken from the store."""
    arguments = [f"--build-arg={key}={value}" for key, value in context.build_args.items()]
    podman(
        # Docker's format, since OCI's has no health check; the host's network, for the index.
        *("build", "--format", "docker", "--layers", "--network", "host", "--pull=missing"),
        *(*arguments, "--tag", tag, str(context.folder)),
        seconds=580,
    )


def inspect_image(tag: str) -> dict[str, Any]:
    (found,) = json.loads(_stdout("image", "inspect", tag))
    image: dict[str, Any] = found
    return image


def copied(tag: str) -> list[int]:
    """Bytes of each layer that a COPY of the last stage made, in their order."""
    steps = json.loads(_stdout("history", "--format", "json", tag))
    return [int(step["size"]) for step in reversed(steps) if "COPY" in step["CreatedBy"]]


@dataclass
class Run:
    """A container; its port `inner` can be reached as `url`."""

    name: str
    url: str

    def log(self) -> str:
        return podman("logs", self.name).stdout

    def state(self, field: str) -> str:
        return _stdout("inspect", "--format", f"{{{{.State.{field}}}}}", self.name).strip()

    def wait(self, path: str, seconds: float = 60) -> float:
        """Seconds from the start of the container's process until the path answers 200."""
        began = time.monotonic()
        while _status(f"{self.url}{path}") != 200:
            assert time.monotonic() < began + seconds, self.log()
            time.sleep(0.02)
        answered = time.time()
        assert self.state("Status") == "running"
        return answered - int(self.state("StartedAt.UnixMilli")) / 1000

    def waited(self) -> float:
        """Seconds for which its first thread could run and got no processor: others had them."""
        with contextlib.suppress(OSError):
            stat = Path(f"/proc/{self.state('Pid')}/schedstat").read_text()
            return int(stat.split()[1]) / 1e9
        return 0.0

    def ended(self, seconds: float = 60) -> int:
        """Waits for its end; the exit status."""
        return int(_stdout("wait", self.name, seconds=seconds))

    def stop(self) -> int:
        """SIGTERM, and SIGKILL after 30 seconds, as SageMaker stops it; the exit status."""
        podman("stop", "--time", "30", self.name)
        return int(self.state("ExitCode"))


@contextlib.contextmanager
def run(image: str, *command: str, inner: int, options: tuple[str, ...] = ()) -> Iterator[Run]:
    """`podman run OPTIONS IMAGE COMMAND` in the background, removed at the end."""
    port = free_port()
    name = f"sixways-test-{port}"
    podman(
        # Without a timer: health checks are run by the test.
        *("run", "--detach", "--name", name, "--health-interval", "disable"),
        *("--publish", f"127.0.0.1:{port}:{inner}", *options, image, *command),
    )
    try:
        yield Run(name, f"http://127.0.0.1:{port}")
    finally:
        podman("rm", "--force", "--time", "0", name, check=False)


def mount(folder: Path, target: str = "/opt/ml/model") -> str:
    """The option that shows a folder in the container, read-only."""
    return f"--volume={folder}:{target}:ro"


def _stdout(*arguments: str, seconds: float = 60) -> str:
    """What podman answers, without its warnings."""
    return subprocess.run(
        ["podman", *arguments], capture_output=True, text=True, timeout=seconds, check=True
    ).stdout


def _status(url: str) -> int:
    try:
        return httpx.get(url, timeout=2).status_code
    except httpx.TransportError:
        return 0
