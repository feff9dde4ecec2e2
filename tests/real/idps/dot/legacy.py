"""A legacy Django site in one file: sessions in a SQL table, and an OAuth 2 / OpenID provider (django-oauth-toolkit) with opaque tokens.

  python legacy.py setup      create the database, users, groups, applications
  gunicorn legacy:application
Environment: DOT_DB (folder), DOT_PORT, PROXY_ORIGIN, DOT_SALT, DOT_ACCESS_TTL, DOT_GRACE (for how many seconds a refresh token may be shown once more)
"""
import hashlib, json, os, sys
import django
from django.conf import settings

DB, PORT, PX, SALT = os.environ["DOT_DB"], os.environ.get("DOT_PORT", "8880"), os.environ.get("PROXY_ORIGIN", "http://127.0.0.1:9080"), os.environ.get("DOT_SALT", "")
BASE = f"http://127.0.0.1:{PORT}"
def sec(s): return s + ("-" + hashlib.sha256((SALT + s).encode()).hexdigest()[:12] if SALT else "")

settings.configure(
    DEBUG=False, SECRET_KEY="legacy-" + SALT + "-secret-key-for-tests-only-0123456789", ALLOWED_HOSTS=["127.0.0.1", "localhost"], ROOT_URLCONF=__name__, USE_TZ=True,
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "oauth2_provider"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware", "django.middleware.csrf.CsrfViewMiddleware", "django.contrib.auth.middleware.AuthenticationMiddleware"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.path.join(DB, "legacy.sqlite3"), "OPTIONS": {"timeout": 20, "init_command": "PRAGMA journal_mode=WAL;"}}},
    LOGGING={"version": 1, "disable_existing_loggers": False, "handlers": {"c": {"class": "logging.StreamHandler"}}, "loggers": {"django.request": {"handlers": ["c"], "level": "ERROR"}}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField", LOGIN_URL="/accounts/login/", LOGIN_REDIRECT_URL="/whoami", SESSION_COOKIE_NAME="sessionid", SESSION_COOKIE_AGE=3600,
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher", "django.contrib.auth.hashers.PBKDF2PasswordHasher"],   # as such sites still have
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True, "OPTIONS": {"context_processors": ["django.template.context_processors.request", "django.contrib.auth.context_processors.auth"], "loaders": [
        ("django.template.loaders.locmem.Loader", {"registration/login.html": "<!doctype html><title>Sign in</title>{% if form.errors %}<p>Wrong name or password</p>{% endif %}<form method=post>{% csrf_token %}{{ form.as_p }}<input type=hidden name=next value='{{ next }}'><button>Sign in</button></form>",
            "leave.html": "<!doctype html><title>Sign out</title><form method=post action='/accounts/logout/'>{% csrf_token %}<button>Sign out</button></form>"}),
        "django.template.loaders.app_directories.Loader"]}} | {"APP_DIRS": False}],
    OAUTH2_PROVIDER=dict(OIDC_ENABLED=True, OIDC_RSA_PRIVATE_KEY=open(os.path.join(DB, "oidc.key")).read() if os.path.exists(os.path.join(DB, "oidc.key")) else "", OIDC_ISS_ENDPOINT=BASE + "/o", OAUTH2_VALIDATOR_CLASS=__name__ + ".Validator",
        OAUTH_DEVICE_VERIFICATION_URI=BASE + "/o/device/", OAUTH_DEVICE_USER_CODE_GENERATOR=lambda: "".join(__import__("secrets").choice("BCDFGHJKLMNPQRSTVWXZ") for _ in range(8)), SCOPES={"openid": "sign in", "profile": "name", "email": "e-mail", "groups": "groups", "introspection": "introspect", "legacy:read": "read"}, PKCE_REQUIRED=False, ACCESS_TOKEN_EXPIRE_SECONDS=int(os.environ.get("DOT_ACCESS_TTL", "300")),
        REFRESH_TOKEN_EXPIRE_SECONDS=3600, ROTATE_REFRESH_TOKEN=True, REFRESH_TOKEN_GRACE_PERIOD_SECONDS=int(os.environ.get("DOT_GRACE", "0")), REFRESH_TOKEN_REUSE_PROTECTION=True, OIDC_RP_INITIATED_LOGOUT_ENABLED=True, OIDC_RP_INITIATED_LOGOUT_ALWAYS_PROMPT=False, ALLOWED_REDIRECT_URI_SCHEMES=["http", "https"]),
)
sys.modules.setdefault("legacy", sys.modules[__name__])
django.setup()
from django.contrib.auth import logout, views as av               # noqa: E402
from django.contrib.auth.decorators import login_required         # noqa: E402
from django.http import HttpResponse, JsonResponse                # noqa: E402
from django.urls import include, path                             # noqa: E402
from django.views.decorators.csrf import csrf_exempt              # noqa: E402
from django.views.decorators.http import require_POST             # noqa: E402
from django.views.generic import TemplateView                     # noqa: E402
from oauth2_provider.oauth2_validators import OAuth2Validator     # noqa: E402
from oauth2_provider.views import ConnectDiscoveryInfoView, IntrospectTokenView   # noqa: E402

