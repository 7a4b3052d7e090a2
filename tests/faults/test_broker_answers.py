"""What a broker may answer to an event, and what becomes of the event then."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import paho.mqtt.client as paho
import pytest

from monitor.alerts.consumers import Heard
from monitor.alerts.journal import Journal
from monitor.alerts.mqtt import Publisher
from monitor.alerts.receipts import Receipts
from monitor.alerts.session import Address, Retained, Session, Site
from tests.conftest import Mosquitto, wait_until
from tests.faults.fake_broker import FakeBroker
from tests.monitor.test_alerts import DOG, draft, one_life, publisher

ROOT = "wildlane/v1/test"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "state")
    yield opened
    opened.close()


@pytest.fixture
def serve(journal: Journal, request: pytest.FixtureRequest) -> Iterator[Callable[..., tuple[FakeBroker, Publisher]]]:
    """A fake broker and a publisher that has six events for it."""
    made: list[tuple[FakeBroker, Publisher]] = []

    def start(**answers: object) -> tuple[FakeBroker, Publisher]:
        broker = FakeBroker(**answers)
        sender = publisher(broker.port, journal)
        journal.append([draft(situation) for _ in range(3) for situation in one_life()])
        made.append((broker, sender))
        sender.start()
        return made[-1]

    yield start
    for broker, sender in made:
        sender.stop(0.5)
        broker.close()
        came, (unsent, parked) = numbers(broker), journal.counts()
        print(
            f"{request.node.name}: {journal.newest()} committed, {len(set(came))} received "
            f"({len(came) - len(set(came))} once more), {parked} set aside, {unsent} waiting, "
            f"{broker.connects} connections"
        )


def numbers(broker: FakeBroker) -> list[int]:
    return [json.loads(payload)["data"]["seq"] for payload in broker.events()]


def first_time(code: int) -> Callable[[str, int], int]:
    """Answer the first event with a code and all others with success."""
    return lambda topic, before: code if "/event/" in topic and before == 0 else 0


@pytest.mark.drill
@pytest.mark.parametrize("code", [0x80, 0x83, 0x91, 0x97])
def test_an_event_refused_for_now_is_sent_again_before_those_after_it_are_forgotten(
    serve: Callable[..., tuple[FakeBroker, Publisher]], journal: Journal, code: int
) -> None:
    broker, _ = serve(reason=first_time(code))

    wait_until(lambda: journal.counts() == (0, 0), seconds=15, what="all six have their receipts")
    assert set(numbers(broker)) == {1, 2, 3, 4, 5, 6}
    assert numbers(broker).count(1) == 2


def test_what_follows_an_event_refused_for_now_goes_out_again_behind_it_one_at_a_time(
    serve: Callable[..., tuple[FakeBroker, Publisher]], journal: Journal
) -> None:
    waiting: list[list[int]] = []

    def quota(topic: str, before: int) -> int:
        """Refuse the third event when it comes first, and once more."""
        if "/event/" not in topic or before not in (2, 6):
            return 0
        waiting.append([row.seq for row in journal.unsent(None, 10)])
        return 0x97

    broker, _ = serve(reason=quota)

    wait_until(lambda: journal.counts() == (0, 0), seconds=20, what="all six have their receipts")
    assert numbers(broker) == [1, 2, 3, 4, 5, 6, 3, 3, 4, 5, 6]
    assert waiting[1] == [3, 4, 5, 6]  # those above it do not count as delivered


@pytest.mark.drill
@pytest.mark.parametrize("code", [0x87, 0x90, 0x99])
def test_an_event_refused_for_good_is_set_aside_and_blocks_nothing(
    serve: Callable[..., tuple[FakeBroker, Publisher]], journal: Journal, code: int
) -> None:
    broker, _ = serve(reason=first_time(code))

    wait_until(lambda: journal.counts() == (0, 1), seconds=15, what="five delivered, one set aside")
    assert numbers(broker) == [1, 2, 3, 4, 5, 6]


@pytest.mark.drill
def test_an_event_that_nobody_listens_to_is_delivered(
    serve: Callable[..., tuple[FakeBroker, Publisher]], journal: Journal
) -> None:
    broker, sender = serve(reason=lambda topic, before: 0x10 if before < 6 else 0)

    wait_until(lambda: journal.counts() == (0, 0), seconds=15, what="all six count as delivered")
    assert numbers(broker) == [1, 2, 3, 4, 5, 6]
    wait_until(lambda: sender.unheard, seconds=5, what="health can warn of it")
    journal.append([draft(situation) for situation in one_life()])
    sender.event_committed()

    wait_until(lambda: journal.counts() == (0, 0), seconds=15, what="two more, with a subscriber")
    wait_until(lambda: not sender.unheard, seconds=5, what="the warning has gone")


@pytest.mark.drill
def test_a_broker_that_takes_one_at_a_time_gets_one_at_a_time(
    serve: Callable[..., tuple[FakeBroker, Publisher]], journal: Journal
) -> None:
    broker, sender = serve(receive_maximum=1)
    for zone in ("a", "b", "c"):
        sender.set_level(f"state/{zone}", "{}")

    wait_until(lambda: journal.counts() == (0, 0), seconds=20, what="all six have their receipts")
    wait_until(lambda: sum("/state/" in topic for topic, _ in broker.got) == 3, seconds=10, what="the levels came too")
    assert numbers(broker) == [1, 2, 3, 4, 5, 6]
    assert broker.violations == 0


@pytest.mark.drill
def test_a_session_that_another_client_took_over_is_opened_again(
    serve: Callable[..., tuple[FakeBroker, Publisher]], journal: Journal
) -> None:
    broker, sender = serve()
    wait_until(lambda: journal.counts() == (0, 0), seconds=15, what="all six have their receipts")
    broker.take_over()
    journal.append([draft(situation) for situation in one_life()])
    sender.event_committed()

    wait_until(lambda: journal.counts() == (0, 0), seconds=10, what="the next two came over a new connection")
    assert broker.connects == 2
    assert numbers(broker)[-2:] == [7, 8]


@pytest.mark.drill
def test_a_broker_of_the_old_version_gets_everything_too(
    serve: Callable[..., tuple[FakeBroker, Publisher]], journal: Journal
) -> None:
    broker, _ = serve(only_311=True)

    wait_until(lambda: journal.counts() == (0, 0), seconds=15, what="all six have their receipts")
    assert numbers(broker) == [1, 2, 3, 4, 5, 6]
    assert broker.connects == 2  # MQTT 5 was tried first


def session_of(broker: FakeBroker, journal: Journal) -> Session:
    site = Site(root=ROOT, online="{}", offline="{}")
    address = Address(host="127.0.0.1", port=broker.port, client_id="test")
    return Session(address, site, Receipts(journal), paho.MQTTv5)


class LateNews(threading.Event):
    """The broker's answer, which our own thread hears of only after the network thread has seen the loss."""

    def __init__(self, lost: threading.Event) -> None:
        super().__init__()
        self._lost_too = lost

    def wait(self, timeout: float | None = None) -> bool:
        return super().wait(timeout) and self._lost_too.wait(timeout)


