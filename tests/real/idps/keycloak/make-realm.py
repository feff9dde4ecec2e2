#!/usr/bin/env python3
"""Writes the Keycloak realm (NEW identity provider) to standard output.

    make-realm.py --realm new --proxy http://127.0.0.1:9080 --jwt-jwks jwt.jwks [--salt TEXT]

--salt changes every client secret and the user passwords, so that nothing depends on fixed values.
"""
import argparse, base64, hashlib, json, uuid
ap = argparse.ArgumentParser()
ap.add_argument("--realm", default="new"); ap.add_argument("--proxy", default="http://127.0.0.1:9080")
ap.add_argument("--jwt-jwks"); ap.add_argument("--bridge-pub", help="PEM public key of the proxy's own assertions (RFC 7523 bridge from OLD to NEW)"); ap.add_argument("--salt", default=""); ap.add_argument("--old", action="store_true", help="for Keycloak 16: an OLD provider, so erin is there and frank is not; dave is still enabled")
ap.add_argument("--crowd", type=int, default=0, help="besides the named people, p0001 … with the legacy uids 20001 …")
ap.add_argument("--access-ttl", type=int, default=300)
a = ap.parse_args()
sec = lambda s: s + ("-" + hashlib.sha256((a.salt + s).encode()).hexdigest()[:12] if a.salt else "")
OTP = "12345678901234567890"  # base32 GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ, the RFC 6238 seed

def mapper(name, kind, **cfg): return dict(name=name, protocol="openid-connect", protocolMapper=kind, config={k.replace("__", "."): v for k, v in cfg.items()})
T = "true"
def base_mappers():
    return [mapper("groups", "oidc-group-membership-mapper", full__path="false", id__token__claim=T, access__token__claim=T, userinfo__token__claim=T, introspection__token__claim=T, claim__name="groups"),
            mapper("legacy_uid", "oidc-usermodel-attribute-mapper", user__attribute="legacy_uid", claim__name="legacy_uid", jsonType__label="String", id__token__claim=T, access__token__claim=T, userinfo__token__claim=T, introspection__token__claim=T)]
def aud(c): return mapper("aud-" + c, "oidc-audience-mapper", included__client__audience=c, id__token__claim="false", access__token__claim=T, introspection__token__claim=T)

def client(cid, public=False, auth="client-secret", std=True, direct=False, svc=False, auds=(), attrs=None, **kw):
    c = dict(clientId=cid, enabled=True, protocol="openid-connect", publicClient=public, standardFlowEnabled=std, implicitFlowEnabled=False,
             directAccessGrantsEnabled=direct, serviceAccountsEnabled=svc, fullScopeAllowed=True, frontchannelLogout=False,
             redirectUris=[a.proxy + "/*"], webOrigins=[a.proxy], protocolMappers=base_mappers() + [aud(x) for x in auds],
             attributes={"pkce.code.challenge.method": "S256", "post.logout.redirect.uris": a.proxy + "/*", **(attrs or {})})
    if not public:
        c["clientAuthenticatorType"] = auth
        if auth.startswith("client-secret"): c["secret"] = sec(cid + "-secret")
    if not std: c["redirectUris"] = []; c["attributes"].pop("pkce.code.challenge.method")
    c.update(kw); return c

BCL = {"backchannel.logout.url": a.proxy + "/.authferry/bcl/modern", "backchannel.logout.session.required": T, "backchannel.logout.revoke.offline.tokens": T}
jwks = open(a.jwt_jwks).read().strip() if a.jwt_jwks else '{"keys":[]}'
clients = [
    client("proxy", svc=True, auds=("proxy-exchange",), attrs=BCL),
    client("proxy-public", public=True),
    client("proxy-ropc", direct=True, auds=("proxy-exchange",)),                          # password grant, as legacy apps still use
    client("proxy-brief", std=False, direct=True, auds=("proxy-exchange",), attrs={"access.token.lifespan": "2"}),   # the same, of which a token is soon too old
    client("proxy-light", attrs={"client.use.lightweight.access.token.enabled": T}),      # almost empty access tokens: introspect
    client("svc", std=False, svc=True),
    client("directory", std=False, svc=True),                                              # may look people up, see its service account below
    client("provisioning", std=False, svc=True),                                           # may make accounts and set passwords, see its service account below
    client("proxy-exchange", std=False, svc=True, attrs={"standard.token.exchange.enabled": T, "standard.token.exchange.enableRefreshRequestedTokenType": "SAME_SESSION"}),
    client("proxy-dpop", direct=True, auds=("proxy-exchange",), attrs={"dpop.bound.access.tokens": T}),
    client("proxy-mtls", auth="client-x509", svc=True, auds=("proxy-exchange",), attrs={"x509.subjectdn": "CN=proxy-mtls,O=authferry test", "x509.allow.regex.pattern.comparison": "false", "tls.client.certificate.bound.access.tokens": T}),
    client("proxy-secret-jwt", auth="client-secret-jwt", attrs={"token.endpoint.auth.signing.alg": "HS256"}),
    client("proxy-jwt", auth="client-jwt", svc=True, attrs={"use.jwks.string": T, "jwks.string": jwks, "token.endpoint.auth.signing.alg": "RS256"}),
    client("proxy-par", attrs={"require.pushed.authorization.requests": T}),
    client("proxy-bridge", std=False, auds=("legacy-api",), attrs={"oauth2.jwt.authorization.grant.enabled": T, "oauth2.jwt.authorization.grant.idp": "legacy-bridge"}),  # RFC 7523: legacy user in, NEW token out
    client("tv", public=True, std=False, attrs={"oauth2.device.authorization.grant.enabled": T}),
    client("legacy-api", std=False, attrs={"client.introspection.response.allow.jwt.claim.enabled": T}),                                                        # resource server: audience and introspection caller
]

