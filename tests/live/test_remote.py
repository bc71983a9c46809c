"""-H HOST: what is done on another host is what would be done there, and nothing that host says is believed."""

import json
import os
import re

import pytest

from harness.images import MiB
from harness.scene import wait_until

PROTOCOL = 2  # src/remote/protocol.h
HELLO_REQUEST = b'{"execute":"hello","arguments":{"protocol":%d},"id":1}\n' % PROTOCOL


def same(net, *words, rc=0, json=False, stable=lambda text: text):
    """The command says the same through ssh as on the host itself, with the same exit code."""
    there = net.b.rechain().run(*words, json=json)
    here = net.a.rechain().run("-H", "b", *words, json=json)
    assert (here.rc, there.rc) == (rc, rc), f"{here}\n{there}"
    assert stable(here.out) == stable(there.out)
    assert stable(here.err) == stable(there.err)
    return here


def test_every_reading_command_says_the_same(net, workdir, make_vm, make_chain):
    vm = make_vm(make_chain(["template", "current1"]))
    image = make_chain(["base", "top"]).active
    for json in (False, True):
        for words in (["info", vm.qmp_path], ["chain", vm.qmp_path], ["chain", "--offline", image],
                      ["map", vm.qmp_path, "vda"], ["map", "--offline", image], ["snapshot", "list", vm.qmp_path],
                      ["job", "list", vm.qmp_path], ["op", "list"], ["recover"], ["vol", "list", workdir],
                      ["vol", "info", image], ["storage", "info"], ["config", "check"],
                      ["move", vm.qmp_path, "vda", "--to", f"{workdir}/n.qcow2", "--dry-run"]):
            same(net, *words, json=json,
                 stable=lambda text: re.sub(r"[0-9a-f]{8}|\d+\.\d s|(free|allocated)\W+\d+|\d+(\.\d+)? [KMGT]iB", "", text))


@pytest.mark.parametrize("words, rc", [
    (["info", "/no/such.qmp"], 6), (["vol", "info", "/no/such"], 3), (["op", "show", "12345678"], 3),
    (["vol", "create", "/tmp"], 2), (["frobnicate"], 2), (["vol", "info"], 2)])
@pytest.mark.parametrize("json", [False, True])
def test_errors_keep_their_lines_and_their_exit_code(net, words, rc, json):
    same(net, *words, rc=rc, json=json)


NAMES = ["a b.img", 'q"uo\'te.img', "new\nline.img", "-leading.img", "$(touch x).img", "semi;colon.img", "ünï.img",
         "back\\slash.img", "*.img", "a,b.img"]


def test_names_arrive_as_they_are(net, workdir):
    for name in NAMES:
        path = os.path.join(workdir, name)
        document = net.a.rechain().run("-H", "b", "vol", "create", path, "--capacity", "1M", json=True).expect(0).json
        assert os.path.getsize(path) == MiB and document["disks"][0]["disk"] == path
    net.a.rechain().run("-H", "b", "vol", "info", "--", "-x").expect(3)


@pytest.mark.parametrize("name", ["-oProxyCommand=touch x", "-x", "u@-oProxyCommand=x", "a b", "a;b", "a`b`", "@b", "u@", ""])
def test_names_of_hosts_that_could_be_options_are_refused(net, name):
    result = net.a.rechain().run(f"--host={name}", "version")
    assert result.rc == 2 and not result.out


def test_a_session_chooses_neither_limits_nor_journal_nor_a_third_host(net, workdir):
    inside = os.path.join(workdir, "inside")
    os.mkdir(inside)
    net.know_hosts(net.b, f"[storage]\nallow={inside}\n")
    here = net.a.rechain()
    here.run("-H", "b", "vol", "create", f"{inside}/a.img", "--capacity", "1M").expect(0)
    here.run("-H", "b", "vol", "create", f"{workdir}/a.img", "--capacity", "1M").expect(5)
    os.symlink(workdir, f"{inside}/out")
    here.run("-H", "b", "vol", "create", f"{inside}/out/a.img", "--capacity", "1M").expect(5)
    here.run("-H", "b", "vol", "info", f"{inside}/../inside/a.img").expect(0)
    here.run("-H", "b", "vol", "info", "/etc/passwd").expect(5)
    here.run("-H", "b", "--state-dir", workdir, "op", "list").expect(2)
    for option in ("--config=/dev/null", "--state-dir=/tmp", "--host=a", "--stdio"):
        with Stdio(net.b) as session:
            session.hello()
            session.send({"execute": "run", "arguments": {"argv": [option, "version"]}, "id": 2})
            assert session.read()["error"]["class"] == "usage"


