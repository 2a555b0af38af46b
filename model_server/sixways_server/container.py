"""The server as its image starts it without arguments: port 5000, every caller with a key.

With a configuration file (`SIXWAYS_CONFIG`, else `/etc/sixways/server.json` where there is one) it
serves what that says (`config.ServerConfig`). Without one it serves what lies in `/opt/ml/model`
and takes the same environment variables as `sagemaker` (`SM_MODEL_DIR`, `SIXWAYS_MODELS`,
`SIXWAYS_WORKERS` …). Besides:

    SIXWAYS_PORT       the TCP port (5000)
    SIXWAYS_KEYS_FILE  JSON with hashes of the keys that may call; left out: a new key, printed once
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from sixways_bundle.errors import BundleError

CONFIG = "/etc/sixways/server.json"
PORT = 5000


def config_file(environment: Mapping[str, str]) -> Path | None:
    """The configuration file that is used; None: there is none and none is named."""
    if named := environment.get("SIXWAYS_CONFIG"):
        return Path(named)
    return Path(CONFIG) if Path(CONFIG).is_file() else None


def main() -> int:
    """`python -m sixways_server.container`."""
    from sixways_server import serve

    named = config_file(os.environ)
    if named is not None:
        return serve.main(["--config", str(named)])
    try:
        return _run(os.environ)
    except BundleError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _run(environment: Mapping[str, str]) -> int:
    from sixways_server.auth import add_key
    from sixways_server.config import ServerConfig
    from sixways_server.sagemaker import configuration
    from sixways_server.serve import run

    raw = configuration(environment)
    raw["port"] = int(environment.get("SIXWAYS_PORT", PORT))
    if "keys_file" in raw:
        return run(ServerConfig.from_dict(raw))
    with tempfile.TemporaryDirectory(prefix="sixways-") as own:
        keys = Path(own) / "keys.json"
        sys.stderr.write(f"API key of this run: {add_key(keys)}\n")
        return run(ServerConfig.from_dict({**raw, "keys_file": str(keys)}))


if __name__ == "__main__":
    raise SystemExit(main())
