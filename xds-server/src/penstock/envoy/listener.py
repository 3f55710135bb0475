"""Listeners: two inside each pod's network namespace, and those of the gateways.

The listener on which a connection arrives is the pod's identity: only that pod can reach it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from google.protobuf.duration_pb2 import Duration
from google.protobuf.wrappers_pb2 import BoolValue

from penstock.envoy import cors, guards, session
from penstock.envoy.hop import BIND_STATE, BUFFER, text
from penstock.envoy.http_connection_manager import Manager, connection_manager, http_filter
from penstock.envoy.rbac import IDENTITY_KEY, NAMESPACE_KEY, deny_all, pass_all
from penstock.envoy.scope import SCOPE_HEADER, egress_key, gateway_key, inbound_key
from penstock.envoy.server_names import tls_chain
from penstock.envoy.stream import StreamChain, stream_chain
from penstock.envoy.tls import TlsChain, filter_chain, inspector, via
from penstock.envoy.tracing import trace
from penstock.envoy.wire import pack, socket_address
from penstock.ir.policy import Reserved
from penstock.ir.tracing import Tracing
from penstock.meta.listeners import EGRESS_PORT, INGRESS_PORT, egress_name, ingress_name
from penstock.meta.paths import netns_of
from penstock.pb.envoy.config.core.v3 import address_pb2, base_pb2
from penstock.pb.envoy.config.listener.v3 import listener_components_pb2, listener_pb2
from penstock.pb.envoy.extensions.filters.common.set_filter_state.v3 import value_pb2
from penstock.pb.envoy.extensions.filters.http.cors.v3 import cors_pb2
from penstock.pb.envoy.extensions.filters.http.lua.v3 import lua_pb2
from penstock.pb.envoy.extensions.filters.listener.original_dst.v3 import original_dst_pb2
from penstock.pb.envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from penstock.pb.envoy.extensions.filters.network.set_filter_state.v3 import set_filter_state_pb2

RBAC_FILTER = "envoy.filters.http.rbac"
"""Name of the filter that a scope overrides: by itself it denies all at ingress, where the scope
judges, and passes all at egress, where the upstream filters do."""
HOST_FILTER = "penstock.host"
"""Filter of a gateway for requests whose host, as it is written, has no scope. It looks for the
host in lower case, then leads to the scope of wildcards. Exact scopes switch it off."""
GATEWAY_PREFIX = "gateway/"
"""Begins the names of the listeners of Gateways, and of no others."""
EXACT = "exact"
"""Key in a route's metadata for that filter: the route is of an exact host."""

_LOOPBACKS = ("127.0.0.1", "::1")
_NETNS_STATE = "envoy.network.network_namespace"


class GatewayListener(msgspec.Struct, frozen=True, kw_only=True):
    """One port of a Gateway on a node."""

    name: str
    """Name of the listener and first part of its scope keys."""
    addresses: tuple[tuple[str, int, str], ...]
    """(address, port, network namespace path or ""); the first is the listener's own."""
    secure: bool = False
    """Whether it has filter chains of HTTPS, which are added: see `https_chain`."""
    streams: tuple[StreamChain, ...] = ()
    """Filter chains that pass on what comes; without any chain it is plain HTTP."""
    asked: int = 0
    """So many are asked about a request at most before there is a route, in plain HTTP."""
    tracing: Tracing | None = None
    """What is told of requests."""


def egress(uid: str, identity: int, namespace: str) -> listener_pb2.Listener:
    """Build the listener that takes what the pod sends to proxied destinations.

    It listens on loopback: with the pod's own address all captured connections would share one
    destination, and the pod would run out of ports.
    """
    manager = Manager(
        stat_prefix="egress",
        scope=egress_key("%DOWNSTREAM_LOCAL_ADDRESS%"),
        filters=session.around(
            http_filter(cors.FILTER, cors_pb2.Cors()),
            *guards.places(),
            http_filter(RBAC_FILTER, pass_all()),
        ),
    )
    state = {IDENTITY_KEY: str(identity), NAMESPACE_KEY: namespace}
    result = _in_pod(egress_name(uid), uid, EGRESS_PORT, state, manager)
    result.filter_chains.append(tls_chain("tls", [_state(state, bind_in_pod=True)]))
    result.listener_filters.append(inspector())
    # Who has sent nothing yet may take its time.
    result.listener_filters_timeout.CopyFrom(Duration())
    return result


def ingress(uid: str, identity: int) -> listener_pb2.Listener:
    """Build the listener that judges what comes to the pod; without a scope it denies all."""
    manager = Manager(
        stat_prefix="ingress",
        scope=inbound_key("%DOWNSTREAM_LOCAL_ADDRESS%"),
        filters=(http_filter(RBAC_FILTER, deny_all()),),
    )
    state = {IDENTITY_KEY: str(identity)}
    result = _in_pod(ingress_name(uid), uid, INGRESS_PORT, state, manager)
    result.transparent.value = True
    return result


def gateway_name(port: str) -> str:
    """Return the name of the listener of a port of a Gateway, "namespace/name/port"."""
    return f"{GATEWAY_PREFIX}{port}"