def test_documents_lie_where_the_words_are_typed(net, workdir):
    with open(os.path.join(workdir, "v.xml"), "w") as file:
        file.write(f"<volume><name>x</name><capacity>1000448</capacity><target><path>{workdir}/x.img</path></target></volume>")
    net.a.rechain().run("-H", "b", "vol", "create", "--xml", file.name).expect(0)
    assert os.path.getsize(f"{workdir}/x.img") == 1000448
    same(net, "vol", "create", "--xml", "/etc/passwd", rc=2)


def test_an_operation_is_of_the_journal_there(net, workdir):
    here = net.a.rechain()
    document = here.run("-H", "b", "vol", "create", f"{workdir}/x.qcow2", "--capacity", "1G", json=True).expect(0).json
    assert document["state"] == "done"
    assert here.run("op", "list", json=True).json["operations"] == []
    assert [o["operation"] for o in here.run("-H", "b", "op", "list", json=True).json["operations"]] == \
        [document["operation"]]


def test_progress_is_shown_as_it_is_wanted_here(net, workdir):
    lines = net.a.rechain().run("-H", "b", "--progress", "json", "vol", "create", f"{workdir}/x.img", "--capacity", "1M")
    steps = [json.loads(line)["step"] for line in lines.err.splitlines()]
    assert steps[-4:] == ["begin", "fill", "settle", "publish"]
    plain = net.a.rechain().run("-H", "b", "--progress", "plain", "vol", "delete", f"{workdir}/x.img")
    assert "delete" in plain.err and "\033" not in plain.err


# ---- the other end, by hand ----

