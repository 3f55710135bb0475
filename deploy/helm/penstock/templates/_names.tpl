{{/* Labels of every object; pods are chosen by the first one alone. */}}
{{- define "penstock.labels" -}}
{{ include "penstock.selector" . }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/part-of: penstock
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{- define "penstock.selector" -}}
app.kubernetes.io/name: penstock-{{ .component }}
{{- end }}

{{/* One image, by digest if there is one. */}}
{{- define "penstock.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* Where the API server is, in place of what Kubernetes says. */}}
{{- define "penstock.apiServer" -}}
{{- with .Values.k8sServiceHost -}}
- name: KUBERNETES_SERVICE_HOST
  value: {{ . | quote }}
{{ end }}
{{- with .Values.k8sServicePort -}}
- name: KUBERNETES_SERVICE_PORT
  value: {{ . | quote }}
{{- end }}
{{- end }}

{{/* What the agent needs of its node, and no more. */}}
{{- define "penstock.agentSecurity" -}}
runAsUser: 0
runAsGroup: 0
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
  add:
    # eBPF programs and their ring buffer
    - BPF
    - PERFMON
    # attaching to cgroups, sock_diag, addresses of Gateways
    - NET_ADMIN
    - NET_RAW
    # entering pods' network namespaces, pinning in bpffs
    - SYS_ADMIN
    # /proc/<pid>/ns of pods' processes
    - SYS_PTRACE
    - DAC_OVERRIDE
    {{- range .Values.agent.extraCapabilities }}
    - {{ . }}
    {{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "penstock.agentMounts" -}}
- name: run
  mountPath: /run/penstock
- name: netns
  mountPath: /run/netns
  mountPropagation: HostToContainer
- name: cgroup
  mountPath: /sys/fs/cgroup
  mountPropagation: HostToContainer
- name: bpf
  mountPath: /sys/fs/bpf
  mountPropagation: HostToContainer
- name: cni-bin
  mountPath: /host/cni/bin
- name: cni-conf
  mountPath: /host/cni/conf
- name: tmp
  mountPath: /tmp
- name: join
  mountPath: /var/run/secrets/penstock
  readOnly: true
{{- end }}