class Validator(OAuth2Validator):
    oidc_claim_scope = None
    def validate_silent_login(self, request): return bool(getattr(request, "user", None) and request.user.is_authenticated)
    def validate_silent_authorization(self, request): return True
    def get_additional_claims(self):
        return {"sub": lambda r: str(r.user.pk), "preferred_username": lambda r: r.user.username, "name": lambda r: r.user.get_full_name(), "email": lambda r: r.user.email,
                "legacy_uid": lambda r: str(r.user.pk), "groups": lambda r: [g.name for g in r.user.groups.all()]}

class Introspect(IntrospectTokenView):
    """Says of a person's token whose it is by number too, as its ID tokens do (RFC 7662 section 2.2 leaves room for that)."""
    @staticmethod
    def get_token_response(token_value=None):
        answer = IntrospectTokenView.get_token_response(token_value)
        said = json.loads(answer.content)
        if "username" in said:
            from django.contrib.auth.models import User
            user = User.objects.get(username=said["username"])
            said |= dict(legacy_uid=str(user.pk), groups=[g.name for g in user.groups.all()])
        return JsonResponse(said, status=answer.status_code)

class Discovery(ConnectDiscoveryInfoView):
    """Says where tokens are given back (RFC 7009), which the library says in its metadata of RFC 8414 alone."""
    def get(self, request, *args, **kwargs):
        answer = super().get(request, *args, **kwargs)
        return JsonResponse(json.loads(answer.content) | dict(revocation_endpoint=BASE + "/o/revoke_token/"))

@csrf_exempt
@require_POST
def ended(request):
    """For who signs people out on their behalf: nobody's form comes along, so nobody can be asked for its token."""
    logout(request)
    return HttpResponse(status=204)

@login_required
def whoami(request):
    return JsonResponse(dict(user=request.user.username, uid=request.user.pk, groups=[g.name for g in request.user.groups.all()], session=request.session.session_key, headers=dict(request.headers)))

urlpatterns = [path("accounts/login/", av.LoginView.as_view()), path("accounts/logout/", av.LogoutView.as_view(next_page="/accounts/login/")), path("accounts/leave/", TemplateView.as_view(template_name="leave.html")), path("accounts/ended/", ended), path("whoami", whoami),
               path("o/.well-known/openid-configuration", Discovery.as_view()), path("o/introspect/", Introspect.as_view()), path("o/", include("oauth2_provider.urls", namespace="oauth2_provider"))]
from django.core.wsgi import get_wsgi_application                 # noqa: E402
application = get_wsgi_application()

def setup():
    from django.core.management import call_command
    call_command("migrate", verbosity=0)
    from django.contrib.auth.models import Group, User
    from oauth2_provider.models import get_application_model
    for n, uid, groups in (("alice", 1001, "staff beta"), ("bob", 1002, "testers beta"), ("carol", 1003, "customers"), ("dave", 1004, "customers"), ("erin", 1005, "customers")):
        u = User(pk=uid, username=n, email=n + "@example.test", first_name=n.capitalize(), last_name="Example", is_active=n != "dave"); u.set_password(sec(n + "-pw")); u.save()
        for g in groups.split(): u.groups.add(Group.objects.get_or_create(name=g)[0])
    App = get_application_model()
    for cid, kind, grant in (("proxy", "confidential", "authorization-code"), ("proxy-public", "public", "authorization-code"), ("proxy-ropc", "confidential", "password"), ("svc", "confidential", "client-credentials"),
                             ("legacy-api", "confidential", "client-credentials"), ("tv", "public", "urn:ietf:params:oauth:grant-type:device_code")):
        App.objects.create(client_id=cid, client_secret=sec(cid + "-secret"), name=cid, client_type=kind, authorization_grant_type=grant, redirect_uris=f"{PX}/.authferry/cb/legacy {PX}/.authferry/cb/modern" if grant == "authorization-code" else "",
                           post_logout_redirect_uris=f"{PX}/.authferry/logout/done", algorithm="RS256" if grant in ("authorization-code", "password") else "", skip_authorization=True)

if __name__ == "__main__" and sys.argv[1:] == ["setup"]: setup()