class Stdio:
    """rechain --stdio on a pipe, without any ssh."""

    def __init__(self, host):
        import subprocess
        self.process = subprocess.Popen(host.rechain()._argv(["--stdio"], False), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        env={**os.environ, "RECHAIN_STATE_DIR": host.state_dir,
                                             "XDG_CONFIG_HOME": os.path.join(host.dir, "config")})
        self.greeting = self.read()

    def send(self, message):
        self.write(json.dumps(message).encode() + b"\n")

    def write(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def read(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def hello(self):
        self.send({"execute": "hello", "arguments": {"protocol": PROTOCOL}, "id": 1})
        assert self.read() == {"return": {}, "id": 1}

    def run(self, *argv):
        """All messages up to the reply."""
        self.send({"execute": "run", "arguments": {"argv": list(argv)}, "id": 7})
        messages = [self.read()]
        while messages[-1] is not None and "event" in messages[-1]:
            messages.append(self.read())
        return messages

    def end(self):
        self.process.stdin.close()
        return self.process.wait(30)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def test_stdio_needs_no_ssh_and_takes_one_command_after_the_other(net):
    with Stdio(net.b) as session:
        assert session.greeting["rechain"]["protocol"] == PROTOCOL
        session.hello()
        for _ in range(3):
            printed, reply = session.run("version", "-o", "json")
            assert json.loads(printed["data"]["text"])["schema"] == "rechain.version/1"
            assert reply == {"return": {"exit": 0}, "id": 7}
        assert session.run("vol", "info", "/no/such")[-1]["error"]["class"] == "not-found"
        assert session.end() == 0


def test_an_interrupt_right_behind_its_command_counts(net, workdir):
    """Both come in one piece, before the command has begun."""
    source, copy = (os.path.join(workdir, name) for name in ("source.img", "copy.img"))
    with open(source, "wb") as file:
        file.write(os.urandom(8 * MiB))
    with Stdio(net.b) as session:
        session.hello()
        argv = ["vol", "copy", source, copy, "--bandwidth", "64K"]
        session.write(json.dumps({"execute": "run", "arguments": {"argv": argv}, "id": 2}).encode() + b"\n"
                      + b'{"execute":"interrupt"}\n')
        reply = session.read()
        while "event" in reply:
            reply = session.read()
        assert reply["error"]["class"] in ("interrupted", "undone")
        assert not os.path.exists(copy)
        assert session.run("version")[-1] == {"return": {"exit": 0}, "id": 7}


HOSTILE_REQUESTS = {
    "garbage": b"\x00\xff\xfe garbage\n",
    "no-object": b"[1,2,3]\n",
    "no-hello": b'{"execute":"run","arguments":{"argv":["version"]},"id":1}\n',
    "other-protocol": b'{"execute":"hello","arguments":{"protocol":99},"id":1}\n{"execute":"run","id":2}\n',
    "deep": b'{"execute":' + b"[" * 100000 + b"]" * 100000 + b"}\n",
    "unknown": HELLO_REQUEST + b'{"execute":"shell","arguments":{"argv":["id"]}}\n',
    "no-words": HELLO_REQUEST + b'{"execute":"run","arguments":{"argv":[1]},"id":2}\n',
    "nul": HELLO_REQUEST
           + b'{"execute":"run","arguments":{"argv":["vers\\u0000ion"]},"id":2}\n',
    "documents": HELLO_REQUEST
                 + (b'{"execute":"document","arguments":{"option":"--xml","text":"' + b"x" * 500000 + b'"}}\n') * 20,
}


@pytest.mark.parametrize("name", HOSTILE_REQUESTS)
def test_a_hostile_client_is_hung_up_on(net, name):
    with Stdio(net.b) as session:
        try:
            session.write(HOSTILE_REQUESTS[name])
        except BrokenPipeError:
            pass
        while session.read() is not None:
            pass
        assert session.process.wait(20) == 6


def test_a_line_without_an_end_costs_no_memory(net):
    with Stdio(net.b) as session:
        with pytest.raises(BrokenPipeError):
            for _ in range(1024):
                session.write(b"{" + b" " * MiB)
        assert session.process.wait(20) == 6


# ---- hostile servers ----

PRETENDS = """import sys
def say(text):
  sys.stdout.write(text)
  sys.stdout.flush()
line = sys.stdin.readline
"""
GREETING = f'{{"rechain":{{"protocol":{PROTOCOL},"version":"0.1.0"}}}}\\n'
HELLO = '{"return":{},"id":-1}\\n'
SERVERS = {
    "garbage": r"print('\x00\x01garbage\xff'*100, flush=True)",
    "motd": "say('Welcome to host b!\\n')",
    "silent-end": "pass",
    "other": "say('{\"rechain\":{\"protocol\":99,\"version\":\"9\"}}\\n')",
    "no-rechain": "say('{\"QMP\":{}}\\n')",
    "long-line": "say('{'); [say(' ' * (1 << 20)) for i in range(1024)]",
    "deep": "say('{\"rechain\":' + '['*200000 + ']'*200000 + '}\\n')",
    "wrong-id": f"say('{GREETING}'); line(); say('{HELLO}'); line(); say('{{\"return\":{{\"exit\":0}},\"id\":99}}\\n')",
    "no-id": f"say('{GREETING}'); line(); say('{HELLO}'); line(); say('{{\"return\":{{\"exit\":0}}}}\\n')",
    "early": f"say('{GREETING}'); line(); say('{HELLO}'); say('{{\"return\":{{\"exit\":0}},\"id\":2}}\\n'); line(); line()",
    "both": f"say('{GREETING}'); line(); say('{HELLO}'); line(); say('{{\"return\":{{\"exit\":0}},\"error\":{{}},\"id\":1}}\\n')",
    "exit": f"say('{GREETING}'); line(); say('{HELLO}'); line(); say('{{\"return\":{{\"exit\":4096}},\"id\":1}}\\n')",
    "endless": f"say('{GREETING}'); line(); say('{HELLO}'); line(); "
               "[say('{\"event\":\"print\",\"data\":{\"text\":\"' + 'x' * 900000 + '\"}}\\n') for i in range(200)]",
    "no-json": f"say('{GREETING}'); line(); say('{HELLO}'); line(); "
               "say('{\"event\":\"print\",\"data\":{\"text\":\"<html>\"}}\\n{\"return\":{\"exit\":0},\"id\":1}\\n'); line()",
}


@pytest.mark.parametrize("name", SERVERS)
def test_a_hostile_server_is_an_error_and_nothing_else(net, name):
    net.b.pretend(PRETENDS + SERVERS[name] + "\n")
    result = net.a.rechain().run("-H", "b", "version", json=True, timeout=60).expect(6)
    assert not result.out and result.error["code"] == "unreachable"
    assert len(result.err) < 4096


def test_what_it_prints_cannot_write_to_the_terminal(net):
    evil = "\\\\u001b]0;owned\\\\u0007\\\\u001b[2J\\\\u202e"
    net.b.pretend(PRETENDS + f"say('{GREETING}'); line(); say('{HELLO}'); line()\n"
                  "for event in ('print', 'note', 'say'):\n"
                  f"  say('{{\"event\":\"' + event + '\",\"data\":{{\"text\":\"{evil}\"}}}}\\n')\n"
                  f"say('{{\"error\":{{\"class\":\"refused\",\"desc\":\"{evil}\"}},\"id\":1}}\\n'); line()\n")
    result = net.a.rechain().run("-H", "b", "--color=always", "version").expect(4)
    for text in (result.out, result.err.replace("\033[1;31m", "").replace("\033[0m", "")):
        assert "\033" not in text and "\a" not in text and "\u202e" not in text and "owned" in text


def test_a_host_that_is_not_there_or_has_no_rechain_is_told_so(net):
    result = net.a.rechain().run("-H", "nobody@127.0.0.1", "version").expect(6)
    assert "cannot be reached" in result.err and "refused" in result.err
    os.unlink(os.path.join(net.b.dir, "bin", "rechain"))
    result = net.a.rechain().run("-H", "b", "version").expect(6)
    assert "has no rechain" in result.err


# ---- live operations ----

def test_a_live_move_through_ssh_keeps_every_write(net, workdir, make_vm, make_chain):
    chain = make_chain(["template", "current1"])
    vm = make_vm(chain, guest=True)
    document = net.a.rechain().run("-H", "b", "move", vm.qmp_path, "vda", "--to", f"{workdir}/new.qcow2",
                                   json=True).expect(0).json
    assert document["state"] == "done" and vm.chain() == [f"{workdir}/new.qcow2", chain.base]
    vm.guest.wait_flushed(50)
    vm.kill()
    vm.check(image=f"{workdir}/new.qcow2")


def begin_slow_move(net, workdir, vm):
    running = net.a.rechain().start("-H", "b", "--progress", "json", "move", vm.qmp_path, "vda", "--to",
                                    f"{workdir}/new.qcow2", "--bandwidth", "64K", "-o", "json")
    wait_until(lambda: '"step":"stream"' in running.err_so_far(), "the stream")
    return running


def unchanged(net, vm, workdir, chain):
    wait_until(lambda: vm.chain() == [chain.active, chain.base], "the old chain")
    wait_until(lambda: not os.path.exists(f"{workdir}/new.qcow2"), "the new file is gone")
    wait_until(lambda: not net.b.pids_of("rechain"), "the server is gone")
    assert [o["state"] for o in net.b.rechain().run("op", "list", json=True).json["operations"]] == ["undone"]


def test_ctrl_c_here_cancels_and_undoes_there(net, workdir, make_vm, make_chain):
    chain = make_chain(["template", "current1"])
    vm = make_vm(chain)
    running = begin_slow_move(net, workdir, vm)
    running.sigint()
    result = running.wait().expect(7)
    assert json.loads(result.out)["state"] == "undone"
    unchanged(net, vm, workdir, chain)


def test_ctrl_c_twice_leaves_it_to_recover(net, workdir, make_vm, make_chain):
    chain = make_chain(["template", "current1"])
    vm = make_vm(chain)
    running = begin_slow_move(net, workdir, vm)
    running.sigint()
    running.sigint()
    running.wait()
    assert running.process.returncode in (7, 8)
    net.a.rechain().run("-H", "b", "recover").expect(0)
    unchanged(net, vm, workdir, chain)


@pytest.mark.parametrize("victim", ["ssh", "client", "network"])
def test_a_lost_connection_is_a_ctrl_c_for_the_other_side(net, workdir, make_vm, make_chain, victim):
    chain = make_chain(["template", "current1"])
    vm = make_vm(chain)
    running = begin_slow_move(net, workdir, vm)
    if victim == "client":
        running.kill()
    elif victim == "ssh":
        for pid in net.a.pids_of("ssh"):
            os.kill(pid, 9)
        result = running.wait().expect(8)
        assert json.loads(result.err.strip().splitlines()[-1])["code"] == "stuck"
        assert "recover --op" in result.err
    else:
        for pid in net.b.pids_of("sshd: root@notty"):
            os.kill(pid, 9)
        running.wait().expect(8)
    unchanged(net, vm, workdir, chain)


def test_a_killed_rechain_there_is_settled_by_recover(net, workdir, make_vm, make_chain):
    chain = make_chain(["template", "current1"])
    vm = make_vm(chain)
    running = begin_slow_move(net, workdir, vm)
    for pid in net.b.pids_of("rechain", "--stdio"):
        os.kill(pid, 9)
    running.wait().expect(8)
    assert os.path.exists(f"{workdir}/new.qcow2")
    net.a.rechain().run("-H", "b", "recover").expect(0)
    unchanged(net, vm, workdir, chain)
