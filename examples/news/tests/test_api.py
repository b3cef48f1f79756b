from __future__ import annotations

import json
import unittest
from decimal import Decimal
from typing import Any
from unittest import mock

from tests import Table

from api import app


def get_services(table: Table | None) -> dict[str, Any]:
    with mock.patch.object(app, "table", table):
        answer = app.handler({"httpMethod": "GET", "path": "/services"}, None)
    assert answer["statusCode"] == 200, answer
    assert answer["headers"]["Content-Type"] == "application/json", answer
    body: dict[str, Any] = json.loads(answer["body"])
    return body


def table_of(*dates: str, expires_at: int = 4_000_000_000) -> Table:
    table = Table()
    for number, date in enumerate(dates):
        newest = {"title": f"title {number}", "published": date, "url": f"https://example.com/{number}"}
        # As DynamoDB returns it: numbers are Decimal.
        row = {"service": f"service-{number}", "news": Decimal(number + 1), "newest": newest}
        table.put_item({**row, "expires_at": Decimal(expires_at)})
    return table


class Services(unittest.TestCase):
    def test_an_empty_table_answers_with_the_built_in_list(self) -> None:
        body = get_services(Table())
        self.assertEqual(body["source"], "built-in")
        self.assertEqual(body["stage"], "test")
        self.assertEqual(body["services"][0]["service"], "aws-step-functions")
        counts = {service["service"]: service["news"] for service in body["services"]}
        self.assertEqual(counts["aws-lambda"], 2)

    def test_no_table_answers_with_the_built_in_list(self) -> None:
        self.assertEqual(get_services(None)["source"], "built-in")

    def test_every_page_is_read_and_the_freshest_comes_first(self) -> None:
        body = get_services(table_of("2025-01-01", "2025-03-01", "2025-02-01"))
        self.assertEqual(body["source"], "table")
        self.assertEqual([s["service"] for s in body["services"]], ["service-1", "service-2", "service-0"])
        self.assertEqual(
            body["services"][0],
            {
                "service": "service-1",
                "news": 2,
                "newest": {"title": "title 1", "published": "2025-03-01", "url": "https://example.com/1"},
            },
        )

    def test_expired_rows_are_not_shown(self) -> None:
        self.assertEqual(get_services(table_of("2025-01-01", expires_at=1))["source"], "built-in")


if __name__ == "__main__":
    unittest.main()
