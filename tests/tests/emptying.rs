//! However little time an invocation has, emptying gets on: with a world of its own, whose function has hardly any.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use slipway_local::{DEV, TOOLING};
use slipway_tests::{in_world, job, on};

const BUCKETS: &str = "\
Resources:
  One: {Type: AWS::S3::Bucket}
  Two: {Type: AWS::S3::Bucket}
  Three: {Type: AWS::S3::Bucket}
";

#[test]
fn an_invocation_without_time_takes_one_page_and_the_next_goes_on_behind_it() {
    in_world(|world| async move {
        let (on, branch) = (on("dev", "review/slow"), "feature");
        let ended = world.deploy(&job("deploy-dev", branch), &on, BUCKETS).await;
        assert_eq!(ended.status, "SUCCEEDED", "{ended:?}");
        let stack = world.status(&job("look", branch), &on).await.unwrap().stack_name;
        let listed = world.cloudformation(DEV).list_stack_resources().stack_name(stack.as_str()).send().await.unwrap();
        let buckets = listed.stack_resource_summaries().iter().map(|found| found.physical_resource_id().unwrap());
        let mut buckets: Vec<String> = buckets.map(str::to_owned).collect();
        buckets.sort();
        let s3 = aws_sdk_s3::Client::new(&world.control_plane.emulator.sdk_config(DEV));
        for bucket in &buckets {
            let versioned = VersioningConfiguration::builder().status(BucketVersioningStatus::Enabled).build();
            s3.put_bucket_versioning().bucket(bucket).versioning_configuration(versioned).send().await.unwrap();
            s3.put_object().bucket(bucket).key("object").body(b"text".to_vec().into()).send().await.unwrap();
            s3.create_multipart_upload().bucket(bucket).key("unfinished").send().await.unwrap();
        }
        // Less than what it leaves for one more page.
        let lambda = aws_sdk_lambda::Client::new(&world.control_plane.emulator.sdk_config(TOOLING));
        let name = world.physical_id("TeardownFunction").await;
        lambda.update_function_configuration().function_name(name).timeout(30).send().await.unwrap();

        let ended = world.teardown(&job("stop", branch), &on).await;
        assert_eq!(ended.status, "SUCCEEDED", "{ended:?}");
        for bucket in &buckets {
            assert!(s3.head_bucket().bucket(bucket).send().await.is_err(), "{bucket} is still there");
        }
        // One page has the uploads, one the versions, and one that there is nothing left: but no bucket is looked into again.
        let history = world.machines.get_execution_history().execution_arn(&ended.arn).max_results(1000).send().await;
        let entered = history.unwrap().events.into_iter().filter_map(|event| event.state_entered_event_details);
        assert_eq!(entered.filter(|entered| entered.name() == "Empty stack").count(), 3 * buckets.len());
        let said = world.status(&job("look", branch), &on).await.unwrap().deployment.unwrap().said;
        assert_eq!(said.len(), buckets.len(), "{said:?}");
    });
}
