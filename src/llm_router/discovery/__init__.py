"""Makes a fleet file from what is really installed: ``llm-router init``.

``propose`` is pure: snapshots of hosts and the shipped fleet in, a ``Proposal`` out. ``as_yaml`` writes it as
a file that ``load_fleet`` accepts, with comments for the person who edits it.
"""

from llm_router.discovery.proposal_yaml import as_yaml
from llm_router.discovery.propose import Proposal, propose

__all__ = ["Proposal", "as_yaml", "propose"]
