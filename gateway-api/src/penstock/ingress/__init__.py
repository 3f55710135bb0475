"""Ingress: read as what it means in the Gateway API; pure functions.

Source: networking.k8s.io/v1, Ingress and IngressClass.
"""
