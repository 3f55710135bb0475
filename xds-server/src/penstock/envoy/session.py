"""Sessions: the filters that keep a client at its endpoint.

Two filters work together. Envoy's `stateful_session` writes the address of the endpoint into a
cookie or header, and later leads there, if the cluster still has that address: a forged one leads
nowhere else. The script adds the backend of the rule, and the end of the session where it has one,
so that the token reads `<address>.<backend>[.<end>]`. On the way in it takes them off again and has
the route chosen anew, by the backend: see `sticky`. That is before anybody is asked whether the
request may pass: what he adds must not lead to another rule. Weights decide for new clients only. A
session does not begin with an answer that may be a refusal of ours, or of a place that is down.

By themselves both do nothing. Routes give them their configuration, so listeners do not change.

Source: Gateway API, GEP-1619; envoy.extensions.filters.http.stateful_session.v3, lua.v3.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import MutableMapping
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage

from penstock.envoy.wire import exact, extension, pack
from penstock.ir.route import Backend, HostBackend, InvalidBackend, ServiceBackend, ServicePort
from penstock.ir.session import Session, SessionKind
from penstock.pb.envoy.config.route.v3 import route_components_pb2 as route_pb2
from penstock.pb.envoy.extensions.filters.http.lua.v3 import lua_pb2
from penstock.pb.envoy.extensions.filters.http.stateful_session.v3 import stateful_session_pb2
from penstock.pb.envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as hcm_pb2,
)
from penstock.pb.envoy.extensions.http.stateful_session.cookie.v3 import cookie_pb2
from penstock.pb.envoy.extensions.http.stateful_session.header.v3 import header_pb2
from penstock.pb.envoy.type.matcher.v3 import metadata_pb2

SCRIPT_FILTER = "penstock.session"
"""Filter, and namespace of the metadata by which it has the route chosen."""
STATE_FILTER = "envoy.filters.http.stateful_session"
_BACKEND = "backend"
_SCRIPT = "session"

PerFilter = MutableMapping[str, AnyMessage]


def around(*filters: hcm_pb2.HttpFilter) -> tuple[hcm_pb2.HttpFilter, ...]:
    """Return *filters* between the two, as every listener has these, for routes to fill.

    They are not `disabled`: which filters a request meets is settled before the last of them has
    found its route.
    """
    script = lua_pb2.Lua(clear_route_cache={"value": False}, shared_vm_id=SCRIPT_FILTER)
    script.source_codes[_SCRIPT].inline_string = _TOKEN_SCRIPT
    state = stateful_session_pb2.StatefulSession()
    return (
        hcm_pb2.HttpFilter(name=SCRIPT_FILTER, typed_config=pack(script)),
        *filters,
        hcm_pb2.HttpFilter(name=STATE_FILTER, typed_config=pack(state)),
    )


def configure(
    per_filter: PerFilter, session: Session, backend: Backend | None, *, https: bool
) -> None:
    """Have the filters keep the session of a rule.

    Args:
        per_filter: `typed_per_filter_config` of a route, or of one of its weighted clusters.
        session: how a client tells its session.
        backend: where the requests go; None before that is settled.
        https: clients come by HTTPS.
    """
    per_filter[STATE_FILTER].CopyFrom(_state(session, https=https))
    per_filter[SCRIPT_FILTER].CopyFrom(_script(session, "" if backend is None else tag(backend)))


def keep(per_filter: PerFilter, session: Session, *, https: bool) -> None:
    """Have the filters keep the session of one backend, which plays no part in choosing it."""
    per_filter[STATE_FILTER].CopyFrom(_state(session, https=https))
    per_filter[SCRIPT_FILTER].CopyFrom(_script(session, "0"))


def tag(backend: Backend) -> str:
    """Return what stands for a backend in tokens; "" for one that is not there."""
    if isinstance(backend, InvalidBackend):
        return ""
    return hashlib.blake2b(_place(backend).encode(), digest_size=6).hexdigest()


def _place(backend: ServiceBackend | HostBackend) -> str:
    if isinstance(backend, HostBackend):
        return f"host/{backend.target}"
    return str(backend.target)


def sticky(match: route_pb2.RouteMatch, backend: ServiceBackend | HostBackend) -> None:
    """Narrow *match* to requests of sessions at *backend*, as long as it has endpoints."""
    match.dynamic_metadata.append(
        metadata_pb2.MetadataMatcher(
            filter=SCRIPT_FILTER,
            path=[metadata_pb2.MetadataMatcher.PathSegment(key=_BACKEND)],
            value={"string_match": exact(tag(backend))},
        )
    )
    if isinstance(backend, ServiceBackend):
        match.runtime_fraction.default_value.numerator = 100
        match.runtime_fraction.runtime_key = gate(backend.target)


def gate(target: ServicePort) -> str:
    """Return the runtime key that is 0 while *target* has no endpoints: sessions begin anew."""
    return f"session.{target}"


@functools.lru_cache(maxsize=256)
def _state(session: Session, *, https: bool) -> AnyMessage:
    made = stateful_session_pb2.StatefulSessionPerRoute()
    kind = session.kind
    if kind is SessionKind.HEADER:
        header = header_pb2.HeaderBasedSessionState(name=session.name)
        state = extension("envoy.http.stateful_session.header", header)
    else:
        state = extension("envoy.http.stateful_session.cookie", _cookie(session, https=https))
    made.stateful_session.session_state.CopyFrom(state)
    return pack(made)


def _cookie(session: Session, *, https: bool) -> cookie_pb2.CookieBasedSessionState:
    made = cookie_pb2.CookieBasedSessionState()
    cookie = made.cookie
    cookie.name, cookie.path = session.name, session.path
    if session.permanent:
        cookie.ttl.FromMilliseconds(session.lifetime_ms)
    if session.domain:
        cookie.attributes.add(name="Domain", value=session.domain)
    if session.same_site:
        cookie.attributes.add(name="SameSite", value=session.same_site)
    if https if session.secure is None else session.secure:
        cookie.attributes.add(name="Secure")
    return made


@functools.lru_cache(maxsize=1024)
def _script(session: Session, backend: str) -> AnyMessage:
    made = lua_pb2.LuaPerRoute(name=_SCRIPT)
    about: dict[str, Any] = {"name": session.name}
    if backend:
        about[_BACKEND] = backend
    if session.kind is SessionKind.HEADER:
        about["header"] = True
    if session.lifetime_ms and not session.permanent:
        about["lifetime"] = session.lifetime_ms
    made.filter_context.update(about)
    return pack(made)


_TOKEN_SCRIPT = """\
local function split(token)
  return string.match(token, '^"?([^."]+)%.(%x+)%.?(%d*)"?$')
