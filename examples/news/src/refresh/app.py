"""Fills the table with a row per service, from an RSS feed or from the built-in list. Runs on a schedule."""

from __future__ import annotations

import os
import time
import urllib.request
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any
from xml.etree import ElementTree

import boto3

from news import BUILT_IN, News, by_service

FEED_URL = os.environ.get("FEED_URL", "")
KEEP_SECONDS = 30 * 24 * 60 * 60
MAX_FEED_BYTES = 5 * 1024 * 1024
PRODUCT = "general:products/"

table = boto3.resource("dynamodb").Table(os.environ["TABLE_NAME"])


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    news = list(parse(fetch(FEED_URL))) if FEED_URL else list(BUILT_IN)
    services = by_service(news)
    expires_at = int(time.time()) + KEEP_SECONDS
    with table.batch_writer() as batch:
        for service in services:
            batch.put_item(Item={**service, "expires_at": expires_at})
    result = {"source": FEED_URL or "built-in", "news": len(news), "services": len(services)}
    print(result)
    return result


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as response:
        body: bytes = response.read(MAX_FEED_BYTES + 1)
    if len(body) > MAX_FEED_BYTES:
        raise ValueError(f"{url} is larger than {MAX_FEED_BYTES} bytes")
    return body


def parse(feed: bytes) -> Iterator[News]:
    """The news of an RSS feed, once for each product it is about; what names no product is left out."""
    if b"<!DOCTYPE" in feed or b"<!ENTITY" in feed:
        raise ValueError("the feed declares a document type; RSS needs none, and entities can be made to explode")
    root = ElementTree.fromstring(feed)
    if root.tag != "rss":
        raise ValueError(f"the feed is <{root.tag}>, not <rss>")
    for item in root.iter("item"):
        title, date, url = (item.findtext(tag, "").strip() for tag in ("title", "pubDate", "link"))
        categories = ",".join(element.text or "" for element in item.iter("category")).split(",")
        products = {name.strip().removeprefix(PRODUCT) for name in categories if name.strip().startswith(PRODUCT)}
        if not title or not date:
            continue
        published = parsedate_to_datetime(date).date().isoformat()
        for product in sorted(products):
            yield News(product, title, published, url)
