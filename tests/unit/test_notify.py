# SPDX-License-Identifier: GPL-3.0-or-later
"""Deliveries to a real mail server and a real web server: any text arrives, failures are counted, no secret shows."""

from __future__ import annotations

import hashlib
import hmac
import json
import sys
import types
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from ansible_collections.dbops.postgres.plugins.module_utils.dbops.cli.main import main
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.errors import BadInput
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.notify import state as states
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.notify.due import Problem, Report
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.notify.tell import tell, tell_verified, test
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.settings import from_mapping
from ansible_collections.dbops.postgres.plugins.module_utils.dbops.severity import Severity
from tests.support.receivers import PASSWORD, USER, certificate, mail_server, web_server

START = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
NASTY = 'a "quote" \\ and a\nnewline, <script>alert(1)</script> & <!channel> ü \udce4 \x1b[31m'
send_test = test  # pytest would take it for one of ours
del test


@pytest.fixture(scope="module")
def credentials(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def web():
    with web_server() as found:
        yield found


def secret(path: Path, content: str) -> str:
    path.write_text(content + "\n")
    path.chmod(0o600)
    return str(path)


def settings(place, *channels, **more):
    section = {"channels": list(channels), **more}
    if place.is_dir():
        (place / "state").mkdir(exist_ok=True)
    return from_mapping({"cluster": "main", "host": {"state_path": str(place / "state")}, "notifications": section})


def report(severity=Severity.CRITICAL, *, hours=0, words=NASTY):
    problem = Problem("archiving", "disk physical", severity, words, "Do <this>.")
    problems = () if severity is Severity.OK else (problem,)
    return Report(
        "main", START + timedelta(hours=hours), severity, f"main is {severity.value}: {words}", problems, "db1"
    )


def mail(place, port, credentials, security="starttls", **changes):
    channel = {
        "name": "mail", "type": "email", "host": "localhost", "port": port, "security": security,
        "sender": "dbops@example.org", "recipients": ["ops@example.org"], "ca_cert": str(credentials.certificate),
    }  # fmt: skip
    if security != "none":
        channel.update(user=USER, password_file=secret(place / "password", PASSWORD))
    return {**channel, **changes}


def results(outcome):
    return [(item.channel, item.event, item.result) for item in outcome.deliveries]


# -- mail


@pytest.mark.parametrize("security", ["starttls", "tls", "none"])
def test_mail_arrives_encrypted_whatever_the_text_and_as_one_thread(tmp_path, credentials, security):
    with mail_server(security, credentials if security != "none" else None) as box:
        found = settings(tmp_path, mail(tmp_path, box.port, credentials, security))
        for number, severity in enumerate([Severity.WARNING, Severity.CRITICAL, Severity.OK, Severity.CRITICAL]):
            assert [item[2] for item in results(tell(found, report(severity, hours=number)))] == ["sent"]
    assert box.logins == ([] if security == "none" else [True] * 4)
    first, second, third, another = box.messages
    assert [item["subject"].split("]")[0] for item in box.messages] == [
        "[WARNING", "[CRITICAL, worse", "[RESOLVED, OK", "[CRITICAL",
    ]  # fmt: skip
    assert first["In-Reply-To"] is None
    assert {second["References"], third["References"], third["In-Reply-To"]} == {first["Message-ID"]}
    assert len({item["Message-ID"] for item in box.messages}) == 4
    assert another["References"] is None
    text, html = (first.get_body((kind,)).get_content() for kind in ("plain", "html"))
    for part in ('a "quote" \\ and a newline', "ü", "next: Do <this>."):
        assert part in text
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "\x1b" not in text + html


def test_no_password_is_said_before_the_connection_is_encrypted(tmp_path, credentials):
    with mail_server("none") as box:  # offers no STARTTLS
        found = settings(tmp_path, mail(tmp_path, box.port, credentials))
        assert [item[2] for item in results(tell(found, report()))] == ["failed"]
    assert box.messages == []
    with pytest.raises(BadInput, match="in the clear"):
        settings(tmp_path, mail(tmp_path, 25, credentials, security="none", user="x", password_file="/x"))


def test_a_certificate_that_nobody_vouches_for_and_a_wrong_password_are_failures(tmp_path, credentials):
    with mail_server("tls", credentials) as box:
        outcome = tell(settings(tmp_path, mail(tmp_path, box.port, credentials, "tls", ca_cert=None)), report())
        assert "certificate" in outcome.deliveries[0].message
        channel = mail(tmp_path, box.port, credentials, "tls")
        secret(Path(channel["password_file"]), "hunter2")
        outcome = tell(settings(tmp_path, channel), report())
        assert "was not accepted" in outcome.deliveries[0].message
        assert "hunter2" not in str(outcome)
    assert box.messages == []


def test_one_bad_address_is_told_and_keeps_the_message_from_nobody_and_repeats_nothing(tmp_path, credentials):
    with mail_server("none") as box:
        box.refusing.add("gone@example.org")
        channel = mail(tmp_path, box.port, credentials, "none", recipients=["ops@example.org", "gone@example.org"])
        outcome = tell(settings(tmp_path, channel), report())
        assert results(outcome) == [("mail", "problem", "sent")]
        assert "gone@example.org" in outcome.warnings[0]
        assert results(tell(settings(tmp_path, channel), report())) == []
        assert len(box.messages) == 1


# -- the web


def test_slack_gets_the_text_whole_and_no_word_of_it_calls_the_channel(tmp_path, web):
    url = secret(tmp_path / "slack.url", f"{web.url}/services/T/B/xyz")
    outcome = tell(settings(tmp_path, {"name": "chat", "type": "slack", "url_file": url}), report())
    assert results(outcome) == [("chat", "problem", "sent")]
    (request,) = web.to("/services/T/B/xyz")
    text = request.json()["text"]
    assert 'a "quote" \\ and a newline' in text
    assert "<!channel>" not in text
    assert "&lt;!channel&gt;" in text


def test_a_webhook_is_signed_over_time_and_body(tmp_path, web, monkeypatch):
    monkeypatch.setenv("HOOK", f"{web.url}/hook")
    key = secret(tmp_path / "key", "s3cret")
    channel = {"name": "hook", "type": "webhook", "url_env": "HOOK", "secret_file": key}
    assert results(tell(settings(tmp_path, channel), report()))[0][2] == "sent"
    (request,) = web.requests
    moment = request.headers["X-Dbops-Timestamp"]
    expected = hmac.new(b"s3cret", moment.encode() + b"." + request.body, hashlib.sha256).hexdigest()
    assert request.headers["X-Dbops-Signature"] == f"sha256={expected}"
    body = request.json()
    assert (body["schema"], body["event"], body["cluster"], body["severity"]) == ("v1", "problem", "main", "CRITICAL")
    assert body["problems"][0]["message"] == NASTY  # as it was: a machine escapes for itself
    assert "s3cret" not in str(request)


@pytest.mark.parametrize("status", [500, 403, 307])
def test_what_the_server_does_not_take_is_a_failure_and_tried_again_by_the_next_check(tmp_path, web, status):
    url = secret(tmp_path / "url", f"{web.url}/T0PSECRET")
    channels = ({"name": "chat", "type": "slack", "url_file": url}, {"name": "hook", "type": "webhook", "url": web.url})
    found = settings(tmp_path, *channels)
    web.statuses["/T0PSECRET"] = status
    outcome = tell(found, report())
    assert results(outcome) == [("chat", "problem", "failed"), ("hook", "problem", "sent")]
    assert f"HTTP {status}" in outcome.deliveries[0].message
    assert "T0PSECRET" not in str(outcome)
    assert web.to("/elsewhere") == []  # nothing goes where nobody sent it
    assert states.counts(found.state_path) == {
        ("chat", "sent"): 0, ("chat", "failed"): 1, ("hook", "sent"): 1, ("hook", "failed"): 0,
    }  # fmt: skip
    web.statuses.clear()
    assert results(tell(settings(tmp_path, *channels), report(hours=1))) == [("chat", "problem", "sent")]


def test_one_dead_channel_of_each_kind_stops_nothing(tmp_path, web, credentials, monkeypatch):
    def breaks():
        raise RuntimeError("tgram://T0PSECRET")

    broken = types.ModuleType("apprise")
    broken.Apprise = breaks
    monkeypatch.setitem(sys.modules, "apprise", broken)
    channels = [
        mail(tmp_path, 1, credentials),
        {"name": "nowhere", "type": "webhook", "url": "http://127.0.0.1:1/T0PSECRET"},
        {"name": "no file", "type": "slack", "url_file": str(tmp_path / "missing")},
        {"name": "no url", "type": "slack", "url_file": secret(tmp_path / "odd", "ftp://T0PSECRET")},
        {"name": "no variable", "type": "slack", "url_env": "NOT_SET_ANYWHERE"},
        {"name": "open file", "type": "slack", "url_file": secret(tmp_path / "open", web.url)},
        {"name": "library", "type": "apprise", "url_file": secret(tmp_path / "apprise", "tgram://T0PSECRET")},
        {"name": "good", "type": "webhook", "url": web.url},
    ]
    (tmp_path / "open").chmod(0o644)
    outcome = tell(settings(tmp_path, *channels), report())
    assert {item.channel: item.result for item in outcome.deliveries} == {
        **{item["name"]: "failed" for item in channels}, "good": "sent",
    }  # fmt: skip
    assert "T0PSECRET" not in str(outcome)
    assert len(outcome.warnings) == len(channels) - 1
    assert len(web.requests) == 1


def test_a_heartbeat_is_sent_when_all_is_well_and_only_then(tmp_path, web):
    channels = [
        {"name": "checked", "type": "heartbeat", "url": f"{web.url}/checked"},
        {"name": "proven", "type": "heartbeat", "url": f"{web.url}/proven", "after": "verify"},
    ]
    found = settings(tmp_path, *channels)
    for severity in (Severity.WARNING, Severity.UNKNOWN, Severity.CRITICAL):
        assert results(tell(found, report(severity))) == []
    assert send_test(found).deliveries == ()
    assert web.requests == []
    for _again in range(2):
        assert results(tell(found, report(Severity.OK))) == [("checked", "ok", "sent")]
    assert results(tell_verified(found)) == [("proven", "ok", "sent")]
    assert [item.path for item in web.requests] == ["/checked", "/checked", "/proven"]


def test_apprise_takes_what_no_channel_of_ours_can(tmp_path, monkeypatch):
    calls = []

    class Apprise:
        def add(self, url):
            calls.append(url)
            return not url.startswith("odd")

        def notify(self, **words):
            calls.append(words)
            return "refuse" not in calls[0]

    library = types.ModuleType("apprise")
    library.Apprise = Apprise
    for number, (url, result) in enumerate(
        (("tgram://token", "sent"), ("tgram://refuse", "failed"), ("odd://", "failed"))
    ):
        channel = {"name": "phone", "type": "apprise", "url_file": secret(tmp_path / "url", url)}
        place = tmp_path / str(number)
        place.mkdir()
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, "apprise", library)
            assert results(tell(settings(place, channel), report()))[0][2] == result
            calls.clear()
    monkeypatch.setitem(sys.modules, "apprise", None)  # not installed
    outcome = tell(settings(tmp_path, channel), report())
    assert "apprise" in outcome.deliveries[0].message


