"""What is written into the script that asks stays what it is."""

from __future__ import annotations

import pytest

from penstock.envoy.subrequest import script
from penstock.ir.route import ServicePort, Subrequest
from penstock.meta.names import NamespacedName
from penstock.pb.envoy.extensions.filters.http.lua.v3 import lua_pb2

TARGET = ServicePort(NamespacedName("login", "auth"), 80)


def source(**more: object) -> str:
    given = {"host": "auth.login", "path": "/"} | more
    auth = Subrequest(target=TARGET, response_headers=("and", "and-dofile"), **given)  # type: ignore[arg-type]  # texts only
    lua = lua_pb2.Lua()
    assert script(auth, "auth|login/auth/80").typed_config.Unpack(lua)
    return lua.default_source_code.inline_string


@pytest.mark.parametrize("place", ["@COPIED@", "@SIGNIN@", "@MARK@", "@OTHER@"])
def test_a_text_that_looks_like_a_place_in_the_script_stays_as_it_is(place: str) -> None:
    assert f'"/{place}/x"' in source(path=f"/{place}/x")
    assert f'"https://l.test/{place}"' in source(signin=f"https://l.test/{place}")


def test_no_place_is_left() -> None:
    assert "@" not in source()
