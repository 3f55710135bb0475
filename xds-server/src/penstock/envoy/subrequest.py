"""The question that ingress-nginx asks for `auth-url`: a request of its own, 2xx lets pass.

A script asks. Envoy goes on with a request whose script has failed, so the filter behind it lets
pass only what the script has marked.

Source: ingress-nginx, annotations auth-url, auth-method, auth-signin, auth-response-headers.
"""

from __future__ import annotations

import re

from penstock.envoy.scope import SCOPE_HEADER
from penstock.envoy.wire import exact, extension
from penstock.ir.route import Subrequest
from penstock.pb.envoy.config.core.v3 import extension_pb2
from penstock.pb.envoy.extensions.filters.http.lua.v3 import lua_pb2
from penstock.pb.envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2

MILLISECONDS = 5000
"""Longest wait for the answer."""
_PLACE = re.compile("@(?P<name>[A-Z]+)@")
_MARK, _PASSED = "penstock.subrequest", "passed"


def script(auth: Subrequest, cluster: str) -> extension_pb2.TypedExtensionConfig:
    """Return the filter that asks.

    Args:
        auth: who is asked; its texts hold no quotes, backslashes or control characters.
        cluster: name of the cluster in which it is asked.
    """
    made = lua_pb2.Lua(clear_route_cache={"value": False})  # the answer does not choose the route
    made.default_source_code.inline_string = _script(auth, cluster)
    return extension("envoy.filters.http.lua", made)


def passed() -> extension_pb2.TypedExtensionConfig:
    """Return the filter that lets pass what the script has marked, and nothing else."""
    made = http_rbac_pb2.RBAC()
    policy = made.rules.policies[_PASSED]
    policy.principals.add(any=True)
    matcher = policy.permissions.add().sourced_metadata.metadata_matcher
    matcher.filter = _MARK
    matcher.path.add(key=_PASSED)
    matcher.value.string_match.CopyFrom(exact("yes"))
    return extension("envoy.filters.http.rbac", made)


def _script(auth: Subrequest, cluster: str) -> str:
    values = {
        "CLUSTER": cluster,
        "METHOD": auth.method,
        "HOST": auth.host,
        "PATH": auth.path,
        "SIGNIN": auth.signin,
        "TIMEOUT": str(MILLISECONDS),
        "SCOPE": SCOPE_HEADER,
        "MARK": _MARK,
        "PASSED": _PASSED,
        "COPIED": ", ".join(f'"{name}"' for name in auth.response_headers),
    }
    # At once: a value may look like a name.
    return _PLACE.sub(lambda place: values[place["name"]], SCRIPT)


SCRIPT = """\
local framing = {
  ["connection"] = true, ["content-length"] = true, ["transfer-encoding"] = true, ["te"] = true,
  ["upgrade"] = true, ["host"] = true, ["expect"] = true, ["@SCOPE@"] = true
}
local copied = {@COPIED@}

local function escaped(text)
  return (string.gsub(text, "[^%w%-%._~/]", function(one)
    return string.format("%%%02X", string.byte(one))
  end))
end

local function question(headers, original)
  local asked = {}
  for name, value in pairs(headers) do
    if string.sub(name, 1, 1) ~= ":" and not framing[name] then
      local before = asked[name]
      if before == nil then
        asked[name] = value
      elseif type(before) == "table" then
        before[#before + 1] = value
      else
        asked[name] = {before, value}
      end
    end
  end
  asked[":method"], asked[":path"], asked[":authority"] = "@METHOD@", "@PATH@", "@HOST@"
  asked["x-original-method"] = original.method
  asked["x-original-url"] = original.scheme .. "://" .. original.host .. original.uri
  asked["x-auth-request-redirect"] = original.uri
  return asked
end

local function signin(original)
  local values = {
    scheme = original.scheme, host = original.host, http_host = original.host,
    request_uri = original.uri, escaped_request_uri = escaped(original.uri)
  }
  return (string.gsub("@SIGNIN@", "%$([%l_]+)", values))
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local original = {
    method = headers:get(":method"), host = headers:get(":authority"),
    uri = headers:get(":path"), scheme = headers:get("x-forwarded-proto") or "http"
  }
  local asked = question(headers, original)
  local called, answer = pcall(function()
    return handle:httpCall("@CLUSTER@", asked, "", @TIMEOUT@)
  end)
  local status = called and tonumber(answer[":status"]) or 503
  if status >= 200 and status < 300 then
    headers = handle:headers()  -- those from before the wait are gone
    for _, name in ipairs(copied) do
      headers:remove(name)
      if answer[name] ~= nil then
        headers:add(name, answer[name])
      end
    end
    handle:streamInfo():dynamicMetadata():set("@MARK@", "@PASSED@", "yes")
  elseif status == 401 and "@SIGNIN@" ~= "" then
    handle:respond({[":status"] = "302", ["location"] = signin(original)}, "")
  elseif status == 401 or status == 403 then
    local refusal = {[":status"] = tostring(status)}
    refusal["www-authenticate"] = answer["www-authenticate"]
    handle:respond(refusal, "")
  else
    handle:respond({[":status"] = "503"}, "")
  end
end
"""