def test_https_is_trusted_when_the_authority_is_named_and_else_not(tmp_path, credentials):
    with web_server(credentials) as web:
        channel = {"name": "hook", "type": "webhook", "url": web.url}
        assert results(tell(settings(tmp_path, channel), report()))[0][2] == "failed"
        trusting = {**channel, "ca_cert": str(credentials.certificate)}
        assert results(tell(settings(tmp_path, trusting), report()))[0][2] == "sent"


# -- what outlives a run


def test_a_restart_neither_repeats_nor_forgets(tmp_path, web):
    def look(severity, hours):
        found = settings(tmp_path, {"name": "hook", "type": "webhook", "url": web.url}, repeat="3h")
        return [item.event for item in tell(found, report(severity, hours=hours)).deliveries]

    assert look(Severity.CRITICAL, 0) == ["problem"]
    assert look(Severity.CRITICAL, 1) == []
    assert look(Severity.UNKNOWN, 2) == []
    assert look(Severity.CRITICAL, 3) == ["repeat"]
    assert look(Severity.OK, 4) == ["resolved"]
    assert look(Severity.OK, 5) == []
    assert [item.json()["number"] for item in web.requests] == [0, 1, 2]
    assert len({item.json()["incident"] for item in web.requests}) == 1


def test_a_state_that_is_lost_or_cannot_be_kept_is_told_and_keeps_nobody_from_hearing(tmp_path, web):
    found = settings(tmp_path, {"name": "hook", "type": "webhook", "url": web.url})
    tell(found, report())
    Path(states.file_of(found.state_path)).write_text("{")
    outcome = tell(found, report())
    assert results(outcome) == [("hook", "problem", "sent")]
    assert "cannot be read" in outcome.warnings[0]
    assert states.counts(found.state_path)["hook", "sent"] == 1
    (tmp_path / "file").write_text("")
    nowhere = settings(tmp_path / "file", {"name": "hook", "type": "webhook", "url": web.url})
    outcome = tell(nowhere, report())
    assert results(outcome) == [("hook", "problem", "sent")]
    assert "cannot be written" in outcome.warnings[-1]


