//! Pages of an index: in its order, each item once, whatever is written in between.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use slipway_local::TOOLING;

use crate::{Outcome, emulator, stack};

const TABLE: &str = "embedded-pages";
const TEMPLATE: &str = "
Resources:
  Table:
    Type: AWS::DynamoDB::Table
    Properties:
      TableName: embedded-pages
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions:
        - {AttributeName: pk, AttributeType: S}
        - {AttributeName: part, AttributeType: S}
        - {AttributeName: due_at, AttributeType: N}
        - {AttributeName: listed_as, AttributeType: S}
      KeySchema: [{AttributeName: pk, KeyType: HASH}]
      GlobalSecondaryIndexes:
        - IndexName: by-time
          KeySchema: [{AttributeName: part, KeyType: HASH}, {AttributeName: due_at, KeyType: RANGE}]
          Projection: {ProjectionType: ALL}
        - IndexName: by-name
          KeySchema: [{AttributeName: part, KeyType: HASH}, {AttributeName: listed_as, KeyType: RANGE}]
          Projection: {ProjectionType: ALL}
";

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

async fn put(client: &Client, part: &str, pk: &str, at: u32, more: &str) -> Outcome {
    let put = client.put_item().table_name(TABLE).item("pk", text(pk)).item("part", text(part));
    let put =
        put.item("due_at", AttributeValue::N(at.to_string())).item("listed_as", text(&format!("{}#{pk}", at % 2)));
    put.item("more", text(more)).send().await?;
    Ok(())
}

/// What a page says: its items' keys, and where the next one begins.
type Page = (Vec<String>, Option<HashMap<String, AttributeValue>>);

/// A page of what is `at` 10 at the latest.
async fn by_time(
    client: &Client,
    part: &str,
    limit: Option<i32>,
    after: Option<HashMap<String, AttributeValue>>,
) -> Result<Page, Box<dyn std::error::Error>> {
    let query = client.query().table_name(TABLE).index_name("by-time").set_limit(limit).set_exclusive_start_key(after);
    let query = query.key_condition_expression("part = :part AND due_at <= :at");
    let query = query.expression_attribute_values(":part", text(part));
    let answer = query.expression_attribute_values(":at", AttributeValue::N("10".into())).send().await?;
    let keys = answer.items().iter().filter_map(|item| item.get("pk")?.as_s().ok().cloned()).collect();
    assert_eq!(answer.scanned_count(), answer.count());
    Ok((keys, answer.last_evaluated_key))
}

#[tokio::test]
async fn pages_of_an_index_hold_each_item_once_in_its_order() -> Outcome {
    let aws = emulator().await?;
    stack(&aws.sdk_config(TOOLING), TABLE, TEMPLATE).await?;
    let client = Client::new(&aws.sdk_config(TOOLING));
    // Numbers, not their digits, are compared: 9 comes before 10. Where they are the same, the table's key decides.
    for (pk, at) in [("e", 10), ("b", 9), ("d", 9), ("a", 9), ("late", 11)] {
        put(&client, "few", pk, at, "").await?;
    }
    put(&client, "others", "other", 1, "").await?;
    let (first, next) = by_time(&client, "few", Some(2), None).await?;
    assert_eq!(first, ["a", "b"]);
    // One that was read moves behind, the next goes, and one comes: what is after the place is read, as it is by then.
    put(&client, "few", "a", 10, "").await?;
    put(&client, "few", "c", 9, "").await?;
    client.delete_item().table_name(TABLE).key("pk", text("d")).send().await?;
    let (second, next) = by_time(&client, "few", Some(2), next).await?;
    assert_eq!(second, ["c", "a"]);
    let (third, next) = by_time(&client, "few", Some(2), next).await?;
    assert_eq!((third, next), (vec!["e".to_owned()], None));

    let query = client.query().table_name(TABLE).index_name("by-name");
    let query = query.key_condition_expression("part = :part AND begins_with(listed_as, :prefix)");
    let query = query.expression_attribute_values(":part", text("few"));
    let answer = query.expression_attribute_values(":prefix", text("1#")).send().await?;
    let names: Vec<&String> = answer.items().iter().filter_map(|item| item.get("listed_as")?.as_s().ok()).collect();
    assert_eq!(names, ["1#b", "1#c", "1#late"]);
    Ok(())
}

#[tokio::test]
async fn a_page_of_an_index_ends_at_a_megabyte() -> Outcome {
    let aws = emulator().await?;
    let name = format!("{TABLE}-large");
    stack(&aws.sdk_config(TOOLING), &name, &TEMPLATE.replace(TABLE, &name)).await?;
    let client = Client::new(&aws.sdk_config(TOOLING));
    let more = "x".repeat(300 * 1024);
    for pk in ["a", "b", "c", "d", "e"] {
        let put = client.put_item().table_name(&name).item("pk", text(pk)).item("part", text("many"));
        let put =
            put.item("due_at", AttributeValue::N("1".into())).item("listed_as", text(pk)).item("more", text(&more));
        put.send().await?;
    }
    let query = client.query().table_name(&name).index_name("by-time").key_condition_expression("part = :part");
    let query = query.expression_attribute_values(":part", text("many")).projection_expression("pk");
    let first = query.clone().send().await?;
    // What is evaluated counts, not what is returned of it.
    assert_eq!(first.count(), 3);
    let second = query.set_exclusive_start_key(first.last_evaluated_key).send().await?;
    assert_eq!((second.count(), second.last_evaluated_key), (2, None));
    Ok(())
}
