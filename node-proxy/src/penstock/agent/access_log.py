"""Envoy's access log service: requests, and connections that Gateways pass on, become flows.

Source: envoy/service/accesslog/v3/als.proto. Which policy decided is in the dynamic metadata that
the RBAC filters write by themselves: `envoy.filters.http.rbac` for a listener's filter,
`envoy.filters.http.upstream_rbac` for the two of a cluster, told apart by `rules_stat_prefix`
(`eg_`, `in_`). A request that no rule allows names no policy: then it was denied by those that put
the direction in default deny.
"""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncIterator, Iterator, Mapping

import grpc
import msgspec

from penstock.agent.datapath import NodeDatapath
from penstock.agent.flows import Flow, FlowLog, FlowVerdict, Peer
from penstock.agent.node_resources import Workload, canonical
from penstock.envoy.rbac import IDENTITY_KEY, PREFIX
from penstock.envoy.server_names import ASKED_HEADER
from penstock.envoy.stream import SERVER_NAME_TAG
from penstock.ir.policy import Direction, Reserved
from penstock.meta.networks import REFUSING
from penstock.pb.envoy.config.core.v3 import address_pb2, base_pb2
from penstock.pb.envoy.data.accesslog.v3 import accesslog_pb2
from penstock.pb.envoy.service.accesslog.v3 import als_pb2

SERVICE = "envoy.service.accesslog.v3.AccessLogService"
LISTENER_TAG = "listener"
"""Custom tag that the listeners' access log carries: "<uid>/egress"."""
DOWNSTREAM_RBAC = "envoy.filters.http.rbac"
UPSTREAM_RBAC = "envoy.filters.http.upstream_rbac"
_DENIED = re.compile(r"^rbac_access_denied_matched_policy\[(.*)\]$")
_QUERY_VALUE = re.compile(r"=[^&#]*")
_PROTOCOLS = {1: "http/1.0", 2: "http/1.1", 3: "http/2", 4: "http/3"}
_FIRST_ERROR = 400
_GATEWAY = "gateway"
"""What stands for a pod's uid in the names of Gateways' listeners."""

_UNMADE = {404: "no TLSRoute of the Service has the server name"}
"""By status, why TLS was led nowhere."""
_NOWHERE = frozenset({REFUSING, ("", 0)})
_NEEDLESS = frozenset(
    {
        "downstream_connection_termination", "downstream_remote_reset", "stream_idle_timeout",
        "upstream_connection_termination", "upstream_remote_reset", "upstream_retry_limit_exceeded",
    }
)  # fmt: skip
"""Flags that say how a connection ended that was made, or nothing new of one that was not."""

Entry = accesslog_pb2.HTTPAccessLogEntry
Connection = accesslog_pb2.TCPAccessLogEntry


class Judgement(msgspec.Struct, frozen=True):
    """What one RBAC filter said of a request."""

    direction: Direction
    allowed: bool
    policy: str
    """Id of the policy that matched: `str(Origin)`; "" is none."""


class AccessLogService:
    """Takes the entries of the node's Envoy."""

    def __init__(self, node: str, datapath: NodeDatapath, log: FlowLog) -> None:
        """Put flows into *log*; names come from *datapath* when a flow is read."""
        self._node = node
        self._datapath = datapath
        self._log = log

    def handlers(self) -> grpc.GenericRpcHandler:
        """Return the handlers for a grpc server."""
        stream = grpc.stream_unary_rpc_method_handler(
            self._stream,
            request_deserializer=als_pb2.StreamAccessLogsMessage.FromString,
            response_serializer=als_pb2.StreamAccessLogsResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"StreamAccessLogs": stream})

    async def _stream(
        self, messages: AsyncIterator[als_pb2.StreamAccessLogsMessage], _context: object
    ) -> als_pb2.StreamAccessLogsResponse:
        async for message in messages:
            for entry in message.http_logs.log_entry:
                self._log.append(functools.partial(flow_of, entry, self._node, self._datapath))
            for ended in message.tcp_logs.log_entry:
                record = functools.partial(flow_of_connection, ended, self._node, self._datapath)
                self._log.append(record)
        return als_pb2.StreamAccessLogsResponse()


