"""Common parts of Envoy messages."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from penstock.pb.envoy.config.core.v3 import address_pb2, config_source_pb2, extension_pb2
from penstock.pb.envoy.type.matcher.v3 import regex_pb2, string_pb2

TYPE_PREFIX = "type.googleapis.com/"


def type_url(message: type[Message]) -> str:
    """Return the type URL of a message class."""
    return TYPE_PREFIX + message.DESCRIPTOR.full_name


def pack(message: Message) -> Any:
    """Wrap *message* in an Any; equal messages give equal bytes."""
    return Any(
        type_url=TYPE_PREFIX + message.DESCRIPTOR.full_name,
        value=message.SerializeToString(deterministic=True),
    )


def extension(name: str, config: Message) -> extension_pb2.TypedExtensionConfig:
    """Return a TypedExtensionConfig."""
    return extension_pb2.TypedExtensionConfig(name=name, typed_config=pack(config))


def ads() -> config_source_pb2.ConfigSource:
    """Return the config source "the ADS stream"."""
    return config_source_pb2.ConfigSource(
        ads=config_source_pb2.AggregatedConfigSource(),
        resource_api_version=config_source_pb2.ApiVersion.V3,
    )


def socket_address(address: str, port: int, netns: str = "") -> address_pb2.Address:
    """Return a TCP address, inside the network namespace *netns* if it is given."""
    return address_pb2.Address(
        socket_address=address_pb2.SocketAddress(
            address=address, port_value=port, network_namespace_filepath=netns
        )
    )


def exact(value: str) -> string_pb2.StringMatcher:
    """Match the whole string."""
    return string_pb2.StringMatcher(exact=value)


def regex(pattern: str) -> string_pb2.StringMatcher:
    """Match the whole string against an RE2 pattern."""
    return string_pb2.StringMatcher(safe_regex=regex_pb2.RegexMatcher(regex=pattern))


_SPECIAL = frozenset("\\.+*?()|[]{}^$")


def full_match(pattern: str) -> string_pb2.StringMatcher:
    """Match the whole string against *pattern*; one without operators is compared as it is."""
    return regex(pattern) if _SPECIAL & set(pattern) else exact(pattern)