end

local function take(handle, about, token)
  local value, backend, last = split(token)
  if value == nil then
    return token
  end
  if last ~= "" and tonumber(last) < handle:timestamp() then
    return nil
  end
  if about:get("backend") ~= "0" then
    handle:streamInfo():dynamicMetadata():set("@FILTER@", "backend", backend)
    handle:clearRouteCache()
  end
  return value
end

function envoy_on_request(handle)
  local about = handle:filterContext()
  local name, headers = about:get("name"), handle:headers()
  if about:get("header") then
    local token = headers:get(name)
    if token ~= nil then
      local value = take(handle, about, token)
      if value == nil then
        headers:remove(name)
      else
        headers:replace(name, value)
      end
    end
    return
  end
  local cookies = headers:get("cookie")
  if cookies == nil or string.find(cookies, name, 1, true) == nil then
    return
  end
  local kept, found = {}, false
  for one in string.gmatch(cookies, "[^;]+") do
    local key, token = string.match(one, "^%s*([^=%s]+)=(.-)%s*$")
    if key == name and not found then
      found = true
      local value = take(handle, about, token)
      if value ~= nil then
        kept[#kept + 1] = name .. "=" .. value
      end
    else
      kept[#kept + 1] = string.match(one, "^%s*(.-)$")
    end
  end
  if found then
    if #kept == 0 then
      headers:remove("cookie")
    else
      headers:replace("cookie", table.concat(kept, "; "))
    end
  end
end

local failures = {["403"] = true, ["502"] = true, ["503"] = true, ["504"] = true}

local function ending(handle, about)
  local result = "." .. about:get("backend")
  if about:get("lifetime") then
    result = result .. string.format(".%.0f", handle:timestamp() + about:get("lifetime"))
  end
  return result
end

function envoy_on_response(handle)
  local about = handle:filterContext()
  local name, headers = about:get("name"), handle:headers()
  local begins = about:get("backend") ~= nil and not failures[headers:get(":status")]
  if about:get("header") then
    local value = headers:get(name)
    if value ~= nil and not begins then
      headers:remove(name)
    elseif value ~= nil then
      headers:replace(name, value .. ending(handle, about))
    end
    return
  end
  local start, ours, every = name .. '="', nil, {}
  for index = 0, headers:getNumValues("set-cookie") - 1 do
    local one = headers:getAtIndex("set-cookie", index)
    every[#every + 1] = one
    if string.sub(one, 1, #start) == start then
      ours = #every
    end
  end
  if ours == nil then
    return
  end
  local value, rest = string.match(string.sub(every[ours], #start + 1), '^([^"]*)"(.*)$')
  if value == nil then
    return
  end
  if begins then
    every[ours] = name .. "=" .. value .. ending(handle, about) .. rest
  else
    table.remove(every, ours)
  end
  headers:remove("set-cookie")
  for _, one in ipairs(every) do
    headers:add("set-cookie", one)
  end
end
""".replace("@FILTER@", SCRIPT_FILTER)
