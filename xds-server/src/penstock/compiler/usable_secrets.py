"""Queries about Secrets: what they hold, what that is worth, and who may read it."""

from __future__ import annotations

from penstock.compiler.database import Database
from penstock.core.objects import Broken
from penstock.gatewayapi.certificate_faults import CertificateFault, unreadable
from penstock.gatewayapi.certificates import (
    Certificate,
    read_certificate,
    validity_warning,
)
from penstock.gatewayapi.listener_tls import CertificateSources, CertificateState, Usable
from penstock.incremental.query import query
from penstock.meta.names import NamespacedName


@query
def certificate(db: Database, name: NamespacedName) -> Certificate | CertificateFault | None:
    """Return what a Secret holds; None if there is none."""
    found = db.secrets.get(name)
    if isinstance(found, Broken):
        return unreadable(found)
    return None if found is None else read_certificate(found)


@query
def certificate_state(db: Database, name: NamespacedName) -> CertificateState:
    """Return what a Secret is worth to a listener, and nothing that it holds."""
    found = certificate(db, name)
    if not isinstance(found, Certificate):
        return found
    now = db.time.get(NOW)
    refused = "" if now is None else validity_warning(found, now)
    return Usable(warnings=found.warnings, refused=refused, names=found.names)


NOW = "now"
"""Key of the present time; without it no certificate is out of date."""


def certificate_sources(db: Database) -> CertificateSources:
    """Return what references to certificates are looked up in."""
    return CertificateSources(
        certificate=lambda name: certificate_state(db, name),
        permits=db.permits,
    )
