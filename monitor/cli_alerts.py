"""The verbs of the alerts: follow them, ask for a range again, prove that none is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adapters.errors import ConfigError, InputError
from monitor.context import ConfigOption, Context, JsonOption, StateOption
from monitor.output import print_line, say

if TYPE_CHECKING:
    from monitor.alerts.schema import Alert
    from monitor.alerts.subscriber import Subscriber
    from monitor.alerts.verify import Verdict

alerts_app = typer.Typer(
    help="Follow alerts, ask for them again, prove that none is missing.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
ANSWER_S = 10.0


class Format(StrEnum):
    """How an alert is printed."""

    JSON = "json"
    DATEX2 = "datex2"
    DATEX2_JSON = "datex2-json"
    DENM = "denm"


@alerts_app.command("tail", epilog="Example: wildlane alerts tail --format datex2 --country no")
def alerts_tail(
    output: Annotated[
        Format, typer.Option("--format", help="As published, or in a road standard's words.")
    ] = Format.JSON,
    country: Annotated[str, typer.Option(help="Two letters, ISO 3166-1: of the DATEX II publication.")] = "xx",
    idle_s: Annotated[float | None, typer.Option(min=0, help="Stop after so many seconds without an alert.")] = None,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Print each alert of the site as it comes, one a line; a DENM as hexadecimal UPER."""
    from monitor.alerts.schema import Alert

    subscriber = _subscriber(Context(config, state), ["event/#"])
    try:
        for message in subscriber.messages(idle_s=idle_s):
            try:
                print_line(_worded(Alert.model_validate_json(message.payload), output, country))
            except (InputError, ValueError) as error:
                say(f"{message.topic}: {error}")
    except KeyboardInterrupt:
        pass
    finally:
        subscriber.close()


def _worded(alert: Alert, output: Format, country: str) -> str:
    if output is Format.DATEX2:
        from monitor.alerts.datex2 import to_xml

        return to_xml(alert, country=country).replace("\n", "")
    if output is Format.DATEX2_JSON:
        from monitor.alerts.datex2 import to_json

        return to_json(alert, country=country)
    if output is Format.DENM:
        from monitor.alerts.denm import to_denm

        return to_denm(alert).hex()
    return alert.json_text()


@alerts_app.command("replay", epilog="Example: wildlane alerts replay 120 180")
def alerts_replay(
    first: Annotated[int, typer.Argument(min=1, help="Number of the first event.")],
    last: Annotated[int, typer.Argument(min=1, help="Number of the last one.")],
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Ask the running site to publish a range of events again."""
    from monitor.alerts.schema import Reply, SiteStatus

    subscriber = _subscriber(Context(config, state), ["status", "reply/alerts-replay"])
    try:
        for message in subscriber.messages(idle_s=ANSWER_S):
            if message.topic == "status":
                journal = SiteStatus.model_validate_json(message.payload).journal
                asked = json.dumps({"journal": journal, "first": first, "last": last})
                subscriber.ask("cmd/replay", asked, "reply/alerts-replay")
                continue
            reply = Reply.model_validate_json(message.payload)
            if not reply.accepted:
                raise ConfigError(reply.detail)
            print_line(reply.detail)
            return
    finally:
        subscriber.close()
    raise ConfigError(f"the site did not answer within {ANSWER_S:.0f} s; is it running?")


@alerts_app.command("verify", epilog="Example: wildlane alerts tail > got.jsonl; wildlane alerts verify got.jsonl")
def alerts_verify(
    received: Annotated[Path | None, typer.Argument(help="Alerts one a line; default the site's own journal.")] = None,
    upto: Annotated[
        int | None, typer.Option(min=1, help="Number of the site's newest event, as `health` tells it in `newest`.")
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Prove from the numbers that nothing is missing; exit status 4 where something is.

    Whether the end of what was received is missing shows only with --upto; the site's own journal knows it.
    """
    from monitor.alerts.history import recorded
    from monitor.alerts.verify import Extent, verify

    extent: Extent | None
    if received is None:
        if upto is not None:
            raise ConfigError("--upto goes with a file of received alerts; the journal knows its newest number")
        alerts, extent = recorded(Context(config, state).state_dir)
    else:
        alerts = list(_read(received))
        journal = alerts[-1].data.journal if alerts else "unknown"  # nothing came of it
        extent = Extent(journal, newest=upto) if alerts or upto else None
    verdicts = verify(alerts, extent)
    if as_json:
        print_line(json.dumps([verdict.answer() for verdict in verdicts]))
    for verdict in verdicts if not as_json else ():
        print_line(_in_words(verdict))
    if not verdicts:
        say("no events")
    if not all(verdict.complete for verdict in verdicts):
        raise typer.Exit(4)


def _in_words(verdict: Verdict) -> str:
    gaps = ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in verdict.missing) or "nothing"
    newest = "unknown" if verdict.newest is None else verdict.newest
    return (
        f"journal {verdict.journal}: {verdict.events} events, {verdict.first} to {verdict.last}, newest {newest}; "
        f"missing: {gaps}; {verdict.repeats} repeats, {len(verdict.changed)} changed, {verdict.late} late; "
        f"{len(verdict.without_end)} situations without an end, {len(verdict.broken)} with versions that do not fit"
    )


def _read(path: Path) -> Iterator[Alert]:
    from monitor.alerts.schema import Alert

    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: can't be read ({error})") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield Alert.model_validate_json(line)
        except ValueError as error:
            raise InputError(f"{path}: line {number} is no alert ({str(error).splitlines()[0]})") from None


def _subscriber(context: Context, topics: list[str]) -> Subscriber:
    from monitor.alerts.certificates import name_of
    from monitor.alerts.subscriber import Subscriber
    from monitor.assembly import address_of

    config, cert_file = context.config, context.config.broker.tls_cert_file
    if cert_file is not None and name_of(cert_file) == config.site:
        raise ConfigError(
            f"{context.path}: {cert_file} is the site's own certificate, and with it we would take the site's place at "
            "the broker; expected a copy of the configuration with a consumer's certificate and key"
        )
    return Subscriber(address_of(config, config.broker.port), f"wildlane/v1/{config.site}", topics)
