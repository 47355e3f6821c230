"""Exports as shops have them become items, events and profiles with the options that the guide names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.row_publisher import Files, Outcome, Shell
from workers.producer.rows import BadRow
from workers.producer.values import levels, number, strings

T = 1_763_200_000_000


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Files:
    return Files(Shell(monkeypatch, capfd), tmp_path)


SHOPIFY = '''\
Handle,Title,Body (HTML),Vendor,Product Category,Type,Tags,Published,Option1 Name,Option1 Value,Variant SKU,Variant Price,Image Src,Status
linen-shirt,"Linen Shirt, ""Sunday""","<p>Soft, light &amp; airy.</p>
<ul>
  <li>100% linen, washed</li>
  <li>""Regular"" fit</li>
</ul>

<p>Made in Porto.</p>",Casa Azul,Apparel & Accessories > Clothing > Shirts,Shirt,"linen, summer, Sale 20%",true,Size,S,LS-S,59.90,https://x/1.jpg,active
linen-shirt,,,,,,,,,M,LS-M,59.90,https://x/2.jpg,
linen-shirt,,,,,,,,,L,LS-L,62.90,,
mug,Mug,"<p>Holds 0,3 l</p>",Töpferei Süd,Home & Garden > Kitchen & Dining > Mugs,Mug,"kitchen, gift",true,Title,-,MUG,12.00,,active
gift-card,Gift Card,,Casa Azul,,,,false,Title,Default Title,,25.00,,draft
'''
SHOPIFY_MAP = (
    "item_id=Handle,title=Title,text=Body (HTML),categories=Product Category,categories=Tags,available=Published,"
    "categorical_attributes.brand=Vendor,numeric_attributes.price=Variant Price"
)


def test_a_product_export_with_html_variants_and_tags_becomes_one_item_a_product(publish: Files) -> None:
    options = ("--map", SHOPIFY_MAP, "--split", "Tags=,")
    refused = publish("products.csv", SHOPIFY, *options, kind="items")
    assert refused.code == 2 and "--repeats merge" in refused.err  # else the last variant, without a title, would be the item
    found = publish("products.csv", SHOPIFY, *options, "--repeats", "merge", kind="items")
    assert found.code == 0 and (found.report["rows"], found.report["published"], found.report["merged"]) == (5, 3, 2)
    shirt, mug, card = found.records
    assert (shirt.item_id, shirt.title) == ("linen-shirt", 'Linen Shirt, "Sunday"')
    assert shirt.text.startswith("<p>Soft, light &amp; airy.</p>\n<ul>") and shirt.text.endswith("\n\n<p>Made in Porto.</p>")
    assert shirt.categories == ("Apparel & Accessories", "Clothing", "Shirts", "linen", "summer", "Sale 20%")
    assert (shirt.categorical_attributes, shirt.numeric_attributes, shirt.available) == ({"brand": "Casa Azul"}, {"price": 59.9}, True)
    assert mug.categories == ("Home & Garden", "Kitchen & Dining", "Mugs", "kitchen", "gift")
    assert (card.available, card.categories, card.numeric_attributes) == (False, (), {"price": 25.0})
    replaced = publish("products.csv", SHOPIFY, *options, "--repeats", "replace", kind="items")
    assert replaced.report["published"] == 5 and replaced.report["warnings"][0].startswith("2 rows with the id of an earlier row")


GA4 = """\
event_date,event_timestamp,event_name,user_pseudo_id,item_id,item_name,price,source
20251115,1763200000123456,view_item_list,1234567890.1700000001,SKU-1,Shirt,59.9,google
20251115,1763200001000000,select_item,1234567890.1700000001,SKU-1,Shirt,59.9,google
20251115,1763200002000001,view_item,1234567890.1700000001,SKU-1,Shirt,59.9,google
20251115,1763200003000000,session_start,998.17,,,,(direct)
20251115,1763200004000000,add_to_cart,1234567890.1700000001,SKU-1,Shirt,59.9,google
20251115,1763200005000000,purchase,998.17,SKU-2,Mug,12.0,(direct)
"""
GA4_MAP = "user_id=user_pseudo_id,type=event_name,event_ts_ms=event_timestamp,value=price,context.source=source"
GA4_TYPES = "view_item_list=impression,select_item=click,view_item=view"


def test_an_analytics_export_becomes_events_by_its_own_names_in_microseconds(publish: Files) -> None:
    found = publish("ga4.csv", GA4, "--map", GA4_MAP, "--types", GA4_TYPES)
    assert found.code == 1 and found.report["time_formats"] == {"event_ts_ms": "microseconds since 1970"}
    assert [(r.user_id, r.type) for r in found.records] == [
        ("1234567890.1700000001", "impression"),
        ("1234567890.1700000001", "click"),
        ("1234567890.1700000001", "view"),
        ("1234567890.1700000001", "add_to_cart"),
        ("998.17", "purchase"),
    ]
    assert [r.event_ts_ms for r in found.records][:2] == [1_763_200_000_123, 1_763_200_001_000]
    assert found.records[0].value == 59.9 and found.records[-1].context == {"source": "(direct)"}
    assert [reason["reason"] for reason in found.report["reasons"]] == ["item_id: missing or blank"]
    unmapped = publish("ga4.csv", GA4, "--map", GA4_MAP)
    assert any("--types" in reason["reason"] for reason in unmapped.report["reasons"])
    by_day = publish("ga4.csv", GA4, "--map", GA4_MAP.replace("event_timestamp", "event_date"), "--types", GA4_TYPES)
    assert {r.event_ts_ms for r in by_day.records} == {1_763_164_800_000} and "digits" in by_day.report["time_formats"]["event_ts_ms"]


WOOCOMMERCE = """\
Order Number;Order Date;Customer User ID;SKU;Item Name;Quantity;Item Cost;Currency
1001;2025-10-26 01:59;7;SHIRT-M;"Shirt; linen";1;59,90;EUR
1001;2025-10-26 01:59;7;MUG;Mug;2;1.012,00 €;EUR
1002;2025-10-26 02:30;8;MUG;Mug;1;12,00;EUR
1003;2025-10-26 03:00;9;CARD;"Gift
Card";1;25,00;EUR
"""
WOOCOMMERCE_MAP = "event_id=Order Number,event_ts_ms=Order Date,user_id=Customer User ID,item_id=SKU,value=Item Cost"


def test_an_order_export_in_local_time_with_decimal_commas_becomes_purchases(publish: Files) -> None:
    options = ("--map", WOOCOMMERCE_MAP, "--type", "purchase", "--delimiter", ";", "--row-ids")
    assert "--decimal comma" in publish("orders.csv", WOOCOMMERCE, *options).err
    options = (*options, "--decimal", "comma")
    assert "--time-zone" in publish("orders.csv", WOOCOMMERCE, *options).err
    options = (*options, "--time-zone", "Europe/Berlin")
    found = publish("orders.csv", WOOCOMMERCE, *options)
    assert [(r.user_id, r.item_id, r.value) for r in found.records] == [("7", "SHIRT-M", 59.9), ("7", "MUG", 1012.0), ("9", "CARD", 25.0)]
    assert len({r.event_id for r in found.records}) == 3
    # 01:59 was summer time, 03:00 winter time; 02:30 came twice
    assert found.records[-1].event_ts_ms - found.records[0].event_ts_ms == (2 * 60 + 1) * 60_000
    assert found.report["bad_rows"][0]["line"] == 4 and "--repeated-hour" in found.report["bad_rows"][0]["reason"]
    all_rows = publish("orders.csv", WOOCOMMERCE, *options, "--repeated-hour", "second")
    assert all_rows.code == 0 and len(all_rows.records) == 4


def test_profiles_are_published_from_files_of_every_kind(publish: Files) -> None:
    table = "Customer ID,Country,Age,Likes,Changed\n17,DE,42,Jazz > Hard Bop|Soul,2025-11-15T10:00:00Z\n18,,,,\n,FR,1,,\n"
    options = ("user_id=Customer ID,categorical_attributes.country=Country,numeric_attributes.age=Age,preferred_categories=Likes",)
    found = publish("users.csv", table, "--map", f"{options[0]},updated_ts_ms=Changed", kind="users")
    assert (found.report["published"], found.report["bad"]) == (2, 1) and found.code == 1
    first, second = found.records
    assert (first.user_id, first.categorical_attributes, first.numeric_attributes) == ("17", {"country": "DE"}, {"age": 42})
    assert first.preferred_categories == ("Jazz", "Hard Bop", "Soul") and first.updated_ts_ms == 1_763_200_800_000
    assert (second.user_id, second.categorical_attributes, second.preferred_categories) == ("18", {}, ())
    row = {"user_id": 17, "categorical_attributes": {"country": "DE"}, "preferred_categories": ["Jazz > Soul"]}
    lines = publish("users.jsonl", json.dumps(row) + "\n", kind="users")
    assert lines.records[0].preferred_categories == ("Jazz", "Soul") and lines.records[0].user_id == "17"
    unknown = publish("users.jsonl", json.dumps({**row, "item_id": "i"}) + "\n", kind="users")
    assert unknown.report["bad"] == 1
    assert "user_id" in publish("users.csv", "id,Country\n1,DE\n", kind="users").err


@pytest.mark.parametrize("target", ["brand", "categorical_attributes.", "title.x", "categorical_attributes", "context.x", "embedding.text"])
def test_a_target_that_items_do_not_have_is_refused_and_an_object_may_be_one_column(publish: Files, target: str) -> None:
    found = publish("a.csv", 'item_id,B\ni,"{""brand"": ""x""}"\n', "--map", f"{target}=B", kind="items")
    if target == "categorical_attributes":
        assert found.records[0].categorical_attributes == {"brand": "x"}
    else:
        assert found.code == 2 and target in found.err and "categorical_attributes" in found.err


def test_entries_join_the_object_of_the_row_and_a_column_may_be_named_after_its_entry(publish: Files) -> None:
    header = "item_id,numeric_attributes,numeric_attributes.price,embeddings.text,categorical_attributes.brand.line\n"
    found = publish("a.csv", header + 'i,"{""year"": 1999, ""price"": 1}",12.5,"[0.5, 1]",x\n', kind="items")
    item = found.records[0]
    assert item.numeric_attributes == {"year": 1999, "price": 12.5} and item.embeddings == {"text": (0.5, 1.0)}
    assert item.categorical_attributes == {"brand.line": "x"}
    in_json = publish("a.jsonl", '{"item_id": "i", "numeric_attributes": {"year": 1999}, "numeric_attributes.price": 12.5}\n', kind="items")
    assert in_json.records[0].numeric_attributes == {"year": 1999, "price": 12.5}


def test_a_column_with_a_comma_in_its_name_is_mapped_in_quotes_and_map_may_be_repeated(publish: Files) -> None:
    content = 'item_id,"Price, EUR",Vendor\ni,5,x\n'
    options = ("--map", '"numeric_attributes.price=Price, EUR"', "--map", "categorical_attributes.brand=Vendor")
    item = publish("a.csv", content, *options, kind="items").records[0]
    assert (item.numeric_attributes, item.categorical_attributes) == ({"price": 5.0}, {"brand": "x"})


def test_a_fault_in_one_attribute_costs_that_attribute_and_a_column_without_any_number_is_refused(publish: Files) -> None:
    mapped = ("--map", "numeric_attributes.price=Price,categorical_attributes.brand=Vendor")
    found = publish("a.csv", "item_id,Price,Vendor\ni,5,x\nj,on request,y\nk,NaN,\nl,,NULL\n", *mapped, kind="items")
    assert found.code == 0 and [item.numeric_attributes for item in found.records] == [{"price": 5.0}, {}, {}, {}]
    assert [item.categorical_attributes for item in found.records] == [{"brand": "x"}, {"brand": "y"}, {}, {}]
    assert found.report["warnings"] == ["1 row: numeric_attributes.price was not a number; the row was published without it"]
    refused = publish("a.csv", 'item_id,Price,Vendor\ni,"5,90",x\nj,"12,00",y\n', *mapped, kind="items")
    assert refused.code == 2 and "--decimal comma" in refused.err and "column Price" in refused.err


NUMBERS: list[tuple[str, str | None, float | None]] = [
    ("12", None, 12), ("12.50", None, 12.5), ("-3", None, -3), ("1e3", None, 1000), ("$19.99", None, 19.99), ("19.99 €", None, 19.99),
    ("EUR 5", None, 5), ("5 CHF", None, 5), ("1,299", None, None), ("19,99", None, None), ("1,299.50", None, None), ("", None, None),
    ("abc", None, None), ("12 apples", None, None), ("1,299.50", "point", 1299.5), ("1,299", "point", 1299), ("12.5", "point", 12.5),
    ("19,99", "point", None), ("£1,000", "point", 1000), ("1.299,50", "comma", 1299.5), ("19,99 €", "comma", 19.99),
    ("1.299", "comma", 1299),
    ("1 299,5", "comma", 1299.5), ("1\u00a0299,5", "comma", 1299.5), ("1'299.50", "point", 1299.5), ("12.99", "comma", None),
    ("7", "comma", 7), ("-1.000,5", "comma", -1000.5), ("1.2.3", None, None), ("١", None, None),
]  # fmt: skip


@pytest.mark.parametrize(("given", "decimal", "expected"), NUMBERS)
def test_numbers_are_read_as_the_option_says_and_never_guessed(given: str, decimal: str | None, expected: float | None) -> None:
    if expected is None:
        with pytest.raises(BadRow, match="not a number"):
            number(given, decimal)  # type: ignore[arg-type]
    else:
        assert number(given, decimal) == expected  # type: ignore[arg-type]


PATHS: list[tuple[str, list[str]]] = [
    ("Home > Kitchen", ["Home", "Kitchen"]), ("Home>Kitchen > Mugs", ["Home", "Kitchen", "Mugs"]), ("Home", ["Home"]),
    ("Home/Kitchen", ["Home/Kitchen"]), ("> 5 years", ["> 5 years"]), ("Home >", ["Home >"]), ("<b>Sale</b>", ["<b>Sale</b>"]),
]  # fmt: skip


@pytest.mark.parametrize(("path", "expected"), PATHS)
def test_a_category_path_becomes_its_levels(path: str, expected: list[str]) -> None:
    assert levels(path) == expected == strings(path) == strings([path]) == strings(json.dumps([path]))


def categories(found: Outcome) -> list[tuple[str, ...]]:
    return [item.categories for item in found.records]


def test_other_separators_hold_only_for_the_column_that_an_option_names(publish: Files) -> None:
    content = "item_id,A,B\ni,Home/Kitchen/Mugs,x, y\n".replace("x, y", '"x, y/z, a\\, b"')
    both = ("--map", "categories=A,categories=B")
    assert categories(publish("a.csv", content, *both, kind="items")) == [("Home/Kitchen/Mugs", "x, y/z, a\\, b")]
    found = publish("a.csv", content, *both, "--levels", "A=/", "--split", "B=comma", kind="items")
    assert categories(found) == [("Home", "Kitchen", "Mugs", "x", "y/z", "a, b")]
    signs = ("--levels", "categories=::", "--split", "categories=;;")
    arrows = publish("a.csv", "item_id,categories\ni,A :: B > C;;D\n", *signs, kind="items")
    assert categories(arrows) == [("A", "B > C", "D")]
    same = publish("a.csv", "item_id,categories\ni,A > B|A > C\n", kind="items")
    assert categories(same) == [("A", "B", "C")]
    for wrong in ("A", "=,", "A=", "A=x", "A=,,,,"):
        assert "--split" in publish("a.csv", content, *both, "--split", wrong, kind="items").err


def test_rows_of_one_item_are_merged_only_where_they_follow_each_other(publish: Files) -> None:
    rows = "item_id,title,categories\na,A,x\na,,y|x\nb,B,\na,A2,z\n,lost,\n,lost,\nb,B2,\n"
    found = publish("a.csv", rows, "--repeats", "merge", kind="items")
    assert [(r.item_id, r.title, r.categories) for r in found.records] == [
        ("a", "A", ("x", "y")),
        ("b", "B", ()),
        ("a", "A2", ("z",)),
        ("b", "B2", ()),
    ]
    assert (found.report["rows"], found.report["merged"], found.report["bad"]) == (7, 1, 2)
    assert any(w.startswith("2 rows with the id of an earlier row") for w in found.report["warnings"])
    lines = "".join(json.dumps({"item_id": "a", "categories": [x], "title": t}) + "\n" for x, t in (("x > v", "A"), ("y", "B")))
    merged = publish("a.jsonl", lines, "--repeats", "merge", kind="items").records
    assert [(r.title, r.categories) for r in merged] == [("A", ("x", "v", "y"))]
