"""Every command shows ids and titles as the text that they are, at 80 and at 200 columns (C03, S4, P8).

The servers behind the commands are faked, what is printed is not. A command that has no case here fails the test.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from schemas import DeadLetter, Recommendations
from workers.cli import app as application
from workers.cli import console
from workers.client import DryRun
from workers.errors import Fatal
from workers.operations.generations import Generation, Used
from workers.operations.redrive import Outcome
from workers.operations.status_report import Status
from workers.producer.guess import ColumnGuess, Guess
from workers.producer.report import PublishReport
from workers.runtime.text import visible

LOOKUP, REBUILD = "workers.operations.lookup", "workers.operations.rebuild"
GENERATIONS = "workers.operations.generations"
IDS = [
    "urn:book:17",
    "sku[red]9",
    "[/nope]",
    "[link=http://example.invalid]x[/link]",
    ":smile: {x} %s",
    "-1",
    "admin\u202egnp.exe\u2066",
    "zero\u200bwidth\u200d\ufeff",
    "no\u00a0break\u3000wide",
    "上原ひろみの" * 7,
    "é" * 64,
    "x" * 128,
    "\\x1b[0m \\backslash\\",
    "\U000e0041tag",
]
"""What the schema admits as an id."""
TITLES = [
    "Blue Train [remastered]",
    "[/live]",
    "[bold red]loud[/]",
    ":fire: :smile:",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07",
    "\x1b]8;;http://example.invalid\x1b\\link\x1b]8;;\x1b\\",
    "c1 \x9b31m \x85 nul \x00 del \x7f bell \x07 tab \t cr \r lf \n",
    "bidi \u202e\u2067evil\u2069",
    "上原ひろみ 🎹 " * 12,
    "a lone \ud800 surrogate",
    "\u0301combining first",
    "line\u2028separator\u2029",
    "",
    "word " * 60,
]
RAW = re.compile(r"[^\S\n ]|[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\U000e0000-\U000e01ef]")
BORDERS = re.compile(r"[│┃]")
ROWS = list(zip(IDS, TITLES, strict=True))


@pytest.fixture(autouse=True)
def _signatures_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Typer reads all commands' signatures for each call, which takes a tenth of a second."""
    monkeypatch.setattr(typer.main, "get_params_from_function", PARAMETERS)


PARAMETERS = cache(typer.main.get_params_from_function)


@dataclass
class Case:
    """A command line, and what must be readable in what it prints: `whole` unbroken on one line, `folded` perhaps over several."""

    arguments: list[str]
    whole: list[str] = field(default_factory=list)
    folded: list[str] = field(default_factory=list)
    code: int = 0
    prepare: Callable[[pytest.MonkeyPatch, Path], None] = lambda patch, folder: None
    as_json: bool = True
    only_in_text: list[str] = field(default_factory=list)
    """As `folded`, but not part of the JSON."""


HOSTILE_RULES = ["[red]rule\u202e", "no :smile:"]
"""Names of rules, as settings may have them."""


def listed(user_id: str) -> Recommendations:
    """A list of all hostile items, and a row for each of them."""
    items = [
        {"rank": rank, "item_id": item, "score": 1.0 / rank, "sources": {"content": 1.0}, "because": [IDS[-rank]], "rules": HOSTILE_RULES}
        for rank, item in enumerate(IDS, 1)
    ]
    titles = [title for title in TITLES if "\ud800" not in title and len(title) <= 256]
    rows = [
        {"name": f"row {at}", "kind": "because", "title": title, "category": title, "items": [{"item_id": item, "score": 1.0}]}
        for at, (item, title) in enumerate(zip(IDS, titles, strict=False))
    ][:16]
    head = {"schema_version": 2, "rows": rows, "list_id": "l1", "user_id": user_id}
    head |= {"generated_ts_ms": 1_764_000_000_000, "variant": "default"}
    return Recommendations.model_validate(head | {"trigger": {"partition": 0, "source_offset": 1}, "items": items})


