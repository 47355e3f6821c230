"""Settings of four kinds of services for `recsys init`: each line with the reason for it. A start, not a tuned optimum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from workers.errors import SettingsError

Section = tuple[str, Sequence[tuple[str, str]]]
"""Name of a section, and its lines: (reason, line). A line without a reason goes on with the one before it."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of service: what it is, and its settings."""

    what: str
    sections: Sequence[Section]


def _rows(*rows: tuple[str, str]) -> list[tuple[str, str]]:
    """Return the lines of `lists.rows`, each with its reason."""
    first = ("Rows of the page, from the top; each shows no item of a row before it.", "rows = [")
    return [first, *((why, f"  {row},") for why, row in rows), ("", "]")]


SHOP = Scenario(
    "a shop: people view much, buy little, and some things again",
    [
        ("weights", [
            ("Looking around says little.", "view = 0.3"),
            ("Opening a product on purpose says a bit more.", "click = 0.5"),
            ("The cart is nearly a purchase.", "add_to_cart = 1.0"),
            ("A purchase says most: it is paid for.", "purchase = 2.0"),
            ("A product that was shown and not chosen says nothing for itself.", "impression = 0.0"),
        ]),
        ("touch", [
            ("What was looked at may be shown again: most purchases need several visits.", 'view = "no"'),
            ("The cart shows it; a list reminds of it after a day.", 'add_to_cart = "1d"'),
            ("Nobody buys a second washing machine in the same month …", 'purchase = "90d"'),
            ("… and what is used up comes back by its own time: name your categories.",
             'by_category = {groceries = {purchase = "5d"}, cosmetics = {purchase = "30d"}}'),
        ]),
        ("state", [
            ("Tastes in a shop change with the seasons: what goes together is half forgotten after four months.", "half_life_days = 120"),
            ("Counts what was shown and not chosen, so that it can rest (lists.frequency_cap).", "shown_items = 100"),
        ]),
        ("lists", [
            ("Items of a list.", "size = 24"),
            ("Visitors of whom nothing is known get a list, too, made again every minute.", "shared_every_s = 60"),
            ("Each category page has a list of its own.", 'shared_categories = "all"'),
            ("At most three products of one brand among the first ten.", 'caps = [{by = "attribute.brand", most = 3}]'),
            ("A list that shows variants of one thing ten times sells one of them.", 'diversity = {kind = "mmr", strength = 0.15}'),
            ("Five times shown without a click: rest for two days.", "frequency_cap = {times = 5, rest_hours = 48}"),
            ("Your users' newest lists are made again when an item on them is sold out.", "renewed_users = 200000"),
            ("Rules of the house; `recsys rules check` shows what they do before workers follow them.", "rules = ["),
            ("Nothing without a price.", '  {name = "has a price", when = "!has(item.price)", action = "deny"},'),
            ("", "]"),
            *_rows(
                ("What this person would buy next.", '{kind = "for_you", title = "For you"}'),
                ("What goes with what they bought or put in the cart.", '{kind = "because", title = "Because you chose"}'),
                ("What was looked at and not bought, and what is used up.", '{kind = "again", title = "Once more"}'),
                ("What sells now.", '{kind = "popular_now", title = "Popular now"}'),
                ("What came in.", '{kind = "new_in", title = "New"}'),
            ),
        ]),
        ("related", [
            ("Product pages: what is bought together, and what is like it.", "bought_together = true"),
            ("", "similar = true"),
        ]),
    ],
)  # fmt: skip

