#!/usr/bin/env bash
# Keycloak (NEW identity provider), from Maven Central. http://127.0.0.1:8180/realms/new and, for mTLS,
# https://127.0.0.1:8543/realms/new. Its state is a file that is written with each commit. A start is a clean slate; with IDPS_KEEP=1
# it goes on with the state of a process that was killed.
# KC_VERSION KC_PORT KC_TLS_PORT KC_REALM KC_SALT KC_FEATURES KC_NAME change what is started.
. "$(dirname "$0")/lib.sh"
V="${KC_VERSION:-26.7.4}" PORT="${KC_PORT:-8180}" TLS="${KC_TLS_PORT:-8543}" REALM="${KC_REALM:-new}" NAME="${KC_NAME:-keycloak}"
ISSUER="http://127.0.0.1:$PORT/realms/$REALM"
T0=$(now_ms)
if running "$NAME"; then ready "$NAME" "$T0" "$ISSUER"; exit 0; fi
"$IDPS_DIR/make-pki.sh"
HOME_DIR="$IDPS_CACHE/keycloak-$V"
if [ ! -e "$HOME_DIR/bin/kc.sh" ]; then
  rm -rf "$IDPS_CACHE/.kc"; mkdir -p "$IDPS_CACHE/.kc"
  unzip -q "$(mvn_get org.keycloak keycloak-quarkus-dist "$V" zip)" -d "$IDPS_CACHE/.kc"
  mv "$IDPS_CACHE/.kc/keycloak-$V" "$HOME_DIR"; rm -rf "$IDPS_CACHE/.kc"
fi
export JAVA_HOME="${KC_JAVA_HOME:-$(dirname "$(dirname "$(readlink -f "$(command -v java)")")")}"
BUILD=(--db=dev-mem --https-client-auth=request --features="${KC_FEATURES:-token-exchange-standard,dpop,jwt-authorization-grant}" --health-enabled=true)
STAMP="$HOME_DIR/.built"
if [ "$(cat "$STAMP" 2>/dev/null)" != "${BUILD[*]}" ]; then   # once per cache: the Quarkus build step
  nice -n 10 "$HOME_DIR/bin/kc.sh" build "${BUILD[@]}" >"$IDPS_RUN/log/$NAME-build.log" 2>&1 || { tail -20 "$IDPS_RUN/log/$NAME-build.log"; exit 1; }
  echo "${BUILD[*]}" >"$STAMP"
fi
mkdir -p "$HOME_DIR/data/import"; rm -f "$HOME_DIR"/data/import/*
python3 "$IDPS_DIR/keycloak/make-realm.py" --realm "$REALM" --proxy "$PROXY_ORIGIN" --jwt-jwks "$PKI/jwt.jwks" --bridge-pub "$PKI/jwt.pub" --salt "${KC_SALT:-}" --crowd "${KC_CROWD:-0}" >"$HOME_DIR/data/import/$REALM-realm.json"
export KC_BOOTSTRAP_ADMIN_USERNAME=admin KC_BOOTSTRAP_ADMIN_PASSWORD="${KC_ADMIN_PASSWORD:-admin}"
export JAVA_OPTS="${KC_JAVA_OPTS:--Xms128m -Xmx512m -XX:MaxMetaspaceSize=256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dfile.encoding=UTF-8 -XX:+ExitOnOutOfMemoryError -Djava.security.egd=file:/dev/urandom -Djava.net.preferIPv4Stack=true}"
[ -n "${IDPS_KEEP:-}" ] || rm -rf "${IDPS_RUN:?}/$NAME"
mkdir -p "$IDPS_RUN/$NAME"
start_bg "$NAME" "$HOME_DIR/bin/kc.sh" start --optimized --db-url="jdbc:h2:file:$IDPS_RUN/$NAME/db;NON_KEYWORDS=VALUE;WRITE_DELAY=0" --cache=local --import-realm --http-enabled=true --http-host=127.0.0.1 --http-port="$PORT" \
  --https-port="$TLS" --https-certificate-file="$PKI/server.crt" --https-certificate-key-file="$PKI/server.key" \
  --https-trust-store-file="$PKI/ca-trust.p12" --https-trust-store-password=changeit --https-trust-store-type=PKCS12 \
  --truststore-paths="$PKI/ca.crt" --hostname-strict=false --http-management-port="${KC_MGMT_PORT:-9180}" --log-level="${KC_LOG:-info}"
wait_http "$NAME" "$ISSUER/.well-known/openid-configuration" 240
ready "$NAME" "$T0" "$ISSUER"