def test_a_test_message_reaches_everybody_and_changes_nothing_of_what_is_known(tmp_path, web, credentials):
    with mail_server("starttls", credentials) as box:
        found = settings(
            tmp_path, mail(tmp_path, box.port, credentials), {"name": "hook", "type": "webhook", "url": web.url}
        )
        tell(found, report())
        assert results(send_test(found)) == [("mail", "test", "sent"), ("hook", "test", "sent")]
        assert results(tell(found, report(hours=1))) == []
    assert "nothing has happened" in box.messages[-1].get_body(("plain",)).get_content()
    assert web.requests[-1].json()["event"] == "test"
    assert json.loads(Path(states.file_of(found.state_path)).read_text())["channels"]["hook"]["messages"] == 1


def test_a_dead_channel_changes_nothing_of_a_checks_result_and_can_be_tried_alone(tmp_path, web, capsys):
    (tmp_path / "repository").mkdir()
    mapping = {
        "cluster": "main", "host": {"state_path": str(tmp_path / "state"), "data_directory": str(tmp_path)},
        "repositories": [{"name": "a", "path": str(tmp_path / "repository")}],
        "connection": {"login_unix_socket": str(tmp_path)},
        "notifications": {"channels": [{"name": "hook", "type": "webhook", "url": web.url}]},
    }  # fmt: skip
    config = str(tmp_path / "main.json")
    Path(config).write_text(json.dumps(mapping))
    web.status = 500

    def ran(*words):
        code = main(["--config", config, "--output", "json", *words])
        return code, json.loads(capsys.readouterr().out.splitlines()[-1])

    code, result = ran("check", "--notify")
    assert (code, result["health"]["severity"]) == (2, "CRITICAL")
    assert [item["result"] for item in result["notifications"]] == ["failed"]
    assert any("HTTP 500" in warning for warning in result["warnings"])
    assert ran("check")[0] == code
    failed = 'dbops_notifications_total{cluster="main",channel="hook",result="failed"} 1'
    assert failed in ran("metrics")[1]["metrics"]
    assert ran("check", "--test-notify")[0] == 4
    web.status = 200
    code, result = ran("check", "--test-notify")
    assert (code, result["msg"]) == (0, "1 of 1 channels of main took a test message.")
    assert [request.json()["event"] for request in web.requests] == ["problem", "test", "test"]
    assert ran("check", "--notify")[1]["notifications"][0]["event"] == "problem"  # it still waits to be told


