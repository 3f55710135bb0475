"""Built-in kinds accept YAML from the wild and refuse what an API server would refuse."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import yaml

from penstock.core.decode import decode, examine
from penstock.core.deployments import Deployment
from penstock.core.kinds import BUILTIN_KINDS, ConfigMap, EndpointSlice, Namespace, Secret, Service
from penstock.core.nodes import Node
from penstock.core.objects import Broken, Object
from penstock.core.pods import Pod

FROM_THE_WILD = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  creationTimestamp: null
  finalizers: [example.com/protect]
spec:
  replicas: 2
  revisionHistoryLimit: 3
  progressDeadlineSeconds: 600
  minReadySeconds: 1
  selector:
    matchLabels: {app: web}
    matchExpressions:
    - {key: tier, operator: In, values: [front]}
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxSurge: 1, maxUnavailable: 25%}
  template:
    metadata:
      creationTimestamp: null
      labels: {app: web, tier: front}
      annotations: {prometheus.io/scrape: "true"}
    spec:
      serviceAccountName: web
      automountServiceAccountToken: false
      terminationGracePeriodSeconds: 10
      nodeSelector: {kubernetes.io/os: linux}
      tolerations: [{operator: Exists}]
      affinity: {podAntiAffinity: {}}
      securityContext: {runAsNonRoot: true}
      imagePullSecrets: [{name: x}]
      dnsPolicy: ClusterFirst
      initContainers:
      - {name: init, image: busybox, command: [sh, -c, "true"]}
      containers:
      - name: web
        image: nginx:1.27
        imagePullPolicy: IfNotPresent
        args: [--port, "8080"]
        ports:
        - {name: http, containerPort: 8080, protocol: TCP, hostPort: 8080}
        env:
        - {name: A, value: "1"}
        - name: IP
          valueFrom: {fieldRef: {apiVersion: v1, fieldPath: status.podIP}}
        - name: CPU
          valueFrom: {resourceFieldRef: {resource: limits.cpu}}
        - name: P
          valueFrom: {secretKeyRef: {name: s, key: p, optional: true}}
        envFrom:
        - {prefix: X_, configMapRef: {name: c}}
        resources:
          limits: {cpu: 1, memory: 128Mi}
        livenessProbe:
          httpGet: {path: /healthz, port: http, httpHeaders: [{name: A, value: b}]}
          periodSeconds: 5
        readinessProbe:
          tcpSocket: {port: 8080}
        startupProbe:
          exec: {command: [ls]}
        lifecycle: {preStop: {sleep: {seconds: 1}}}
        securityContext: {allowPrivilegeEscalation: false}
        volumeMounts:
        - {name: config, mountPath: /etc/web, readOnly: true}
        - {name: tmp, mountPath: /tmp, subPath: x, mountPropagation: None}
      volumes:
      - name: config
        configMap: {name: c, defaultMode: 420, items: [{key: a, path: b, mode: 256}]}
      - name: tmp
        emptyDir: {medium: Memory, sizeLimit: 1Mi}
      - name: s
        secret: {secretName: s}
      - name: claim
        persistentVolumeClaim: {claimName: x}
status:
  availableReplicas: 2
---
apiVersion: v1
kind: Service
metadata: {name: web, annotations: {a: b}}
spec:
  type: LoadBalancer
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: http, nodePort: 30080, appProtocol: kubernetes.io/h2c}
  - {name: dns, port: 53, protocol: UDP}
  clusterIP: 10.96.3.4
  clusterIPs: [10.96.3.4, "fd00::1"]
  ipFamilies: [IPv4, IPv6]
  ipFamilyPolicy: PreferDualStack
  sessionAffinity: None
  externalTrafficPolicy: Cluster
  internalTrafficPolicy: Cluster
  publishNotReadyAddresses: true
status: {loadBalancer: {}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
endpoints:
- addresses: [10.1.2.3]
  conditions: {ready: true, serving: true, terminating: false}
  nodeName: n1
  zone: z
  hints: {forZones: [{name: z}]}
  targetRef: {kind: Pod, name: web-0, namespace: default, uid: u}
ports:
- {name: http, port: 8080, protocol: TCP, appProtocol: http}
---
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  restartPolicy: Never
  nodeName: n1
  hostname: h
  subdomain: s
  containers: [{name: c, image: x}]
status:
  phase: Running
  hostIP: 1.2.3.4
  podIP: 10.1.0.1
  podIPs: [{ip: 10.1.0.1}, {ip: "fd00::1"}]
  conditions: [{type: Ready, status: "True", lastProbeTime: null}]
  containerStatuses: []
  qosClass: BestEffort
---
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
immutable: true
data: {a: b}
binaryData: {c: AAE=}
---
apiVersion: certificates.k8s.io/v1beta1
kind: ClusterTrustBundle
metadata: {name: "example.test:signer:one"}
spec: {signerName: example.test/signer, trustBundle: "-----BEGIN CERTIFICATE-----"}
---
apiVersion: v1
kind: Secret
metadata: {name: s}
type: kubernetes.io/tls
data: {tls.key: aGVsbG8=}
stringData: {password: geheim}
---
apiVersion: v1
kind: Namespace
metadata: {name: n, labels: {kubernetes.io/metadata.name: n}}
spec: {finalizers: [kubernetes]}
status: {phase: Active}
---
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDR: 10.1.0.0/24, podCIDRs: [10.1.0.0/24], taints: []}
status:
  addresses: [{type: InternalIP, address: 10.0.0.1}, {type: Hostname, address: n1}]
  capacity: {cpu: "2"}
"""
KINDS: dict[str, type[Object]] = {kind.kind: kind for kind in BUILTIN_KINDS}


