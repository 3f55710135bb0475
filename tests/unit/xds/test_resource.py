from __future__ import annotations

from penstock.meta.names import ObjectRef, Origin
from penstock.pb.envoy.config.cluster.v3 import cluster_pb2
from penstock.pb.envoy.config.core.v3 import base_pb2
from penstock.pb.envoy.service.discovery.v3 import discovery_pb2
from penstock.pb.penstock.node.v1 import node_pb2
from penstock.xds import framing, types
from penstock.xds.origins import encode_origin
from penstock.xds.resource import Resource, ResourceName, make_resource, read_resource

ORIGIN = Origin(ObjectRef("HTTPRoute", "shop", "orders"), "spec.rules[0]")
NEEDS = [ResourceName(types.CLUSTER, "b"), ResourceName(types.CLUSTER, "a")]


def parse(
    *resources: Resource, removed: tuple[str, ...] = ()
) -> discovery_pb2.DeltaDiscoveryResponse:
    payload = framing.delta_response(types.CLUSTER, "7", (r.framed for r in resources), removed)
    return discovery_pb2.DeltaDiscoveryResponse.FromString(payload)


def test_joined_frames_are_one_valid_response() -> None:
    bodies = [b"", b"x" * 127, b"x" * 128, b"x" * 70_000]
    resources = [make_resource(types.CLUSTER, f"c{i}", b) for i, b in enumerate(bodies)]
    message = parse(*resources, removed=("gone", "too"))
    assert (message.type_url, message.nonce) == (types.CLUSTER, "7")
    assert [r.resource.value for r in message.resources] == bodies
    assert [r.name for r in message.resources] == ["c0", "c1", "c2", "c3"]
    assert [r.version for r in message.resources] == [r.version for r in resources]
    assert {r.resource.type_url for r in message.resources} == {types.CLUSTER}
    assert list(message.removed_resources) == ["gone", "too"]


def test_metadata_equals_what_protobuf_would_make_of_it() -> None:
    needs = [*NEEDS, ResourceName(types.ENDPOINTS, "a"), ResourceName(types.CLUSTER, "c" * 200)]
    whole = Origin(ObjectRef("Gateway", "", "g"))
    made = make_resource(types.SCOPE, "s", b"", [ORIGIN, whole], needs)
    meta = node_pb2.ResourceMeta(origins=[encode_origin(ORIGIN), encode_origin(whole)])
    meta.needs.add(type_url=types.CLUSTER, names=["a", "b", "c" * 200])
    meta.needs.add(type_url=types.ENDPOINTS, names=["a"])
    expected = base_pb2.Metadata()
    expected.typed_filter_metadata["penstock"].Pack(meta)
    assert parse(made).resources[0].metadata == expected
    assert expected.SerializeToString(deterministic=True) in made.framed


def test_frame_equals_what_protobuf_would_make_of_it() -> None:
    cluster = cluster_pb2.Cluster(name="c").SerializeToString()
    made = make_resource(types.CLUSTER, "c", cluster, [ORIGIN], NEEDS)
    received = parse(made).resources[0]
    expected = discovery_pb2.Resource(name="c", version=made.version)
    expected.resource.Pack(cluster_pb2.Cluster(name="c"))
    expected.metadata.CopyFrom(received.metadata)
    assert received == expected


def test_needs_and_origins_survive_the_trip_and_the_frame_stays_the_same() -> None:
    for origins, needs in (((), ()), ([ORIGIN], ()), ((), NEEDS), ([ORIGIN], NEEDS)):
        made = make_resource(types.SCOPE, "s", b"body", origins, needs)
        assert read_resource(parse(made).resources[0]) == made


def test_version_tells_contents_apart() -> None:
    variants = [
        make_resource(types.SCOPE, "s", b"body"),
        make_resource(types.SCOPE, "s", b"body2"),
        make_resource(types.SCOPE, "s", b"body", [ORIGIN]),
        make_resource(types.SCOPE, "s", b"body", needs=NEEDS),
    ]
    assert len({r.version for r in variants}) == 4
    assert all(len(r.version) == 16 for r in variants)


def test_order_of_needs_does_not_matter() -> None:
    one = make_resource(types.SCOPE, "s", b"body", needs=NEEDS)
    assert one == make_resource(types.SCOPE, "s", b"body", needs=reversed(NEEDS))


def test_body_is_the_serialised_message() -> None:
    assert make_resource(types.SCOPE, "s", b"body", [ORIGIN]).body == b"body"
    assert make_resource(types.SCOPE, "s", b"").body == b""


def test_names_read_as_words() -> None:
    assert str(ResourceName(types.CLUSTER, "mesh|shop/orders/80")) == "Cluster mesh|shop/orders/80"


def test_removal_is_the_reverse_of_sending_but_for_endpoints() -> None:
    without = [t for t in types.SENDING_ORDER if t != types.ENDPOINTS]
    assert [t for t in types.REMOVAL_ORDER if t != types.ENDPOINTS] == without[::-1]
    order = types.REMOVAL_ORDER
    assert order.index(types.ENDPOINTS) > order.index(types.CLUSTER)
