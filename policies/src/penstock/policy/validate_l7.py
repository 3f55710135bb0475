"""What is wrong with L7 rules although the types are right: HTTP, Kafka, DNS.

Source: spec A.4, B.1, B.2, C.1, D.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from penstock.ir.regex import regex_fault
from penstock.meta.problems import Problem, Severity
from penstock.policy.headers import HEADER_NAME, PSEUDO_HEADERS, has_control, parse_header
from penstock.policy.pattern import prefix_mistake

if TYPE_CHECKING:
    from penstock.policy.resources import (
        HeaderMatch,
        HttpRequestRule,
        KafkaRule,
        L7Rules,
        NamePattern,
    )

MISMATCH_ACTIONS = ("LOG", "ADD", "DELETE", "REPLACE")
KAFKA_ROLES = ("produce", "consume")
_KAFKA_APIS = re.compile(
    r"produce|fetch|offsets|metadata|leaderandisr|stopreplica|updatemetadata|controlledshutdown|"
    r"offsetcommit|offsetfetch|findcoordinator|joingroup|heartbeat|leavegroup|syncgroup|"
    r"describegroups|listgroups|saslhandshake|apiversions|createtopics|deletetopics|deleterecords|"
    r"initproducerid|offsetforleaderepoch|addpartitionstotxn|addoffsetstotxn|endtxn|"
    r"writetxnmarkers|txnoffsetcommit|describeacls|createacls|deleteacls|describeconfigs|"
    r"alterconfigs",
    re.IGNORECASE,
)
_MAX_NAME = 255
_MAX_KAFKA_VERSION = 32767
_NUMBER = re.compile(r"[0-9]{1,5}\Z")
_TOPIC = re.compile(r"[A-Za-z0-9._-]+\Z")
_DNS_NAME = re.compile(r"[-a-zA-Z0-9_]+([.][-a-zA-Z0-9_]+)*[.]?\Z")
_DNS_PATTERN = re.compile(r"[-a-zA-Z0-9_.*]+\Z")


def check_rules(rules: L7Rules) -> Iterator[Problem]:
    """Return problems about which protocols one `rules` speaks of."""
    used = [
        name
        for name, value in (("http", rules.http), ("kafka", rules.kafka), ("dns", rules.dns))
        if value is not None
    ]
    if rules.l7 is not None or rules.l7proto:
        used.append("l7")
    if len(used) > 1:
        yield Problem("", f"{' and '.join(used)} in one `rules`", "make an item of toPorts of each")
    if rules.l7 is not None and not rules.l7proto:
        yield Problem("l7", "needs l7proto beside it")
    if rules.http is not None and not rules.http:
        yield Problem(
            "http",
            "is empty: every request on these ports is allowed",
            "remove `rules`, or list the requests",
            Severity.WARNING,
        )


def check_http(rule: HttpRequestRule) -> Iterator[Problem]:
    """Return problems about one of rules.http."""
    for name, pattern in (("path", rule.path), ("method", rule.method), ("host", rule.host)):
        reason = regex_fault(pattern) if pattern else ""
        if reason:
            yield Problem(name, f"{pattern[:80]!r} {reason}", "use RE2 syntax")
    yield from _check_path(rule.path)
    if rule.method and rule.method.islower():
        yield Problem(
            "method",
            f"{rule.method!r} never matches: methods are compared as sent",
            f"write {rule.method.upper()!r}",
            Severity.WARNING,
        )
    for index, text in enumerate(rule.headers):
        yield from _check_header_text(text, f"headers[{index}]")


def _check_path(path: str) -> Iterator[Problem]:
    mistake = prefix_mistake(path)
    if mistake is not None:
        yield Problem("path", *mistake, Severity.WARNING)
    elif path and path[0].isalnum():
        yield Problem(
            "path",
            f"{path!r} never matches: paths begin with a slash",
            f"write {'/' + path!r}",
            Severity.WARNING,
        )


def _check_header_text(text: str, place: str) -> Iterator[Problem]:
    header = parse_header(text)
    if not header.name:
        yield Problem(place, f"{text!r} names no header", "write `Name` or `Name: value`")
    elif has_control(text):
        yield Problem(place, f"{text!r} holds control characters")
    elif ":" in header.name and header.name not in PSEUDO_HEADERS:
        name, _, value = text.partition(":")
        better = f"{name}: {value}" if value else name
        yield Problem(
            place,
            f"{text!r} is a header of that whole name, which never comes",
            f"write a space after the colon: {better!r}" if value else f"write {better!r}",
            Severity.WARNING,
        )
    elif header.name not in PSEUDO_HEADERS:
        yield from _check_header_name(header.name, place)


def _check_header_name(name: str, place: str) -> Iterator[Problem]:
    if not HEADER_NAME.match(name):
        yield Problem(place, f"{name!r} is not the name of a header")
    elif "_" in name:
        yield Problem(
            place,
            f"{name!r} never comes: requests with `_` in a header's name are refused",
            f"use {name.replace('_', '-')!r}",
            Severity.WARNING,
        )


def check_header_match(match: HeaderMatch) -> Iterator[Problem]:
    """Return problems about one of headerMatches."""
    if match.name.lower() not in PSEUDO_HEADERS:
        yield from _check_header_name(match.name, "name")
    if has_control(match.value):
        yield Problem("value", f"{match.value!r} holds control characters")
    if match.mismatch and match.mismatch not in MISMATCH_ACTIONS:
        yield Problem(
            "mismatch",
            f"{match.mismatch!r} is unknown",
            f"use {', '.join(MISMATCH_ACTIONS)} or leave it out",
        )


def check_kafka(rule: KafkaRule) -> Iterator[Problem]:
    """Return problems about one of rules.kafka."""
    if rule.role and rule.api_key:
        yield Problem("role", "role and apiKey exclude each other", "remove one of the two")
    if rule.role and rule.role.lower() not in KAFKA_ROLES:
        yield Problem("role", f"{rule.role!r} is unknown", f"use {' or '.join(KAFKA_ROLES)}")
    if rule.api_key and not _KAFKA_APIS.fullmatch(rule.api_key):
        yield Problem("apiKey", f"{rule.api_key!r} is not the name of a Kafka API")
    version = rule.api_version
    if version and not (_NUMBER.match(version) and int(version) <= _MAX_KAFKA_VERSION):
        yield Problem("apiVersion", f"{version!r} is not a number from 0 to {_MAX_KAFKA_VERSION}")
    if rule.topic and (len(rule.topic) > _MAX_NAME or not _TOPIC.match(rule.topic)):
        yield Problem("topic", f"{rule.topic[:80]!r} is not a topic", "topics are exact names")


def check_name_pattern(name: NamePattern) -> Iterator[Problem]:
    """Return problems about one of toFQDNs or rules.dns."""
    if (name.match_name is None) == (name.match_pattern is None):
        yield Problem("", "must have one of matchName and matchPattern")
    if name.match_name is not None and (
        len(name.match_name) > _MAX_NAME or not _DNS_NAME.match(name.match_name)
    ):
        hint = "use matchPattern for wildcards" if "*" in name.match_name else ""
        yield Problem("matchName", f"{name.match_name[:80]!r} is not a DNS name", hint)
    if name.match_pattern is not None and (
        len(name.match_pattern) > _MAX_NAME or not _DNS_PATTERN.match(name.match_pattern)
    ):
        yield Problem("matchPattern", f"{name.match_pattern[:80]!r} is not a pattern of DNS names")
