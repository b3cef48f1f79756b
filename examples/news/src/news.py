"""What both functions know about news: its shape, how it is counted, and a list that needs no network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypedDict


class News(NamedTuple):
    """One announcement. `service` is spelled as in the AWS feed, `published` is an ISO date."""

    service: str
    title: str
    published: str
    url: str


class Newest(TypedDict):
    title: str
    published: str
    url: str


class Service(TypedDict):
    """A service that has news: an element of `GET /services`, and a row of the table."""

    service: str
    news: int
    newest: Newest


BUILT_IN = (
    News(
        "amazon-dynamodb",
        "Amazon DynamoDB reduces prices for on-demand throughput and global tables",
        "2024-11-14",
        "https://aws.amazon.com/dynamodb/",
    ),
    News(
        "amazon-eventbridge",
        "Introducing Amazon EventBridge Scheduler",
        "2022-11-10",
        "https://aws.amazon.com/eventbridge/",
    ),
    News(
        "amazon-s3",
        "Introducing the Amazon S3 Express One Zone storage class",
        "2023-11-28",
        "https://aws.amazon.com/s3/",
    ),
    News(
        "amazon-s3",
        "Amazon S3 now supports conditional writes",
        "2024-08-20",
        "https://aws.amazon.com/s3/",
    ),
    News(
        "aws-cloudformation",
        "AWS CloudFormation introduces the IaC generator",
        "2024-02-05",
        "https://aws.amazon.com/cloudformation/",
    ),
    News(
        "aws-lambda",
        "AWS Lambda adds support for Python 3.12",
        "2023-12-14",
        "https://aws.amazon.com/lambda/",
    ),
    News(
        "aws-lambda",
        "AWS Lambda SnapStart for Python and .NET functions is now generally available",
        "2024-11-18",
        "https://aws.amazon.com/lambda/",
    ),
    News(
        "aws-step-functions",
        "AWS Step Functions adds variables and JSONata data transformations",
        "2024-11-22",
        "https://aws.amazon.com/step-functions/",
    ),
)


def by_service(items: Iterable[News]) -> list[Service]:
    """Counts the news of each service and picks the newest; the service with the freshest news comes first."""
    groups: dict[str, list[News]] = {}
    for item in items:
        groups.setdefault(item.service, []).append(item)
    services: list[Service] = []
    for name, group in groups.items():
        newest = max(group, key=lambda item: item.published)
        services.append(
            {
                "service": name,
                "news": len(group),
                "newest": {"title": newest.title, "published": newest.published, "url": newest.url},
            }
        )
    return freshest_first(services)


def freshest_first(services: Iterable[Service]) -> list[Service]:
    """Newest date first, names in order within a date, so that the answer never depends on the table's order."""
    by_name = sorted(services, key=lambda service: service["service"])
    return sorted(by_name, key=lambda service: service["newest"]["published"], reverse=True)
