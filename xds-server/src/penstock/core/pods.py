"""Pods: containers, probes, volumes and what is known of a running one.

Source: Kubernetes API reference, core/v1 Pod.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar, Literal

import msgspec
from typing_extensions import override

from penstock.core.objects import ApiStruct, Object, names
from penstock.meta.problems import Problem

IntOrString = int | str
"""A number or a name, as Kubernetes' intstr.IntOrString; booleans are neither."""
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Protocol = Literal["TCP", "UDP", "SCTP"]


class ContainerPort(ApiStruct, frozen=True, kw_only=True):
    """A port that a container listens on."""

    known_unused: ClassVar[frozenset[str]] = names("hostPort hostIP")

    container_port: Port
    name: str = ""
    protocol: Protocol = "TCP"


class ObjectFieldSelector(ApiStruct, frozen=True, kw_only=True):
    """A field of the pod, as `metadata.name` or `status.podIP`."""

    known_unused: ClassVar[frozenset[str]] = names("apiVersion")

    field_path: str


class KeySelector(ApiStruct, frozen=True, kw_only=True):
    """A key of a ConfigMap or Secret."""

    key: str
    name: str = ""
    optional: bool = False


class EnvVarSource(ApiStruct, frozen=True, kw_only=True):
    """Where the value of an environment variable comes from; one member is set."""

    known_unused: ClassVar[frozenset[str]] = names("resourceFieldRef fileKeyRef")

    field_ref: ObjectFieldSelector | None = None
    config_map_key_ref: KeySelector | None = None
    secret_key_ref: KeySelector | None = None


class EnvVar(ApiStruct, frozen=True, kw_only=True):
    """One environment variable."""

    name: str
    value: str = ""
    value_from: EnvVarSource | None = None

    @override
    def checks(self) -> Iterable[Problem]:
        """Return a problem if both value and valueFrom are given."""
        if self.value and self.value_from is not None:
            yield Problem("valueFrom", "must not be given together with value")


class LocalReference(ApiStruct, frozen=True, kw_only=True):
    """A ConfigMap or Secret of the same namespace."""

    name: str = ""
    optional: bool = False


class EnvFromSource(ApiStruct, frozen=True, kw_only=True):
    """All keys of a ConfigMap or Secret as environment variables."""

    prefix: str = ""
    config_map_ref: LocalReference | None = None
    secret_ref: LocalReference | None = None


class HTTPHeader(ApiStruct, frozen=True, kw_only=True):
    """A header that a probe sends."""

    name: str
    value: str


class HTTPGetAction(ApiStruct, frozen=True, kw_only=True):
    """A probe by HTTP GET; 200 to 399 is success."""

    port: IntOrString
    path: str = "/"
    host: str = ""
    scheme: Literal["HTTP", "HTTPS"] = "HTTP"
    http_headers: tuple[HTTPHeader, ...] = ()


class TCPSocketAction(ApiStruct, frozen=True, kw_only=True):
    """A probe by connecting."""

    port: IntOrString
    host: str = ""


class ExecAction(ApiStruct, frozen=True, kw_only=True):
    """A probe by a command in the container; exit status 0 is success."""

    command: tuple[str, ...] = ()


class GRPCAction(ApiStruct, frozen=True, kw_only=True):
    """A probe by the gRPC health protocol."""

    port: Port
    service: str = ""


class Probe(ApiStruct, frozen=True, kw_only=True):
    """A question to a container that is asked again and again; times are in seconds."""

    known_unused: ClassVar[frozenset[str]] = names("terminationGracePeriodSeconds")

    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    exec: ExecAction | None = None
    grpc: GRPCAction | None = None
    initial_delay_seconds: int = 0
    timeout_seconds: int = 1
    period_seconds: int = 10
    success_threshold: int = 1
    failure_threshold: int = 3

    @override
    def checks(self) -> Iterable[Problem]:
        """Return a problem unless exactly one way to probe is given."""
        ways = [self.http_get, self.tcp_socket, self.exec, self.grpc]
        if sum(way is not None for way in ways) != 1:
            yield Problem("", "needs exactly one of httpGet, tcpSocket, exec, grpc")