def flow_of(entry: Entry, node: str, datapath: NodeDatapath) -> Flow:
    """Join one entry with what is known of its ends."""
    common = entry.common_properties
    uid, _, kind = common.custom_tags.get(LISTENER_TAG, "").partition("/")
    direction = Direction.EGRESS if kind == "egress" else Direction.INGRESS
    source, destination = _ends(entry, uid, direction, datapath)
    started = common.start_time
    if ASKED_HEADER in _logged(entry):
        return _passed(entry, node, source, destination)
    return Flow(
        time=started.seconds + started.nanos / 1e9,
        node=node,
        direction=direction,
        verdict=_verdict(entry),
        source=source,
        destination=destination,
        protocol=_PROTOCOLS.get(entry.protocol_version, "http"),
        method=base_pb2.RequestMethod.Name(entry.request.request_method),
        host=entry.request.authority,
        path=redact(entry.request.path),
        status=entry.response.response_code.value,
        duration=common.duration.seconds + common.duration.nanos / 1e9,
        reason=_reason(entry),
        policies=_policies(entry, source, destination, datapath),
    )


def _logged(entry: Entry) -> Mapping[str, str]:
    return entry.request.request_headers


def _passed(entry: Entry, node: str, source: Peer, destination: Peer) -> Flow:
    """Return what TLS is that a TLSRoute on a Service led somewhere: a connection, unread."""
    common, response = entry.common_properties, entry.response
    made = 0 < response.response_code.value < _FIRST_ERROR
    return Flow(
        time=common.start_time.seconds + common.start_time.nanos / 1e9,
        node=node,
        direction=Direction.EGRESS,
        verdict=FlowVerdict.FORWARDED if made else FlowVerdict.ERROR,
        source=source,
        destination=destination,
        protocol="tcp",
        host=entry.request.authority.rpartition(":")[0].removeprefix("-"),
        duration=common.duration.seconds + common.duration.nanos / 1e9,
        reason="" if made else _UNMADE.get(response.response_code.value, _reason(entry)),
    )


def flow_of_connection(connection: Connection, node: str, datapath: NodeDatapath) -> Flow:
    """Join what Envoy says of a connection to a Gateway with what is known of its ends."""
    common = connection.common_properties
    chosen, asked = common.upstream_remote_address, common.downstream_local_address
    place = chosen.socket_address.address, chosen.socket_address.port_value
    met = asked if place in _NOWHERE else chosen
    flags = (field.name for field, value in common.response_flags.ListFields() if value is True)
    failures = [name for name in flags if name not in _NEEDLESS]
    failed = bool(failures) or not chosen.HasField("socket_address")
    name, started = common.custom_tags.get(SERVER_NAME_TAG, ""), common.start_time
    return Flow(
        time=started.seconds + started.nanos / 1e9,
        node=node,
        direction=Direction.INGRESS,
        verdict=FlowVerdict.ERROR if failed else FlowVerdict.FORWARDED,
        source=_peer(common.downstream_remote_address, datapath),
        destination=_peer(met, datapath),
        protocol="tcp",
        host="" if name == "-" else name,
        duration=common.duration.seconds + common.duration.nanos / 1e9,
        reason=", ".join(failures) if failed else "",
    )


def redact(path: str) -> str:
    """Return *path* with each value of its query replaced by "…"."""
    base, mark, query = path.partition("?")
    return base + mark + _QUERY_VALUE.sub("=…", query)


def judgements_of(entry: Entry) -> Iterator[Judgement]:
    """Yield what each RBAC filter said; nothing of those that were not asked."""
    metadata = entry.common_properties.metadata.filter_metadata
    for namespace in (DOWNSTREAM_RBAC, UPSTREAM_RBAC):
        if namespace not in metadata:
            continue
        fields = metadata[namespace].fields
        for prefix in (*PREFIX.values(), ""):
            result = prefix + "enforced_engine_result"
            if result not in fields:
                continue
            policy = prefix + "enforced_effective_policy_id"
            yield Judgement(
                Direction.EGRESS if prefix == PREFIX[Direction.EGRESS] else Direction.INGRESS,
                fields[result].string_value == "allowed",
                fields[policy].string_value if policy in fields else "",
            )


def _verdict(entry: Entry) -> FlowVerdict:
    """Tell a denial of ours from a 403 of the application, and both from a failure of Envoy's."""
    response = entry.response
    if _DENIED.match(response.response_code_details):
        return FlowVerdict.DENIED
    answered = response.response_code_details in {"via_upstream", "direct_response"}
    if answered or 0 < response.response_code.value < _FIRST_ERROR:
        return FlowVerdict.FORWARDED
    return FlowVerdict.ERROR