def decoded(kind: str) -> Object:
    documents: list[dict[str, Any]] = list(yaml.safe_load_all(FROM_THE_WILD))
    raw = next(document for document in documents if document["kind"] == kind)
    found = decode(KINDS[kind], raw)
    assert isinstance(found, Object), found.problems
    return found


def problems(raw: str) -> list[str]:
    loaded = yaml.safe_load(raw)
    loaded.setdefault("metadata", {"name": "x"})
    examined = examine(KINDS[loaded["kind"]], loaded)
    assert isinstance(examined.object, Broken)
    return [str(problem) for problem in examined.problems]


def test_every_kind_decodes_ordinary_yaml() -> None:
    assert {decoded(kind).kind for kind in KINDS} == set(KINDS)


def test_deployment_reads_its_pods() -> None:
    web = decoded("Deployment")
    assert isinstance(web, Deployment)
    container = web.spec.template.spec.containers[0]
    assert container.readiness_probe is not None
    assert container.env[1].value_from is not None
    assert web.spec.strategy.rolling_update is not None
    assert web.spec.strategy.rolling_update.max_surge == 1
    assert [mount.mount_path for mount in container.volume_mounts] == ["/etc/web", "/tmp"]


def test_service_port_defaults_to_tcp_and_its_own_number() -> None:
    web = decoded("Service")
    assert isinstance(web, Service)
    assert [port.target for port in web.spec.ports] == ["http", 53]
    assert [port.protocol for port in web.spec.ports] == ["TCP", "UDP"]
    assert web.addresses == ("10.96.3.4", "fd00::1")
    assert not web.headless


def test_slice_knows_its_service() -> None:
    web = decoded("EndpointSlice")
    assert isinstance(web, EndpointSlice)
    assert web.service == "web"
    assert web.endpoints[0].target_ref is not None


def test_pod_has_addresses_and_readiness() -> None:
    pod = decoded("Pod")
    assert isinstance(pod, Pod)
    assert pod.addresses == ("10.1.0.1", "fd00::1")
    assert pod.ready


def test_values_of_config_map_and_secret_are_bytes() -> None:
    config, secret = decoded("ConfigMap"), decoded("Secret")
    assert isinstance(config, ConfigMap)
    assert isinstance(secret, Secret)
    assert config.files() == {"a": b"b", "c": b"\x00\x01"}
    assert secret.files() == {"tls.key": b"hello", "password": b"geheim"}


