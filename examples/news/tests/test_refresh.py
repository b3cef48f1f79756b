from __future__ import annotations

import unittest
from unittest import mock
from xml.etree import ElementTree

from tests import Table

from news import BUILT_IN, News
from refresh import app

FEED = b"""<?xml version="1.0" encoding="UTF-8"?>
<rss version="2.0"><channel><title>Recent Announcements</title>
  <item>
    <title>Two products &amp; one piece of news</title>
    <link>https://example.com/two</link>
    <pubDate>Thu, 20 Nov 2025 18:00:00 GMT</pubDate>
    <category>general:products/aws-lambda,marketing:marchitecture/compute,general:products/amazon-s3</category>
  </item>
  <item>
    <title>Older</title>
    <link>https://example.com/older</link>
    <pubDate>Wed, 19 Nov 2025 18:00:00 GMT</pubDate>
    <category>general:products/aws-lambda</category>
  </item>
  <item><title>About no product</title><pubDate>Wed, 19 Nov 2025 18:00:00 GMT</pubDate></item>
  <item><title>No date</title><category>general:products/aws-lambda</category></item>
</channel></rss>"""


class Refresh(unittest.TestCase):
    def setUp(self) -> None:
        self.table = Table()
        patch = mock.patch.object(app, "table", self.table)
        patch.start()
        self.addCleanup(patch.stop)

    def test_without_a_feed_the_built_in_list_is_stored_and_nothing_is_fetched(self) -> None:
        with mock.patch("urllib.request.urlopen", side_effect=AssertionError("network")):
            result = app.handler({}, None)
        self.assertEqual(result, {"source": "built-in", "news": len(BUILT_IN), "services": 6})
        self.assertEqual(self.table.rows["aws-lambda"]["newest"]["published"], "2024-11-18")

    def test_a_feed_is_counted_by_product(self) -> None:
        with mock.patch.object(app, "FEED_URL", "https://example.com"), mock.patch.object(app, "fetch") as fetch:
            fetch.return_value = FEED
            result = app.handler({}, None)
        self.assertEqual(result, {"source": "https://example.com", "news": 3, "services": 2})
        self.assertEqual(self.table.rows["aws-lambda"]["news"], 2)
        self.assertGreater(self.table.rows["aws-lambda"]["expires_at"], 1_700_000_000)
        self.assertEqual(self.table.rows["amazon-s3"]["newest"]["title"], "Two products & one piece of news")

    def test_refreshing_twice_changes_nothing_but_the_expiry(self) -> None:
        first, second = app.handler({}, None), app.handler({}, None)
        self.assertEqual(first, second)
        self.assertEqual(len(self.table.rows), 6)


class Parse(unittest.TestCase):
    def test_news_names_product_date_and_link(self) -> None:
        title = "Two products & one piece of news"
        self.assertIn(News("amazon-s3", title, "2025-11-20", "https://example.com/two"), list(app.parse(FEED)))

    def test_what_is_no_rss_is_refused(self) -> None:
        for feed in (b"<html/>", b"<!DOCTYPE rss><rss/>"):
            with self.subTest(feed), self.assertRaises(ValueError):
                list(app.parse(feed))
        with self.assertRaises(ElementTree.ParseError):
            list(app.parse(b"not XML"))

    def test_a_feed_that_is_too_large_is_refused(self) -> None:
        with mock.patch("urllib.request.urlopen") as urlopen:
            urlopen.return_value.__enter__.return_value.read.side_effect = lambda size: b" " * size
            with self.assertRaises(ValueError):
                app.fetch("https://example.com")


if __name__ == "__main__":
    unittest.main()
