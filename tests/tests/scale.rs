//! What the cleanup and a listing read of the table where there are many environments; `cargo bench-sweep` is the same with more.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::collections::BTreeSet;

use serde_json::json;
use slipway_domain::names::EnvironmentKey;
use slipway_tests::scale::{EXPIRED, Metered, Scale};

const ENVIRONMENTS: usize = 1000;
/// What DynamoDB evaluates for one answer at the most, in bytes
/// (<https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Query.Pagination.html>); as JSON it is somewhat more.
const PAGE: usize = 1024 * 1024 * 2;

/// Nothing is read that was not wanted, and no page has more items than `most` says of its query.
fn reads_what_it_wants(metered: &Metered, most: &[(&str, u64)]) {
    assert!(!metered.calls.contains_key("Scan"), "{metered:?}");
    for (name, calls) in metered.calls.iter().filter(|(name, _)| name.starts_with("Query")) {
        assert_eq!(calls.evaluated, calls.returned, "{name}: {calls:?}");
        assert!(calls.most_bytes < PAGE, "{name}: {calls:?}");
        let (_, most) = most.iter().find(|(index, _)| index == name).unwrap_or_else(|| panic!("{name} is new"));
        assert!(calls.most_items <= *most, "{name}: {calls:?}");
    }
}

#[test]
fn what_is_due_is_read_by_pages_and_nothing_else_is() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(Box::pin(async {
        let scale = Scale::start(ENVIRONMENTS).await;
        let expired = ENVIRONMENTS / EXPIRED;
        assert_eq!(scale.expired.len(), expired);
        let pages = [("Query due", 100), ("Query listed", 500), ("Query listed names", ENVIRONMENTS as u64)];

        let plan = scale.sweep(json!({"plan": {}})).await;
        reads_what_it_wants(&plan.metered, &pages);
        assert_eq!(plan.metered.calls["Query due"].evaluated, expired as u64, "of {ENVIRONMENTS}");
        let named: BTreeSet<EnvironmentKey> = plan.answer.plan.into_iter().map(|doomed| doomed.environment).collect();
        assert_eq!(named, scale.expired);
        assert!(plan.metered.started.is_empty());

        // Step Functions takes some, and no more for now: the next run goes on with the others, and the one after it finds nothing.
        scale.start_at_most(Some(20));
        let first = scale.sweep(json!({"sweep": {}})).await;
        reads_what_it_wants(&first.metered, &pages);
        assert_eq!(first.metered.calls["Query listed names"].evaluated, ENVIRONMENTS as u64, "counted");
        assert_eq!(first.answer.environments.values().sum::<u64>(), ENVIRONMENTS as u64);
        assert_eq!((first.answer.teardowns, first.answer.failed), (20, expired as u64 - 20), "{:?}", first.answer);
        let mut begun = scale.started(&first.metered, true).await;
        scale.start_at_most(None);
        let second = scale.sweep(json!({"sweep": {}})).await;
        reads_what_it_wants(&second.metered, &pages);
        assert_eq!(second.metered.calls["Query due"].evaluated, expired as u64 - 20, "what has begun is not looked at");
        assert!(!second.metered.calls.contains_key("Query listed names"), "counted a moment ago");
        begun.extend(scale.started(&second.metered, true).await);
        assert_eq!(begun.len(), expired, "each once");
        assert_eq!(begun.into_iter().collect::<BTreeSet<_>>(), scale.expired);
        let third = scale.sweep(json!({"sweep": {}})).await;
        assert_eq!((third.metered.queries().evaluated, third.answer.teardowns), (0, 0), "{:?}", third.answer);

        let (mut listed, mut page) = (0, None);
        loop {
            let asked = scale.list(page.as_ref()).await;
            reads_what_it_wants(&asked.metered, &[("Query listed", 100)]);
            assert!(asked.metered.queries().evaluated <= 100, "{:?}", asked.metered);
            listed += asked.answer.environments.len();
            if asked.answer.next.is_none() {
                break;
            }
            page = Some(asked.answer);
        }
        assert_eq!(listed, ENVIRONMENTS);
    }));
}
