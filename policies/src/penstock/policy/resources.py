"""CiliumNetworkPolicy, every field of the schema; what is not enforced yet is declared as well.

Absent lists are None and differ from empty ones: no `fromEndpoints` is anybody (with toPorts),
`fromEndpoints: []` is nobody. An explicit null is an error, because it could mean either.
Source: cilium.io/v2 CiliumNetworkPolicy, Cilium 1.19 and 1.20.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import msgspec

from penstock.core.objects import ApiStruct, Object, names
from penstock.meta.problems import Problem
from penstock.policy import validate, validate_l7
from penstock.policy.selector import check_expression, check_labels


class PolicyStruct(ApiStruct, frozen=True, kw_only=True):
    """Base of everything inside a policy."""

    refuses_null: ClassVar[bool] = True


class LabelExpression(PolicyStruct, frozen=True, kw_only=True):
    """One of matchExpressions; the key may carry a source, as `k8s:app`."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def checks(self) -> Iterable[Problem]:
        """Return problems about key, operator and values."""
        return check_expression(self)


class LabelSelector(PolicyStruct, frozen=True, kw_only=True):
    """All requirements must hold; without any it selects everything in its scope."""

    match_labels: dict[str, str] = {}
    match_expressions: tuple[LabelExpression, ...] = ()

    def checks(self) -> Iterable[Problem]:
        """Return problems about the keys and values of matchLabels."""
        return check_labels(self.match_labels)


class CidrRule(PolicyStruct, frozen=True, kw_only=True):
    """One of fromCIDRSet or toCIDRSet: a prefix or a group, with exceptions."""

    cidr: str | None = None
    cidr_group_ref: str | None = None
    cidr_group_selector: LabelSelector | None = None
    except_: tuple[str, ...] = msgspec.field(name="except", default=())

    def checks(self) -> Iterable[Problem]:
        """Return problems about prefix and exceptions."""
        return validate.check_cidr_rule(self)


class AwsGroup(PolicyStruct, frozen=True, kw_only=True):
    """Instances of a cloud account."""

    labels: dict[str, str] = {}
    security_groups_ids: tuple[str, ...] = ()
    security_groups_names: tuple[str, ...] = ()
    region: str = ""


class Group(PolicyStruct, frozen=True, kw_only=True):
    """One of fromGroups or toGroups."""

    aws: AwsGroup | None = None


class K8sService(PolicyStruct, frozen=True, kw_only=True):
    """A Service by name; without a namespace, of any namespace."""

    service_name: str = ""
    namespace: str = ""


class K8sServiceSelector(PolicyStruct, frozen=True, kw_only=True):
    """Services by label; without a namespace, of any namespace."""

    selector: LabelSelector
    namespace: str = ""


class ServiceRef(PolicyStruct, frozen=True, kw_only=True):
    """One of toServices."""

    k8s_service: K8sService | None = None
    k8s_service_selector: K8sServiceSelector | None = None

    def checks(self) -> Iterable[Problem]:
        """Return a problem unless exactly one form is used."""
        return validate.check_service(self)


class NamePattern(PolicyStruct, frozen=True, kw_only=True):
    """One of toFQDNs or rules.dns: a name or a pattern."""

    match_name: str | None = None
    match_pattern: str | None = None

    def checks(self) -> Iterable[Problem]:
        """Return problems about the name or pattern."""
        return validate_l7.check_name_pattern(self)


class IcmpField(PolicyStruct, frozen=True, kw_only=True):
    """One ICMP type by number or name."""

    family: str = "IPv4"
    type: int | str

    def checks(self) -> Iterable[Problem]:
        """Return problems about family and type."""
        return validate.check_icmp(self)


class IcmpRule(PolicyStruct, frozen=True, kw_only=True):
    """One of icmps."""

    fields: tuple[IcmpField, ...] = ()

    def checks(self) -> Iterable[Problem]:
        """Return a problem if there are too many fields."""
        return validate.check_icmp_fields(len(self.fields))


class Authentication(PolicyStruct, frozen=True, kw_only=True):
    """Whether the peer must have proved who it is."""

    mode: str

    def checks(self) -> Iterable[Problem]:
        """Return a problem unless the mode is known."""
        return validate.check_authentication(self.mode)


class Secret(PolicyStruct, frozen=True, kw_only=True):
    """A Kubernetes Secret."""

    name: str
    namespace: str = ""


class TlsContext(PolicyStruct, frozen=True, kw_only=True):
    """Keys for one side of intercepted TLS; the texts are names of keys in the Secret."""

    secret: Secret
    trusted_ca: str = msgspec.field(name="trustedCA", default="")
    certificate: str = ""
    private_key: str = ""


class EnvoyConfigRef(PolicyStruct, frozen=True, kw_only=True):
    """The object that holds a listener."""

    kind: str = ""
    name: str