def _reason(entry: Entry) -> str:
    """Return why it was denied, or else Envoy's own words."""
    denial = _DENIED.match(entry.response.response_code_details)
    if denial is None:
        return entry.response.response_code_details
    return "no rule allows the request" if denial.group(1) == "none" else "denied by a rule"


def _policies(
    entry: Entry, source: Peer, destination: Peer, datapath: NodeDatapath
) -> tuple[str, ...]:
    """Return what decided: the policies that allowed, or those that made the denial."""
    judgements = tuple(judgements_of(entry))
    denial = _DENIED.match(entry.response.response_code_details)
    if denial is None:
        return tuple(dict.fromkeys(j.policy for j in judgements if j.allowed and j.policy))
    if denial.group(1) != "none":
        return (denial.group(1),)
    denied = [judgement.direction for judgement in judgements if not judgement.allowed]
    direction = denied[0] if denied else Direction.INGRESS
    subject = source if direction is Direction.EGRESS else destination
    policy = datapath.policies.get(subject.identity)
    return tuple(map(str, policy.enforced_by(direction))) if policy else ()


def _ends(
    entry: Entry, uid: str, direction: Direction, datapath: NodeDatapath
) -> tuple[Peer, Peer]:
    """Return source and destination.

    On egress the source is the pod of the listener (its address is loopback there), and the
    destination is the endpoint that was chosen, or the Service if none was.
    """
    common = entry.common_properties
    asked = _passed_to(entry) or common.downstream_local_address
    remote = common.downstream_remote_address
    own, logged = datapath.workloads.get(uid), _logged_identity(entry)
    egress = direction is Direction.EGRESS
    source = _peer_of(own, logged, remote, datapath) if egress else _peer(remote, datapath)
    if not egress and uid != _GATEWAY:
        return source, _peer_of(own, logged, asked, datapath)
    chosen = common.upstream_remote_address
    at = chosen if chosen.socket_address.address else asked
    return source, _peer(at, datapath, service=_service(entry, asked, datapath))


def _passed_to(entry: Entry) -> address_pb2.Address | None:
    """Return what the client of TLS that is passed on asked for; None of what is no such TLS."""
    address, _, port = _logged(entry).get(ASKED_HEADER, "").rpartition(":")
    if not address or not port.isdecimal():
        return None
    found = address_pb2.SocketAddress(address=address.strip("[]"), port_value=int(port))
    return address_pb2.Address(socket_address=found)


def _logged_identity(entry: Entry) -> int:
    """Return the identity in the filter state `penstock.identity`; 0 if it is not logged."""
    packed = entry.common_properties.filter_state_objects.get(IDENTITY_KEY)
    digits = re.search(rb"(\d+)$", packed.value) if packed is not None else None
    return int(digits.group(1)) if digits else 0


def _peer_of(
    workload: Workload | None, identity: int, at: address_pb2.Address, datapath: NodeDatapath
) -> Peer:
    if workload is None:
        found = _peer(at, datapath)
        return msgspec.structs.replace(found, identity=identity) if identity else found
    address = at.socket_address.address
    own = address if address in workload.addresses else next(iter(workload.addresses), "")
    return Peer(
        identity=workload.identity,
        namespace=workload.namespace,
        pod=workload.name,
        address=own,
        port=at.socket_address.port_value,
        labels=workload.labels,
    )


def _peer(at: address_pb2.Address, datapath: NodeDatapath, service: str = "") -> Peer:
    raw = at.socket_address.address
    address = canonical(raw) if raw else ""
    workload = datapath.workload_at(address) if address else None
    return Peer(
        identity=datapath.identity_of(address) if address else int(Reserved.WORLD),
        namespace=workload.namespace if workload else "",
        pod=workload.name if workload else "",
        address=address,
        port=at.socket_address.port_value,
        labels=workload.labels if workload else {},
        service=service,
    )


def _service(entry: Entry, asked: address_pb2.Address, datapath: NodeDatapath) -> str:
    """Return "namespace/name" from the cluster's name, "mesh|<ns>/<svc>/<port>", or the VIP.

    An XBackend is written "namespace/~name", in names of clusters, too: it has no port there.
    """
    kind, place = [*entry.common_properties.upstream_cluster.split("|"), ""][:2]
    namespace, _, name = place.partition("/")
    if kind in {"mesh", "gw", "sni"}:
        return f"{namespace}/{name.partition('/')[0]}"
    if kind in {"host", "mesh-host"}:
        return f"{namespace}/~{name}"
    return datapath.service_at(asked.socket_address.address, asked.socket_address.port_value)
