"""Gateway API: GatewayClass, Gateway, HTTPRoute and ReferenceGrant, from objects to routes.

Pure functions, each with the smallest input that decides its result, so that a caller can memoise
them: a change of a weight does not touch attachment, a change of a Service does not touch
precedence. Source: Gateway API v1.7, experimental channel, and GEP-1294 for the mesh.
"""
