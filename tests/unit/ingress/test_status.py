"""What is written into the status of Ingresses."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from penstock.compiler.compile import Compiler
from penstock.compiler.settings import Settings
from penstock.compiler.statuses import status_of
from penstock.ingress.resources import Ingress
from support.ingress_objects import ingress, ingress_class, path, rule
from support.objects import added

POOL = Settings(gateway_pool="10.97.0.0/24")


def status(held: str, class_name: str) -> dict[str, Any] | None:
    """Return the status of an Ingress that has an address by what its status says."""
    made = ingress("a", rule("a.test", path()), ingressClassName=class_name)
    assert isinstance(made, Ingress)
    thing = msgspec.structs.replace(made, status={"loadBalancer": {"ingress": [{"ip": held}]}})
    compiler = Compiler(POOL)
    compiler.apply(added([ingress_class(), thing]))
    return status_of(compiler.db, thing, lambda _: None)


def test_an_address_that_it_has_is_kept() -> None:
    assert status("10.97.0.77", "penstock") == {"loadBalancer": {"ingress": [{"ip": "10.97.0.77"}]}}


@pytest.mark.parametrize(
    ("held", "left"), [("10.97.0.77", {"loadBalancer": {}}), ("192.0.2.1", None)]
)
def test_of_another_class_only_our_own_address_is_taken_away(
    held: str, left: dict[str, Any] | None
) -> None:
    assert status(held, "other") == left