class ListenerRef(PolicyStruct, frozen=True, kw_only=True):
    """A listener that traffic is redirected to."""

    envoy_config: EnvoyConfigRef
    name: str
    priority: int | None = None

    def checks(self) -> Iterable[Problem]:
        """Return problems about kind and priority."""
        return validate.check_listener(self)


class HeaderMatch(PolicyStruct, frozen=True, kw_only=True):
    """One of headerMatches."""

    name: str
    value: str = ""
    secret: Secret | None = None
    mismatch: str = ""

    def checks(self) -> Iterable[Problem]:
        """Return problems about name, value and mismatch."""
        return validate_l7.check_header_match(self)


class HttpRequestRule(PolicyStruct, frozen=True, kw_only=True):
    """One of rules.http; all that is given must hold."""

    path: str = ""
    method: str = ""
    host: str = ""
    headers: tuple[str, ...] = ()
    header_matches: tuple[HeaderMatch, ...] = ()

    def checks(self) -> Iterable[Problem]:
        """Return problems about patterns and headers."""
        return validate_l7.check_http(self)


class KafkaRule(PolicyStruct, frozen=True, kw_only=True):
    """One of rules.kafka."""

    role: str = ""
    api_key: str = ""
    api_version: str = ""
    client_id: str = msgspec.field(name="clientID", default="")
    topic: str = ""

    def checks(self) -> Iterable[Problem]:
        """Return problems about role, API and topic."""
        return validate_l7.check_kafka(self)


class L7Rules(PolicyStruct, frozen=True, kw_only=True):
    """What requests may be; exactly one protocol."""

    http: tuple[HttpRequestRule, ...] | None = None
    kafka: tuple[KafkaRule, ...] | None = None
    dns: tuple[NamePattern, ...] | None = None
    l7proto: str = ""
    l7: tuple[dict[str, str], ...] | None = None

    def checks(self) -> Iterable[Problem]:
        """Return problems about the choice of protocol."""
        return validate_l7.check_rules(self)


class PortProtocol(PolicyStruct, frozen=True, kw_only=True):
    """One of ports: a number or name as text, perhaps a range, and a protocol."""

    field_hints: ClassVar[Mapping[str, str]] = {
        "rules": "belongs beside ports, inside toPorts[], not inside one port",
    }

    port: str = ""
    end_port: int = 0
    protocol: str = ""
    """ "" is ANY."""

    def checks(self) -> Iterable[Problem]:
        """Return problems about port and protocol."""
        return validate.check_port(self)


class PortRule(PolicyStruct, frozen=True, kw_only=True):
    """One of toPorts."""

    ports: tuple[PortProtocol, ...] = ()
    terminating_tls: TlsContext | None = msgspec.field(name="terminatingTLS", default=None)
    originating_tls: TlsContext | None = msgspec.field(name="originatingTLS", default=None)
    server_names: tuple[str, ...] | None = None
    listener: ListenerRef | None = None
    rules: L7Rules | None = None

    def checks(self) -> Iterable[Problem]:
        """Return problems about ports together with what is asked of them."""
        return validate.check_port_rule(self)


class PortDenyRule(PolicyStruct, frozen=True, kw_only=True):
    """One of toPorts in a deny rule: ports only."""

    field_hints: ClassVar[Mapping[str, str]] = {
        "rules": "deny rules cannot look into requests; allow the requests that may pass instead",
    }

    ports: tuple[PortProtocol, ...] = ()

    def checks(self) -> Iterable[Problem]:
        """Return a problem if there are too many ports."""
        return validate.check_port_count(len(self.ports))


class IngressPeers(PolicyStruct, frozen=True, kw_only=True):
    """Who comes in."""

    from_endpoints: tuple[LabelSelector, ...] | None = None
    from_requires: tuple[LabelSelector, ...] | None = None
    from_cidr: tuple[str, ...] | None = msgspec.field(name="fromCIDR", default=None)
    from_cidr_set: tuple[CidrRule, ...] | None = msgspec.field(name="fromCIDRSet", default=None)
    from_entities: tuple[str, ...] | None = None
    from_groups: tuple[Group, ...] | None = None
    from_nodes: tuple[LabelSelector, ...] | None = None


class IngressDenyRule(IngressPeers, frozen=True, kw_only=True):
    """One of ingressDeny."""

    to_ports: tuple[PortDenyRule, ...] | None = None
    icmps: tuple[IcmpRule, ...] | None = None

    def checks(self) -> Iterable[Problem]:
        """Return problems about members that do not go together."""
        return validate.check_rule(self)


class IngressRule(IngressPeers, frozen=True, kw_only=True):
    """One of ingress."""

    to_ports: tuple[PortRule, ...] | None = None
    icmps: tuple[IcmpRule, ...] | None = None
    authentication: Authentication | None = None

    def checks(self) -> Iterable[Problem]:
        """Return problems about members that do not go together."""
        yield from validate.check_rule(self)
        yield from validate.check_ingress_ports(self.to_ports or ())


