"""CiliumNetworkPolicy: strict objects, and what they mean for endpoints, requests and peers.

Source: Cilium's policy language as its users know it; the supported part is in docs/policy.md.
What is valid but not enforced yet never opens anything: such a rule allows nothing.
"""
