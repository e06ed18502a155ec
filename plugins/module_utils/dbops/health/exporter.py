# SPDX-License-Identifier: GPL-3.0-or-later
"""The same metrics over HTTP, for hosts without a node exporter. Needs prometheus_client, imported where it is used.

A scrape looks anew only when the last look is old enough: each one lists every repository.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from typing import Any, Callable, Optional

from ..errors import DbopsError, MissingLibrary, Unreachable
from ..settings import Settings
from .check import check
from .metrics import Sample, samples
from .registry import REGISTRY


class Collector:
    """What prometheus_client asks for at each scrape."""

    def __init__(self, look: Callable[[], list[Sample]], cluster: str, *, max_age_s: float) -> None:
        self._look = look
        self._cluster = cluster
        self._max_age_s = max_age_s
        self._lock = threading.Lock()  # two scrapes at once look once
        self._seen: list[Sample] = []
        self._at: Optional[float] = None

    def collect(self) -> Iterable[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        families: dict[str, Any] = {}
        for sample in self._current():
            family = REGISTRY[sample.name]
            if sample.name not in families:
                kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
                families[sample.name] = kind(sample.name, family.help, labels=family.labels)
            families[sample.name].add_metric(sample.labels, sample.value)
        return [families[name] for name in REGISTRY if name in families]

    def describe(self) -> Iterable[Any]:
        """Nothing: registering must not look at anything yet."""
        return []

    def _current(self) -> list[Sample]:
        with self._lock:
            if self._at is None or time.monotonic() - self._at > self._max_age_s:
                try:
                    self._seen = self._look()
                except DbopsError:  # the scrape goes on: its rule says that nobody could look
                    self._seen = [Sample("dbops_collector_success", (self._cluster, "settings"), 0)]
                self._at = time.monotonic()
            return self._seen


def serve(settings: Settings, *, address: str, port: int, max_age_s: float) -> Callable[[], None]:
    """Answer scrapes in threads of its own; what is returned stops it. Unreachable when the port is taken."""
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ImportError as exc:
        raise MissingLibrary(
            "prometheus_client", needed_for="dbops exporter", package="python3-prometheus-client"
        ) from exc

    def look() -> list[Sample]:
        _result, facts, findings = check(settings)
        return list(samples(facts, findings))

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector(look, settings.cluster, max_age_s=max_age_s))
    try:
        server, thread = start_http_server(port, addr=address, registry=registry)
    except OSError as exc:
        raise Unreachable(
            f"Cannot listen on {address} port {port}: {exc.strerror or exc}.", hint="Give another with --listen."
        ) from exc

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop
