"""What the command line does before it needs a QEMU: help, usage errors, exit codes, streams."""

import json
import os
import re
import subprocess

import jsonschema
import pytest

from harness import ROOT
from harness import rechain as program

OPERATIONS = ["move /no/x.qmp vda --to /n", "snapshot create /no/x.qmp vda"]


@pytest.fixture
def run(tmp_path):
    def call(*argv, rc=0, **env):
        surroundings = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path), "RECHAIN_STATE_DIR": str(tmp_path / "state"),
                        "LC_ALL": "C.UTF-8", **env}
        done = subprocess.run([program.binary(), *argv], stdin=subprocess.DEVNULL, capture_output=True,
                              env=surroundings, timeout=30)
        done.out, done.err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        assert done.returncode == rc, f"{argv}: exit {done.returncode}, expected {rc}\n{done.out}\n{done.err}"
        return done
    return call


def words(line):
    return line.split()


def valid(name, text):
    document = json.loads(text)
    with open(os.path.join(ROOT, "schemas", name + ".json")) as schema:
        jsonschema.Draft7Validator(json.load(schema)).validate(document)
    return document


def table(run):
    return valid("help", run("help", "-o", "json").out)["commands"]


# ---- help ----

def test_help_lists_every_command(run):
    text = run("help").out
    assert run("--help").out == text == run("-h").out
    flat = " ".join(text.split())
    for command in table(run):
        assert command["name"] in flat


def test_every_command_has_its_help(run):
    for command in table(run):
        text = run("help", *words(command["name"])).out
        assert text.startswith(f"Usage: rechain {command['name']}")
        assert run(*words(command["name"]), "--help").out == text
        if command["built"]:
            assert "Example" in text and "Exit codes" in text
            for option in command["options"]:
                assert option["built"] == (f"--{option['name']}" in text)
        else:
            assert "not built in this version" in text.lower()


def test_help_of_a_family(run):
    text = run("help", "job").out
    assert run("job", "--help").out == text
    assert "job speed" in text and "job wait" in text


def test_help_is_quiet_on_stderr_and_fits_the_screen(run):
    for command in table(run):
        done = run("help", *words(command["name"]))
        assert not done.err and not re.search("\033", done.out)
        assert max(map(len, done.out.splitlines())) <= 90


def test_man_page_has_the_commands_of_the_table(run):
    with open(os.path.join(ROOT, "docs", "rechain.1.scd")) as page:
        text = page.read()
    section = re.search(r"# COMMANDS\n(.*?)\n# ", text, re.S).group(1)
    listed = re.findall(r"^\*([a-z -]+)\*", section, re.M)
    assert listed == [c["name"] for c in table(run) if c["built"]]


def test_man_page_has_the_options_of_the_table(run):
    with open(os.path.join(ROOT, "docs", "rechain.1.scd")) as page:
        text = page.read()
    for command in table(run):
        for option in command["options"]:
            if option["built"]:
                assert f"--{option['name']}" in text


def test_completion_is_the_newest_and_is_bash(run, tmp_path):
    text = run("help", "--completion").out
    with open(os.path.join(ROOT, "data", "completion", "rechain")) as kept:
        assert kept.read() == text, "run: rechain help --completion > data/completion/rechain"
    script = text + """
COMP_WORDS=(rechain job li) COMP_CWORD=2; _rechain; echo "${COMPREPLY[@]}"
COMP_WORDS=(rechain move vm vda --ba) COMP_CWORD=4; _rechain; echo "${COMPREPLY[@]}"
COMP_WORDS=(rechain mo) COMP_CWORD=1; _rechain; echo "${COMPREPLY[@]}"
"""
    out = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
    assert out.splitlines() == ["list", "--base --bandwidth", "move"]


def test_version(run):
    assert re.match(r"rechain \d+\.\d+\.\d+ ", run("version").out)
    assert run("--version").out == run("version").out
    assert valid("version", run("version", "-o", "json").out)["version"] in run("version").out


# ---- usage errors ----

