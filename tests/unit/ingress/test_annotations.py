"""What annotations come to."""

from __future__ import annotations

import pytest

from penstock.ingress.annotations import Options, options
from penstock.ingress.resources import Ingress
from penstock.meta.problems import Severity
from support.ingress_objects import NGINX, ingress, path, rule

CILIUM = "ingress.cilium.io/"


def asked(**annotations: str) -> Options:
    """Return what annotations come to; "n_" is of ingress-nginx, "c_" of Cilium."""
    prefixes = {"n_": NGINX, "c_": CILIUM}
    given = {prefixes[k[:2]] + k[2:].replace("_", "-"): v for k, v in annotations.items()}
    made = ingress("x", rule("a.test", path()), annotations=given)
    assert isinstance(made, Ingress)
    return options(made)


def test_without_annotations_nothing_is_asked() -> None:
    assert asked() == Options()


@pytest.mark.parametrize(
    ("given", "redirect"),
    [
        ({"n_ssl_redirect": "false"}, False),
        ({"n_force_ssl_redirect": "true"}, True),
        ({"c_force_https": "disabled"}, False),
        ({"c_force_https": "enabled"}, None),
        ({"c_force_https": "true", "n_ssl_redirect": "false"}, None),
        ({"n_ssl_redirect": "true"}, None),
    ],
)
def test_redirects_to_https(given: dict[str, str], redirect: bool | None) -> None:  # noqa: FBT001
    assert asked(**given).redirect is redirect


@pytest.mark.parametrize(
    "name",
    [
        "n_auth_url",
        "n_auth_type",
        "n_auth_tls_secret",
        "n_whitelist_source_range",
        "n_denylist_source_range",
        "n_configuration_snippet",
        "n_limit_rps",
        "n_proxy_ssl_verify",
        "n_rewrite_target",
    ],
)
def test_what_restricts_and_is_not_served_closes(name: str) -> None:
    found = asked(**{name: "https"})
    assert found.closed
    assert [one.severity for one in found.problems] == [Severity.ERROR]


@pytest.mark.parametrize(
    "name",
    [
        "n_proxy_body_size_of_something",
        "n_affinity",
        "n_proxy_connect_timeout",
        "n_something_new",
        "c_service_type",
        "c_something_new",
    ],
)
def test_what_is_not_served_is_told(name: str) -> None:
    found = asked(**{name: "1"})
    assert not found.closed
    (told,) = found.problems
    assert told.severity is Severity.WARNING
    assert told.path.startswith('metadata.annotations["')


def test_timeouts() -> None:
    found = asked(c_request_timeout="90s", n_proxy_read_timeout="60", n_proxy_send_timeout="5")
    assert (found.request_timeout, found.idle_timeout_ms) == ("90s", 60_000)
    wrong = asked(c_request_timeout="soon", n_proxy_read_timeout="60s")
    assert (wrong.request_timeout, wrong.idle_timeout_ms) == ("", 0)
    assert len(wrong.problems) == 2


@pytest.mark.parametrize(
    "given",
    [
        {"n_cors_allow_origin": "a.test"},
        {"n_cors_allow_methods": "GET, FLY"},
        {"n_cors_allow_headers": "a b"},
    ],
)
def test_cors_that_cannot_be_read_allows_nothing(given: dict[str, str]) -> None:
    found = asked(n_enable_cors="true", **given)
    assert found.cors is None
    assert len(found.problems) == 1
    assert asked(n_enable_cors="true").cors is not None


def test_a_canary_with_a_name_that_is_none_is_closed() -> None:
    assert asked(n_canary="true", n_canary_by_header="a b").closed
    found = asked(n_canary="true", n_canary_weight="7", n_canary_weight_total="5").canary
    assert found is not None
    assert (found.weight, found.total) == (5, 5)
