"""authlib (PyPI) against our token endpoint and two applications behind us: one line a step, `STEP<TAB>OUTCOME`."""
import base64
import json
import re
import sys

from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session

given = json.load(open(sys.argv[1]))
metadata_at = given["origin"] + "/.well-known/oauth-authorization-server/.authferry/oauth2"


class Refused(Exception):
    pass


def session(name, secret=given["secret"], method="client_secret_basic", **more):
    own = OAuth2Session(name, secret, token_endpoint_auth_method=method, **more)
    own.verify = given["ca"]
    own.trust_env = False
    return own


def step(name, work):
    try:
        outcome = work() or "ok"
    except OAuthError as error:
        outcome = f"refused {error.error}"
    except Refused as error:
        outcome = f"refused {error}"
    except Exception as error:  # noqa: BLE001
        outcome = f"failed {type(error).__name__}: {error}"
    print(f"{name}\t{outcome}", flush=True)


metadata = session("kept").request("GET", metadata_at, withhold_token=True).json()
assert metadata["issuer"] == given["issuer"], metadata


def ask(token, api, cert=None):
    own = session("kept", token={"access_token": token, "token_type": "Bearer"})
    answer = own.get(given[api], cert=cert)
    if answer.status_code != 200:
        raise Refused(answer.status_code)
    if api not in given["issuers"]:
        return "ok"
    carried = re.search(r"authorization: bearer [^.]*\.([^.]*)\.", answer.text, re.I)
    body = carried[1] + "=" * (-len(carried[1]) % 4)
    issuer = json.loads(base64.urlsafe_b64decode(body))["iss"]
    return "ok" if issuer == given["issuers"][api] else f"wrong issuer {issuer}"


endpoint = metadata["token_endpoint"]
fresh, held = {}, {}
for side in ("old", "new"):
    def own(side=side):
        fresh[side] = session(side, method="client_secret_post").fetch_token(endpoint, grant_type="client_credentials", audience="app")["access_token"]
    step(f"client_credentials {side}", own)
    for api in ("api_old", "api_new"):
        step(f"{side} token at {api}", lambda: ask(fresh[side], api))


def refresh(token):
    return session("kept").refresh_token(endpoint, refresh_token=token)


def first():
    held.update(refresh(given["refresh_token"]))


def second():
    held.update(refresh(held["refresh_token"]))


step("refresh what the old provider gave", first)
spent = held["refresh_token"]
step("refresh again", second)


def exchange():
    session("kept").fetch_token(
        endpoint,
        grant_type="urn:ietf:params:oauth:grant-type:token-exchange",
        subject_token=held["access_token"],
        subject_token_type="urn:ietf:params:oauth:token-type:access_token",
        audience="app",
    )


def introspect():
    said = session("kept").introspect_token(metadata["introspection_endpoint"], token=held["access_token"]).json()
    return "ok" if said["active"] else "inactive"


def gone(token):
    refresh(token)


step("token exchange", exchange)
step("introspect", introspect)
step("a spent refresh token", lambda: gone(spent))
step("and its family", lambda: gone(held["refresh_token"]))


def device():
    import time

    own = session("kept")
    started = own.request(
        "POST", metadata["device_authorization_endpoint"], withhold_token=True, data={"client_id": "kept"}, auth=own.client_auth("client_secret_basic")
    ).json()
    while True:
        try:
            held.update(
                session("kept").fetch_token(
                    endpoint, grant_type="urn:ietf:params:oauth:grant-type:device_code", device_code=started["device_code"]
                )
            )
            return None
        except OAuthError as error:
            if error.error not in ("authorization_pending", "slow_down"):
                raise
            time.sleep(started["interval"])


def revoke():
    answer = session("kept").revoke_token(metadata["revocation_endpoint"], token=held["refresh_token"])
    if answer.status_code != 200:
        raise Refused(answer.status_code)


step("device", device)
step("revoke", revoke)
step("refresh what was revoked", lambda: gone(held["refresh_token"]))
step("a wrong secret", lambda: session("kept", "wrong").fetch_token(endpoint, grant_type="client_credentials", audience="app") and None)
pair = (given["certificate"], given["key"])
step(
    "client certificate",
    lambda: session("certified", None, "none").fetch_token(endpoint, grant_type="client_credentials", audience="app", cert=pair) and None,
)
# It makes no proofs of possession: a bound token is of no use to it without its certificate.
print("bound to\t-", flush=True)
bound = json.loads(sys.stdin.readline())
for api in ("api_old", "api_new", "api_plain"):
    step(f"DPoP token at {api}", lambda: ask(bound["dpop"], api))
    step(f"mTLS token at {api}", lambda: ask(bound["mtls"], api, pair))
step("DPoP token without a proof", lambda: ask(bound["dpop"], "api_plain"))
print("DPoP token of our endpoint\t-", flush=True)


def certified():
    own = session("certified", None, "none").fetch_token(endpoint, grant_type="client_credentials", audience="bound", cert=pair)["access_token"]
    body = own.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    if not claims["cnf"]["x5t#S256"]:
        return "bound to nothing"
    try:
        ask(own, "api_plain")
    except Refused:
        return ask(own, "api_plain", pair)
    return "good without its certificate"


step("mTLS token of our endpoint", certified)
step("mTLS token without its certificate", lambda: ask(bound["mtls"], "api_plain"))