def gateway(listener: GatewayListener) -> listener_pb2.Listener:
    """Build the listener of one port of a Gateway, without its chains of HTTPS."""
    name = gateway_name(listener.name)
    addresses = [socket_address(*address) for address in listener.addresses]
    if not listener.secure and not listener.streams:
        filters = _gateway_filters(listener.name, listener.asked, listener.tracing)
        return _listener(name, addresses, filters)
    result = _listener(name, addresses, ())
    del result.filter_chains[:]
    result.filter_chains.extend(map(stream_chain, listener.streams))
    if listener.secure or any(one.over_tls for one in listener.streams):
        result.listener_filters.append(inspector())
    return result


def https_chain(
    name: str, chain: TlsChain, tracing: Tracing | None
) -> listener_components_pb2.FilterChain:
    """Build the filter chain of one HTTPS listener, on the port whose listener has this *name*.

    There may be thousands on a port, of which one changes: each is built and serialised by itself.
    """
    filters = _gateway_filters(name, chain.asked, tracing, via(chain.listener))
    return filter_chain(chain, filters)


def _gateway_filters(
    listener: str, asked: int, tracing: Tracing | None, end: str = ""
) -> list[listener_components_pb2.Filter]:
    """Return the network filters of a gateway.

    Args:
        listener: its name, which is a Gateway and a port.
        asked: so many are asked before there is a route.
        tracing: what is told of requests.
        end: closes the values of the scope header.
    """
    manager = Manager(
        stat_prefix="gateway",
        scope=gateway_key(listener, "%REQ(:AUTHORITY)%") + end,
        filters=(
            http_filter(HOST_FILTER, _host_script(listener, end)),
            *guards.places_before_routing(asked),
            *session.around(http_filter(cors.FILTER, cors_pb2.Cors()), *guards.places()),
        ),
        gateway=True,
        strip_port=True,
    )
    made = connection_manager(manager)
    if tracing is not None:
        gateway, _, port = listener.rpartition("/")
        trace(made, tracing, gateway=gateway, port=int(port))
    return [_state({IDENTITY_KEY: str(int(Reserved.INGRESS))}), _filter(made)]


def _in_pod(
    name: str, uid: str, port: int, state: dict[str, str], manager: Manager
) -> listener_pb2.Listener:
    addresses = [socket_address(address, port, netns_of(uid)) for address in _LOOPBACKS]
    result = _listener(
        name, addresses, [_state(state, bind_in_pod=True), _filter(connection_manager(manager))]
    )
    original = listener_components_pb2.ListenerFilter(
        name="envoy.filters.listener.original_dst",
        typed_config=pack(original_dst_pb2.OriginalDst()),
    )
    result.listener_filters.append(original)
    return result


def _listener(
    name: str,
    addresses: Sequence[address_pb2.Address],
    filters: Sequence[listener_components_pb2.Filter],
) -> listener_pb2.Listener:
    result = listener_pb2.Listener(
        name=name,
        address=addresses[0],
        per_connection_buffer_limit_bytes=BUFFER,
        filter_chains=[listener_components_pb2.FilterChain(name=name, filters=filters)],
        enable_reuse_port=BoolValue(value=True),
    )
    for address in addresses[1:]:
        result.additional_addresses.add(address=address)
    return result


def _filter(manager: hcm_pb2.HttpConnectionManager) -> listener_components_pb2.Filter:
    return listener_components_pb2.Filter(
        name="envoy.filters.network.http_connection_manager", typed_config=pack(manager)
    )


def _state(
    constants: dict[str, str], *, bind_in_pod: bool = False
) -> listener_components_pb2.Filter:
    config = set_filter_state_pb2.Config()
    if bind_in_pod:
        # "hashable": part of the key of upstream connection pools, so that no two pods share one.
        config.on_new_connection.append(
            value_pb2.FilterStateValue(
                object_key=BIND_STATE,
                factory_key="envoy.hashable_string",
                shared_with_upstream=value_pb2.FilterStateValue.ONCE,
                format_string=text(f"%FILTER_STATE({_NETNS_STATE}:PLAIN)%"),
            )
        )
    for key, value in sorted(constants.items()):
        config.on_new_connection.append(
            value_pb2.FilterStateValue(
                object_key=key, factory_key="envoy.string", format_string=text(value)
            )
        )
    return listener_components_pb2.Filter(
        name="envoy.filters.network.set_filter_state", typed_config=pack(config)
    )


def _host_script(listener: str, end: str) -> lua_pb2.Lua:
    """Return the filter's script. Hosts are the same in upper and lower case (RFC 9110, 4.2.3)."""
    script = _HOST_SCRIPT.replace("@HEADER@", SCOPE_HEADER).replace("@EXACT@", EXACT)
    script = script.replace("@TAIL@", f' .. "{end}"' if end else "").replace("@END@", end)
    key = gateway_key(listener, "")
    return lua_pb2.Lua(
        default_source_code=base_pb2.DataSource(inline_string=script.replace("@KEY@", key))
    )


_HOST_SCRIPT = """\
function envoy_on_request(handle)
  local headers = handle:headers()
  local host = headers:get(":authority") or ""
  local lower = string.lower(host)
  if lower ~= host then
    headers:replace("@HEADER@", "@KEY@" .. lower@TAIL@)
    handle:clearRouteCache()
    if handle:metadata():get("@EXACT@") then
      return
    end
  end
  headers:replace("@HEADER@", "@KEY@*@END@")
  handle:clearRouteCache()
end
"""