class VolumeMount(ApiStruct, frozen=True, kw_only=True):
    """Where a volume appears in a container."""

    known_unused: ClassVar[frozenset[str]] = names("mountPropagation recursiveReadOnly subPathExpr")

    name: str
    mount_path: str
    sub_path: str = ""
    read_only: bool = False


class KeyToPath(ApiStruct, frozen=True, kw_only=True):
    """One key of a ConfigMap or Secret as a file."""

    known_unused: ClassVar[frozenset[str]] = names("mode")

    key: str
    path: str


class ConfigMapVolume(ApiStruct, frozen=True, kw_only=True):
    """Files from a ConfigMap."""

    known_unused: ClassVar[frozenset[str]] = names("defaultMode")

    name: str = ""
    items: tuple[KeyToPath, ...] = ()
    optional: bool = False


class SecretVolume(ApiStruct, frozen=True, kw_only=True):
    """Files from a Secret."""

    known_unused: ClassVar[frozenset[str]] = names("defaultMode")

    secret_name: str = ""
    items: tuple[KeyToPath, ...] = ()
    optional: bool = False


class EmptyDirVolume(ApiStruct, frozen=True, kw_only=True):
    """An empty folder that lives as long as the pod."""

    known_unused: ClassVar[frozenset[str]] = names("medium sizeLimit")


class HostPathVolume(ApiStruct, frozen=True, kw_only=True):
    """A path of the node."""

    path: str
    type: str = ""


class Volume(ApiStruct, frozen=True, kw_only=True):
    """Storage that containers of a pod share; which kinds work is up to who runs the pod."""

    known_unused: ClassVar[frozenset[str]] = names(
        "awsElasticBlockStore azureDisk azureFile cephfs cinder csi downwardAPI ephemeral fc "
        "flexVolume flocker gcePersistentDisk gitRepo glusterfs image iscsi nfs "
        "persistentVolumeClaim photonPersistentDisk portworxVolume projected quobyte rbd scaleIO "
        "storageos vsphereVolume"
    )

    name: str
    config_map: ConfigMapVolume | None = None
    secret: SecretVolume | None = None
    empty_dir: EmptyDirVolume | None = None
    host_path: HostPathVolume | None = None


class Container(ApiStruct, frozen=True, kw_only=True):
    """One container of a pod."""

    known_unused: ClassVar[frozenset[str]] = names(
        "imagePullPolicy lifecycle resizePolicy resources restartPolicyRules securityContext "
        "stdin stdinOnce terminationMessagePath terminationMessagePolicy tty volumeDevices"
    )

    name: str
    image: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    working_dir: str = ""
    env: tuple[EnvVar, ...] = ()
    env_from: tuple[EnvFromSource, ...] = ()
    ports: tuple[ContainerPort, ...] = ()
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    volume_mounts: tuple[VolumeMount, ...] = ()
    restart_policy: str = ""
    """"Always" makes an init container a sidecar."""


class PodReadinessGate(ApiStruct, frozen=True, kw_only=True):
    """A condition that somebody else sets, without which the pod is not Ready."""

    condition_type: str


