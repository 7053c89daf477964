"""What a person should hear although the command goes on."""

from __future__ import annotations

from collections.abc import Iterable

from llm_router.cli import output
from llm_router.config import Configuration
from llm_router.hosts.snapshot import HostSnapshot


def warn_of_hosts(configuration: Configuration, hosts: Iterable[HostSnapshot]) -> None:
    """One warning for each host that the user named and that does not answer; none for the usual address."""
    origin = configuration.origins.get("hosts")
    if origin is None:
        return
    for host in hosts:
        if host.kind != "embedded" and not host.reachable:
            output.warning(
                f"no answer from {host.name} at {host.url}: {host.problem}",
                hint=f"the address is from {origin}; look closer with: llm-router doctor",
            )


def warn_of_every_host(hosts: Iterable[HostSnapshot]) -> None:
    """One warning for each host that does not answer: what is shown then comes from the fleet file alone."""
    for host in hosts:
        if host.kind != "embedded" and not host.reachable:
            output.warning(
                f"no answer from {host.name} at {host.url}: {host.problem}",
                hint=f"{host.way_out}; look closer with: llm-router doctor",
            )
