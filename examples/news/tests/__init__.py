"""Makes the functions importable without boto3: the table is a dict in memory."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any


class Table:
    """As much of a DynamoDB table as the functions use; a scan's page holds two rows."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}

    @contextmanager
    def batch_writer(self) -> Iterator[Table]:
        yield self

    def put_item(self, Item: dict[str, Any]) -> None:
        self.rows[Item["service"]] = Item

    def scan(self, ExclusiveStartKey: int = 0) -> dict[str, Any]:
        rows = list(self.rows.values())
        end = ExclusiveStartKey + 2
        more = {"LastEvaluatedKey": end} if end < len(rows) else {}
        return {"Items": rows[ExclusiveStartKey:end], **more}


class Dynamo:
    def __init__(self) -> None:
        self.tables: dict[str, Table] = {}

    def Table(self, name: str) -> Table:
        return self.tables.setdefault(name, Table())


dynamo = Dynamo()
# Bytecode in src/ would be bundled, and would change the digest of what is deployed.
sys.dont_write_bytecode = True
boto3 = ModuleType("boto3")
vars(boto3)["resource"] = lambda service: dynamo
sys.modules["boto3"] = boto3
sys.path.insert(0, str(Path(__file__).parent.parent / "src"))
os.environ.update(TABLE_NAME="news", STAGE="test", FEED_URL="")
