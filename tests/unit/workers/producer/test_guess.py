"""Files of other programs are understood: kind, columns, event types, separators, encodings."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cramjam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.row_publisher import RecordingPublisher
from workers.cli import app as application
from workers.cli.file_options import FileOptions
from workers.errors import SettingsError
from workers.producer.guess import Guess, guess
from workers.producer.mapping import Kind
from workers.producer.trial import publish_some

RETAILROCKET = "timestamp,visitorid,event,itemid,transactionid\n1433221332117,257597,view,355908,\n1433224214164,992329,addtocart,248676,\n"
GA4 = "event_timestamp,event_name,user_pseudo_id,item_id\n1700000000000000,view_item,a.1,X1\n1700000001000000,purchase,a.2,X2\n"
MOVIELENS = "userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n1,1029,3.0,1260759179\n"
TAOBAO = "user_id,item_id,category_id,behavior_type,timestamp\n1,2268318,2520377,pv,1511544070\n1,2333346,2520771,fav,1511561733\n"
MOVIES = "movieId,title,genres\n1,Toy Story (1995),Adventure|Animation\n2,Jumanji (1995),Adventure|Children\n"
SHOPIFY = (
    'Handle,Title,Body (HTML),Vendor,Tags,Variant Price\nmug,A mug,<p>x</p>,Acme,"home, gift",9.90\ncup,A cup,,Acme,"home, sale",7.50\n'
)
CUSTOMERS = "Customer ID,Email,Country,Age\nc1,a@b.c,DE,31\nc2,b@b.c,DE,44\nc3,c@b.c,FR,28\nc4,d@b.c,FR,50\n"
GERMAN = "Kundennummer;Artikelnummer;Datum;Zeit\n17;A1;24.12.2025 18:00;x\n18;A2;25.12.2025 19:00;y\n"

DOUBLE_COLONS = "user::movie::rating::time\n1::1193::5::978300760\n1::661::3::978302109\n"
BOOKS = '"User-ID";"ISBN";"Book-Rating"\n"276725";"034545104X";"0"\n"276726";"0155061224";"5"\n'
RETAIL = (
    "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
    "536365,85123A,A HOLDER,6,2010-12-01 08:26:00,2.55,17850,France\n536365,71053,A LANTERN,6,2010-12-01 08:26:00,3.39,17850,France\n"
)
YELP = '{"review_id": "r", "user_id": "u", "business_id": "b", "stars": 3.0, "date": "2018-07-07 22:09:11"}\n'


def fields(made: Guess) -> dict[str, str]:
    return {one.field: one.column for one in made.columns if one.field}


@pytest.mark.parametrize(
    ("name", "content", "kind", "expected"),
    [
        ("events.csv", RETAILROCKET, "events", {"user_id": "visitorid", "item_id": "itemid", "type": "event", "event_ts_ms": "timestamp"}),
        ("ga4.csv", GA4, "events", {"user_id": "user_pseudo_id", "type": "event_name", "event_ts_ms": "event_timestamp"}),
        ("ratings.csv", MOVIELENS, "events", {"user_id": "userId", "item_id": "movieId", "value": "rating", "event_ts_ms": "timestamp"}),
        ("taobao.csv", TAOBAO, "events", {"type": "behavior_type", "item_id": "item_id"}),
        ("movies.csv", MOVIES, "items", {"item_id": "movieId", "title": "title", "categories": "genres"}),
        ("products.csv", SHOPIFY, "items", {"item_id": "Handle", "title": "Title", "categories": "Tags"}),
        ("products.csv", SHOPIFY, "items", {"numeric_attributes.variant_price": "Variant Price"}),
        ("customers.csv", CUSTOMERS, "users", {"user_id": "Customer ID", "categorical_attributes.country": "Country",
                                               "numeric_attributes.age": "Age"}),
        ("ratings.dat", DOUBLE_COLONS, "events", {"user_id": "user", "item_id": "movie", "value": "rating", "event_ts_ms": "time"}),
        ("Excel.csv", "\ufeffsep=;\n" + GERMAN, "events", {"user_id": "Kundennummer", "item_id": "Artikelnummer"}),
        ("BX.csv", BOOKS, "events", {"user_id": "User-ID", "item_id": "ISBN", "value": "Book-Rating"}),
        ("retail.csv", RETAIL, "events", {"user_id": "CustomerID", "item_id": "StockCode", "event_ts_ms": "InvoiceDate"}),
        ("yelp.jsonl", YELP, "events", {"user_id": "user_id", "item_id": "business_id", "value": "stars", "event_ts_ms": "date"}),
        ("songs.csv", "id,name,artist\n1,a,x\n2,b,x\n", "items", {"item_id": "id", "title": "name"}),
        ("Export.txt", GERMAN, "events", {"user_id": "Kundennummer", "item_id": "Artikelnummer", "event_ts_ms": "Datum"}),
    ],
)  # fmt: skip
def test_columns_are_known_by_the_names_that_others_give_them(
    name: str, content: str, kind: str, expected: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    made = guess(str(tmp_path / name))
    assert made.kind == kind
    assert expected.items() <= fields(made).items(), fields(made)
    assert "Email" not in fields(made).values(), "no personal data becomes an attribute by itself"


def test_event_types_and_their_absence(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text(RETAILROCKET)
    assert guess(str(tmp_path / "events.csv")).options["types"] == ["addtocart=add_to_cart"]
    (tmp_path / "ratings.csv").write_text(MOVIELENS)
    assert guess(str(tmp_path / "ratings.csv")).options["event_type"] == "rating"
    for name, event_type in (("purchases.csv", "purchase"), ("listens.csv", "play"), ("log.csv", "view")):
        (tmp_path / name).write_text("user,item\nu1,i1\n")
        assert guess(str(tmp_path / name)).options["event_type"] == event_type
    (tmp_path / "odd.csv").write_text("user,item,type\nu1,i1,view\nu1,i2,frobnicate\n")
    (note,) = guess(str(tmp_path / "odd.csv")).notes
    assert "frobnicate" in note and "--types" in note
    (tmp_path / "device.csv").write_text("user,item,type\nu1,i1,phone\nu1,i2,tablet\n")
    assert guess(str(tmp_path / "device.csv")).options["event_type"] == "view", "that column is no event type"


PLAYED = "user,what,hours\n" + "".join(f"u{n % 7},Some title {n},{n}\n" for n in range(20))


def test_rows_whose_users_come_again_are_no_profiles_unless_the_user_says_so(tmp_path: Path) -> None:
    file = tmp_path / "steam.csv"
    file.write_text(PLAYED)
    with pytest.raises(SettingsError, match=r"13 of its first 20 rows have the user of .*--map item_id=COLUMN.*user, what, hours"):
        guess(str(file))
    assert guess(str(file), None, {"columns": ["item_id=what"]}).kind == "events"
    assert guess(str(file), "users").kind == "users"


def test_what_cannot_be_guessed_names_the_columns_and_what_to_pass(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Name,Email,Lineitem sku\n#1,a@b.c,S1\n")
    with pytest.raises(SettingsError, match=r"--as events --map user_id=COLUMN,item_id=COLUMN.*Name, Email, Lineitem sku"):
        guess(str(tmp_path / "a.csv"))
    with pytest.raises(SettingsError, match=r"no column looks like user_id, item_id of events.*Name, Email, Lineitem sku"):
        guess(str(tmp_path / "a.csv"), "events")


@pytest.mark.parametrize("kind", [None, "events"])
def test_rows_of_several_records_are_refused_with_what_cuts_them(kind: Kind | None, tmp_path: Path) -> None:
    row = {"session": 1, "events": [{"aid": 5, "ts": 1_659_304_800_025, "type": "clicks"}]}
    (tmp_path / "otto.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(SettingsError, match=r"events holds several records in each row.*jq -c '\. as \$row \| \.events\[\]"):
        guess(str(tmp_path / "otto.jsonl"), kind)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("movies.dat", "1::Toy Story (1995)::Animation|Comedy|Drama\n", r"data \(1, Toy Story \(1995\), Animation.*\): .* its 3 columns"),
        ("news.tsv", "N1\tlifestyle\thttps://a.example/x.html\t[]\n", r"no header line.* its 4 columns"),
        ("log.txt", "seven\n7\n", r"The columns are seven"),
        ("array.json", '[{"user_id": "u", "item_id": "i"}]', r"one JSON array; write one object a line: jq -c"),
        ("loose.json", "{'user_id': 'u', 'item_id': 'i'}\n", r"dictionaries of Python.*ast\.literal_eval"),
    ],
)
def test_a_file_that_is_close_to_one_that_can_be_read_is_refused_with_the_way_there(
    name: str, content: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(SettingsError, match=said):
        guess(str(tmp_path / name))


@pytest.mark.parametrize("option", [("--encoding", "bogus"), ("--header", "a,,b"), ("--delimiter", "ab"), ("--format", "xml")])
def test_an_option_that_means_nothing_is_refused_before_a_guess_is_made(
    option: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.csv").write_text(MOVIELENS)
    code, _, err = run(str(tmp_path / "a.csv"), "--dry-run", *option, capsys=capsys)
    assert code == 2 and err.count("\n") == 1 and option[0] in err and "unexpected" not in err


@pytest.mark.parametrize(
    ("header", "values"),
    [
        ("When", ["20.11.2026 08:03:48", "21.11.2026 09:00:00"]),
        ("Kaufmoment", ["2026-11-20T08:03:48Z", "2026-11-21T09:00:00Z"]),
        ("t0", ["1795478400", "1795478500"]),
        ("stamp_utc", ["1795478400000", "1795478500000"]),
    ],
)
def test_the_only_column_of_times_is_that_of_the_events_whatever_it_is_called(header: str, values: list[str], tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    file.write_text(f"customer,sku,Amount,{header}\n" + "".join(f"c{n},s{n},{n + 1},{value}\n" for n, value in enumerate(values)))
    made = guess(str(file))
    assert fields(made)["event_ts_ms"] == header
    assert f"{header} holds times: it is taken for the time of the events" in made.notes


def test_several_columns_of_times_without_a_known_name_are_asked_about(tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    file.write_text("customer,sku,Bought on,Paid on\nc1,s1,2026-11-20,2026-11-21\nc2,s2,2026-11-20,2026-11-22\n")
    with pytest.raises(SettingsError, match=r"several columns hold times.*Bought on, Paid on: pass --map event_ts_ms=Bought on"):
        guess(str(file))
    assert fields(guess(str(file), None, {"columns": ["event_ts_ms=Paid on"]}))["event_ts_ms"] == "Paid on"


@pytest.mark.parametrize("values", [["1", "2"], ["4006381333931", "9780306406157"], ["0123456789", "0987654321"], ["10.5", "11"]])
def test_numbers_of_other_things_are_no_times(values: list[str], tmp_path: Path) -> None:
    file = tmp_path / "orders.csv"
    file.write_text("customer,sku,Code\n" + "".join(f"c{n},s{n},{value}\n" for n, value in enumerate(values)))
    assert "event_ts_ms" not in fields(guess(str(file)))


def test_a_column_with_the_right_name_and_other_values_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "products.csv"
    file.write_text("sku,name,status,release date\n1,a,active,soon\n2,b,draft,later\n")
    made = guess(str(file))
    assert "available" not in fields(made)
    code, out, _ = run(str(file), "--dry-run", capsys=capsys)
    assert code == 0 and "2 items would be published, 0 rows would be refused" in out and "no times" in out, out
    (tmp_path / "log.csv").write_text("user,item,note\nu1,i1,nice\n")
    assert "value" not in fields(guess(str(tmp_path / "log.csv")))


def test_options_go_before_guesses(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user,sku,movie,event\nu1,s1,m1,seen\n")
    made = guess(str(tmp_path / "a.csv"), None, {"columns": ["item_id=movie"], "types": ["seen=view"]})
    assert fields(made)["item_id"] == "movie" and made.options["types"] == ["seen=view"] and "event_type" not in made.options
    made = guess(str(tmp_path / "a.csv"), "events", {"event_type": "click"})
    assert made.options["event_type"] == "click"


@pytest.mark.parametrize("packed", ["", ".gz", ".zst", ".parquet", ".jsonl", ".jsonl.zst", ".tsv", "latin"])
def test_every_format_is_read_alike(packed: str, tmp_path: Path) -> None:
    rows = [{"user": f"u{n}", "product": f"é{n}", "action": "buy", "time": 1_763_200_000_000 + n} for n in range(5)]
    table = "\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]) + "\n"
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    contents: dict[str, tuple[str, bytes]] = {
        "": ("a.csv", table.encode()),
        ".gz": ("a.csv.gz", gzip.compress(table.encode())),
        ".zst": ("a.csv.zst", bytes(cramjam.zstd.compress(table.encode()))),
        ".jsonl": ("a.jsonl", lines.encode()),
        ".jsonl.zst": ("a.jsonl.zst", bytes(cramjam.zstd.compress(lines.encode()))),
        ".tsv": ("a.tsv", table.replace(",", "\t").encode()),
        "latin": ("a.data", table.replace(",", ";").encode("cp1252")),
    }
    if packed == ".parquet":
        path = tmp_path / "a.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        name, content = contents[packed]
        path = tmp_path / name
        path.write_bytes(content)
    made = guess(str(path))
    options = FileOptions(**made.options)
    report = publish_some(str(path), options.reading(), options.mapping(made.kind, made.form != "jsonl"), 60, 3)
    assert (made.kind, report.would_publish, report.bad) == ("events", 3, 0), report
    assert made.options["types"] == ["buy=purchase"]


def test_a_cut_zstd_file_is_damaged_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "user_id,item_id,type,event_ts_ms\n" + "".join(f"u{n},i{n * 7919 % 1000},view,{1_763_200_000_000 + n}\n" for n in range(20_000))
    packed = bytes(cramjam.zstd.compress(rows.encode()))
    (tmp_path / "a.csv.zst").write_bytes(packed[: len(packed) * 6 // 10])
    assert application.run(["events", "publish", str(tmp_path / "a.csv.zst"), "--dry-run", "--json"]) == 1
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert report["rows"] == report["would_publish"] > 0 and "cannot be read beyond row" in report["error"], report


def test_a_file_that_is_cut_in_its_first_rows_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text(RETAILROCKET)
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(RETAILROCKET.encode())[:-20])
    assert application.run(["import", str(tmp_path / "a.csv"), str(tmp_path / "b.csv.gz"), "--dry-run"]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / 'b.csv.gz'}: the compressed data ends too early" in said and "nothing was published" in said


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", "x,y\n1,2\n", "--as"),
        ("a.csv", "", "is empty"),
        ("a.csv", "u1,i1,1763200000000\nu2,i2,1763200000001\n", "--header"),
        ("a.xlsx", "PK\x03\x04", "Excel"),
        ("users.csv", "user_id,item_id\n", ""),
    ],
)
def test_what_cannot_be_guessed_is_one_line_with_the_remedy(name: str, content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    if not says:
        assert guess(str(tmp_path / name)).kind == "events", "columns say more than a name"
        return
    with pytest.raises(SettingsError, match=says):
        guess(str(tmp_path / name))


def run(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = application.run(["import", *arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_a_dry_run_shows_what_was_understood_and_counts_add_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "events.csv").write_text(RETAILROCKET + "never,1,view,2,\n")
    (tmp_path / "movies.csv").write_text(MOVIES)
    code, out, err = run(str(tmp_path / "events.csv"), str(tmp_path / "movies.csv"), "--dry-run", capsys=capsys)
    assert code == 1, "one row is bad"
    assert out.index("movies.csv: items") < out.index("events.csv: events"), "the catalogue goes first"
    for text in (
        "visitorid",
        "addtocart is add_to_cart",
        "2 events would be published, 1 rows would be refused",
        "of the first 3 rows 2 are good, 1 bad",
    ):
        assert text in out, out
    assert not err.strip().startswith("recsys:"), err


def test_bad_rows_go_to_a_side_file_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = RecordingPublisher()
    monkeypatch.setattr("workers.client.EventPublisher", lambda *_: publisher)
    (tmp_path / "plays.csv").write_text(
        "user,item,time\n" + "".join(f"u{n},i{n},2025-01-01T00:00:0{n}Z\n" for n in range(5)) + "u9,i9,when\n,i9,2025-01-01\n"
    )
    side = tmp_path / "bad.jsonl"
    code, out, err = run(str(tmp_path / "plays.csv"), "--yes", "--bad-rows", str(side), capsys=capsys)
    assert code == 1 and len(publisher.records) == 5 and "published 5 events" in out
    written = [json.loads(line) for line in side.read_text().splitlines()]
    assert [(row["line"], row["row"].get("item")) for row in written] == [(7, "i9"), (8, "i9")] and all(row["reason"] for row in written)
    assert f"2 bad rows are in {side}" in err
    code, _, err = run(str(tmp_path / "plays.csv"), "--yes", "--bad-rows", str(side), capsys=capsys)
    assert code == 2 and "is there already" in err and len(publisher.records) == 5, "nothing is replaced, nothing is sent"


def test_nobody_to_ask_is_said_before_anything_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(str(tmp_path / "no.csv"), capsys=capsys)
    assert code == 2 and "--yes" in err


def test_the_user_is_asked_and_may_say_no(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = RecordingPublisher()
    monkeypatch.setattr("workers.client.EventPublisher", lambda *_: publisher)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("typer.prompt", lambda question, default: "Europe/Berlin")
    asked: list[str] = []
    monkeypatch.setattr("typer.confirm", lambda question: len(asked) > 0 or bool(asked.append(question)))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("user,item,time\nu1,i1,2025-03-01 10:00:00\n")
    code, out, _ = run("a.csv", capsys=capsys)
    assert (code, publisher.records, asked) == (0, [], ["Publish it?"]) and "nothing was published" in out
    assert run("a.csv", capsys=capsys)[0] == 0 and [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    assert [record.event_ts_ms for record in publisher.records] == [1_740_819_600_000], "10 o'clock in Berlin"


def test_local_times_are_taken_for_utc_and_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text("user,item,time\nu1,i1,2025-03-01 10:00:00\n")
    code, out, _ = run(str(tmp_path / "a.csv"), "--dry-run", capsys=capsys)
    assert code == 0 and "times name no zone: taken for UTC (--time-zone" in out


def test_words_for_no_value_are_none_in_every_column_if_the_user_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = RecordingPublisher()
    monkeypatch.setattr("workers.client.EventPublisher", lambda *_: publisher)
    file = tmp_path / "sessions.csv"
    file.write_text("user,item,session,time\nNA,i1,s1,2025-01-01\nu2,i2,(not set),2025-01-02\n-1,i3,s3,2025-01-03\n")
    code, _, err = run(str(file), "--dry-run", capsys=capsys)
    assert code == 0 and "user_id is NA: if that means no value, pass --missing NA" in err
    assert run(str(file), "--dry-run", "--missing", "NA,,", capsys=capsys)[0] == 2
    code, out, _ = run(str(file), "--yes", "--missing", "na,(NOT SET),-1", capsys=capsys)
    (sent,) = publisher.records
    assert (code, sent.user_id, sent.session) == (1, "u2", None) and "2 bad: user_id: missing or blank" in out
    kept = [json.loads(line) for line in (tmp_path / "sessions.csv.bad.jsonl").read_text().splitlines()]
    assert [row["read_as"]["missing"] for row in kept] == ["na,(NOT SET),-1"] * 2, "corrected rows are read alike"


NEWS = 'N1\tsport\tgolf\tA title, with a comma\t[{"Label": "A, B", "Type": "P"}]\nN2\tnews\tworld\tOne\t[]\n'


@pytest.mark.parametrize(("name", "options"), [("news.tsv", {}), ("news.txt", {"form": "tsv"}), ("news.txt", {}), ("news.csv", {})])
def test_tabs_cut_a_table_whatever_else_stands_in_its_cells(name: str, options: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / name).write_text(NEWS)
    made = guess(str(tmp_path / name), given={"header": "item_id,category,kind,title,entities", **options})
    assert fields(made)["title"] == "title" and tried(tmp_path / name, made).would_publish == 2
    (tmp_path / name).write_text("item_id\ttitle\tentities, and more, of it\n1\ta\tb, c\n2\td\te\n")
    assert fields(guess(str(tmp_path / name), given=options))["title"] == "title"


def tried(path: Path, made: Guess) -> Any:
    options = FileOptions(**made.options)
    return publish_some(str(path), options.reading(), options.mapping(made.kind, made.form != "jsonl"), 600, 1_000)


def test_types_that_are_given_name_their_column_or_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text("Kunde;Artikelnummer;Aktion\nK1;001;Kauf\nK2;002;Ansicht\n")
    made = guess(str(path), given={"types": ["Kauf=purchase,Ansicht=view"]})
    assert fields(made)["type"] == "Aktion" and tried(path, made).would_publish == 2
    with pytest.raises(SettingsError, match="no column holds gekauft: pass --map type=COLUMN"):
        guess(str(path), given={"types": ["gekauft=purchase"]})
    path.write_text("user_id,item_id,type\nu,i,view\n")
    assert "--types: not among the first 1 rows: foo" in guess(str(path), given={"types": ["foo=view"]}).notes


def test_codes_of_types_need_a_meaning(tmp_path: Path) -> None:
    path = tmp_path / "tianchi.csv"
    path.write_text("user_id,item_id,behavior_type\nu,a,1\nu,b,4\n")
    with pytest.raises(SettingsError, match="behavior_type holds 1, 4, and nothing says what they mean: pass --types 1=view,…"):
        guess(str(path))
    assert tried(path, guess(str(path), given={"types": ["1=view,4=purchase"]})).would_publish == 2
    assert tried(path, guess(str(path), given={"event_type": "click"})).would_publish == 2


def test_columns_that_options_name_are_there(tmp_path: Path) -> None:
    path = tmp_path / "items.csv"
    path.write_text("item_id,categories\n1,a\n")
    for option in ("split", "levels"):
        with pytest.raises(SettingsError, match=f"--{option}: there is no column Tags; the columns are item_id, categories"):
            guess(str(path), given={option: ["Tags=,"]})


@pytest.mark.parametrize(
    ("cells", "given", "field"),
    [
        (["2,11", "3,50", "1.299,50"], {}, "numeric_attributes.preis"),
        (["2,11", "3,50", "1.299,50"], {"decimal": "comma"}, "numeric_attributes.preis"),
        (["2.11", "3.50", "1299.50"], {}, "numeric_attributes.preis"),
        (["0101", "0275", "1299"], {}, ""),
        (["02215", "02215", "12345"], {}, "categorical_attributes.preis"),
        (["1,299", "3,500", "1,200"], {}, ""),
    ],
)
def test_numbers_with_a_comma_are_numbers_and_codes_with_a_zero_are_none(
    cells: list[str], given: dict[str, str], field: str, tmp_path: Path
) -> None:
    path = tmp_path / "items.csv"
    path.write_text("item_id;title;Preis\n" + "".join(f"{place};t{place};{cell}\n" for place, cell in enumerate(cells)))
    made = guess(str(path), given=given)
    found = {column: name for name, column in fields(made).items()}
    assert found.get("Preis", "") == field
    assert (made.options.get("decimal") == "comma") == ("2,11" in cells)
    assert tried(path, made).would_publish == 3


def test_an_id_is_taken_from_a_column_that_is_filled(tmp_path: Path) -> None:
    path = tmp_path / "books.csv"
    path.write_text("book_id,asin,title\n11,,x\n12,A9,y\n13,,z\n")
    assert fields(guess(str(path)))["item_id"] == "book_id"
    path.write_text("book_id,isbn,title\n11,1,x\n12,1,y\n")
    assert fields(guess(str(path)))["item_id"] == "book_id"
    path.write_text("user_id,asin,parent_asin,rating,timestamp\nu,B1,B0,5,1700000000000\n")
    assert fields(guess(str(path)))["item_id"] == "parent_asin", "that of the catalogue"


def test_ratings_on_another_scale_are_said(tmp_path: Path) -> None:
    path = tmp_path / "BX.csv"
    path.write_text(BOOKS + '"276727";"0155061225";"8"\n')
    notes = guess(str(path)).notes
    assert any("holds 0 to 8: set weights.rating_neutral (2.5 unless set) and weights.rating_best (5)" in note for note in notes)
    assert any("1 of the first 3 rows have a Book-Rating of 0" in note for note in notes)
    path.write_text(BOOKS.replace('"0"\n', '"1"\n'))
    assert not any("Book-Rating" in note for note in guess(str(path)).notes)


def test_lines_of_orders_are_purchases_and_returns_are_said(tmp_path: Path) -> None:
    path = tmp_path / "retail.csv"
    path.write_text(RETAIL + "C536379,D,Discount,-1,2010-12-02 09:41:00,27.50,14527,France\n")
    made = guess(str(path))
    assert made.options["event_type"] == "purchase"
    assert any("1 of the first 3 rows have a Quantity below 0" in note for note in made.notes)


@pytest.mark.parametrize("header", ["order_id,product_id,reordered", "timestamp,itemid,property"])
def test_parts_of_other_things_are_no_items_unless_the_user_says_so(header: str, tmp_path: Path) -> None:
    path = tmp_path / "part.csv"
    path.write_text(header + "\n" + "".join(f"{n},{n % 5},1\n" for n in range(20)))
    with pytest.raises(SettingsError, match=r"15 of its first 20 rows have the .* of an earlier row, and no column looks like user_id"):
        guess(str(path))
    assert guess(str(path), "items").kind == "items"


def test_a_column_without_times_is_left_out_of_json_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text('{"item_id":"a","title":"x","date":"foo","text":["one","two"]}\n{"item_id":"b","title":"y","date":"bar"}\n')
    assert application.run(["import", str(path), "--dry-run"]) == 0
    assert "2 items would be published" in capsys.readouterr().out


def test_a_year_is_a_number_and_no_moment(tmp_path: Path) -> None:
    path = tmp_path / "films.csv"
    path.write_text("item_id,title,date\n1,a,1995\n2,b,2012\n")
    made = guess(str(path))
    assert fields(made)["numeric_attributes.date"] == "date" and tried(path, made).would_publish == 2
    path.write_text("item_id,title,date\n1,a,1995-11-22\n2,b,2012-01-01\n")
    assert fields(guess(str(path)))["published_ts_ms"] == "date"