VIDEO = Scenario(
    "films and series: what was watched is over, and a dislike is meant",
    [
        ("weights", [
            ("Opening the page of a film is browsing; those who mean it start it.", "view = 0.0"),
            ("Send `click` when playing starts …", "click = 0.9"),
            ("… and `play` when it has ended: above all others that praise, so that an ended film is over.", "play = 1.1"),
            ("Adding it to one's own list: below a start, so that what was begun waits in the row `again`.", "like = 0.8"),
            ("A rating of 3 of 5 is neither praise nor blame.", "rating_neutral = 3.0"),
            ("The best rating of your scale.", "rating_best = 5.0"),
            ("A thumb down hides it and what is very like it.", "dislike = -1.0"),
        ]),
        ("touch", [
            ("Watched is watched; half a year later some watch it again.", 'play = "26w"'),
            ("What was begun and not ended may come back at once.", 'click = "no"'),
            ("What is on their own list is shown there.", 'like = "forever"'),
            ("Children watch the same again the next day.", 'by_category = {kids = {play = "1d"}}'),
            ("Never again.", 'dislike = "forever"'),
        ]),
        ("state", [
            ("Tastes in films change slowly.", "half_life_days = 365"),
            ("People have watched more than a hundred films.", "history_length = 200"),
        ]),
        ("lists", [
            ("Titles of a list.", "size = 30"),
            ("The list for visitors, made again every five minutes.", "shared_every_s = 300"),
            ("A mix of genres like that of the person: not only the genre of last night.", "calibration = {strength = 0.4}"),
            ("A little ahead for what came out lately.", "freshness = {weight = 0.3, half_life_days = 30}"),
            ("New is what came in within two months.", "new_days = 60"),
            ("The last place tries something.", "exploration_slots = 1"),
            *_rows(
                ("What was begun and not ended, and what children watch again: first, as a row keeps its items from those below.",
                 '{kind = "again", title = "Go on watching", least = 1}'),
                ("The evening's choice.", '{kind = "for_you", title = "For you", size = 20}'),
                ("Because you watched …", '{kind = "because", title = "Because you watched"}'),
                ("New in the person's favourite genre.", '{kind = "new_in", title = "New in"}'),
                ("What everybody watches.", '{kind = "popular_now", title = "Popular now"}'),
            ),
        ]),
        ("trainer", [
            ("Order matters (series, sequels), so sequence models earn their time.", 'kinds = ["ials", "sasrec", "ease", "recipe"]'),
        ]),
    ],
)  # fmt: skip

NEWS = Scenario(
    "news: everything is new, and old within a day",
    [
        ("weights", [
            ("A headline that was seen says nothing by itself.", "impression = 0.0"),
            ("Opening an article.", "click = 0.7"),
            ("Reading it to the end.", "play = 1.2"),
            ("Passing it on.", "share = 1.5"),
        ]),
        ("touch", [
            ("What was opened is known …", 'click = "forever"'),
            ("… and so is what was read.", 'play = "forever"'),
        ]),
        ("state", [
            ("What goes together is half forgotten after a week: topics, not articles, last.", "half_life_days = 7"),
            ("Half a year of weeks.", "live_epochs = 26"),
            ("Counts headlines that were shown in vain.", "shown_items = 200"),
        ]),
        ("lists", [
            ("Headlines of a page.", "size = 40"),
            ("The front page for everybody, made again every 20 s.", "shared_every_s = 20"),
            ("Sections have front pages of their own.", 'shared_categories = "all"'),
            ("An hour counts: an article loses half of its lead every 12 hours.", "freshness = {weight = 1.5, half_life_days = 0.5}"),
            ("New is what came in within two days.", "new_days = 2"),
            ("Shown five times and not opened: rest for half a day, which is half of an article's life.",
             "frequency_cap = {times = 5, rest_hours = 12}"),
            ("No section fills the first ten places.", "most_of_category = 4"),
            ("Different stories, not one story from eight agencies.", 'diversity = {kind = "mmr", strength = 0.25}'),
            ("Two places try new articles, else nobody learns whether they are read.", "exploration_slots = 2"),
            ("Old news leave the lists; `recsys rules check` shows what a rule does.", "rules = ["),
            ("Nothing older than ten days.", '  {name = "not old", when = "item.age_days > 10.0", action = "deny"},'),
            ("", "]"),
            *_rows(
                ("The person's own front page: short, as a row keeps its articles from those below.",
                 '{kind = "for_you", title = "For you", size = 12}'),
                ("What has just come in, in the section that the person reads most.", '{kind = "new_in", title = "Just in:", least = 1}'),
                ("What everybody reads.", '{kind = "popular_now", title = "Most read"}'),
            ),
        ]),
        ("trainer", [
            ("Articles without readers need what they say: train often …", "every_s = 300"),
            ("… or after this many events.", "every_events = 50000"),
        ]),
    ],
)  # fmt: skip

