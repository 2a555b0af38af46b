"""Whether the server of this container is ready, as its exit status: the image's health check.

`serve` and `container` listen on different ports, and a health check does not see which of them
runs: the first port that answers decides.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
from collections.abc import Iterator, Mapping

from sixways_server.container import PORT, config_file

_ROUTE = "/readyz"
_SECONDS = 3.0
_SAGEMAKER = 8080


def ports(environment: Mapping[str, str]) -> Iterator[int]:
    """The ports on which the server may listen."""
    named = config_file(environment)
    if named is not None:
        yield int(json.loads(named.read_bytes()).get("port", PORT))
    yield int(environment.get("SIXWAYS_PORT", PORT))
    yield int(environment.get("SAGEMAKER_BIND_TO_PORT", _SAGEMAKER))


def main() -> int:
    """`python -m sixways_server.probe`: 0 if it is ready, 1 if it is not."""
    for port in ports(os.environ):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
        try:
            connection.request("GET", _ROUTE)
            status = connection.getresponse().status
        except ConnectionRefusedError:
            continue
        except (OSError, http.client.HTTPException) as error:
            sys.stderr.write(f"port {port}: {error}\n")
            return 1
        finally:
            connection.close()
        sys.stdout.write(f"port {port}: {_ROUTE} answers {status}\n")
        return 0 if status == 200 else 1
    sys.stderr.write("the server listens on no port\n")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