@pytest.mark.parametrize("line, says", [
    ("", "no command"),
    ("mvoe", "did you mean 'move'"),
    ("snapshot craete x", "did you mean 'snapshot create'"),
    ("job", "there are: list, show"),
    ("job frobnicate x", "unknown command 'job frobnicate'"),
    ("info", "lacks an argument"),
    ("info /a /b", "too many: '/b'"),
    ("move /a", "lacks an argument"),
    ("op list x", "too many"),
    ("move /a vda --bandwith 5", "did you mean '--bandwidth'"),
    ("move /a vda --foreign", "'move' has no option '--foreign'"),
    ("move /a vda", "add --to FILE"),
    ("move /a vda,to=/x vdb", "write vdb,to=FILE"),
    ("move /a vda,to=/x vdb,to=/y --base none", "exactly one disk"),
    ("move /a vda,to=/x --to /y", "twice"),
    ("move /a vda,to=/x vda,to=/y", "named twice"),
    ("move /a vda,tp=/x", "a disk can have: to, base, format"),
    ("move /a vda,to=", "has no value"),
    ("move /a vda,to=/a,/b", "doubled"),
    ("move /a ,to=/x", "names no disk"),
    ("snapshot create /a --to /x", "exactly one disk"),
    ("snapshot create /a vda,base=x", "'base'"),
    ("move /a vda --to /x --bandwidth 5X", "'5X' is not a size"),
    ("move /a vda --to /x --bandwidth -5", "'-5' is not a size"),
    ("move /a vda --to /x --bandwidth 99999999999999999999", "is not a size"),
    ("move /a vda --to /x --bandwidth 9999999P", "is not a size"),
    ("move /a vda --to /x --timeout soon", "'soon' is not a duration"),
    ("move /a vda --to /x --max-pause 1x", "is not a duration"),
    ("move /a vda --to /x --pivot never", "quiesced, live"),
    ("move /a vda --to", "needs a value"),
    ("move /a vda --to /x --delete=no", "takes no value"),
    ("job speed /a j fast", "is not a size"),
    ("recover --undo --finish", "exclude each other"),
    ("info /a -o yaml", "text, json, dot"),
    ("info /a -o dot", "no picture"),
    ("info /a --progress loud", "auto, bar, plain, json, none"),
    ("chain --offline a b", "one image"),
    ("chain /a --format raw", "goes with --offline"),
    ("-z", "'-z'"),
    ("help nonsense", "unknown command 'nonsense'"),
])
def test_usage_error(run, line, says):
    done = run(*words(line), rc=2)
    assert says in done.err and not done.out
    assert 1 <= len(done.err.splitlines()) <= 3
    assert done.err.startswith("rechain: ")


def test_usage_error_as_a_document(run):
    done = run("move", "--nonsense", "-o", "json", rc=2)
    assert not done.out
    document = valid("error", done.err)
    assert document["code"] == "usage" and "nonsense" in document["message"]


@pytest.mark.parametrize("argv", [["info", ""], ["move", "/a", ""], ["", "x"], ["chain", "--offline", ""],
                                  ["--config=", "config", "check"], ["snapshot", "create", "/a", "--name", ""]])
def test_empty_words_are_refused(run, argv):
    assert "empty" in run(*argv, rc=2).err


def test_what_stands_after_two_dashes_is_no_option(run):
    assert "no VM '--help'" in run("info", "--", "--help", rc=3).err


def test_very_long_words(run):
    assert "unknown command" in run("x" * 100000, rc=2).err
    assert run("move", "/no/x", "v" * 60000 + ",to=" + "/y" * 30000, rc=6).err


def test_hostile_words_are_shown_escaped(run):
    err = run("info", "a\n\033[31mb\u202e\r", rc=3).stderr
    assert b"a\\n\\x1b[31mb\\u202e\\x0d" in err and b"\033" not in err
    assert b"\\xff" in run("info", b"a\xff", rc=3).stderr
    valid("error", run("info", b"a\xff", "-o", "json", rc=3).err)


# ---- not built ----

def test_a_command_that_is_not_built_says_so(run):
    for command in table(run):
        if command["built"]:
            continue
        line = [*words(command["name"]), "a", "b"]
        assert "is not built in this version" in run(*line, rc=4).err
        document = valid("error", run(*line, "-o", "json", rc=4).err)
        assert document["code"] == "refused"


@pytest.mark.parametrize("line", OPERATIONS)
def test_a_host_is_named_and_its_journal_is_its_own(run, line):
    assert "is no host" in run(*words(line), "-H", "-x", rc=2).err
    assert "does not go with" in run(*words(line), "--host=h", "--state-dir", "/tmp", rc=2).err


def test_a_document_is_read_before_any_vm(run, tmp_path):
    assert "'/no/x.xml'" in run("snapshot", "create", "/no/x.qmp", "--xml", "/no/x.xml", rc=3).err
    bad = tmp_path / "bad.xml"
    bad.write_text("<domainsnapshot>\n<disks>\n<disk/></disks></domainsnapshot>")
    done = run("snapshot", "create", "/no/x.qmp", "--xml", str(bad), rc=2)
    assert f"{bad}:3: <disk> lacks the attribute 'name'" in done.err
    assert valid("error", run("snapshot", "create", "/no/x.qmp", "--xml", str(bad), "-o", "json", rc=2).err)
    done = run("snapshot", "create", "/no/x.qmp", "vda", "--xml", str(bad), rc=2)
    assert "names the disks itself" in done.err


# ---- nobody there ----