class EgressPeers(PolicyStruct, frozen=True, kw_only=True):
    """Who is gone to."""

    to_endpoints: tuple[LabelSelector, ...] | None = None
    to_requires: tuple[LabelSelector, ...] | None = None
    to_cidr: tuple[str, ...] | None = msgspec.field(name="toCIDR", default=None)
    to_cidr_set: tuple[CidrRule, ...] | None = msgspec.field(name="toCIDRSet", default=None)
    to_entities: tuple[str, ...] | None = None
    to_groups: tuple[Group, ...] | None = None
    to_nodes: tuple[LabelSelector, ...] | None = None
    to_services: tuple[ServiceRef, ...] | None = None


class EgressDenyRule(EgressPeers, frozen=True, kw_only=True):
    """One of egressDeny."""

    field_hints: ClassVar[Mapping[str, str]] = {
        "toFQDNs": "names can only be allowed, not denied; deny by toCIDR or toEntities",
    }

    to_ports: tuple[PortDenyRule, ...] | None = None
    icmps: tuple[IcmpRule, ...] | None = None

    def checks(self) -> Iterable[Problem]:
        """Return problems about members that do not go together."""
        return validate.check_rule(self)


class EgressRule(EgressPeers, frozen=True, kw_only=True):
    """One of egress."""

    to_fqdns: tuple[NamePattern, ...] | None = msgspec.field(name="toFQDNs", default=None)
    to_ports: tuple[PortRule, ...] | None = None
    icmps: tuple[IcmpRule, ...] | None = None
    authentication: Authentication | None = None

    def checks(self) -> Iterable[Problem]:
        """Return problems about members that do not go together."""
        return validate.check_rule(self)


AllowRule = IngressRule | EgressRule
DenyRule = IngressDenyRule | EgressDenyRule
AnyRule = AllowRule | DenyRule


class DefaultDeny(PolicyStruct, frozen=True, kw_only=True):
    """Whether what is not allowed is denied; absent is true where the direction has rules."""

    ingress: bool | None = None
    egress: bool | None = None


class PolicyLabel(PolicyStruct, frozen=True, kw_only=True):
    """A label of the policy itself."""

    key: str
    value: str = ""
    source: str = ""


class PolicyLog(PolicyStruct, frozen=True, kw_only=True):
    """A word that flows decided by this policy carry."""

    value: str = ""

    def checks(self) -> Iterable[Problem]:
        """Return a problem if the word is too long or not printable."""
        return validate.check_log(self.value)


class PolicyRule(PolicyStruct, frozen=True, kw_only=True):
    """`spec`, or one of `specs`."""

    endpoint_selector: LabelSelector | None = None
    node_selector: LabelSelector | None = None
    ingress: tuple[IngressRule, ...] | None = None
    ingress_deny: tuple[IngressDenyRule, ...] | None = None
    egress: tuple[EgressRule, ...] | None = None
    egress_deny: tuple[EgressDenyRule, ...] | None = None
    enable_default_deny: DefaultDeny = DefaultDeny()
    labels: tuple[PolicyLabel, ...] = ()
    description: str = ""
    log: PolicyLog | None = None

    def checks(self) -> Iterable[Problem]:
        """Return problems about selector and presence of rules."""
        return validate.check_policy_rule(self)


class CiliumNetworkPolicy(Object, frozen=True, kw_only=True):
    """cilium.io/v2 CiliumNetworkPolicy; `spec` and all of `specs` apply."""

    api_versions: ClassVar[tuple[str, ...]] = ("cilium.io/v2",)
    kind: ClassVar[str] = "CiliumNetworkPolicy"

    spec: PolicyRule | None = None
    specs: tuple[PolicyRule, ...] = ()

    def checks(self) -> Iterable[Problem]:
        """Return a problem if there is neither spec nor specs."""
        if self.spec is None and not self.specs:
            yield Problem("", "has neither spec nor specs", "write the rules below spec")


class CiliumClusterwideNetworkPolicy(Object, frozen=True, kw_only=True):
    """cilium.io/v2 CiliumClusterwideNetworkPolicy, of which no rule is read: it closes.

    None decodes; what becomes of it is that of any policy that is not understood, in all
    namespaces.
    """

    api_versions: ClassVar[tuple[str, ...]] = ("cilium.io/v2",)
    kind: ClassVar[str] = "CiliumClusterwideNetworkPolicy"
    namespaced: ClassVar[bool] = False

    known_unused: ClassVar[frozenset[str]] = names("spec specs")

    def checks(self) -> Iterable[Problem]:
        """Return that its rules are not read."""
        hint = "write a CiliumNetworkPolicy in each namespace that it is for"
        yield Problem("kind", "policies for the whole cluster are not supported yet", hint)
