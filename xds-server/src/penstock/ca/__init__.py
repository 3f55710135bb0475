"""The certificate authority of one installation: certificates for nodes and for controllers.

Keys, times and certificates are values here; where they are kept is the business of `controlplane`.
"""
