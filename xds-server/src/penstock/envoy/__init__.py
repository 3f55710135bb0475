"""Builders: intermediate representation to Envoy messages, pure and deterministic."""
