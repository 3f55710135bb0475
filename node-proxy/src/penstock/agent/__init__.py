"""The agent of a node: serves one Envoy from a store on disk, steers pods into it by eBPF.

It knows resources and pods, never Kubernetes: what it applies comes from the controller over ADS.
"""
