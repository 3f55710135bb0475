"""What Prometheus is told. Most is read when it asks, so that work itself costs nothing more."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from penstock.controlplane.world import World
from penstock.core.events import Batch
from penstock.sources.kubernetes.source import KubernetesSource
from penstock.sources.kubernetes.status_writer import StatusWriter
from penstock.sources.source import Sink

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """All metrics of one controller."""

    def __init__(self, world: World) -> None:
        """Tell about *world*."""
        self.registry = CollectorRegistry()
        self.source: KubernetesSource | None = None
        self.writer: StatusWriter | None = None
        self.joins: Callable[[], Mapping[str, int]] = dict
        """Returns how many requests to join there were, by result."""
        self._compile = Histogram(
            "penstock_compile_seconds",
            "Time from a batch of changes to what nodes are told.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.registry.register(_Reader(self, world))

    def watch(self, source: KubernetesSource, writer: StatusWriter) -> None:
        """Tell about an API server, too."""
        self.source, self.writer = source, writer

    def timed(self, sink: Sink) -> Sink:
        """Return *sink* with its time measured."""

        async def take(batch: Batch) -> None:
            began = time.perf_counter()
            await sink(batch)
            self._compile.observe(time.perf_counter() - began)

        return take


class _Reader(Collector):
    def __init__(self, metrics: Metrics, world: World) -> None:
        self._metrics = metrics
        self._world = world

    def collect(self) -> Iterator[Metric]:
        yield _gauge("build_info", "Version of this controller.", {_version(): 1}, "version")
        yield from self._of_world()
        yield from self._of_kinds()
        joins = {"accepted": 0, "busy": 0, "refused": 0, **self._metrics.joins()}
        yield _counter("joins", "Requests of nodes for a certificate.", joins, "result")
        writer = self._metrics.writer
        if writer is not None:
            yield _gauge("status_leader", "1 if this controller writes.", {"": writer.leads})
            yield _counter("status_writes", "Statuses written.", {"": writer.writes})
            if writer.objects is not None:
                writes = {"": writer.objects.writes}
                yield _counter("object_writes", "Generated objects written or deleted.", writes)
            if writer.events is not None:
                results = {"written": writer.events.writes, "left_out": writer.events.left_out}
                yield _counter("events", "Kubernetes Events.", results, "result")

    def _of_world(self) -> Iterator[Metric]:
        world = self._world
        acks = world.acknowledgements
        yield _gauge("synced", "1 once everything is known.", {"": world.synced.is_set()})
        kinds = Counter(ref.kind for ref in world.objects)
        yield _gauge("objects", "Objects that are known.", kinds, "kind")
        yield _counter("batches", "Batches of changes taken.", {"": world.batches})
        failures = {"": len(world.compiler.failures)}
        behind = {"": world.compiler.behind}
        yield _gauge("behind", "Parts of the start that a copy has compiled alone.", behind)
        yield _gauge("compile_failures", "Parts that could not be compiled.", failures)
        nodes = acks.connected
        yield _gauge("nodes_connected", "Nodes served from here.", {"": sum(nodes.values())})
        reporting = {"": sum(acks.reporting.values())}
        yield _gauge("nodes_reporting", "Nodes that tell what is in force there.", reporting)
        waiting = {"": acks.outstanding}
        yield _gauge("outstanding", "Resources that nodes do not have as they should.", waiting)
        sizes = {node: world.size_of(node) for node in nodes}
        yield _gauge("node_resources", "Resources meant for a node.", sizes, "node")
        yield _counter("acks", "Responses that agents took.", {"": acks.acks})
        yield _counter("nacks", "Resources that agents refused.", {"": acks.nacks})
        refused = {"": acks.refused_by_envoys}
        yield _gauge("envoy_rejections", "Resources that some Envoy refuses now.", refused)

    def _of_kinds(self) -> Iterator[Metric]:
        source = self._metrics.source
        states = source.states() if source is not None else ()
        restarts = {one.name: max(0, one.snapshots - 1) for one in states}
        yield _counter("watch_restarts", "How often a kind was read anew.", restarts, "kind")
        synced = {one.name: one.synced for one in states}
        yield _gauge("kind_synced", "1 if all objects of a kind are known.", synced, "kind")
        trouble = {one.name: bool(one.trouble) for one in states}
        yield _gauge("kind_trouble", "1 if the last request for a kind failed.", trouble, "kind")


def _gauge(name: str, text: str, values: Mapping[str, float], label: str = "") -> Metric:
    family = GaugeMetricFamily(f"penstock_{name}", text, labels=[label] if label else [])
    return _filled(family, values, label)


def _counter(name: str, text: str, values: Mapping[str, float], label: str = "") -> Metric:
    family = CounterMetricFamily(f"penstock_{name}", text, labels=[label] if label else [])
    return _filled(family, values, label)


def _filled(
    family: GaugeMetricFamily | CounterMetricFamily, values: Mapping[str, float], label: str
) -> Metric:
    for key, value in sorted(values.items()):
        family.add_metric([key] if label else [], float(value))
    return family


def _version() -> str:
    try:
        return version("penstock")
    except PackageNotFoundError:  # run from a checkout
        return "unknown"