def test_cluster_scoped_kinds_say_so() -> None:
    assert not Namespace.namespaced
    assert not Node.namespaced
    node = decoded("Node")
    assert isinstance(node, Node)
    assert node.internal_addresses == ("10.0.0.1",)


def test_secret_never_shows_values() -> None:
    secret = decoded("Secret")
    assert "geheim" not in repr(secret)
    assert "aGVsbG8" not in repr(secret)
    raw = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s"},
        "data": {"a": 12345, "b": base64.b64encode(b"geheim").decode()},
        "stringData": {"c": True, "d": "geheim"},
    }
    broken = decode(Secret, raw)
    assert isinstance(broken, Broken)
    assert [str(problem) for problem in broken.problems] == [
        "data.a: must be a string, not a number",
        "stringData.c: must be a string, not a boolean",
    ]
    assert "geheim" not in repr(broken)
    assert "12345" not in repr(broken)


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (
            "{apiVersion: v1, kind: Service, spec: {port: 80}}",
            "spec.port: unknown field; belongs inside ports[], or did you mean ports?",
        ),
        (
            "{apiVersion: v1, kind: Service, spec: {ports: [{port: 0}]}}",
            "spec.ports[0].port: must be a number >= 1, not a number (0)",
        ),
        (
            "{apiVersion: v1, kind: Service, spec: {ports: [{port: 1, name: a}, {port: 2}]}}",
            "spec.ports[1].name: required when there are several ports",
        ),
        (
            "{apiVersion: v1, kind: Service, spec: {type: ExternalName}}",
            "spec.externalName: required with type ExternalName",
        ),
        (
            "{apiVersion: v1, kind: Service, spec: {clusterIP: 10.0.0.300}}",
            "spec.clusterIP: '10.0.0.300' is neither an address nor None",
        ),
        (
            "{apiVersion: v1, kind: Pod, spec: {containers: []}}",
            "spec.containers: must not be empty",
        ),
        (
            (
                "{apiVersion: v1, kind: Pod, "
                "spec: {containers: [{name: c, env: [{name: a, value: 1}]}]}}"
            ),
            (
                "spec.containers[0].env[0].value: must be a string, not a number (1); "
                'put it in quotes: "1"'
            ),
        ),
        (
            (
                "{apiVersion: v1, kind: Pod, spec: {containers: [{name: c, volumeMounts: "
                "[{name: v, mountPath: /v}]}]}}"
            ),
            "spec.containers[0].volumeMounts[0].name: there is no volume 'v' in volumes",
        ),
        (
            "{apiVersion: v1, kind: Pod, spec: {containers: [{name: c, livenessProbe: {}}]}}",
            "spec.containers[0].livenessProbe: needs exactly one of httpGet, tcpSocket, exec, grpc",
        ),
        (
            "{apiVersion: v1, kind: Pod, spec: {containers: [{name: c, tolerations: []}]}}",
            (
                "spec.containers[0].tolerations: unknown field; "
                "belongs further out, directly inside spec"
            ),
        ),
        (
            (
                "{apiVersion: apps/v1, kind: Deployment, spec: {selector: {matchLabels: {a: b}}, "
                "template: {spec: {containers: [{name: c}]}}}}"
            ),
            (
                "spec.template.metadata.labels: are not selected by spec.selector; "
                "give the template the labels that selector.matchLabels names"
            ),
        ),
        (
            "{apiVersion: v1, kind: Secret, data: {a: 'not base64!'}}",
            "data.a: is not base64; plain text goes into stringData",
        ),
        (
            (
                "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv6, "
                "endpoints: [{addresses: [10.0.0.1]}]}"
            ),
            "endpoints[0].addresses[0]: '10.0.0.1' is not an IPv6 address",
        ),
    ],
)
def test_mistake_is_named(raw: str, problem: str) -> None:
    assert problems(raw) == [problem]
