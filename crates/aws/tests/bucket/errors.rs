//! What S3 refuses.

use std::sync::atomic::{AtomicUsize, Ordering};

use aws_config::Region;
use slipway_aws::bucket::Bucket;
use slipway_aws::{AwsError, Kind};
use slipway_local::TOOLING;

use crate::proxy::{Answer, Request};
use crate::{Outcome, Place, config, emulator};

/// What both ways to ask whether an object is there end with.
async fn heads(answer: Answer) -> Result<[AwsError; 2], Box<dyn std::error::Error + Send + Sync>> {
    let place = Place::versioned().await?.behind(move |_| answer.clone()).await?;
    let Err(sized) = place.bucket.size("object").await else { return Err("it has a size".into()) };
    let Err(opened) = place.bucket.open("object").await else { return Err("it opens".into()) };
    Ok([sized, opened])
}

#[tokio::test]
async fn a_refused_head_is_not_absence() -> Outcome {
    for error in heads(Answer::Instead(403, "", String::new())).await? {
        assert_eq!((error.kind, error.code.as_str()), (Kind::Denied, "HTTP 403"), "{error}");
        let reason = "/object: it takes s3:GetObject to see it, and s3:ListBucket to see that it is not there";
        assert!(error.message.starts_with("s3://bucket-") && error.message.ends_with(reason), "{error}");
    }
    for error in heads(Answer::Instead(503, "", String::new())).await? {
        assert_eq!((error.kind, error.code.as_str()), (Kind::Unavailable, "HTTP 503"), "{error}");
        assert!(error.message.ends_with("/object: no reason was given"), "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn many_sizes_come_in_the_order_of_the_keys() -> Outcome {
    let place = Place::versioned().await?;
    for size in [1, 3] {
        place.bucket.put(&format!("{size}"), vec![0; size]).await?;
    }
    let keys: Vec<String> = (0..100).map(|number| (number % 5).to_string()).collect();
    let expected: Vec<Option<u64>> = (0..100).map(|number| Some(number % 5).filter(|n| n % 2 == 1)).collect();
    assert_eq!(place.bucket.sizes(&keys).await?, expected);

    let rule = |request: &Request| match request.target.ends_with("/4") {
        true => Answer::Instead(403, "", String::new()),
        false => Answer::Pass,
    };
    let place = place.behind(rule).await?;
    assert_eq!(place.bucket.sizes(&keys).await.map_err(|error| error.kind), Err(Kind::Denied));
    Ok(())
}

#[tokio::test]
async fn a_short_fault_is_tried_again() -> Outcome {
    let tries = AtomicUsize::new(0);
    let rule = move |_: &Request| match tries.fetch_add(1, Ordering::Relaxed) {
        0 => Answer::error(503, "SlowDown"),
        1 => Answer::error(500, "InternalError"),
        _ => Answer::Pass,
    };
    let place = Place::versioned().await?.behind(rule).await?;
    place.bucket.put("object", b"content".to_vec()).await?;
    assert_eq!(place.bucket.size("object").await?, Some(7));
    Ok(())
}

#[tokio::test]
async fn a_bucket_in_another_region_is_named() -> Outcome {
    let place = Place::versioned().await?;
    let elsewhere = config(emulator().await?).into_builder().region(Region::from_static("us-west-2")).build();
    let bucket = Bucket::new(&elsewhere, place.bucket.name());
    let reason = "the bucket is in the region eu-central-1: use that region";
    let Err(error) = bucket.size("object").await else { return Err("it has a size".into()) };
    assert_eq!((error.kind, error.code.as_str()), (Kind::Refused, "PermanentRedirect"));
    assert_eq!(error.message, format!("s3://{}/object: {reason}", bucket.name()));
    let Err(error) = bucket.put("object", vec![1]).await else { return Err("it was put".into()) };
    assert_eq!((error.kind, error.to_string()), (Kind::Refused, format!("s3:PutObject: PermanentRedirect: {reason}")));
    Ok(())
}

#[tokio::test]
async fn urls_are_those_of_the_partition() -> Outcome {
    let bucket = Bucket::new(&emulator().await?.sdk_config(TOOLING), "some-bucket");
    assert_eq!(
        bucket.path_url("some/key", "eu-central-1"),
        "https://s3.eu-central-1.amazonaws.com/some-bucket/some/key"
    );
    assert_eq!(bucket.path_url("key", "cn-north-1"), "https://s3.cn-north-1.amazonaws.com.cn/some-bucket/key");
    assert_eq!(bucket.https_url("key", "cn-north-1"), "https://some-bucket.s3.cn-north-1.amazonaws.com.cn/key");
    Ok(())
}
