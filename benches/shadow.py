#!/usr/bin/env python3
"""What second opinions at full budget cost the latency of requests: pairs of rounds with and without them, interleaved.

usage: benches/shadow.py BINARY [--rounds 41] [--seconds 8] [--rate 1000] [--unbounded]

Requests of many people come when they are due, and each token is judged anew, so that each is offered for a second look; the
directory answers, and a person is asked about again after a second. The budget is the one that is shipped, and used up all the time; with
`--unbounded` everybody is asked about, fifty times as many. In each round both proxies have their turn, the first one by lot.
Prints the median of the paired differences of p50 and p99 with its 95 % interval (bootstrap, seeded); fails when that of p99 lies above
0. A mean would be what the two or three rounds say in which the host was elsewhere. It needs two cores that nobody else wants. A request with a verdict that is kept is offered to nobody: instructions.py says what that costs.
"""
import argparse, importlib.machinery, importlib.util, os, pathlib, random, re, statistics, sys, time, urllib.request

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
PLAIN, AT_BUDGET, UNBOUNDED = "first-sight", "first-sight-budget", "first-sight-shadow"
RESAMPLED = 10_000


def rig():
    loader = importlib.machinery.SourceFileLoader("peers", str(HERE / "peers/run"))
    spec = importlib.util.spec_from_loader("peers", loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def interval(differences, lots):
    medians = sorted(statistics.median(lots.choices(differences, k=len(differences))) for _ in range(RESAMPLED))
    return medians[int(0.025 * RESAMPLED)], medians[int(0.975 * RESAMPLED) - 1]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--unbounded", action="store_true")
    args = parser.parse_args()
    if args.rounds < 15:
        parser.error("fewer than 15 rounds show nothing")
    peers, lots = rig(), random.Random(1)
    peers.targets.install(["authferry", "hyper-floor"])
    bench = peers.Bench(argparse.Namespace(authferry=args.binary, connections=64, distinct=10_000))
    looked = UNBOUNDED if args.unbounded else AT_BUDGET
    seen, proxies, admin = {PLAIN: [], looked: []}, {}, None
    try:
        for scenario in seen:
            admin = f"127.0.0.1:{peers.free_port()}"
            os.environ["AUTHFERRY_ADMIN_LISTEN"] = admin
            proxies[scenario] = bench.start("authferry", scenario)
        tokens = bench.world.file("RS256").read_text().split()
        heads = {scenario: b"".join(proxy.head(("Authorization", "Bearer " + token)) for token in tokens) for scenario, proxy in proxies.items()}

        def turn(scenario, seed, seconds):
            command = [peers.targets.RIG / "pace", f"127.0.0.1:{proxies[scenario].port}", args.rate, seconds, 64, seed]
            found = peers.generator(command, heads[scenario])
            if found["bad"]:
                sys.exit(f"{found['bad']} of {found['requests']} answers are wrong")
            return found

        # Everybody's first visit writes a row: that is no part of it.
        for scenario in seen:
            turn(scenario, 1, 2 * len(tokens) // args.rate + 1)
        for n in range(args.rounds):
            order = list(seen)
            lots.shuffle(order)
            # The same arrivals for both.
            for scenario in order:
                seen[scenario].append(turn(scenario, int(time.time()) + n, args.seconds))
            plain, looked_at = (seen[scenario][-1] for scenario in (PLAIN, looked))
            print(f"round {n + 1}: p99 {plain['p99']:.0f} µs without, {looked_at['p99']:.0f} µs with", flush=True)
        with urllib.request.urlopen(f"http://{admin}/metrics", timeout=5) as answer:
            metrics = answer.read().decode()
    finally:
        bench.close()
    total = lambda family: sum(float(value) for value in re.findall(rf"^authferry_shadow_{family}_total\{{.*\}} (\S+)$", metrics, re.M))
    asked, skipped = total("comparisons"), total("skipped")
    print(f"{asked:.0f} second opinions, {skipped:.0f} skipped")
    if not asked or not args.unbounded and skipped < asked:
        sys.exit("the budget was not used up")
    failed = False
    for figure in ("p50", "p99"):
        differences = [with_[figure] - without[figure] for with_, without in zip(seen[looked], seen[PLAIN])]
        least, most = interval(differences, lots)
        failed |= figure == "p99" and 0 < least
        print(f"{figure}: {statistics.median(r[figure] for r in seen[PLAIN]):.0f} µs without, {statistics.median(differences):+.1f} µs with, 95 % {least:+.1f} to {most:+.1f}, {args.rounds} rounds")
    sys.exit(failed)


if __name__ == "__main__":
    main()
