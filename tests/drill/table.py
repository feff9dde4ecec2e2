#!/usr/bin/env python3
"""Recomputes the closing table of `authferry demo --drill --out DIR` from what was seen: table.py DIR.

Everything is counted at the browsers and at the application, but the stages and the rollbacks: these are what the operator's API
said at that moment, and the ledger, whose chain is gone through here, has the same."""
import hashlib, json, sys

def ledger(path):
    prev, count = "0" * 64, 0
    for line in open(path, encoding="utf-8"):
        record = json.loads(line)
        claimed = record.pop("hash")
        text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        hashed = hashlib.sha256(f"authferry/decision/v1\n{prev}\n{text}".encode()).hexdigest()
        count += 1
        if (record["seq"], record["prev"], hashed) != (count, prev, claimed):
            return f"no, record {count} is broken"
        prev = claimed
    return f"yes, {count} records"

def table(seen, verified):
    home, machines, headers, harmed, stages = {}, {}, {}, {}, []
    unexpected = changes = failed = rollbacks = 0
    for one in seen:
        who, event = one["who"], one["event"]
        if event == "sign_in":
            at = harmed.setdefault(one["app"], set())
            if one["ok"]:
                home[who] = one["provider"]
            else:
                at.add(who)
        elif event == "unexpected_sign_in":
            unexpected += 1
        elif event == "request":
            failed += not one["ok"]
        elif event == "machine":
            machines[who] = one["provider"]
        elif event == "headers":
            changes += headers.setdefault(who, one["lines"]) != one["lines"]
        elif event == "step":
            rollbacks += one["state"] == "rolled_back"
            stage = one["step"].split("/")[0]
            if stage not in stages and stage != "draft":
                stages.append(stage)
    moved = lambda homes: sum(home == "new" for home in homes.values())
    return [("stages gone through", f"{len(stages)} of 6"), ("people moved", f"{moved(home)} of 200"),
            ("machine clients moved", f"{moved(machines)} of 5"), ("unexpected sign-ins", unexpected),
            ("identity-header changes", changes), ("failed requests", failed),
            ("people harmed before the rollback", len(set().union(*harmed.values()))),
            ("of these, by application", ", ".join(f"{app} {len(harmed[app])}" for app in sorted(harmed))), ("automatic rollbacks", rollbacks),
            ("ledger verified", verified)]

if __name__ == "__main__":
    directory = sys.argv[1]
    seen = [json.loads(line) for line in open(f"{directory}/observations.jsonl", encoding="utf-8")]
    for what, value in table(seen, ledger(f"{directory}/decisions.jsonl")):
        print(f"{what:<40}{value}")
