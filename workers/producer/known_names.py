"""Names that other programs give to what this project calls user, item, event type, time and so on, in lower case without signs."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from schemas.events import EventType

_USER = (
    "userid", "user", "uid", "customerid", "customer", "customeruserid", "visitorid", "visitor", "memberid", "member", "accountid",
    "account",
    "clientid", "userpseudoid", "profileid", "personid", "buyerid", "reviewerid", "listenerid", "viewerid", "readerid", "subscriberid",
    "nutzerid", "nutzer", "kundennummer", "kunde", "benutzerid", "authorid", "username", "anonymousid", "distinctid", "fullvisitorid",
    "householdkey", "shopperid", "guestid", "playerid", "studentid", "userkey", "customernumber", "customerkey",
)  # fmt: skip
_ITEM = (
    "itemid", "item", "productid", "product", "sku", "skuid", "variantsku", "parentasin", "asin", "isbn", "movieid", "filmid",
    "articleid",
    "newsid", "postid", "trackid", "songid", "videoid", "showid", "contentid", "bookid", "gameid", "recipeid", "courseid", "jobid",
    "listingid", "offerid", "adid", "materialid", "objectid", "handle", "gtin", "ean", "artikelnummer", "artikel", "produkt", "stockcode",
    "artistid", "albumid", "businessid", "venueid", "placeid", "poiid", "hotelid", "restaurantid", "animeid", "beerid", "jokeid", "storyid",
    "episodeid", "podcastid", "locationid",
)  # fmt: skip
_THINGS = (
    "movie", "film", "book", "song", "track", "artist", "album", "game", "video", "venue", "business", "hotel", "restaurant", "anime",
)  # fmt: skip
"""What people do something with, where a column says no more than that; in a catalogue it may be anything."""
_RATINGS = (
    "bookrating", "movierating", "userrating", "itemrating", "productrating", "reviewscore", "starrating", "ratingvalue", "ratingscore",
)  # fmt: skip
NAMES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "events": {
        "user_id": _USER,
        "item_id": (*_ITEM, *_THINGS),
        "type": ("type", "eventtype", "eventname", "event", "action", "actiontype", "behavior", "behaviour", "behaviortype",
                 "interaction",
                 "interactiontype", "activity", "verb", "ereignis"),
        "value": ("value", "rating", "stars", "score", "overall", "reviewrating", "note", "bewertung", *_RATINGS),
        "event_ts_ms": ("eventtsms", "eventtimestamp", "eventtime", "timestamp", "ts", "tsms", "time", "datetime", "unixtime",
                        "unixreviewtime",
                        "eventdate", "createdat", "created", "date", "orderdate", "purchasedate", "purchasedat", "clicktime", "viewedat",
                        "playedat", "watchedat", "reviewdate", "datum", "zeit", "zeitpunkt", "reviewtime", "invoicedate", "tdat",
                        "bought",
                        "transactiondate", "transactiontime", "eventdatetime", "occurredat", "checkintime", "utctime", "localtime"),
        "event_id": ("eventid", "eventuuid", "messageid", "insertid"),
        "session": ("session", "sessionid", "visitid", "gasessionid"),
        "position": ("position", "rank", "slot"),
        "list_id": ("listid", "impressionid", "requestid"),
    },
    "items": {
        "item_id": (*_ITEM, "id"),
        "title": ("title", "name", "productname", "itemname", "producttitle", "movietitle", "headline", "trackname", "booktitle",
                  "titel"),
        "text": ("text", "description", "bodyhtml", "body", "summary", "overview", "abstract", "plot", "content", "beschreibung"),
        "categories": ("categories", "category", "genres", "genre", "productcategory", "categorypath", "categoryname", "department",
                       "section",
                       "topic", "topics", "tags", "producttype", "kategorie", "kategorien"),
        "available": ("available", "availability", "instock", "isavailable", "isactive", "active", "published", "status"),
        "published_ts_ms": ("publishedtsms", "publishedat", "publishedon", "publishdate", "publicationdate", "releasedate", "pubdate",
                            "createdat", "created", "firstavailable", "date"),
        "expires_ts_ms": ("expirestsms", "expiresat", "expires", "expirydate", "validuntil", "enddate"),
    },
    "users": {
        "user_id": (*_USER, "id"),
        "preferred_categories": ("preferredcategories", "interests", "favoritecategories", "favouritecategories", "favoritegenres"),
        "updated_ts_ms": ("updatedtsms", "updatedat", "lastupdated"),
    },
}  # fmt: skip
"""Kind of records ▸ field ▸ names of its column, the likeliest first."""
_ALIKE: Mapping[EventType, tuple[str, ...]] = {
    EventType.IMPRESSION: ("impression", "impressions", "shown", "exposure", "viewitemlist", "expose"),
    EventType.VIEW: ("view", "views", "pageview", "pv", "viewitem", "productview", "viewed", "detail", "detailview", "visit",
                     "productviewed"),
    EventType.CLICK: ("click", "clicks", "clicked", "clk", "selectitem", "open", "opened", "productclicked", "select"),
    EventType.PLAY: ("play", "played", "listen", "listened", "watch", "watched", "stream", "streamed", "videoplay", "read", "finish"),
    EventType.LIKE: ("like", "liked", "fav", "favorite", "favourite", "love", "upvote", "save", "bookmark", "wishlist",
                     "addtowishlist", "thumbsup"),
    EventType.ADD_TO_CART: ("addtocart", "cart", "addcart", "basket", "addtobasket", "productadded", "intocart"),
    EventType.PURCHASE: ("purchase", "purchased", "buy", "bought", "order", "ordered", "transaction", "checkout", "conversion",
                         "ordercompleted",
                         "orderplaced", "sale", "kauf"),
    EventType.SHARE: ("share", "shared", "forward", "repost"),
    EventType.RATING: ("rating", "rate", "rated", "review", "stars", "bewertung"),
    EventType.DISLIKE: ("dislike", "disliked", "downvote", "thumbsdown"),
    EventType.HIDE: ("hide", "hidden", "block", "notinterested", "skipforever"),
}  # fmt: skip
TYPES: Mapping[str, str] = {name: event_type.value for event_type, names in _ALIKE.items() for name in names}
"""Name of an event type elsewhere ▸ ours."""
IN_FILE_NAMES: Mapping[str, str] = {
    "rating": "rating", "review": "rating", "purchase": "purchase", "order": "purchase", "transaction": "purchase", "sale": "purchase",
    "play": "play", "listen": "play", "watch": "play", "stream": "play", "click": "click", "like": "like", "favorite": "like",
}  # fmt: skip
"""Part of a file's name ▸ the event type of its rows, where no column says it."""
ORDERS = frozenset({"quantity", "qty", "menge", "invoiceno", "invoice", "invoiceid", "invoicenumber", "orderid", "orderno", "ordernumber",
                    "basketid", "receiptid"})  # fmt: skip
"""Columns of bought things."""
KINDS_OF_FILES: Mapping[str, tuple[str, ...]] = {
    "users": ("user", "customer", "member", "profile", "people", "visitor", "account"),
    "items": ("item", "product", "movie", "film", "article", "catalog", "track", "song", "book", "video", "news", "content", "course"),
}
RATINGS = frozenset({"rating", "stars", "score", "overall", "reviewrating", "bewertung", "note", *_RATINGS})


def plain(name: str) -> str:
    """Return a name in lower case without spaces, signs and accents: `Event Type`, `event_type` and `eventType` are one."""
    decomposed = unicodedata.normalize("NFKD", name)
    return re.sub(r"[^0-9a-z]", "", decomposed.lower())