def letter(reason: str) -> DeadLetter:
    place = {"source_topic": "recsys.events", "source_partition": 0, "source_offset": 7, "source_timestamp_ms": -1}
    hashes = {"key_sha256": None, "payload_sha256": "0" * 64, "payload_bytes": 3, "dead_letter_ts_ms": 1_764_000_000_000}
    return DeadLetter.model_validate({"reason": reason, "field": IDS[2], "kind": "invalid_field", **place, **hashes})


def fake(path: str, name: str, answer: Any) -> Callable[[pytest.MonkeyPatch, Path], None]:
    def prepare(patch: pytest.MonkeyPatch, folder: Path) -> None:
        patch.setattr(f"{path}.{name}", answer)

    return prepare


def fakes(*prepared: Callable[[pytest.MonkeyPatch, Path], None]) -> Callable[[pytest.MonkeyPatch, Path], None]:
    def prepare(patch: pytest.MonkeyPatch, folder: Path) -> None:
        for step in prepared:
            step(patch, folder)

    return prepare


REACHABLE = fake("workers.cli.state", "reachable_settings", console.settings)


def answering(value: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: value


def answering_later(value: Any) -> Callable[..., Any]:
    async def answer(*args: Any, **kwargs: Any) -> Any:
        for say in [kwargs["say"]] if "say" in kwargs else []:
            for line in TITLES:
                say(line)
        return value

    return answer


def failing(error: Exception) -> Callable[..., Any]:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise error

    return fail


HISTORY = {
    "user_id": IDS[6],
    "partition": 0,
    "merged_into": IDS[7],
    "merged_from": IDS[8:10],
    "profile": json.dumps({"note": TITLES[4]}, ensure_ascii=False),
    "history": [
        {"item_id": item, "title": title, "event_ts_s": 1_764_000_000, "type": "play", "weight": 1.0, "touches": 2} for item, title in ROWS
    ],
    "older_items": IDS,
    "embeddings": [{"model_tag": "[red]", "dimensions": 8, "norm": 1.0}],
    "bytes": 7,
}
TOPICS = [
    SimpleNamespace(
        spec=SimpleNamespace(name=name, role="[/x]", partitions=1, configs={"cleanup.policy": "compact"}),
        partitions=1,
        topic_id="[id]",
        problem=title,
    )
    for name, title in ROWS
]
TOPIC_ROWS = [
    {"name": name, "role": "[/x]", "partitions": 1, "configs": {"cleanup.policy": "c"}, "found_partitions": 1, "problem": title}
    for name, title in ROWS
]
VERDICTS = [SimpleNamespace(place=item, outcome=Outcome.GONE, reason=title) for item, title in ROWS]


class HostileStore:
    """A model store whose names anybody may have written."""

    def kinds(self) -> list[str]:
        return ["[red]kind"]

    def versions(self, kind: str) -> list[str]:
        return IDS

    def champion(self, kind: str) -> str | None:
        return IDS[1]

    def manifest(self, kind: str, version: str) -> Any:
        from workers.models.manifest import StoreError

        raise StoreError(TITLES[IDS.index(version)])

    def load_stored(self, kind: str, version: str) -> Any:
        raise Fatal(f"{version}: {TITLES[4]}")

    rollback = load_stored

    def retire(self, kind: str, **reason: str) -> str:
        return IDS[6]


def hostile_file(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """A file of bad rows, whose own name is hostile too."""
    patch.chdir(folder)
    rows = [json.dumps({"user_id": item, "item_id": item, "title": title, title: 1, "type": title}) for item, title in ROWS]
    Path("[red]:smile:\u202e.jsonl").write_text("\n".join(rows) + "\n", "utf-8", errors="surrogatepass")

    class Publisher:
        trimmed = None
        undelivered: tuple[str, ...] = ()

        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

        def __enter__(self) -> Publisher:
            return self

        def __exit__(self, *args: object) -> None: ...

        def __getattr__(self, name: str) -> Callable[..., Any]:
            return lambda *args, **kwargs: []

    patch.setattr("workers.client.EventPublisher", Publisher)


def merging(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """A publisher whose records go nowhere."""

    class Publisher(DryRun):
        def __init__(self, *args: Any) -> None:
            super().__init__(300)

        def __enter__(self) -> Publisher:
            return self

    patch.setattr("workers.client.EventPublisher", Publisher)


def erasing(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Users of whom something is stored, whose erasure nobody confirms."""
    from workers.operations.erasure import Held, Remains

    held = [Held(item, 0, 1, 2, 3, 4, True, IDS[0], IDS[1]) for item in IDS]
    patch.setattr("workers.operations.erasure.look", answering_later(held))
    patch.setattr("workers.operations.erasure.remains", answering([Remains(IDS[2], TITLES[3], TITLES[4])]))
    patch.setattr("workers.operations.erasure.erase", answering_later(IDS))


def hostile_worker(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """A worker that logs ids as all its services do, and ends with an error that names one."""

    def run_worker(*args: Any, **kwargs: Any) -> None:
        from workers.cli.worker import logging_config

        made = logging_config("info")
        formatter = made["formatters"]["plain"]["()"](made["formatters"]["plain"]["format"])
        for item, title in ROWS:
            record = logging.LogRecord("workers.stream.app", logging.INFO, __file__, 1, "item %s: %s", (item, title), None)
            console.errors().file.write(formatter.format(record) + "\n")
        raise Fatal(f"{IDS[1]}: {TITLES[4]}")

    patch.setattr("workers.cli.worker.run_worker", run_worker)


def hostile_stack(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """A stack in a folder of a hostile name, one of whose children ended with a hostile last line."""

    class Stack:
        dashboard_url = "http://127.0.0.1:8080"

        def __init__(self, where: Path, *, say: Callable[[str], None], **options: Any) -> None:
            self.folder, self.env, self._say = where, {"RECSYS_KAFKA__BOOTSTRAP_SERVERS": IDS[1], "RECSYS_REDIS__URL": IDS[2]}, say

        def __enter__(self) -> Stack:
            return self

        def __exit__(self, *args: object) -> None: ...

        def look(self) -> None:
            for line in TITLES:
                self._say(line)
            raise Fatal(f"{IDS[1]}: {TITLES[4]}")

    patch.setattr("workers.operations.local_stack.LocalStack", Stack)
    patch.setattr("workers.cli.stack.LOOK_EVERY_S", 0.0)
    patch.setattr("workers.local.embedded.is_free", lambda port: True)


def hostile_demo(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """The homepage of the demo, with hostile titles."""
    from schemas import RecommendedItem
    from workers.demo import report as demo_report

    def run_demo(**options: Any) -> int:
        source: Any = SimpleNamespace(title=lambda item: dict(ROWS)[item])
        items = [RecommendedItem.model_validate(item) for item in listed("u").model_dump()["items"]]
        narrator = demo_report.Narrator()
        narrator.show(demo_report.homepage(source, [], items, IDS[1], IDS[2]))
        for line in [*IDS, *TITLES]:
            narrator.say(line)
        return 0

    patch.setattr("workers.demo.run.run_demo", run_demo)


READ = fakes(
    fake("workers.lists.reader", "newest_list", answering(listed(IDS[6]))),
    fake(LOOKUP, "titles_of", answering_later(dict(ROWS))),
)
LETTERS = [letter(title or "empty") for title in TITLES if "\ud800" not in title]
REASONS = [found.reason for found in LETTERS]
def hostile_import(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Columns of hostile names with hostile examples."""
    columns = [ColumnGuess(item, "item_id", (title,)) for item, title in ROWS]
    guessed = Guess("items", "csv", columns, {}, list(TITLES))
    patch.setattr("workers.cli.importing._guess_all", answering([(FILE, guessed, PublishReport())]))
    patch.setattr("workers.cli.importing._publish", answering(None))


def hostile_logs(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Ids in the lines of a log, one of which is a JSON line."""
    lines = [f"2026-11-30 06:00:00,000 INFO a.b: of {item}" for item in IDS]
    lines.append(json.dumps({"ts": "2026-11-30T06:00:00Z", "level": "ERROR", "logger": IDS[3], "message": TITLES[0]}))
    (folder / "stream-1.log").write_text("\n".join(lines), "utf-8")
    patch.setattr("workers.operations.local_logs.noted_folder", answering(folder))


STORE = fake("workers.models.store", "open_model_store", answering(HostileStore()))
FINDINGS = [("wrong", item, title) for item, title in ROWS]
FAILURE = [f"{IDS[1]}: {TITLES[4]}"]


def finding(state: Any, name: str, text: str) -> Any:
    from workers.operations.doctor import Finding

    return Finding(name, state, text, text)


def verification() -> Any:
    from workers.operations.verify import Verification

    values = {"list[str]": TITLES, "bool": False, "float": 1.0}  # the other fields are counts
    return Verification(**{name: values.get(str(found.type), 1) for name, found in Verification.__dataclass_fields__.items()})


def rebuilt() -> Any:
    from workers.operations.rebuild import Rebuilt

    return Rebuilt(1, 1, 1.0, 1, 1, True, 0)


def hostile_training(patch: pytest.MonkeyPatch, folder: Path) -> None:
    from workers.trainer.settling import KindResult

    results = [KindResult(kind, "failed", None, None, reason, {}, 0.0) for kind, reason in ROWS]
    patch.setattr("workers.trainer.train_now.train_now", answering_later(results))


def later(path: str, name: str, value: Any) -> Callable[[pytest.MonkeyPatch, Path], None]:
    return fake(path, name, answering_later(value))


def rules_report() -> Any:
    from workers.operations.rules_report import Change, Finding, RuleFigures, RuleReport, UserChanges

    readable = [(item, title or "x") for item, title in ROWS]
    figures = tuple(RuleFigures(item, "deny", title, 1, 1, 1, 0, 1) for item, title in readable)
    findings = tuple(Finding("no_match", (item,), title) for item, title in readable)
    changes = tuple(Change(item, 1, None, (title,)) for item, title in readable)
    users = tuple(UserChanges(item, (item,), (), changes) for item in IDS)
    return RuleReport(1, len(users), len(users), 1, figures, findings, users[:3])


def explanation(*, listed_item: bool | None = None) -> Any:
    """A list of all hostile items, and perhaps the story of one that is listed, or of one that is not."""
    from workers.operations.absence import Absence
    from workers.operations.explain import Explanation, ItemStory

    hostile = IDS[0]
    parts = dict.fromkeys(IDS, 1.0)
    denied, raw = Absence("denied", f"rule {HOSTILE_RULES[0]} denies it"), dict.fromkeys(IDS, (1.0, None))
    absence, place = (None, 5) if listed_item else (denied, None)
    story = ItemStory(IDS[4], TITLES[0], absence, place, None, raw, parts, parts, dict.fromkeys(IDS, True), [(hostile, 3)], 9)
    sentences = [f"Because {title}" for title in TITLES]
    return Explanation(listed(IDS[6]), sentences, dict(ROWS), None if listed_item is None else story)


def rules_on_topic() -> Any:
    from schemas.control import PublishedRule, PublishedRules
    from workers.operations.rules_topic import TopicRules

    rules = tuple(PublishedRule.model_construct(name=item, when=title or "x", action="deny") for item, title in ROWS)
    published = PublishedRules.model_construct(version=1, published_ts_ms=0, published_by=IDS[0], note=IDS[1], rules=rules)
    return TopicRules(published, 1, IDS[2])


RULES_TOPIC = "workers.operations.rules_topic"
SIMILAR = [{"item_id": item, "title": title, "score": 1.0, "cooccurrence": 2.0} for item, title in ROWS]
ITEMS = later("workers.operations.lookup", "similar_items", SIMILAR)
BOUGHT = [{"item_id": item, "title": title, "support": 3, "confidence": 0.5, "lift": 2.0, "score": 1.0} for item, title in ROWS]
NEWEST_LETTERS = fake("workers.operations.dead_letters", "newest_letters", answering(LETTERS))
FILE = "[red]:smile:\u202e.jsonl"
EXPORTS = ("lists", "models", "state", "events", "items", "users")
CASES: dict[str, Case] = {
    "demo": Case(["demo"], whole=[*IDS, *TITLES], prepare=hostile_demo, as_json=False),
    "up": Case(
        ["up", "--folder", "/tmp/[red]:smile:"],
        whole=[IDS[1], IDS[2], *TITLES, "/tmp/[red]:smile:", *FAILURE],
        code=1,
        prepare=hostile_stack,
        as_json=False,
    ),
    "traffic": Case(["traffic"], whole=FAILURE, code=1, as_json=False, prepare=fakes(
        fake("workers.cli.traffic", "reachable_settings", console.settings),
        fake("workers.client", "EventPublisher", failing(Fatal(FAILURE[0]))))),
    "worker stream": Case(["worker", "stream"], whole=[*IDS, *TITLES, *FAILURE], code=1, prepare=hostile_worker, as_json=False),
    "worker trainer": Case(["worker", "trainer"], whole=[*IDS, *TITLES, *FAILURE], code=1, prepare=hostile_worker, as_json=False),
    "worker gateway": Case(["worker", "gateway"], whole=FAILURE, code=1, as_json=False, prepare=fake(
        "workers.web.server", "run_gateway", failing(Fatal(FAILURE[0])))),
    "dashboard": Case(["dashboard"], whole=FAILURE, code=1, as_json=False, prepare=fake(
        "workers.web.dashboard.server", "run_dashboard", failing(Fatal(FAILURE[0])))),
    "worker dashboard": Case(["worker", "dashboard"], whole=FAILURE, code=1, as_json=False, prepare=fake(
        "workers.web.dashboard.server", "run_dashboard", failing(Fatal(FAILURE[0])))),
    "topics list": Case(["topics", "list"], whole=IDS + TITLES, code=1, prepare=fakes(
        fake("workers.kafka.topics", "describe", answering(TOPICS)), fake("workers.cli.topics", "_rows", answering(TOPIC_ROWS)))),
    "topics create": Case(["topics", "create"], whole=IDS, prepare=fakes(
        fake("workers.kafka.topics", "describe", answering(TOPICS)), fake("workers.kafka.topics", "provision", answering(TOPICS)),
        fake("workers.cli.topics", "_rows", answering(TOPIC_ROWS)))),
    "events publish": Case(["events", "publish", FILE], whole=[FILE], code=1, prepare=hostile_file),
    "items publish": Case(["items", "publish", FILE], whole=[FILE], code=1, prepare=hostile_file),
    "users publish": Case(["users", "publish", FILE], whole=[FILE], code=1, prepare=hostile_file),
    "items similar": Case(["items", "similar", IDS[3]], whole=IDS, folded=TITLES, prepare=ITEMS),
    "items bought-together": Case(["items", "bought-together", IDS[3]], whole=IDS, folded=TITLES, prepare=later(
        "workers.operations.lookup", "bought_together_items", BOUGHT)),
    "users show": Case(["users", "show", IDS[6]], whole=IDS, folded=TITLES, prepare=later(LOOKUP, "show_user", HISTORY)),
    "users merge": Case(["users", "merge", IDS[6], IDS[3]], whole=[IDS[6], IDS[3]], prepare=merging),
    "users erase": Case(["users", "erase", IDS[6], "--yes"], whole=IDS, folded=[], code=1, prepare=erasing),
    "lists get": Case(["lists", "get", IDS[6]], whole=IDS + HOSTILE_RULES, only_in_text=TITLES, prepare=READ),
    "explain": Case(["explain", IDS[6]], whole=IDS + HOSTILE_RULES, only_in_text=TITLES, prepare=later(
        "workers.operations.explain", "explain", explanation())),
    "evaluate": Case(["evaluate", "--train", FILE, "--kinds", "popular"], whole=FAILURE, code=1, prepare=fakes(
        fake("workers.operations.evaluation_cases", "cases_of_files", answering(None)),
        fake("workers.operations.evaluation", "evaluate_kinds", answering({"popular": {"error": FAILURE[0]}})))),
    "lists tail": Case(["lists", "tail", "-n", "1"], whole=[IDS[6], *IDS[:10]], prepare=fake(
        "workers.lists.reader", "follow_lists", answering([(IDS[6], listed(IDS[6]))]))),
    "rules check": Case(["rules", "check"], whole=IDS, folded=[title for title in TITLES if title], prepare=later(
        "workers.operations.rules_check", "check_rules", rules_report())),
    "rules show": Case(["rules", "show"], whole=IDS[:3], folded=[*IDS, *(title for title in TITLES if title)], prepare=fake(
        RULES_TOPIC, "read_rules_topic", answering(rules_on_topic()))),
    "rules publish": Case(["rules", "publish", FILE], whole=FAILURE, code=1, prepare=fakes(
        fake("workers.operations.rules_check", "read_rules", answering(())),
        fake(RULES_TOPIC, "read_rules_topic", failing(Fatal(FAILURE[0]))))),
    "state rebuild": Case(["state", "rebuild"], whole=TITLES, prepare=fakes(
        REACHABLE, fake("workers.operations.rebuild", "rebuild", answering_later(rebuilt())))),
    "state verify": Case(["state", "verify"], whole=TITLES, code=1, prepare=fakes(
        REACHABLE, fake("workers.operations.verify", "verify", answering_later(verification())))),
    "state generations": Case(["state", "generations"], folded=TITLES, prepare=fakes(REACHABLE, later(
        GENERATIONS, "generations", [Generation(at, at == 1, None, title) for at, title in enumerate(TITLES)]))),
    "state use": Case(["state", "use", "3"], whole=TITLES, prepare=fakes(
        REACHABLE, later(GENERATIONS, "use", Used(3, 4, 5, taken_over=True)))),
    "state drop": Case(["state", "drop", "3"], whole=FAILURE, code=1, prepare=fake(REBUILD, "drop", failing(Fatal(FAILURE[0])))),
    "dlq list": Case(["dlq", "list"], whole=[IDS[2]], folded=REASONS, prepare=NEWEST_LETTERS),
    "dlq list --count": Case(["dlq", "list", "--count"], whole=IDS, prepare=fake(
        "workers.operations.dead_letters", "count_letters", answering(Counter({(item, "t"): 1 for item in IDS})))),
    "dlq show": Case(["dlq", "show", "[red]t:0:7"], whole=["[red]t:0:7", IDS[2], LETTERS[4].reason], prepare=fake(
        "workers.operations.dead_letters", "look_up", answering((LETTERS[4], SimpleNamespace(value="gone"), None)))),
    "dlq redrive": Case(["dlq", "redrive", "--all"], whole=[*IDS, *TITLES], code=1, prepare=fakes(
        fake("workers.operations.dead_letters", "scan", answering([])),
        fake("workers.operations.redrive", "redrive", answering(VERDICTS)))),
    "models list": Case(["models", "list"], whole=IDS, folded=TITLES, prepare=STORE),
    "models show": Case(["models", "show", IDS[1]], whole=FAILURE, code=1, prepare=STORE),
    "models train": Case(["models", "train"], whole=[*IDS, *TITLES], code=1, prepare=fakes(
        fake("workers.cli.models", "reachable_settings", console.settings),
        fake("workers.kafka.startup", "check_writable", answering(None)),
        fake("workers.cli.worker", "logging_config", answering({"version": 1, "incremental": True})), hostile_training)),
    "models promote": Case(["models", "promote", IDS[1]], whole=FAILURE, code=1, prepare=STORE),
    "models retire": Case(["models", "retire", IDS[1]], whole=[IDS[6]], prepare=fakes(
        STORE, later("workers.models.announcements", "announce", None))),
    "models rollback": Case(["models", "rollback", IDS[1]], whole=["[red]"], code=1, prepare=fake(
        "workers.models.store", "open_model_store", failing(Fatal("[red]")))),
    "doctor": Case(["doctor"], whole=IDS, folded=TITLES, code=1, prepare=lambda patch, folder: patch.setattr(
        "workers.operations.doctor.examine", answering([finding(*found) for found in FINDINGS]))),
    "import": Case(["import", FILE, "--dry-run"], whole=IDS, folded=TITLES, as_json=False, prepare=hostile_import),
    **{f"export {what}": Case(["export", what], whole=["[red]"], code=1, as_json=False, prepare=fake(
        "workers.operations.export", "new_table", failing(Fatal("[red]")))) for what in EXPORTS},
    "status": Case(["status"], whole=IDS, folded=TITLES, code=1, prepare=lambda patch, folder: patch.setattr(
        "workers.operations.status_report.look", answering(Status(
            models=dict(zip(IDS, IDS, strict=True)), problems=[finding(*found) for found in FINDINGS])))),
    "logs": Case(["logs", "-n", "200"], whole=IDS, prepare=hostile_logs),
    "init": Case(["init", "shop"], whole=["[red].toml"], as_json=False, prepare=fake(
        "workers.operations.scenarios", "write_files", answering([Path("[red].toml")]))),
    "completion": Case(["completion", "bash"], whole=["_RECSYS_COMPLETE"], as_json=False),
    "man": Case(["man", "[red]"], whole=["[red]"], as_json=False, prepare=fakes(
        fake("workers.cli.manual", "all_pages", answering([])), fake("pathlib.Path", "mkdir", answering(None)))),
    "settings": Case(["settings"], whole=[f"/[red]{IDS[6]}:smile:"], prepare=lambda patch, folder: patch.setenv(
        "RECSYS_TRAINER__LOG_URL", f"/[red]{IDS[6]}:smile:")),
}  # fmt: skip


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """The names of all commands below one."""
    below = getattr(command, "commands", None)
    if below is None:
        yield " ".join(path)
        return
    for name, child in below.items():
        yield from leaves(child, (*path, name))


def test_every_command_has_a_case() -> None:
    names = set(leaves(application.whole_tree()))
    assert len(names) > 20
    assert {name.partition(" --")[0] for name in CASES} == names


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def running(arguments: list[str], width: int) -> tuple[int, str, str]:
        for where in (console.output(), console.errors()):
            monkeypatch.setattr(where, "_width", width)
        monkeypatch.setattr("workers.demo.report.PLAIN_WIDTH", width)
        code = application.run(arguments)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return running


def forms(value: str) -> tuple[str, str]:
    """How a value is shown by itself, and within a line, where a combining mark at its start is not the first character."""
    return visible(value), visible(f".{value}")[1:]


def columns_of(printed: str) -> list[str]:
    """The text of each line, and of each column of the tables, without blanks: what was folded is together again."""
    columns: dict[int, str] = {}
    for line in printed.split("\n"):
        for place, cell in enumerate(BORDERS.split(line)) if BORDERS.search(line) else ():
            columns[place] = columns.get(place, "") + cell
    return ["".join(text.split()) for text in [*columns.values(), *printed.split("\n")]]


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("name", CASES)
def test_what_is_printed_is_what_was_put_in(
    name: str, width: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    case = CASES[name]
    case.prepare(monkeypatch, tmp_path)
    code, printed, said = run(case.arguments, width)
    assert code == case.code, said
    both = printed + said
    assert "Traceback" not in both and "unexpected" not in both
    assert not RAW.search(both), RAW.findall(both)
    lines = both.split("\n")
    for value in case.whole:
        assert any(form in line for line in lines for form in forms(value)), value
    columns = columns_of(both)
    for value in case.folded + case.only_in_text:
        assert any("".join(form.split()) in text for text in columns for form in forms(value)), value
    if width == 80 and "│" in printed:
        from rich.cells import cell_len

        assert all(cell_len(line) <= 80 for line in printed.split("\n") if "│" in line), "a table is wider than the terminal"


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.as_json])
def test_json_holds_what_was_put_in(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    case = CASES[name]
    case.prepare(monkeypatch, tmp_path)
    code, printed, said = run([*case.arguments, "--json"], 80)
    assert code == case.code, said
    assert printed.isascii() and not RAW.search(printed)
    strings: list[str] = []

    def collect(value: Any) -> None:
        for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            collect(part)
        strings.extend([value] if isinstance(value, str) else value if isinstance(value, dict) else ())

    for line in printed.splitlines():
        collect(json.loads(line))
    for value in case.whole + case.folded:
        assert any(value in text for text in strings) or any(form in said for form in forms(value)), value


@pytest.mark.parametrize("argument", ["-1", "-x", "--weird"])
@pytest.mark.parametrize(
    "command",
    [
        *(["lists", "get"], ["users", "show"], ["items", "similar"], ["dlq", "show"], ["explain"]),
        *(["models", "show"], ["models", "promote"], ["models", "rollback"], ["models", "retire"]),
    ],
)
def test_a_value_that_begins_with_a_dash_is_explained(command: list[str], argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    """C28."""
    assert application.run([*command, argument]) == 2
    said = capsys.readouterr().err
    assert f"`recsys {' '.join(command)} -- {argument}`" in said and said.count("\n") == 1


@pytest.mark.parametrize("argument", ["[/x]", "x\x1b[31m", ":smile:", "\u202e", "[link=http://example.invalid]x[/link]"])
def test_a_wrong_command_is_quoted_as_text(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert application.run([argument]) == 2
    said = capsys.readouterr().err
    assert not RAW.search(said) and said.count("\n") == 1
    assert visible(argument) in said or visible(visible(argument)) in said, "click escapes some by itself"


@pytest.mark.parametrize("user_id", ["", "x" * 129, "a\x00b", "lone\ud800", "é" * 65])
def test_what_no_record_may_carry_as_an_id_is_refused_before_anything_is_asked(user_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["lists", "get"], ["users", "show"], ["items", "similar"], ["explain"]):
        assert application.run([*command, user_id]) == 2
        assert "128 bytes" in capsys.readouterr().err


def test_a_list_is_shown_with_a_sentence_for_each_place_in_the_language_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = listed("u1")
    reasons = ["because", "popular_now"]
    items = tuple(item.model_copy(update={"reason": reasons[at % 2]}) for at, item in enumerate(made.items))
    monkeypatch.setattr("workers.lists.reader.newest_list", answering(made.model_copy(update={"items": items})))
    monkeypatch.setattr("workers.operations.lookup.titles_of", answering_later({IDS[-1]: "Blue \x1b[31mTrain"}))
    assert application.run(["lists", "get", "u1", "--language", "de"]) == 0
    said = capsys.readouterr().out
    assert "Gerade beliebt" in said and "\x1b" not in said
    assert application.run(["lists", "get", "u1", "--language", "de-AT", "--json"]) == 0
    sentences = json.loads(capsys.readouterr().out)["sentences"]
    assert sentences[0] == "Weil du Blue \x1b[31mTrain gewählt hast" and len(sentences) == len(IDS)
    assert application.run(["lists", "get", "u1", "--language", "xx"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert application.run(["explain", "u1", "--language", "xx"]) == 2
    assert "--language: there are no sentences in 'xx': choose one of de, en, zh" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("listed_item", [True, False])
def test_one_item_is_explained_alone(listed_item: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("workers.operations.explain.explain", answering_later(explanation(listed_item=listed_item)))
    assert application.run(["explain", "--", IDS[6], IDS[4]]) == 0
    said = capsys.readouterr().out
    assert RAW.search(said) is None and all(visible(one) in said for one in IDS), "sources have these names"
    assert ("is at place 5" in said) == listed_item != (f"is not listed (denied): rule {visible(HOSTILE_RULES[0])} denies it" in said)
    assert ("as it would be made now" in said) == listed_item and said.count("Because") == listed_item
