"""The limit of repeated requests, as a circuit breaker of a cluster."""

from __future__ import annotations

from penstock.ir.retry_budget import RetryBudget
from penstock.pb.envoy.config.cluster.v3 import cluster_pb2


def limit_retries(made: cluster_pb2.Cluster, budget: RetryBudget) -> None:
    """Let the requests to a cluster be repeated as far as *budget* goes; *made* is changed."""
    for threshold in made.circuit_breakers.thresholds:
        limit = threshold.retry_budget
        limit.budget_percent.value = budget.percent
        limit.budget_interval.FromMilliseconds(budget.interval_ms)
        limit.min_retry_concurrency.value = budget.least