class PodSpec(ApiStruct, frozen=True, kw_only=True):
    """What runs in a pod."""

    known_unused: ClassVar[frozenset[str]] = names(
        "activeDeadlineSeconds affinity automountServiceAccountToken dnsConfig dnsPolicy "
        "enableServiceLinks ephemeralContainers hostAliases hostIPC hostPID hostUsers "
        "hostnameOverride imagePullSecrets nodeSelector os overhead preemptionPolicy priority "
        "priorityClassName resourceClaims resources runtimeClassName schedulerName "
        "schedulingGates schedulingGroup securityContext serviceAccount setHostnameAsFQDN "
        "shareProcessNamespace tolerations topologySpreadConstraints workloadRef"
    )
    field_hints: ClassVar[Mapping[str, str]] = {
        "replicas": "a Pod is one replica; write a Deployment, or move it to the Deployment's spec",
    }

    containers: tuple[Container, ...]
    init_containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()
    service_account_name: str = "default"
    node_name: str = ""
    host_network: bool = False
    readiness_gates: tuple[PodReadinessGate, ...] = ()
    hostname: str = ""
    subdomain: str = ""
    restart_policy: Literal["Always", "OnFailure", "Never"] = "Always"
    termination_grace_period_seconds: int = 30

    @override
    def checks(self) -> Iterable[Problem]:
        """Return problems about containers: none at all, names used twice, unknown volumes."""
        if not self.containers:
            yield Problem("containers", "must not be empty")
        volumes = {volume.name for volume in self.volumes}
        seen: set[str] = set()
        for field, group in (
            ("initContainers", self.init_containers),
            ("containers", self.containers),
        ):
            for index, container in enumerate(group):
                here = f"{field}[{index}]"
                if container.name in seen:
                    yield Problem(f"{here}.name", f"{container.name!r} is used twice")
                seen.add(container.name)
                for at, mount in enumerate(container.volume_mounts):
                    if mount.name not in volumes:
                        place = f"{here}.volumeMounts[{at}].name"
                        yield Problem(place, f"there is no volume {mount.name!r} in volumes")


class PodIP(ApiStruct, frozen=True, kw_only=True):
    """One address of a pod."""

    ip: str


class PodCondition(ApiStruct, frozen=True, kw_only=True):
    """One condition of a pod, as Ready."""

    known_unused: ClassVar[frozenset[str]] = names("lastProbeTime observedGeneration")

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str = ""


class PodStatus(ApiStruct, frozen=True, kw_only=True):
    """What is known of a running pod."""

    known_unused: ClassVar[frozenset[str]] = names(
        "allocatedResources containerStatuses ephemeralContainerStatuses "
        "extendedResourceClaimStatus hostIPs initContainerStatuses nominatedNodeName "
        "observedGeneration qosClass resize resourceClaimStatuses resources startTime"
    )

    phase: str = ""
    reason: str = ""
    message: str = ""
    conditions: tuple[PodCondition, ...] = ()
    host_ip: str = msgspec.field(name="hostIP", default="")
    pod_ip: str = msgspec.field(name="podIP", default="")
    pod_ips: tuple[PodIP, ...] = msgspec.field(name="podIPs", default=())


class Pod(Object, frozen=True, kw_only=True):
    """core/v1 Pod."""

    api_versions: ClassVar[tuple[str, ...]] = ("v1",)
    kind: ClassVar[str] = "Pod"

    spec: PodSpec
    status: PodStatus = PodStatus()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Return the addresses of the pod, the primary one first."""
        many = tuple(address.ip for address in self.status.pod_ips)
        return many or ((self.status.pod_ip,) if self.status.pod_ip else ())

    @property
    def ready(self) -> bool:
        """Return whether the condition Ready is True."""
        return self._conditions.get("Ready") == "True"

    @property
    def is_unheard_of(self) -> bool:
        """Return whether it is not Ready only because nobody hears of its node.

        Of a node that is missed the node controller makes all pods not Ready, and leaves what the
        kubelet said last of their containers. Source: kubernetes, nodelifecycle, MarkPodsNotReady.
        """
        needed = ("ContainersReady", *(gate.condition_type for gate in self.spec.readiness_gates))
        said = self._conditions
        return said.get("Ready") == "False" and all(said.get(one) == "True" for one in needed)

    @property
    def _conditions(self) -> dict[str, str]:
        return {condition.type: condition.status for condition in self.status.conditions}
