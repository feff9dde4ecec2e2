"""Rows that are about people and their sessions: killed while the store is written, providers that are away, many sessions that
are due at once, clocks that jump, two faults at once. What was acknowledged holds, nobody is somebody else, and nothing opens.
"""
import itertools
import json
import os
import pathlib
import random
import re
import signal
import socket
import threading
import time

import mixed
import world
from ground import Clock, Ground, Skip, preload
from world import ask

ADMIN = "admin-token-of-the-suites-0123456789"


class Estate:
    """An instance with two providers and an upstream; sessions are in the embedded store unless somebody wants Redis."""

    def __init__(self, sessions, wrap=(), more=""):
        self.dir = pathlib.Path(world.tempfile.mkdtemp(dir=world.WORK))
        self.redis = mixed.Redis(self.dir)
        self.old, self.new, self.back = mixed.Idp(self.dir / "old"), mixed.Idp(self.dir / "new"), mixed.Upstream()
        self.proxy = mixed.Own(self.dir, self.redis, self.old, self.new, self.back, 5)
        text = self.proxy.config.read_text()
        text, found = re.subn(r"sessions: \{.*\}\n", f"sessions: {{ store: embedded, max_per_subject: 10000, {sessions} }}\n{more}", text)
        assert found == 1
        self.proxy.config.write_text(text)
        self.proxy.wrap = (*mixed.FIRST, *wrap)
        self.proxy.stop()
        self.proxy.start()
        self.serves()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for one in (self.redis, self.old, self.new, self.back):
            if one.process.poll() is None:
                one.go_on()
                one.kill()
        if self.proxy.process.poll() is None:
            self.proxy.stop()

    def serves(self):
        """Waits until both providers can judge."""
        end = time.time() + 60
        while '"usable":false' in ask(self.proxy.admin, "/-/ready", {"Host": f"127.0.0.1:{self.proxy.admin}"})[2].decode():
            if time.time() > end:
                raise RuntimeError("a provider stays degraded")
            time.sleep(0.05)

    def sign_in(self, who):
        line = mixed.Line(self.proxy, tls=True)
        mixed.Load.sign_in(who, line)
        return line

    def sign_in_at(self, name, doors):
        """Signs somebody in whose browser belongs to a provider; `last` is who."""
        self.last, line = f"l{random.randrange(10**6)}", doors[name]
        mixed.Load.sign_in(self.last, line)
        return line

    def sign_out(self, line):
        """Whether it was acknowledged. What the browser had stays in `line`."""
        kept = dict(line.cookies)
        origin = {"Origin": f"https://127.0.0.1:{self.proxy.tls}", "Sec-Fetch-Site": "same-origin"}
        status = line.ask("POST", "/.authferry/logout", origin, b"")[0]
        line.cookies = kept
        return status in (302, 303)

    def token(self, side, who, life=600):
        return side.keys.sign("at+jwt", {**mixed.provider.claims(side.issuer, who, "app", life), "client_id": "load", "jti": os.urandom(8).hex()})

    def revoke(self, who):
        """Ends all that one person has; whether that was acknowledged."""
        body = json.dumps({"target": {"kind": "subject", "subject": who}, "reason": "a test", "confirm": 10_000}).encode()
        headers = {"Host": f"127.0.0.1:{self.proxy.admin}", "Authorization": f"Bearer {ADMIN}", "Content-Type": "application/json"}
        return ask(self.proxy.admin, "/admin/v1/revocations", headers, method="POST", body=body)[0] == 200


def stands(line, who, path="/page", headers=None):
    """How a request of somebody's fares: `in`, `out`, the status of an outage, or that they are somebody else."""
    status, _, text = line.ask("GET", path, headers)
    if status == 200:
        told = mixed.shown(text)
        return "in" if told == [who] else f"SOMEBODY ELSE: {told}"
    return "out" if status in (302, 303, 401, 403) else status


