"""The published Wycheproof vectors for JWS and JWK, judged by the function that judges tokens (`examples/jws-verify.rs`)."""
import hashlib
import json
import os
import pathlib
import shutil
import subprocess

from world import ROOT, sh

# As a module of Go, whose sum the Go program checks; and the two files of it.
MODULE = "github.com/C2SP/wycheproof@v0.0.0-20250901140545-b51abcfb8daf"
SUM = "h1:5BKKVVVj676FUWirLcouEEL6GCYR9X0opkMlEUck8FY="
FILES = {
    "json_web_signature_test.json": (401, "8da21f0380fd74a4bc97222f7eb10b63c6c4ae24622f1edb124eaa0a186d9416"),
    "json_web_key_test.json": (26, "800284baf3b9d48213cedb49c1eea97e61abf73a504b2e7eece685387b2a03a2"),
}

# Vectors of which another one says the opposite: whatever is answered, one of the two is not met.
NOT_MET = {
    ("json_web_signature_test.json", 367): "invalid, and the same text as the valid 357",
    ("json_web_signature_test.json", 370): "invalid, and the same text as the valid 357",
    ("json_web_signature_test.json", 372): "valid, with a character that is no base64url (RFC 7515 §2), as others that are invalid",
    ("json_web_signature_test.json", 373): "valid, with a character that is no base64url (RFC 7515 §2), as others that are invalid",
    ("json_web_signature_test.json", 346): "valid, by PS384 under a key whose `alg` is another, as the invalid 340",
    ("json_web_signature_test.json", 350): "valid, by PS384 under a key whose `alg` is another, as the invalid 340",
}


def vectors():
    """The directory of the vectors, or why there is none."""
    go = shutil.which("go") or "/usr/local/go/bin/go"
    if not os.path.exists(go):
        return None, "no Go here"
    code, said = sh(go, "mod", "download", "-json", MODULE, timeout=600)
    try:
        found = json.loads(said[said.index("{"):])
    except ValueError:
        found = {}
    if code or found.get("Sum") != SUM:
        return None, f"{MODULE} cannot be had: {found.get('Error', said[-200:])}"
    return pathlib.Path(found["Dir"]) / "testvectors_v1", None


def wycheproof(skip):
    """`skip` is raised where the vectors cannot be had."""
    where, why = vectors()
    if why:
        raise skip(why)
    code, said = sh("cargo", "build", "-q", "--example", "jws-verify", timeout=3600, cwd=ROOT)
    if code:
        return False, said.strip()[-300:]
    program = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug/examples/jws-verify"
    wrong, met, total, told = [], [], 0, []
    for name, (number, digest) in FILES.items():
        text = (where / name).read_bytes()
        if hashlib.sha256(text).hexdigest() != digest:
            return False, f"{name} is another file"
        tests = [(group, test) for group in json.loads(text)["testGroups"] for test in group["tests"]]
        if len(tests) != number:
            return False, f"{name}: {len(tests)} vectors, not {number}"
        lines = []
        for group, test in tests:
            keys = group.get("public", group.get("private"))
            lines.append(json.dumps({"jwks": keys if "keys" in keys else {"keys": [keys]}, "jws": test["jws"]}))
        said = subprocess.run([program], input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=600).stdout.splitlines()
        if len(said) != number:
            return False, f"{name}: {len(said)} verdicts for {number} vectors"
        taken = [0, 0]
        for (_, test), verdict in zip(tests, said):
            good = verdict == "valid"
            taken[test["result"] != "valid"] += good
            if good == (test["result"] == "valid"):
                if (name, test["tcId"]) in NOT_MET:
                    met.append(test["tcId"])
            elif (name, test["tcId"]) not in NOT_MET:
                wrong.append(f"{name} {test['tcId']}: {test['result']}, answered {verdict}")
        valid = sum(test["result"] == "valid" for _, test in tests)
        total += number
        told.append(f"{name.split('_test')[0]}: {taken[0]} of {valid} valid taken, {taken[1]} of {number - valid} invalid")
    known = sorted(number for _, number in NOT_MET)
    return not wrong and not met, f"{total} vectors; {'; '.join(told)}; against another vector: {known}" + (f"; wrong: {wrong}" if wrong else "") + (f"; met after all: {met}" if met else "")