def test_nothing_that_tells_starts_a_program():
    """Arguments of a program can be read by everybody on the host: no secret can get there."""
    room = Path(states.__file__).parent
    assert not [path.name for path in room.glob("*.py") if "subprocess" in path.read_text()]


@pytest.mark.parametrize(
    ("channel", "words"),
    [
        ({"type": "pigeon"}, "pigeon"),
        ({"type": "slack", "url": "https://hooks.slack.com/x"}, "url"),
        ({"type": "slack"}, "exactly one"),
        ({"type": "webhook", "url": "http://x", "url_file": "/x"}, "exactly one"),
        ({"type": "webhook", "url": "file:///etc/passwd"}, "http"),
        ({"type": "webhook", "url": "http://x", "host": "x"}, "knows no host"),
        ({"type": "email", "host": "x", "sender": "a@b"}, "recipients"),
        ({"type": "email", "host": "x", "sender": "a@b", "recipients": ["a@b\nBcc: c@d"]}, "not one address"),
        ({"type": "email", "host": "x", "sender": "a@b", "recipients": ["a@b"], "user": "x"}, "password_file"),
        ({"type": "heartbeat", "url": "http://x", "after": "lunch"}, "lunch"),
        ({"type": "webhook", "url": "http://x", "events": ["party"]}, "party"),
        ({"type": "webhook", "url": "http://x", "min_severity": "ok"}, "ok"),
        ({"type": "webhook", "url": "http://x", "repeat": "often"}, "often"),
        ({"type": "slack", "url_file": "here"}, "absolute"),
    ],
)
def test_a_channel_that_cannot_be_meant_is_refused(tmp_path, channel, words):
    with pytest.raises(BadInput, match=words):
        settings(tmp_path, {"name": "x", **channel})
    with pytest.raises(BadInput, match="Two"):
        settings(tmp_path, *[{"name": "x", "type": "webhook", "url": "http://x"}] * 2)
