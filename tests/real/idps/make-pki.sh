#!/usr/bin/env bash
# Throw-away test PKI in $IDPS_RUN/pki: a CA, a server certificate for 127.0.0.1/localhost, client certificates
# for mTLS (RFC 8705), one of them signed by itself, a rogue CA + client certificate that must be refused, a private_key_jwt key, SAML keys.
. "$(dirname "$0")/lib.sh"
[ -s "$PKI/.done" ] && exit 0
rm -rf "$PKI"; mkdir -p "$PKI"; cd "$PKI"; umask 077
ca() { openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/O=authferry test/CN=$2" \
  -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign -keyout "$1.key" -out "$1.crt" 2>/dev/null; }
leaf() { # NAME SUBJECT CA EXT
  openssl req -newkey rsa:2048 -nodes -subj "$2" -keyout "$1.key" -out "$1.csr" 2>/dev/null
  openssl x509 -req -in "$1.csr" -CA "$3.crt" -CAkey "$3.key" -CAcreateserial -days 30 -out "$1.crt" -extfile <(printf '%b' "$4") 2>/dev/null
  rm -f "$1.csr"; }
ca ca "Test Root CA"; ca rogue-ca "Rogue CA"
leaf server "/O=authferry test/CN=localhost" ca 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n'
leaf client-mtls "/O=authferry test/CN=proxy-mtls" ca 'extendedKeyUsage=clientAuth\n'
leaf client-other "/O=authferry test/CN=someone-else" ca 'extendedKeyUsage=clientAuth\n'
leaf client-rogue "/O=authferry test/CN=proxy-mtls" rogue-ca 'extendedKeyUsage=clientAuth\n'
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=proxy-self-signed -addext extendedKeyUsage=clientAuth \
  -keyout client-self-signed.key -out client-self-signed.crt 2>/dev/null
leaf jwt "/CN=proxy-jwt" ca 'keyUsage=digitalSignature\n'          # private_key_jwt client key
leaf saml-idp "/CN=legacy saml idp" ca 'keyUsage=digitalSignature\n'
openssl x509 -in jwt.crt -noout -pubkey >jwt.pub
openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out dpop.pem
openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out dpop-thief.pem
python3 - >jwt.jwks <<'PY'
import base64, hashlib, json, subprocess
n = bytes.fromhex(subprocess.check_output(["openssl", "x509", "-in", "jwt.crt", "-noout", "-modulus"], text=True).split("=")[1].strip())
b = lambda x: base64.urlsafe_b64encode(x).rstrip(b"=").decode()
k = dict(e="AQAB", kty="RSA", n=b(n))
print(json.dumps(dict(keys=[dict(k, use="sig", alg="RS256", kid=b(hashlib.sha256(json.dumps(k, separators=(",", ":")).encode()).digest()))])))
PY
keytool -importcert -noprompt -alias ca -file ca.crt -keystore ca-trust.p12 -storetype PKCS12 -storepass changeit >/dev/null 2>&1 || true  # Java trust store, when there is a JDK
chmod 644 ./*.crt; date >.done; echo "PKI in $PKI"