def user(n, groups, uid, otp=False, api=True, **kw):
    creds = [dict(type="password", value=sec(n + "-pw"), temporary=False)]
    if otp: creds.append(dict(type="otp", userLabel="test", secretData=json.dumps(dict(value=OTP)), credentialData=json.dumps(dict(subType="totp", digits=6, counter=0, period=30, algorithm="HmacSHA1"))))
    return dict(id=str(uuid.uuid5(uuid.NAMESPACE_DNS, a.realm + n)), username=n, enabled=True, email=n + "@example.test", emailVerified=True, firstName=n.capitalize(), lastName="Example",
                groups=groups, attributes={"legacy_uid": [uid]} if uid else {}, credentials=creds, realmRoles=["default-roles-" + a.realm, "offline_access"], clientRoles={"legacy-api": ["access"]} if api else {}, **kw)
users = [
    user("alice", ["/staff", "/beta"], "1001", otp=True),      # internal, second factor
    user("bob", ["/testers", "/beta"], "1002"),                # trusted tester
    user("carol", ["/customers"], "1003", api=False),          # ordinary; may not be exchanged into legacy-api
    dict(user("dave", ["/customers"], "1004"), enabled=False), # disabled in NEW
    user("frank", ["/customers"], None),                       # signed up after the migration began: no legacy account
]                                                              # erin (1005) exists only in the OLD providers
users.append(dict(username="service-account-directory", enabled=True, serviceAccountClientId="directory", realmRoles=["default-roles-" + a.realm], clientRoles={"realm-management": ["view-users"]}))
users.append(dict(username="service-account-provisioning", enabled=True, serviceAccountClientId="provisioning", realmRoles=["default-roles-" + a.realm], clientRoles={"realm-management": ["view-users", "manage-users"]}))
# The crowd: cheap password hashes (one iteration, and a realm policy that says so), or a thousand imports and sign-ins would take minutes of CPU.
def cheap(password):
    salt = b"0123456789abcdef"
    return dict(type="password", secretData=json.dumps(dict(value=base64.b64encode(hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 1, 32)).decode(), salt=base64.b64encode(salt).decode())),
                credentialData=json.dumps(dict(hashIterations=1, algorithm="pbkdf2-sha256", additionalParameters={})))
for i in range(a.crowd):
    n = f"p{i + 1:04}"
    users.append(dict(user(n, ["/customers"], str(20001 + i), api=False), credentials=[cheap(sec(n + "-pw"))]))
# The bridge: the proxy has checked a legacy session, signs a short assertion (sub = legacy uid), and gets a real NEW token for the linked user.
bridge = []
if a.bridge_pub:
    bridge = [dict(alias="legacy-bridge", providerId="jwt-authorization-grant", enabled=True, hideOnLogin=True, config=dict(issuer=a.proxy + "/bridge", useJwksUrl="false", validateSignature=T, publicKeySignatureVerifier=open(a.bridge_pub).read(),
              jwtAuthorizationGrantEnabled=T, jwtAuthorizationGrantAssertionReuseAllowed="false", jwtAuthorizationGrantAllowedClockSkew="5", jwtAuthorizationGrantMaxAllowedAssertionExpiration="120", jwtAuthorizationGrantAssertionSignatureAlg="RS256"))]
    for u in users:
        for uid in u.get("attributes", {}).get("legacy_uid", []): u["federatedIdentities"] = [dict(identityProvider="legacy-bridge", userId=uid, userName=u["username"])]
profile = dict(attributes=[dict(name=n, displayName=n, permissions=dict(view=["admin", "user"], edit=["admin", "user"]), multivalued=False) for n in ("username", "email", "firstName", "lastName")]
               + [dict(name="legacy_uid", displayName="legacy uid", permissions=dict(view=["admin", "user"], edit=["admin"]), multivalued=False)])
realm = dict(
    realm=a.realm, enabled=True, sslRequired="none", displayName="New identity provider", loginWithEmailAllowed=True,
    accessTokenLifespan=a.access_ttl, ssoSessionIdleTimeout=1800, ssoSessionMaxLifespan=36000, accessCodeLifespan=60,
    revokeRefreshToken=True, refreshTokenMaxReuse=0,            # rotation: an old refresh token kills the session
    oauth2DeviceCodeLifespan=120, oauth2DevicePollingInterval=1,
    bruteForceProtected=False, otpPolicyType="totp", otpPolicyCodeReusable=True,
    defaultSignatureAlgorithm="RS256", eventsEnabled=True, eventsExpiration=3600, enabledEventTypes=["LOGIN", "LOGIN_ERROR", "CODE_TO_TOKEN", "REFRESH_TOKEN", "REVOKE_GRANT", "LOGOUT"],   # what arrives is counted here
    **({"passwordPolicy": "hashAlgorithm(pbkdf2-sha256) and hashIterations(1)"} if a.crowd else {}),
    groups=[dict(name=g) for g in ("staff", "testers", "beta", "customers")],
    roles=dict(client={"legacy-api": [dict(name="access")]}),
    clients=clients, users=users, identityProviders=bridge,
    components={"org.keycloak.userprofile.UserProfileProvider": [dict(providerId="declarative-user-profile", config={"kc.user.profile.config": [json.dumps(profile)]})]},
)
if a.old:
    realm.pop("otpPolicyCodeReusable"); realm.pop("components")
    realm["users"] = [u for u in users if u["username"] != "frank"] + [user("erin", ["/customers"], "1005", api=False)]
    for u in realm["users"]: u["enabled"] = True
print(json.dumps(realm, indent=1))
