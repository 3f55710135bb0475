"""Whatever objects there are, of whatever kind: nothing raises, and what is good stays as it is."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings

from penstock.compiler.compile import Compiler
from penstock.compiler.problems import problems_of
from penstock.compiler.settings import Addressing, Reach, Settings
from penstock.compiler.statuses import status_of
from penstock.core.events import Event, EventType
from support.fuzzed import GOOD, Things, some
from support.objects import added

AT_NODES = Settings(reach=Reach.CLUSTER, addressing=Addressing.NODES)
THOROUGH = settings(max_examples=1200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def bodies(compiler: Compiler) -> dict[str, bytes]:
    return {str(one.key): one.body for one in compiler.resources("n1")}


@THOROUGH
@given(some())
def test_any_objects_are_compiled_and_judged_and_leave_nothing_behind(things: Things) -> None:
    for given_settings in (None, AT_NODES):
        compiler = Compiler(given_settings)
        compiler.apply(added(GOOD))
        before = bodies(compiler)
        compiler.apply(added(things))
        assert compiler.failures == {}
        for one in (*GOOD, *things):
            status_of(compiler.db, one, lambda _: None)
            problems_of(compiler.db, one)
        compiler.apply([Event(EventType.DELETED, one) for one in things])
        assert compiler.failures == {}
        assert bodies(compiler) == before
