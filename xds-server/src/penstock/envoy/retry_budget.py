"""The limit of repeated requests: a circuit breaker of a cluster, and what clients get beyond it.

Where the limit lets nothing be repeated, Envoy answers with what the last attempt got, and notes
"UO". The route writes what is noted into a header, and a script reads it there.

Source: Gateway API, GEP-3388; envoy.config.cluster.v3.CircuitBreakers, Envoy's RESPONSE_FLAGS.
"""

from __future__ import annotations

import functools

from google.protobuf.any_pb2 import Any as AnyMessage

from penstock.envoy.guards import PLACES, standing
from penstock.envoy.wire import extension, pack
from penstock.ir.retry_budget import RetryBudget
from penstock.ir.route import Forward, ServiceBackend
from penstock.pb.envoy.config.cluster.v3 import cluster_pb2
from penstock.pb.envoy.config.core.v3 import base_pb2
from penstock.pb.envoy.config.route.v3 import route_components_pb2 as route_pb2
from penstock.pb.envoy.extensions.filters.http.lua.v3 import lua_pb2

_PLACE = PLACES[-1]
"""Where the script stands. Only routes of Ingresses have something else there, and those repeat
nothing."""
_HEADER = "x-penstock-flags"
_SCRIPT = f"""\
function envoy_on_response(handle)
  local headers = handle:headers()
  local flags = headers:get("{_HEADER}")
  headers:remove("{_HEADER}")
  if flags ~= nil and string.find(flags, "UO", 1, true) then
    headers:replace(":status", "503")
  end
end
"""


def limit_retries(made: cluster_pb2.Cluster, budget: RetryBudget) -> None:
    """Let the requests to a cluster be repeated as far as *budget* goes; *made* is changed."""
    for threshold in made.circuit_breakers.thresholds:
        limit = threshold.retry_budget
        limit.budget_percent.value = budget.percent
        limit.budget_interval.FromMilliseconds(budget.interval_ms)
        limit.min_retry_concurrency.value = budget.least


def answer_beyond(route: route_pb2.Route, action: Forward) -> None:
    """Have what a budget lets nobody repeat answered with 503."""
    if action.retry is None:
        return
    if any(isinstance(one, ServiceBackend) and one.few_retries for one in action.backends):
        route.response_headers_to_add.append(_noted())
        route.typed_per_filter_config[_PLACE].CopyFrom(_script())


@functools.cache
def _noted() -> base_pb2.HeaderValueOption:
    header = base_pb2.HeaderValue(key=_HEADER, value="%RESPONSE_FLAGS%")
    overwrite = base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    return base_pb2.HeaderValueOption(header=header, append_action=overwrite)


@functools.cache
def _script() -> AnyMessage:
    made = lua_pb2.Lua(clear_route_cache={"value": False})
    made.default_source_code.inline_string = _SCRIPT
    return pack(standing(_PLACE, [extension("envoy.filters.http.lua", made)]))
