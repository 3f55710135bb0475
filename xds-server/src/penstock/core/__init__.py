"""Kubernetes objects as frozen structs: metadata, the built-in kinds, strict decoding.

Only fields that Penstock uses are declared; which others Kubernetes has is known to
`penstock.core.decode`, so that a misspelt or misplaced field is an error and a known but unused one
is not.
"""