def row_9(cycles=500):
    """kill -9 in the middle of sign-ins, sign-outs and revocations, again and again: what was acknowledged holds, and it starts by itself."""
    wrong, slowest, n = [], 0.0, itertools.count()
    counts = {"sign-ins": 0, "sign-outs": 0, "revocations": 0}
    with Estate("revalidate: 1h") as estate:
        proxy, live, over, hold = estate.proxy, [], [], threading.Lock()
        for cycle in range(cycles):
            stop = threading.Event()

            def work(kind):
                draw = random.Random(f"{cycle}-{kind}")
                try:
                    while not stop.is_set():
                        if kind == "in":
                            who = f"p{next(n)}"
                            line = estate.sign_in(who)
                            with hold:
                                counts["sign-ins"] += 1
                                live.append((who, line))
                            continue
                        with hold:
                            one = live.pop(draw.randrange(len(live))) if len(live) > 4 else None
                        if one is None:
                            time.sleep(0.005)
                            continue
                        who, line = one
                        # Without an answer nobody knows: it is in neither list then.
                        if estate.sign_out(line) if kind == "out" else estate.revoke(who):
                            with hold:
                                counts["sign-outs" if kind == "out" else "revocations"] += 1
                                over.append((who, line))
                except (OSError, ValueError, TypeError, mixed.http.client.HTTPException):
                    pass  # It has been killed.

            threads = [threading.Thread(target=work, args=(kind,)) for kind in ("in", "in", "out", "revoke")]
            for thread in threads:
                thread.start()
            time.sleep(random.uniform(0.05, 0.4))
            proxy.stop()
            stop.set()
            for thread in threads:
                thread.join()
            start = time.time()
            # An error here is a start that needs somebody.
            proxy.start()
            slowest = max(slowest, time.time() - start)
            for expected, people in (("in", live[-8:]), ("out", over[-16:])):
                for who, line in people:
                    line.close()
                    end = time.time() + 10
                    while isinstance(how := stands(line, who), int) and time.time() < end:
                        time.sleep(0.05)
                    if how != expected:
                        wrong.append((cycle, who, how, f"not {expected}"))
            # The earlier ones are looked at once more at the end.
            if wrong:
                break
        for expected, people in (("in", live), ("out", over)):
            for who, line in random.Random(9).sample(people, min(200, len(people))):
                how = stands(line, who)
                if how != expected:
                    wrong.append(("at the end", who, how, f"not {expected}"))
    text = f"{cycle + 1} times killed: {', '.join(f'{count} {kind}' for kind, count in counts.items())} acknowledged; started again within {slowest:.1f} s each time"
    return not wrong and all(counts.values()), text + (f"; WRONG: {wrong[:5]}" if wrong else "; all of them hold")


def callback(line):
    """A login that has come back from its provider: what is left to do is a call."""
    page = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    place = mixed.urllib.parse.urlsplit(line.ask("GET", "/page", page)[1]["location"])
    asked = mixed.http.client.HTTPConnection(place.netloc, timeout=10)
    asked.request("GET", f"{place.path}?{place.query}&login_hint=begun")
    place = mixed.urllib.parse.urlsplit(asked.getresponse().getheader("location"))
    asked.close()
    return lambda: line.ask("GET", f"{place.path}?{place.query}", page)


