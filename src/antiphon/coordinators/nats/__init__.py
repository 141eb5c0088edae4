"""``engine.coordination.Coordinator`` for many processes, over NATS JetStream."""

from antiphon.coordinators.nats.coordinator import NatsCoordinator
from antiphon.coordinators.nats.settings import TIERS, Settings

__all__ = ["TIERS", "NatsCoordinator", "Settings"]
