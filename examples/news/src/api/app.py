"""GET /services: which AWS services have news, how many, and the newest."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import boto3

from news import BUILT_IN, Service, by_service, freshest_first

STAGE = os.environ.get("STAGE", "local")
# Without a table (`sam local`, see README.md) the built-in list answers.
TABLE_NAME = os.environ.get("TABLE_NAME", "")
table = boto3.resource("dynamodb").Table(TABLE_NAME) if TABLE_NAME else None


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    services = stored(time.time())
    source = "table"
    if not services:  # before the first refresh
        services, source = by_service(BUILT_IN), "built-in"
    body = {"stage": STAGE, "source": source, "services": services}
    return {
        "statusCode": 200,
        "headers": {"Content-Type": "application/json", "Cache-Control": "max-age=60"},
        "body": json.dumps(body),
    }


def stored(now: float) -> list[Service]:
    """Every row that has not expired: DynamoDB deletes expired rows late."""
    if table is None:
        return []
    rows: list[dict[str, Any]] = []
    page: dict[str, Any] = {}
    while True:
        answer = table.scan(**page)
        rows += answer["Items"]
        if "LastEvaluatedKey" not in answer:
            break
        page = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}
    return freshest_first(
        # Numbers come as Decimal, which json refuses.
        {"service": row["service"], "news": int(row["news"]), "newest": row["newest"]}
        for row in rows
        if row["expires_at"] > now
    )
