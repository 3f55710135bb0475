"""What the official suite prints is read as results."""

from __future__ import annotations

from collections import Counter

import msgspec

from conformance.profile import Profile, profiles_of
from conformance.results import Outcome, read
from conformance.table import (
    Explanations,
    Facts,
    as_json,
    last_line,
    other_run,
    page,
    results_of,
)

OUTPUT = """\
=== RUN   TestConformance
    conformance.go:86: Running conformance tests with:
=== RUN   TestConformance/HTTPRouteWeight
    conformance.go:77: 2026-01-01T00:00:00Z: Running HTTPRouteWeight, relying on the following \
features: Gateway-standard, HTTPRoute-standard
=== RUN   TestConformance/HTTPRouteWeight/Requests
    weight.go:1: too many
=== RUN   TestConformance/ListenerSetHTTPRouting
    conformance.go:56: Skipping ListenerSetHTTPRouting: suite does not support ListenerSet
=== RUN   TestConformance/TCPRouteSimple
    conformance.go:56: Skipping TCPRouteSimple: suite does not support TCPRoute
=== NAME  TestConformance/HTTPRouteWeight/Requests
    weight.go:2: not enough
        --- FAIL: TestConformance/HTTPRouteWeight/Requests (1.50s)
    --- FAIL: TestConformance/HTTPRouteWeight (2.25s)
    --- SKIP: TestConformance/ListenerSetHTTPRouting (0.00s)
    --- SKIP: TestConformance/TCPRouteSimple (0.00s)
=== RUN   TestConformance/HTTPRouteCORS
    conformance.go:77: Running HTTPRouteCORS, relying on the following features: Gateway-standard, \
HTTPRoute-standard, HTTPRouteCORS-standard
    --- PASS: TestConformance/HTTPRouteCORS (3.00s)
--- FAIL: TestConformance (10.00s)
FAIL
"""
HTTP = Profile(
    name="GATEWAY-HTTP",
    supported=frozenset({"HTTPRouteCORS"}),
    unsupported=frozenset({"ListenerSet"}),
)
FACTS = Facts(suite="v1", crds="v1", penstock="v0", kubernetes="v1", date="2026-01-01", seconds=10)


def test_a_test_has_the_outcome_the_time_and_the_features_that_are_printed() -> None:
    run = read(OUTPUT.splitlines())
    assert run.complete
    found = {one.name: (one.outcome, one.seconds, one.features) for one in run.results}
    base = ("Gateway", "HTTPRoute")
    assert found == {
        "HTTPRouteCORS": (Outcome.PASSED, 3.0, (*base, "HTTPRouteCORS")),
        "HTTPRouteWeight": (Outcome.FAILED, 2.25, base),
        "ListenerSetHTTPRouting": (Outcome.SKIPPED, 0.0, ()),
        "TCPRouteSimple": (Outcome.SKIPPED, 0.0, ()),
    }


def test_the_part_that_failed_keeps_its_own_lines() -> None:
    run = read(OUTPUT.splitlines())
    (weight,) = [one for one in run.results if one.name == "HTTPRouteWeight"]
    (part,) = weight.failures
    assert part.name == "Requests"
    assert [one.strip() for one in part.output] == [
        "weight.go:1: too many",
        "weight.go:2: not enough",
    ]


def test_a_run_that_breaks_off_is_not_complete() -> None:
    lines = OUTPUT.splitlines()[:12]
    assert not read(lines).complete


def test_a_profile_holds_its_own_tests_only() -> None:
    found = results_of(HTTP, read(OUTPUT.splitlines()).results)
    assert [one.name for one in found.results] == [
        "HTTPRouteCORS", "HTTPRouteWeight", "ListenerSetHTTPRouting"
    ]  # fmt: skip
    assert [HTTP.is_core(one) for one in found.results] == [False, True, False]
    assert last_line(found.count) == "1 passed, 1 failed, 1 skipped"
    assert last_line(Counter()) == "0 passed, 0 failed, 0 skipped"


def test_profiles_are_as_the_report_says() -> None:
    report = {
        "profiles": [
            {
                "name": "GATEWAY-HTTP",
                "extended": {
                    "supportedFeatures": ["HTTPRouteCORS"],
                    "unsupportedFeatures": ["ListenerSet"],
                },
            }
        ]
    }
    assert profiles_of(report, ["GATEWAY-HTTP"]) == (HTTP,)
    assert profiles_of({}, ["GATEWAY-TLS"]) == (Profile(name="GATEWAY-TLS"),)


def test_the_page_explains_what_did_not_pass() -> None:
    found = results_of(HTTP, read(OUTPUT.splitlines()).results)
    explanations = Explanations(tests={}, features={"ListenerSet": "Not yet."})
    text = page(FACTS, [found], explanations)
    assert "| core | 0 | 1 | 0 |\n| extended | 1 | 0 | 1 |" in text
    assert "| HTTPRouteCORS | extended | passed | 3.0 |  |" in text
    assert "| HTTPRouteWeight | core | failed | 2.2 | failed: Requests |" in text
    assert "| ListenerSetHTTPRouting | extended | skipped | 0.0 | Not yet. |" in text
    assert b'"failed": [' in as_json(FACTS, found)


def test_page_tells_of_runs_against_other_crds() -> None:
    results = read(OUTPUT.splitlines()).results
    other = other_run(msgspec.structs.replace(FACTS, crds="v9.9.9"), results)
    assert (other.passed, other.failed) == (1, ("HTTPRouteWeight",))
    text = page(FACTS, [], Explanations(tests={}, features={}), [other])
    assert "| v9.9.9 | 2026-01-01 | 1 | HTTPRouteWeight | ListenerSetHTTP" in text