SOCIAL = Scenario(
    "posts of people: a stream of new things, authors, and what one does not want to see",
    [
        ("weights", [
            ("Stopping at a post.", "view = 0.3"),
            ("Opening it, or its pictures.", "click = 0.5"),
            ("Watching or listening to the end.", "play = 0.8"),
            ("A like costs little.", "like = 1.0"),
            ("Sharing says most.", "share = 2.0"),
            ("Hiding is meant as it is said.", "hide = -2.0"),
        ]),
        ("touch", [
            ("A post that was seen in full is over.", 'play = "forever"'),
            ("So is one that was liked …", 'like = "forever"'),
            ("… or opened, for two weeks.", 'click = "2w"'),
            ("Never again.", 'hide = "forever"'),
        ]),
        ("state", [
            ("Interests change within a month.", "half_life_days = 30"),
            ("People see many posts.", "history_length = 200"),
            ("Counts posts that were shown in vain.", "shown_items = 300"),
            ("A busy account adds this much to other people's lists at once, and a tenth of it a day: low against bots.",
             "user_budget = 500"),
        ]),
        ("lists", [
            ("Posts of one load of the feed.", "size = 50"),
            ("The feed of visitors.", "shared_every_s = 30"),
            ("Today counts: a post loses half of its lead in a day.", "freshness = {weight = 1.0, half_life_days = 1.0}"),
            ("New is of this week.", "new_days = 7"),
            ("At most two posts of an author among the first ten: send the author as an attribute.",
             'caps = [{by = "attribute.author", most = 2}]'),
            ("Shown five times and passed over: rest for a day.", "frequency_cap = {times = 5, rest_hours = 24}"),
            ("The mix of topics of the person.", "calibration = {strength = 0.3}"),
            ("Three places try posts of whom nobody knows yet.", "exploration_slots = 3"),
            *_rows(
                ("The feed.", '{kind = "for_you", title = "For you", size = 30}'),
                ("What is talked about.", '{kind = "popular_now", title = "Trending"}'),
                ("Because of what you liked.", '{kind = "because", title = "More like"}'),
            ),
        ]),
    ],
)  # fmt: skip

SCENARIOS = {"shop": SHOP, "video": VIDEO, "news": NEWS, "social": SOCIAL}


def settings_file(name: str) -> str:
    """Return the TOML file of a scenario."""
    scenario = SCENARIOS[name]
    lines = [
        f"# Settings of recsys-stream for {scenario.what}.",
        "# Written by `recsys init`; every line is yours to change. All settings: docs/configuration.md, or `recsys settings`.",
        "# Environment variables such as RECSYS_LISTS__SIZE=30 go before this file.",
        "# Weights, touch and state change what is stored: after a change of them run `recsys state rebuild`.",
    ]
    for section, settings in scenario.sections:
        lines += ["", f"[{section}]"]
        for why, line in settings:
            indent = line[: len(line) - len(line.lstrip())]
            lines += [f"{indent}# {why}"] if why else []
            lines.append(line)
    return "\n".join(lines) + "\n"


COMPOSE_FILE = """\
# Gives the containers of docker-compose.yml the settings of recsys.toml. Written by `recsys init`.
# `docker compose up` reads this file by itself; after a change of recsys.toml: docker compose up --force-recreate stream trainer
x-settings: &settings
  # where workers look for the file
  environment: {RECSYS_CONFIG: /etc/recsys.toml}
  # read only: a worker changes no settings
  volumes: ["./recsys.toml:/etc/recsys.toml:ro"]

services:
  # makes the topics of the settings
  provision: *settings
  # turns events into lists
  stream: *settings
  # trains models
  trainer: *settings
"""


def write_files(name: str, folder: Path, others: Sequence[Path] = ()) -> list[Path]:
    """Write the files of a scenario. Raises SettingsError for a file that is there, one of `others` too: nothing is replaced."""
    contents = {folder / "recsys.toml": settings_file(name), folder / "docker-compose.override.yml": COMPOSE_FILE}
    there = [path for path in (*contents, *others) if path.exists()]
    if there:
        raise SettingsError(f"init: {there[0]} is there already: remove it, or name another --folder")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in contents.items():
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    return list(contents)