def row_11():
    """A provider is away: its keys count for a day and no longer, sessions one period more and nobody is signed out; the other one is not concerned."""
    library = preload()
    clock, said, revalidate = Clock(library), [], 60
    with Estate(f"revalidate: {revalidate}s, idle: 12h", wrap=clock.wrap) as estate:
        api, sessions, doors = mixed.Line(estate.proxy), {}, {}
        page = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        sides = {"old": estate.old, "new": estate.new}

        def door(line):
            """Where somebody is sent to sign in: the name of a provider, or a status."""
            status, fields, _ = line.ask("GET", "/page", page)
            place = fields.get("location", "")
            return next((name for name, side in sides.items() if status == 302 and place.startswith(side.issuer)), status)

        end = time.time() + 60
        while sessions.keys() != sides.keys() or not doors.keys() >= sides.keys():
            if time.time() > end:
                raise RuntimeError(f"not both sides: {[*sessions]}, {[*doors]}")
            stranger = mixed.Line(estate.proxy, tls=True)
            doors.setdefault(door(stranger), stranger)
            if len(sessions) == 2:
                continue
            who = f"s{random.randrange(10**6)}"
            line = estate.sign_in(who)
            # Whoever was sent on has signed in at both: the last one counts.
            last = {name: given[-1] for name, given in ((name, side.given(who)) for name, side in sides.items()) if given}
            sessions.setdefault(max(last, key=last.get), (who, line))

        def token(side, hours):
            told = mixed.provider.claims(side.issuer, "user01", "app", 600)
            moved = {name: told[name] + hours * 3_600 for name in ("iat", "exp")}
            return {"Authorization": "Bearer " + side.keys.sign("at+jwt", {**told, **moved, "client_id": "load", "jti": os.urandom(8).hex()})}

        def settled(ask_, wanted, seconds=30):
            end = time.time() + seconds
            while (how := ask_()) != wanted and time.time() < end:
                time.sleep(0.1)
            return how

        at = lambda name: stands(sessions[name][1], sessions[name][0])
        good = all(at(name) == "in" for name in sides) and all(stands(api, "user01", "/api/x", token(side, 0)) == "in" for side in sides.values())
        keys = {hours: token(estate.new, hours) for hours in (0, 23, 25)}
        begun = callback(doors["new"])
        estate.new.kill()
        # A login that had begun there ends with a page that says so, and a new one once a few calls have found nobody: an address
        # that is known is no sign of life.
        a_page = lambda status, fields, text: status == 503 and fields.get("content-type", "").startswith("text/html") and fields.get("retry-after", "").isdigit() and b"<html" in text.lower()
        status, fields, text = begun()
        outage, since = a_page(status, fields, text), time.time()
        new = settled(lambda: doors["new"].ask("GET", "/page", page)[0], 503)
        known, outage = time.time() - since, outage and a_page(*doors["new"].ask("GET", "/page", page))
        good &= outage and new == 503 and not doors["new"].signed_in()
        said.append(f"a login that had begun: {status}" + (" with a page" if outage else f" IS NO PAGE {fields}") + f", a new one {new} after {known:.1f} s")
        # Who belongs to the other one signs in there.
        good &= door(doors["old"]) == "old" and stands(estate.sign_in_at("old", doors), estate.last) == "in"
        seen = []
        for seconds, wanted in ((0, "in"), (int(revalidate * 1.2), "in"), (revalidate * 3, 503)):
            clock.set(seconds)
            time.sleep(1.2)
            how, other = settled(lambda: at("new"), wanted), settled(lambda: at("old"), "in")
            seen.append(f"after {seconds} s {how}, the other's {other}")
            good &= (how, other) == (wanted, "in")
        # Nobody was signed out by that.
        estate.new.start()
        back = settled(lambda: at("new"), "in", 60)
        good &= back == "in"
        seen.append(f"once it is back {back}")
        said.append("sessions: " + ", ".join(seen))
        estate.new.kill()
        seen = []
        for hours, wanted in ((0, "in"), (23, "in"), (25, 503)):
            clock.set(hours * 3_600)
            time.sleep(1.2)
            how = settled(lambda: stands(api, "user01", "/api/x", keys[hours]), wanted)
            other = settled(lambda: stands(api, "user01", "/api/x", token(estate.old, hours)), "in")
            seen.append(f"after {hours} h {how}, the other's {other}")
            good &= (how, other) == (wanted, "in")
        said.append("tokens: " + ", ".join(seen))
    return good, "; ".join(said)


