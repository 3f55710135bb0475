"""The lab: Pods and Deployments of a folder of YAML as local processes on one machine.

What kubelet, the network plugin, cluster DNS and a few controllers are in a cluster: network
namespace, cgroup and host name for each pod, probes, restarts, EndpointSlices.
"""
