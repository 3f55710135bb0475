"""Ingresses with whatever annotations."""

from __future__ import annotations

from hypothesis import strategies as st

from penstock.core.objects import Broken, Object
from support.ingress_objects import NGINX, ingress, path, rule

TEXT = st.one_of(
    st.text(max_size=12),
    st.text(alphabet="/abc.*+?()[]{}|$\\%#12", max_size=12),
    st.sampled_from(
        [
            "/(.*)",
            "/a(/|$)(.*)",
            "/$2",
            "/b/$1",
            "true",
            "20",
            "https://a.test",
            "cookie",
            "Lax",
            "HTTPS",
            "GRPCS",
            "on",
            "shop/cert",
        ]
    ),
)
NAMES = st.sampled_from(
    [
        "rewrite-target",
        "use-regex",
        "canary",
        "canary-by-header",
        "canary-by-header-value",
        "canary-by-cookie",
        "canary-weight",
        "enable-cors",
        "cors-allow-origin",
        "cors-allow-methods",
        "cors-allow-headers",
        "cors-max-age",
        "proxy-read-timeout",
        "backend-protocol",
        *("affinity", "session-cookie-name", "session-cookie-path", "session-cookie-max-age"),
        *("session-cookie-samesite", "session-cookie-domain", "session-cookie-secure"),
        *("auth-url", "auth-method", "auth-signin", "auth-signin-redirect-param"),
        *("auth-response-headers", "proxy-body-size"),
        *("whitelist-source-range", "allowlist-source-range", "denylist-source-range"),
        *("limit-rps", "limit-rpm", "limit-burst-multiplier", "limit-whitelist"),
        *("force-ssl-redirect", "ssl-passthrough"),
        *("proxy-ssl-verify", "proxy-ssl-secret", "proxy-ssl-name", "proxy-ssl-server-name"),
    ]
)
KINDS = st.sampled_from(["Exact", "Prefix", "ImplementationSpecific"])
HOSTS = st.sampled_from(["", "a.test", "*.a.test"])

VALUES = {
    "proxy-body-size": ["0", "1k", "999999999g", "8m"],
    "limit-rps": ["0", "1", "999999999"],
    "limit-rpm": ["1", "999999999"],
    "limit-burst-multiplier": ["0", "1", "999999999"],
    "limit-whitelist": ["10.0.0.0/8", "::/0,0.0.0.0/0", "2001:db8::1"],
    "whitelist-source-range": ["10.0.0.0/8", "0.0.0.0/0,::/0"],
    "backend-protocol": ["HTTP", "HTTPS", "GRPC", "GRPCS"],
    "proxy-ssl-verify": ["on", "off"],
    "proxy-ssl-secret": ["shop/cert", "shop/missing"],
    "proxy-ssl-name": ["a.test", "x"],
    "proxy-ssl-server-name": ["on", "off"],
    "ssl-passthrough": ["true", "false"],
    "affinity": ["cookie"],
    "canary": ["true"],
    "canary-weight": ["0", "30", "100"],
    "auth-url": ["http://one.shop.svc/check"],
    "proxy-read-timeout": ["1", "999999999"],
    "rewrite-target": ["/x"],
    "enable-cors": ["true"],
}
"""Annotations with values that mean something."""


def some_ingress(name: str) -> st.SearchStrategy[Object | Broken]:
    """Return Ingresses of one name whose annotations mean something."""
    given = st.fixed_dictionaries(
        {}, optional={short: st.sampled_from(values) for short, values in VALUES.items()}
    )

    def made(host: str, at: str, kind: str, notes: dict[str, str]) -> Object | Broken:
        annotations = {NGINX + short: value for short, value in notes.items()}
        tls = [{"hosts": [host] if host else [], "secretName": "cert"}]
        return ingress(name, rule(host, path(at, kind)), annotations=annotations, tls=tls)

    return st.builds(made, HOSTS, st.sampled_from(["/", "/x", "/x/y"]), KINDS, given)