def row_13(seconds=40, each=8):
    """Keys that nobody has published come from everywhere, as fast as they can: the key set is fetched for them once in 10 s at most, who has a known key never waits, and a key that is published is found."""
    with Estate("revalidate: 1h") as estate:
        proxy, side = estate.proxy, estate.new
        text = proxy.config.read_text()
        proxy.config.write_text(text.replace("  drain: {", "  trusted_proxies: [127.0.0.0/8]\n  drain: {", 1))
        proxy.stop()
        proxy.start()
        estate.serves()
        api, known = mixed.Line(proxy), {"Authorization": f"Bearer {estate.token(side, 'user01')}"}
        good = stands(api, "user01", "/api/x", known) == "in"
        body = mixed.provider.b64(json.dumps(mixed.provider.claims(side.issuer, "admin", "app", 600)).encode())
        stop, counts, opened, hold = threading.Event(), {}, [], threading.Lock()

        def flood(number):
            draw, line = random.Random(number), mixed.Line(proxy)
            while not stop.is_set():
                head = mixed.provider.b64(json.dumps({"alg": "RS256", "typ": "at+jwt", "kid": f"{draw.randrange(10**15)}"}).encode())
                token = f"{head}.{body}.{mixed.provider.b64(draw.randbytes(256))}"
                try:
                    status = line.ask("GET", "/api/x", {"Authorization": f"Bearer {token}", "X-Forwarded-For": f"198.18.{draw.randrange(250)}.{draw.randrange(250)}"})[0]
                except (OSError, mixed.http.client.HTTPException) as why:
                    status = type(why).__name__
                with hold:
                    counts[status] = counts.get(status, 0) + 1
                    if isinstance(status, int) and status < 400:
                        opened.append(token)

        begin = time.time()
        threads = [threading.Thread(target=flood, args=(number,)) for number in range(each)]
        for thread in threads:
            thread.start()
        slowest, landed, rotated, fresh = 0.0, None, None, None
        while time.time() - begin < seconds:
            start = time.time()
            good &= stands(api, "user01", "/api/x", known) == "in"
            slowest = max(slowest, time.time() - start)
            # Half way there is a new key, at the provider and nowhere else.
            if rotated is None and time.time() - begin > seconds / 2:
                os.kill(side.process.pid, signal.SIGUSR1)
                files = len(list(side.directory.glob("*.pem")))
                while len(list(side.directory.glob("*.pem"))) == files:
                    time.sleep(0.05)
                time.sleep(0.5)
                rotated, fresh = time.time(), {"Authorization": f"Bearer {estate.token(side, 'user02')}"}
            if rotated and landed is None and stands(api, "user02", "/api/x", fresh) == "in":
                landed = time.time() - rotated
            time.sleep(0.05)
        stop.set()
        for thread in threads:
            thread.join()
        took = time.time() - begin
        fetched = [float(line) for line in (side.directory / "fetched").read_text().split() if float(line) >= begin]
        most = max((sum(at <= other < at + 10 for other in fetched) for at in fetched), default=0)
    total = sum(counts.values())
    # Unknown keys cause one in ten seconds, and the first at once; one more may be the usual look for changes.
    good &= most <= 2 and len(fetched) <= took / 10 + 2 and total >= 500 * seconds and landed is not None and landed <= 15 and slowest < 1 and not opened and set(counts) <= {401, 429, 503}
    return good, f"{total} unknown keys from everywhere in {seconds} s ({', '.join(f'{count} {status}' for status, count in counts.items())}), the key set fetched {len(fetched)} times, {most} in 10 s at most; a new key counted after {landed if landed is None else round(landed, 1)} s; with a known one, slowest {slowest * 1000:.0f} ms" + ("; LET IN" if opened else "")


def calls_to(port):
    """Connections to a port of loopback that are open at the side of whoever asked."""
    lines = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(line.split()[2].endswith(f":{port:04X}") and line.split()[3] == "01" for line in lines)


def row_12(askers=300):
    """A provider stands still: whoever needs its word is told so in time, it is asked 64 things at once at most, and whose key is known never waits."""
    with Estate("revalidate: 1h") as estate:
        api, known = mixed.Line(estate.proxy), {"Authorization": f"Bearer {estate.token(estate.old, 'user01')}"}
        opaque = lambda name: {"Host": "machines.test", "Authorization": f"Bearer opaque-user02-{name}"}
        good = stands(api, "user01", "/api/x", known) == "in" and stands(api, "user02", "/x", opaque("first")) == "in"
        estate.old.hang()
        # Those that are kept for the next, of the same address as a provider of tokens too.
        went, hold, kept = [], threading.Lock(), calls_to(estate.old.port)

        def asks(name):
            line, start = mixed.Line(estate.proxy), time.time()
            try:
                how = stands(line, "user02", "/x", opaque(name))
            except (OSError, mixed.http.client.HTTPException) as why:
                how = type(why).__name__
            line.close()
            with hold:
                went.append((how, time.time() - start))

        threads = [threading.Thread(target=asks, args=(number,)) for number in range(askers)]
        for thread in threads:
            thread.start()
        most, slowest, quick = 0, 0.0, 0
        while any(thread.is_alive() for thread in threads):
            most = max(most, calls_to(estate.old.port))
            start = time.time()
            good &= stands(api, "user01", "/api/x", known) == "in"
            slowest, quick = max(slowest, time.time() - start), quick + 1
            time.sleep(0.02)
        estate.old.go_on()
        start = time.time()
        while (how := stands(api, "user02", "/x", opaque("last"))) != "in" and time.time() - start < 30:
            time.sleep(0.1)
        back = time.time() - start
    longest = max(took for _, took in went)
    good &= {how for how, _ in went} == {503} and longest < 11 and 0 < most <= 64 + kept and slowest < 1 and back < 20
    return good, f"{len(went)} of whom only it knows: {sorted({str(how) for how, _ in went})} within {longest:.1f} s, at most {most} connections ({kept} from before); {quick} with a known key, slowest {slowest * 1000:.0f} ms; it counts again {back:.1f} s after it answers"


