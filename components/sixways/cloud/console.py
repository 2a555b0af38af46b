"""Pages of AWS's console."""

from __future__ import annotations

_HOSTS = {"cn-": "console.amazonaws.cn", "us-gov-": "console.amazonaws-us-gov.com"}


def console_page(region: str, service: str, page: str) -> str:
    """A page of a service in the console of the region's partition.

    Args:
        region: the region, such as `eu-west-1`.
        service: the first part of the console's path: `sagemaker`.
        page: what follows the `#`.
    """
    hosts = (host for begin, host in _HOSTS.items() if region.startswith(begin))
    host = next(hosts, "console.aws.amazon.com")
    return f"https://{region}.{host}/{service}/home?region={region}#{page}"