def test_a_connection_that_is_lost_as_soon_as_it_is_there_is_not_taken_for_alive(journal: Journal) -> None:
    broker, lost = FakeBroker(hangs_up=True), threading.Event()
    session = session_of(broker, journal)
    session._answered = LateNews(lost)
    heard = session._client.on_disconnect
    session._client.on_disconnect = lambda *news: (heard(*news), lost.set())

    assert not session.connect()
    assert not session.alive
    assert "connection lost" in session.problem
    broker.close()


@pytest.mark.parametrize(
    "send",
    [
        lambda session: session.publish_level(f"{ROOT}/state/verge", Retained("{}", None, 1)),
        lambda session: session.publish_level(f"{ROOT}/health", Retained("{}", None, 0)),
        lambda session: session.publish_reply(
            Heard(topic="cmd/ping", payload=b"", reply_to=f"{ROOT}/reply/me", correlation=b""), "{}"
        ),
    ],
)
def test_what_can_not_be_sent_tells_of_a_loss_that_nobody_has_told(
    journal: Journal, send: Callable[[Session], None]
) -> None:
    broker = FakeBroker()
    session = session_of(broker, journal)
    assert session.connect()
    session._client.on_disconnect = None
    broker.take_over()
    wait_until(lambda: session._client.socket() is None, seconds=10, what="the connection is gone")
    assert session.alive

    send(session)

    assert not session.alive
    assert "publishing failed" in session.problem
    session.close(goodbye=False)
    broker.close()


def test_the_goodbye_on_a_connection_that_is_gone_says_nothing_and_breaks_nothing(journal: Journal) -> None:
    broker = FakeBroker()
    session = session_of(broker, journal)
    assert session.connect()
    session._client.on_disconnect = None  # nobody tells
    broker.take_over()
    wait_until(lambda: session._client.socket() is None, seconds=10, what="the connection is gone")

    session.close(goodbye=True)

    assert not session.alive
    broker.close()


