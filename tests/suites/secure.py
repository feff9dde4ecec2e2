"""TLS from outside: Mozilla's intermediate profile by sslyze, and what sslscan and testssl.sh have to say."""
import json
import re
import xml.etree.ElementTree

import world
from tools import apt, pip
from world import sh

# What testssl.sh must have looked at: an empty report finds nothing, either.
LOOKED_AT = {"SSLv2", "SSLv3", "TLS1", "TLS1_1", "TLS1_2", "TLS1_3", "heartbleed", "ROBOT", "secure_client_renego", "CRIME_TLS", "SWEET32", "FREAK", "DROWN", "LOGJAM", "BEAST", "RC4", "cipher_order", "cert_expirationStatus"}

# What needs two connections, the second with what the first was given.
RESUMES = {"sessionresumption_ticket", "sessionresumption_ID"}


def sslyze(port):
    program = pip("sslyze", "sslyze")
    out = world.WORK / f"sslyze-{port}.json"
    code, said = sh(program, "--sni", "app.test", "--mozilla_config", "intermediate", "--certinfo_ca_file", world.WORK / "ca.pem", "--json_out", out, f"127.0.0.1:{port}")
    sh(program, "--sni", "app.test", "--json_out", out, f"127.0.0.1:{port}")
    result = json.loads(out.read_text())["server_scan_results"][0]["scan_result"]
    accepted = {name: [s["cipher_suite"]["name"] for s in result[name]["result"]["accepted_cipher_suites"]] for name in result if name.endswith("_cipher_suites") and result[name]["result"]}
    wrong = [name for name, suites in accepted.items() if suites and not name.startswith(("tls_1_2", "tls_1_3"))]
    wrong += [s for s in accepted.get("tls_1_2_cipher_suites", []) if not re.match(r"TLS_ECDHE_(RSA|ECDSA)_WITH_(AES_(128|256)_GCM|CHACHA20)", s)]
    for name, bad in {"heartbleed": "is_vulnerable_to_heartbleed", "openssl_ccs_injection": "is_vulnerable_to_ccs_injection", "session_renegotiation": "is_vulnerable_to_client_renegotiation_dos", "tls_compression": "supports_compression"}.items():
        found = result.get(name, {}).get("result")
        if found and found.get(bad):
            wrong.append(name)
    compliant = code == 0 and "OK - Compliant" in said
    if not accepted.get("tls_1_3_cipher_suites"):
        wrong.append("no TLS 1.3")
    why = "" if compliant else " ".join(said.split("MOZILLA")[-1].split())[-300:] or said[-300:]
    return compliant and not wrong, f"sslyze: Mozilla intermediate {'compliant' if compliant else why}, wrong {wrong}"


def sslscan(port):
    out = world.WORK / f"sslscan-{port}.xml"
    sh(apt("sslscan", "sslscan"), f"--xml={out}", "--sni-name=app.test", f"127.0.0.1:{port}")
    test = xml.etree.ElementTree.parse(out).getroot().find("ssltest")
    on = [f"{p.get('type')}{p.get('version')}" for p in test.findall("protocol") if p.get("enabled") == "1"]
    ciphers = test.findall("cipher")
    weak = [c.get("cipher") for c in ciphers if c.get("strength") not in ("strong", "acceptable") or c.get("sslversion") not in ("TLSv1.2", "TLSv1.3")]
    flaws = [h.get("sslversion") for h in test.findall("heartbleed") if h.get("vulnerable") != "0"]
    flaws += ["compression" for c in test.findall("compression") if c.get("supported") != "0"]
    flaws += ["insecure renegotiation" for r in test.findall("renegotiation") if r.get("supported") == "1" and r.get("secure") != "1"]
    good = on == ["tls1.2", "tls1.3"] and len(ciphers) >= 4 and not weak and not flaws
    return good, f"sslscan: {' '.join(on)}, {len(ciphers)} suites, weak {weak}, flaws {flaws}"


def looks(port, name, *what):
    """What testssl.sh finds, by its own look at an address whose name nobody resolves; the name's DNS records are not ours to ask for."""
    out = world.WORK / f"testssl-{port}-{name}.json"
    sh(apt("testssl", "testssl.sh"), "--quiet", "--color", "0", "--warnings", "off", "--nodns", "min", "--ip", "127.0.0.1", "--add-ca", world.WORK / "ca.pem",
       *what, "--jsonfile", out, f"app.test:{port}", timeout=900)
    return json.loads(out.read_text())


def testssl(port):
    found = looks(port, "all")
    # A ticket of TLS 1.3 comes after the handshake, and its client does not wait for one: gone before, it has nothing to resume
    # with and says that it could not connect. That look is taken again; what it then says counts.
    for again in range(8):
        untried = {row["id"] for row in found if row["id"] in RESUMES and "connect problem" in row["finding"]}
        if not untried:
            break
        found = [row for row in found if row["id"] not in untried] + [row for row in looks(port, again, "--server-defaults") if row["id"] in untried]
    unseen = LOOKED_AT - {row["id"] for row in found}
    bad = [f"{row['id']}: {row['finding']}" for row in found if row["severity"] in ("HIGH", "CRITICAL", "FATAL", "WARN")]
    middling = [row["id"] for row in found if row["severity"] == "MEDIUM"]
    grade = next((row["finding"] for row in found if row["id"] == "overall_grade"), "?")
    return not bad and not unseen, f"testssl.sh: grade {grade}, {len(found)} findings, HIGH or worse {bad}, MEDIUM {middling}" + (f", not looked at {sorted(unseen)}" if unseen else "")


def run(port):
    told = [tool(port) for tool in (sslyze, sslscan, testssl)]
    return all(good for good, _ in told), "; ".join(said for _, said in told)