@pytest.mark.parametrize("line", ["info /no/x.qmp", "chain /no/x.qmp vda", "job list /no/x.qmp",
                                  "job cancel /no/x.qmp j", "job wait unix:/no/x.qmp j", "info tcp:127.0.0.1:1",
                                  *OPERATIONS, *[line + " -n" for line in OPERATIONS]])
def test_a_monitor_that_is_not_there(run, line, tmp_path):
    done = run(*words(line), rc=6)
    assert not done.out and 1 <= len(done.err.splitlines()) <= 3
    assert valid("error", run(*words(line), "-o", "json", rc=6).err)["code"] == "unreachable"
    assert not (tmp_path / "state").exists(), "a failed look left something behind"


def test_what_is_not_in_the_journal(run, tmp_path):
    assert valid("operation-list", run("op", "list", "-o", "json").out)["operations"] == []
    assert run("op", "list").out == ""
    assert valid("operation-list", run("recover", "-o", "json").out)["operations"] == []
    for verb in "show", "wait", "cancel":
        assert valid("error", run("op", verb, "7f3a", "-o", "json", rc=3).err)["code"] == "not-found"
    assert not (tmp_path / "state").exists()


def test_an_image_that_is_not_there(run):
    assert run("chain", "--offline", "/no/such.qcow2", rc=3).err


# ---- configuration ----

def test_configured_names(run, tmp_path):
    conf = tmp_path / "c.conf"
    conf.write_text("[vm web1]\nqmp=/no/web1.qmp\n[vm web2]\nagent=/no/x\n[limits]\nbandwidth=1M\n")
    assert "web1.qmp" in run("--config", conf, "info", "web1", rc=6).err
    err = run("info", "web9", "--config", conf, rc=3).err
    assert "no VM 'web9'" in err and "web1, web2" in err
    assert "no monitor" in run("info", "web2", "--config", conf, rc=2).err
    document = valid("config", run("config", "check", "--config", conf, "-o", "json").out)
    assert document["limits"]["bandwidth"] == 1 << 20
    assert document["vms"][0] == {"name": "web1", "qmp": "/no/web1.qmp"}
    assert "held to 1.0 MiB/s" in run("move", "web1", "vda", "--to=/n", "--bandwidth=2M", "--config", conf, rc=6).err


def test_the_users_own_configuration(run, tmp_path):
    (tmp_path / "rechain").mkdir()
    (tmp_path / "rechain" / "rechain.conf").write_text("[vm own]\nqmp=/no/own.qmp\n")
    assert "own.qmp" in run("info", "own", rc=6).err
    assert "own.qmp" in run("config", "check").out
    (tmp_path / "other.conf").write_text("")
    assert "no VM 'own'" in run("info", "own", "--config", tmp_path / "other.conf", rc=3).err


def test_a_bad_configuration_names_file_and_line(run, tmp_path):
    conf = tmp_path / "c.conf"
    conf.write_text("[vm a]\nqmp=/x\n\n[limits]\nbandwith=5\n")
    for argv in ["config", "check"], ["info", "a"], ["info", "/no/x"]:
        err = run(*argv, "--config", conf, rc=2).err
        assert f"{conf}:5: unknown key 'bandwith'" in err and "bandwidth" in err
    assert "cannot read" in run("config", "check", "--config", tmp_path / "none", rc=2).err


# ---- streams ----

@pytest.mark.parametrize("line", ["version", "version -o json", "help", "help move", "help --completion", "config check"])
def test_a_full_or_closed_stdout_is_an_error(line):
    for shell in '"$0" "$@" > /dev/full', '"$0" "$@" >&-':
        done = subprocess.run(["bash", "-c", shell, program.binary(), *words(line)], capture_output=True, text=True)
        assert done.returncode == 1 and "cannot write to standard output" in done.stderr


def test_a_reader_that_goes_away_is_no_crash():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([program.binary(), "help"], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert done.returncode == 1 and b"Broken pipe" in done.stderr


def test_closed_stderr_is_no_crash():
    done = subprocess.run(["bash", "-c", '"$0" info x 2>&- <&-', program.binary()], capture_output=True)
    assert done.returncode == 3


def test_colour_only_where_it_is_wanted(run):
    assert "\033" not in run("info", "x", rc=3).err
    assert "\033[1;31m" in run("info", "x", "--color", "always", rc=3).err
    assert "\033" not in run("info", "x", "--color", "never", rc=3).err
    assert "\033" not in run("info", "x", rc=3, NO_COLOR="1", TERM="xterm").err


def test_every_schema_is_a_schema():
    folder = os.path.join(ROOT, "schemas")
    for name in os.listdir(folder):
        if name.endswith(".json"):
            with open(os.path.join(folder, name)) as schema:
                jsonschema.Draft7Validator.check_schema(json.load(schema))