def test_a_broker_that_answers_no_level_is_given_up_although_no_event_waits(tmp_path: Path) -> None:
    broker, journal = FakeBroker(reason=lambda topic, before: None), Journal(tmp_path / "idle")
    sender = publisher(broker.port, journal)
    sender.start()

    wait_until(lambda: broker.connects > 1, seconds=20, what="another connection is tried")
    sender.stop(0.5)
    broker.close()
    journal.close()


@pytest.mark.parametrize("number", [1, 4])
def test_an_event_over_which_the_broker_hangs_up_is_found_and_set_aside(
    serve: Callable[..., tuple[FakeBroker, Publisher]], journal: Journal, number: int
) -> None:
    broker, _ = serve(hates=b'"seq":%d,' % number)

    wait_until(lambda: journal.counts() == (0, 1), seconds=20, what="five delivered, one set aside")
    assert sorted(set(numbers(broker))) == sorted({1, 2, 3, 4, 5, 6} - {number})
    # it happens, it shows which one it is, it goes on; where a loss is noticed before its reason, once more
    assert broker.connects <= 8


def test_a_level_over_which_the_broker_hangs_up_does_not_keep_the_events_back(
    serve: Callable[..., tuple[FakeBroker, Publisher]], journal: Journal
) -> None:
    broker, sender = serve(hates=b"hated")
    sender.set_level("state/verge", "hated")
    sender.set_level("health", "hated too", qos=0)

    wait_until(lambda: journal.counts() == (0, 0), seconds=40, what="all six have their receipts")
    assert broker.connects <= 12  # no storm; for each of the two: it happens, and once more to show which it is


class NarrowMosquitto(Mosquitto):
    """A broker that takes no large packets."""

    def __init__(self, folder: Path, largest: int) -> None:
        super().__init__(folder)
        with self._settings.open("a") as settings:
            settings.write(f"max_packet_size {largest}\n")

    @classmethod
    @contextmanager
    def running(cls, folder: Path, largest: int) -> Iterator[NarrowMosquitto]:
        """Run one; the test asks for the fixture `mosquitto` too, so that a machine without one says so."""
        broker = cls(folder, largest)
        broker.start()
        yield broker
        broker.stop()


@pytest.fixture
def narrow(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[NarrowMosquitto]:
    with NarrowMosquitto.running(tmp_path, 3_500) as broker:
        yield broker


def test_what_is_larger_than_the_broker_takes_is_set_aside_and_blocks_nothing(
    narrow: NarrowMosquitto, journal: Journal
) -> None:
    listener, sender = narrow.listen(), publisher(narrow.port, journal)
    begun, ended = (draft(situation) for situation in one_life())
    long = draft(one_life()[0], replace(DOG, scientific_name="x" * 3_000))
    journal.append([begun, long, ended])
    sender.set_level("state/verge", "x" * 4_000)
    sender.start()

    wait_until(lambda: journal.counts() == (0, 1), seconds=15, what="two delivered, one set aside")
    wait_until(lambda: len(listener.got("/event/")) == 2, seconds=10, what="both arrived")
    assert [json.loads(text)["data"]["seq"] for text in listener.got("/event/")] == [1, 3]
    sender.stop(1)
    listener.stop()
    assert narrow.log().count("New client connected") == 2  # ours, and the listener's


@pytest.mark.parametrize("spare", [0, 1])
def test_a_packet_of_exactly_the_largest_size_is_sent_and_of_one_byte_more_it_is_not(
    journal: Journal, spare: int
) -> None:
    (alert,) = journal.append([draft(one_life()[0])])
    measuring = FakeBroker()
    sender = publisher(measuring.port, journal)
    sender.start()
    wait_until(lambda: journal.counts() == (0, 0), seconds=10, what="it is delivered")
    sender.stop(0.5)
    (size,) = [size for (topic, _), size in zip(measuring.got, measuring.sizes, strict=True) if "/event/" in topic]

    broker = FakeBroker(maximum_packet_size=size - spare)
    sender = publisher(broker.port, journal)
    journal.replay(alert.data.seq, alert.data.seq)
    sender.start()
    wait_until(lambda: journal.counts() == (0, spare), seconds=10, what="it is delivered or set aside")
    assert len(broker.events()) == 1 - spare
    sender.stop(0.5)
    measuring.close()
    broker.close()
