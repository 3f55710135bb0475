"""Intermediate representation: what translators make of objects, in the field's words.

No Kubernetes types and no Envoy types. Every node that a decision can come from carries `origins`.
"""
