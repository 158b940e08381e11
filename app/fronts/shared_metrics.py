"""Metrics of all frontends in one text: a scraper reaches any one of them."""

import asyncio
from typing import Protocol

from prometheus_client import CollectorRegistry

from app.cluster.exposition import merged
from app.metrics import Metrics

LABEL = "frontend"


class Others(Protocol):
    """Who can ask the other frontends."""

    async def all_metrics(self) -> dict[str, str]:
        """Texts by index, without ours. Raises EngineDead."""
        ...


class SharedMetrics(Metrics):
    """Ours, which say those of all when they are asked for over HTTP."""

    def __init__(self, index: int, others: Others) -> None:
        super().__init__()
        self._index = str(index)
        self._others = others

    def text(self) -> str:
        """Ours alone."""
        return self.render().decode()

    async def exposition(self) -> bytes:
        texts = await self._others.all_metrics() | {self._index: self.text()}
        return await asyncio.to_thread(
            merged, CollectorRegistry(), dict(sorted(texts.items())), LABEL
        )