def row_14(people=5_000, few=200):
    """So many sessions are due at once: each is refreshed once, nobody loses theirs, and the provider is never asked more than so many things at a time. Those that come all the time are each due at a moment of their own, and whoever was told to wait waits."""
    revalidate = 45
    with Estate(f"revalidate: {revalidate}s, idle: 5h") as estate:
        lines, failed, hold = [], [], threading.Lock()
        names = iter(f"m{n}" for n in range(people))

        def begin():
            while True:
                with hold:
                    who = next(names, None)
                if who is None:
                    return
                try:
                    line = estate.sign_in(who)
                    line.close()
                    with hold:
                        lines.append((who, line))
                except (OSError, ValueError, TypeError, mixed.http.client.HTTPException) as why:
                    with hold:
                        failed.append(f"{type(why).__name__}: {why}")

        def all_at_once(body, many=16):
            threads = [threading.Thread(target=body) for _ in range(many)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        all_at_once(begin)
        before = len(estate.old.refreshes()) + len(estate.new.refreshes())
        # All of them are due, for so long that none counts any more without its owner.
        time.sleep(2 * revalidate + 5)
        todo, wrong, told, start = list(lines), [], 0, time.time()

        def come():
            nonlocal told
            while True:
                with hold:
                    one = todo.pop() if todo else None
                if one is None:
                    return
                who, line = one
                how = stands(line, who)
                line.close()
                with hold:
                    if isinstance(how, int) and time.time() - start < 600:
                        # It is told to come again.
                        told += 1
                        todo.insert(0, one)
                    elif how != "in":
                        wrong.append((who, how))

        all_at_once(come)
        took = time.time() - start
        at_first = len(estate.old.refreshes()) + len(estate.new.refreshes()) - before
        sides, few = (estate.old, estate.new), lines[-few:]

        def last():
            """When each of them was refreshed last."""
            return {token.rsplit(".", 1)[0]: at for side in sides for token, at in side.refreshes()}

        def keep_coming(enough):
            """They come twice a second, in turn, until it is enough."""
            end, over = time.time() + 3 * revalidate, threading.Event()

            def some(part):
                while not over.is_set():
                    for who, line in part:
                        how = stands(line, who)
                        if how != "in":
                            with hold:
                                wrong.append((who, how))
                    over.wait(0.5)

            threads = [threading.Thread(target=some, args=(few[n::16],)) for n in range(16)]
            for thread in threads:
                thread.start()
            while not enough() and time.time() < end:
                time.sleep(0.5)
            over.set()
            for thread in threads:
                thread.join()
            return time.time() < end

        names_of_few, before_that = {who for who, _ in few}, last()
        again = lambda since: lambda: all(since[who] < at for who, at in last().items() if who in names_of_few)
        came = keep_coming(again(before_that))
        # At 80 % of the period, more or less by a tenth of that: one count for each quarter of that time.
        lags, quarters = [last()[who] - before_that[who] for who in names_of_few], [0] * 4
        for lag in lags:
            quarters[min(3, max(0, int((lag / revalidate - 0.72) / 0.04)))] += 1
        # Both providers turn everybody away for a while, and say when to come again.
        wait = 4
        for side in sides:
            (side.directory / "busy").write_text(str(wait))
        turned = lambda: [(who, float(at)) for side in sides for who, at in (line.split() for line in (side.directory / "turned-away").read_text().splitlines())]
        came &= keep_coming(lambda: all(sum(who == name for who, _ in turned()) >= 2 for name in names_of_few))
        since = last()
        for side in sides:
            (side.directory / "busy").unlink()
        came &= keep_coming(again(since))
        gaps = {}
        for who, at in sorted(turned(), key=lambda one: one[1]):
            gaps.setdefault(who, []).append(at)
        soonest = min(b - a for all_of_one in gaps.values() for a, b in itertools.pairwise(all_of_one))
        all_ = [token for side in (estate.old, estate.new) for token, _ in side.refreshes()]
        refreshed, twice = len(all_) - before, len(all_) - len(set(all_))
        most = max(int((side.directory / "most").read_text()) for side in (estate.old, estate.new))
    good = not failed and not wrong and len(lines) == people and at_first == people and refreshed >= people + 2 * len(few) and twice == 0 and most <= 64
    good &= came and 0.7 * revalidate < min(lags) and min(quarters) >= len(few) / 20 and soonest >= wait - 0.1
    text = f"{len(lines)} sessions, {at_first} refreshes in {took:.0f} s, {twice} refresh tokens twice, at most {most} at once at one provider; {told} times somebody was told to come again; {len(few)} that keep coming are refreshed after {min(lags):.1f} to {max(lags):.1f} of {revalidate} s, {quarters} in the quarters; at 429 with {wait} s they were asked for again after {soonest:.1f} s at the soonest, {len(turned())} times"
    return good, text + (f"; LOST: {wrong[:5]}" if wrong else "") + (f"; no sign-in: {failed[:3]}" if failed else "")


class Named:
    """The resolver, as one more of what can be away: it is silent, knows nobody, or knows the name without an address."""

    def __init__(self, ground):
        self.ground, self.process = ground, self

    def start(self):
        self.ground.be_well("names")

    def kill(self):
        self.ground.be_bad("names")

    def poll(self):
        return 0


def row_15(orders=36):
    """Whatever is there before it or comes after it, in any order: it starts, says what is missing, serves what can be judged, and lets nobody in whom nobody can judge."""
    said, wrong, slowest = [], [], 0.0
    shared = pathlib.Path(world.tempfile.mkdtemp(dir=world.WORK))
    redis, old, new, back, ground = mixed.Redis(shared), mixed.Idp(shared / "old"), mixed.Idp(shared / "new"), mixed.Upstream(), Ground("orders")
    servers = {"redis": redis, "old": old, "new": new, "upstream": back, "names": Named(ground)}
    proxy = mixed.Own(shared, redis, old, new, back, 5, ground)
    names = [*itertools.permutations(servers)]
    random.Random(15).shuffle(names)
    try:
        for order in names[:orders]:
            proxy.stop()
            for server in servers.values():
                server.kill()
            # Nothing is remembered of keys that it had.
            for left in ground.disk.path.iterdir():
                world.shutil.rmtree(left) if left.is_dir() else left.unlink()
            start = time.time()
            proxy.start()
            slowest = max(slowest, time.time() - start)
            api, up, tokens = mixed.Line(proxy), set(), {}
            forged = {"Authorization": "Bearer " + new.keys.sign("at+jwt", {**mixed.provider.claims(new.issuer, "admin", "other", 600), "client_id": "load", "jti": "x"})}
            for name in (None, *order):
                if name:
                    servers[name].start()
                    up.add(name)
                for side in {"old", "new"} & up:
                    told = servers[side]
                    tokens[side] = {"Authorization": "Bearer " + told.keys.sign("at+jwt", {**mixed.provider.claims(told.issuer, "user01", "app", 600), "client_id": "load", "jti": os.urandom(8).hex()})}
                for side, token in tokens.items():
                    whole, end = {"redis", side, "upstream", "names"} <= up, time.time() + 30
                    while ((how := stands(api, "user01", "/api/x", token)) == "in") != whole and time.time() < end:
                        time.sleep(0.1)
                    if (how == "in") != whole or how not in ("in", 502, 503):
                        wrong.append((order, name, side, how))
                ready = ask(proxy.admin, "/-/ready", {"Host": f"127.0.0.1:{proxy.admin}"})[2].decode()
                live = ask(proxy.admin, "/-/healthy", {"Host": f"127.0.0.1:{proxy.admin}"})[0]
                stranger = stands(api, "admin", "/api/x", forged)
                missing = [side for side in ("old", "new") if side not in up and not re.search(rf'"{side}"[^}}]*"usable":false', ready)]
                if live != 200 or stranger not in ("out", 503) or missing or ("redis" not in up and '"store":false' not in ready):
                    wrong.append((order, name, f"healthy {live}, stranger {stranger}, not named {missing}", ready))
            api.close()
            if wrong:
                break
    finally:
        for server in servers.values():
            if server.process.poll() is None:
                server.kill()
        proxy.stop()
        ground.close()
    return not wrong, f"{min(orders, len(names))} orders of a store, two providers, an upstream and the resolver of its name: started within {slowest:.1f} s without any of them" + (f"; WRONG: {wrong[:2]}" if wrong else "; at each step what was there was served, what was missing was named, and nobody came in who could not be judged")


def row_24():
    """The clock jumps: what was ended stays so, and what is over, once it is swept; timers do not notice; it shows."""
    clock, said, good = Clock(preload()), [], True
    with Estate("absolute: 1m, revalidate: 1h", wrap=clock.wrap) as estate:
        proxy, api = estate.proxy, mixed.Line(estate.proxy)
        people = {who: estate.sign_in(who) for who in ("over", "left", "barred")}
        good &= all(stands(line, who) == "in" for who, line in people.items())
        good &= estate.sign_out(people["left"]) and estate.revoke("barred")
        # The first one is over after a minute, and swept half a minute later.
        time.sleep(95)
        credential = {"Authorization": f"Bearer {estate.token(estate.new, 'user01')}"}
        # An hour back, an hour on, and where it was: nobody is in again who was out.
        for offset, token in ((0, "in"), (-3_600, "out"), (3_600, "out"), (0, "in")):
            clock.set(offset)
            time.sleep(1.5)
            seen = {who: stands(line, who) for who, line in people.items()}
            seen["token"] = stands(api, "user01", "/api/x", credential)
            good &= seen == {"over": "out", "left": "out", "barred": "out", "token": token}
            said.append(f"{offset // 3600:+} h: {', '.join(f'{name} {how}' for name, how in seen.items())}")
        # It shows beside the clock of a provider, once that has been asked something.
        clock.set(-3_600)
        time.sleep(1.5)
        try:
            estate.sign_in("late")
        except ValueError:
            pass  # What it says is not good yet, by a clock that is wrong.
        skew = max(abs(proxy.metric(f'authferry_clock_skew_seconds{{provider="{name}"}}')) for name in ("old", "new"))
        good &= skew > 3_000
        said.append(f"an hour back it counts {skew:.0f} s")
        # To and fro by two seconds, ten times a second: nobody notices.
        clock.set(0)
        time.sleep(1.5)
        fresh, went, end, slowest = estate.sign_in("fresh"), [], time.time() + 8, 0.0
        stop = threading.Event()

        def wobble():
            for offset in itertools.cycle((2, 0, -2, 0)):
                if stop.wait(0.1):
                    return
                clock.set(offset)

        thread = threading.Thread(target=wobble)
        thread.start()
        while time.time() < end:
            start = time.time()
            went += [stands(fresh, "fresh"), stands(api, "user01", "/api/x", credential)]
            slowest = max(slowest, time.time() - start)
        # A timer: the upstream says nothing, and is given up after its 5 s whatever the clock says.
        estate.back.hang()
        start = time.time()
        status = api.ask("GET", "/api/x", credential)[0]
        waited = time.time() - start
        estate.back.go_on()
        stop.set()
        thread.join()
        good &= set(went) == {"in"} and status == 504 and 4 < waited < 8
        said.append(f"to and fro: {len(went)} requests, {went.count('in')} good, slowest {slowest * 1000:.0f} ms; a silent upstream {status} after {waited:.1f} s")
    return good, "; ".join(said)


def row_26(clients=1_000):
    """A thousand clients where 256 files may be open: who is in stays in and can sign in, operators see it, nothing spins, and it serves at once when they leave."""
    with Estate("revalidate: 1h", wrap=("sh", "-c", 'ulimit -n 256 && exec "$@"', "sh")) as estate:
        proxy = estate.proxy
        early, kept = estate.sign_in("early"), mixed.Line(proxy, tls=True)
        kept.ask("GET", "/page")
        busy = lambda: sum(map(int, pathlib.Path(f"/proc/{proxy.pid()}/stat").read_text().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")
        held = []
        for _ in range(clients):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", proxy.plain))
            held.append(one)
        time.sleep(1)
        before, start = busy(), time.time()
        time.sleep(4)
        share = (busy() - before) / (time.time() - start)
        start = time.time()
        admin = ask(proxy.admin, "/-/healthy", {"Host": f"127.0.0.1:{proxy.admin}"})[0]
        waited = time.time() - start
        # New sessions are written, and their provider and the application are asked, while nobody else gets a place.
        mixed.Load.sign_in("during", kept)
        during, stays = stands(kept, "during"), stands(early, "early")
        for one in held:
            one.close()
        start = time.time()
        while time.time() - start < 20:
            try:
                if ask(proxy.plain, "/api/x", timeout=1)[0] == 401:
                    break
            except OSError:
                time.sleep(0.02)
        back = time.time() - start
        alive = proxy.process.poll() is None
    good = share < 0.2 and admin == 200 and waited < 2 and during == stays == "in" and back < 1 and alive
    return good, f"{clients} clients held: {share * 100:.0f} % of a core, the admin listener {admin} after {waited * 1000:.0f} ms, who was in {stays}, a sign-in meanwhile {during}; served again {back * 1000:.0f} ms after they left"


# Of two that concern the same server one has no effect.
PAIRS = {"redis": "redis", "redis-hangs": "redis", "redis-slow": "redis", "redis-cut": "redis", "old": "old", "old-hangs": "old", "new": "new", "new-hangs": "new", "upstream": "upstream", "upstream-hangs": "upstream", "kill": "self", "term": "self", "reload": "self", "garbage": "self"}


def pairs_at_once(pairs, draw, load):
    """Brings each pair about, and holds the history: an error counts where neither explains it. Says whether it was so, and what was seen."""
    done = []

    def trouble():
        load.stop.wait(10)
        for pair in pairs:
            if load.stop.is_set() or load.end - 30 < time.time():
                return
            load.hit_both(pair, draw.randrange(2), draw.uniform(1, 3))
            done.append(pair)
            load.stop.wait(8)
        # Nothing is left to come.
        load.end = time.time()
        load.seconds = round(load.end - load.begin)

    try:
        alive = load.run(trouble)
        said, must_not = load.said()
        quiet = not load.panicked()
    finally:
        load.close()
    seen = all(load.counts.values()) and len(done) == len(pairs)
    text = f"{len(done)} of {len(pairs)} pairs: {said}"
    return bool(alive and quiet and seen and not must_not), text + ("" if alive else "; AN INSTANCE ENDED") + ("" if quiet else "; IT PANICKED") + (f"; {must_not[:3]}" if must_not else "")


def row_31(seed):
    """Every pair of the faults of row 32 at once, and then a full disk, a resolver that is away and a clock that jumps with one of each: an error counts where neither explains it, and nothing opens."""
    pairs = [pair for pair in itertools.combinations(PAIRS, 2) if PAIRS[pair[0]] != PAIRS[pair[1]]]
    draw = random.Random(seed)
    draw.shuffle(pairs)
    good, said = pairs_at_once(pairs, draw, mixed.Load(20 + len(pairs) * 40, instances=2, seed=seed, patience=5, wires=True))
    also, more = row_31_ground(seed)
    return good and also, f"seed {seed}, {said}; of the ground they stand on: {more}"


def row_31_ground(seed):
    """What an instance stands on is bad while something else is: alone each of these is noticed by nobody."""
    draw = random.Random(seed)
    groups = [[kind for kind, of in PAIRS.items() if of == one] for one in ("redis", "old", "new", "upstream")]
    groups += [["kill", "term"], ["reload", "garbage"]]
    pairs = [(kind, draw.choice(group)) for kind in Ground.KINDS for group in groups] + [*itertools.combinations(Ground.KINDS, 2)]
    draw.shuffle(pairs)
    return pairs_at_once(pairs, draw, mixed.Load(20 + len(pairs) * 40, instances=2, seed=seed, patience=5, wires=True, grounds=True))
