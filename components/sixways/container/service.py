"""Where a Service of type LoadBalancer is reached."""

from typing import Any


def address(status: Any) -> str:
    """The name that the cloud gave to the load balancer, else its address.

    Args:
        status: the Service's, once it has a load balancer.
    """
    ingress = status.load_balancer.ingress[0]
    return str(ingress.hostname or ingress.ip)
