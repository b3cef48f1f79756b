//! Many uploads at once.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_sdk_s3::types::{ChecksumMode, ServerSideEncryption};
use slipway_aws::bucket::{UploadOptions, Uploads};
use slipway_aws::{AwsError, Kind};
use tokio::time::{sleep, timeout};

use crate::proxy::{Answer, Gate, Request};
use crate::{MIB, Outcome, Place, blocking, content};

/// A test that waits for what never comes is one that fails.
const LONG: Duration = Duration::from_secs(60);

fn is_part(request: &Request) -> bool {
    request.method == "PUT" && request.target.contains("partNumber=")
}

fn is_put(request: &Request) -> bool {
    request.method == "PUT" && !request.target.contains("partNumber=")
}

#[tokio::test]
async fn up_to_a_part_is_one_request_and_more_is_in_parts() -> Outcome {
    let place = Place::versioned().await?.behind(|_| Answer::Pass).await?;
    place.write("one", &content(8 * MIB)).await?;
    let asked: Vec<usize> = place.seen().iter().map(|request| request.bytes).collect();
    assert_eq!(asked, [8 * MIB]);

    place.write("two", &content(20 * MIB)).await?;
    let seen = place.seen();
    assert!(!seen.iter().any(is_put), "{seen:?}");
    let mut parts: Vec<usize> = seen.iter().filter(|request| is_part(request)).map(|request| request.bytes).collect();
    parts.sort_unstable();
    assert_eq!(parts, [4 * MIB, 8 * MIB, 8 * MIB]);

    // S3 checks each, and the whole by a checksum of their checksums.
    let completed: usize = seen.iter().map(|request| request.text.matches("<ChecksumCRC32>").count()).sum();
    assert_eq!(completed, 3);
    let head = place.s3.head_object().bucket(place.bucket.name()).key("two").checksum_mode(ChecksumMode::Enabled);
    let head = head.send().await?;
    assert!(head.checksum_crc32().is_some_and(|sum| sum.ends_with("-3")), "{head:?}");
    Ok(())
}

#[tokio::test]
async fn an_upload_that_is_dropped_leaves_nothing() -> Outcome {
    let place = Place::versioned().await?;
    let uploads = place.uploads();
    let (small, large) = (uploads.begin("small"), uploads.begin("large"));
    blocking(move || {
        for (mut upload, size) in [(small, 100), (large, 20 * MIB)] {
            upload.write_all(&content(size))?;
        }
        io::Result::Ok(())
    })
    .await??;
    uploads.done().await?;
    assert_eq!(place.unfinished().await?, 0);
    assert_eq!(place.bucket.size("small").await?, None);
    assert_eq!(place.bucket.size("large").await?, None);
    Ok(())
}

#[tokio::test]
async fn what_is_open_at_the_end_is_aborted_and_what_is_finished_is_there() -> Outcome {
    let place = Place::versioned().await?;
    let uploads = place.uploads();
    let (mut open, mut finished) = (uploads.begin("open"), uploads.begin("finished"));
    let mut open = blocking(move || {
        finished.write_all(&content(20 * MIB))?;
        open.write_all(&content(20 * MIB))?;
        finished.finish()?;
        io::Result::Ok(open)
    })
    .await??;
    timeout(LONG, uploads.done()).await??;
    assert_eq!(place.unfinished().await?, 0);
    assert_eq!(place.bucket.size("finished").await?, Some(20 * MIB as u64));
    let Err(error) = open.write(b"more") else { return Err("it was written".into()) };
    assert!(error.to_string().contains("GivenUp"), "{error}");
    Ok(())
}

#[tokio::test]
async fn memory_is_bounded_while_s3_is_slow() -> Outcome {
    const SIZE: usize = 80 * MIB;
    let gate = Gate::default();
    let held = gate.clone();
    let rule = move |request: &Request| if is_part(request) { held.then(Answer::Pass) } else { Answer::Pass };
    let place = Place::versioned().await?.behind(rule).await?;
    let uploads = place.uploads();
    let written = Arc::new(AtomicUsize::new(0));
    let (mut upload, count) = (uploads.begin("object"), Arc::clone(&written));
    let writing = tokio::task::spawn_blocking(move || {
        for chunk in content(SIZE).chunks(MIB) {
            upload.write_all(chunk)?;
            count.fetch_add(chunk.len(), Ordering::Relaxed);
        }
        upload.finish()
    });
    timeout(LONG, gate.wait_for(5)).await?;
    while written.load(Ordering::Relaxed) < 40 * MIB {
        sleep(Duration::from_millis(10)).await;
    }
    sleep(Duration::from_millis(500)).await;
    assert_eq!(written.load(Ordering::Relaxed), 40 * MIB);
    assert_eq!(gate.waiting(), 5);
    gate.open();
    writing.await??;
    uploads.done().await?;
    assert_eq!(place.bucket.size("object").await?, Some(SIZE as u64));
    Ok(())
}

#[tokio::test]
async fn small_objects_go_side_by_side() -> Outcome {
    const COUNT: usize = 100;
    let gate = Gate::default();
    let held = gate.clone();
    let place = Place::versioned().await?.behind(move |_| held.then(Answer::Pass)).await?;
    let uploads = place.uploads();
    let finished = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&finished);
    let writing = tokio::task::spawn_blocking(move || {
        for number in 0..COUNT {
            let mut upload = uploads.begin(&format!("{number}"));
            upload.write_all(&content(number))?;
            upload.finish()?;
            count.fetch_add(1, Ordering::Relaxed);
        }
        io::Result::Ok(uploads)
    });
    timeout(LONG, gate.wait_for(16)).await?;
    sleep(Duration::from_millis(200)).await;
    assert_eq!((gate.waiting(), finished.load(Ordering::Relaxed)), (16, 16));
    gate.open();
    writing.await??.done().await?;
    for number in 0..COUNT {
        assert_eq!(place.bucket.size(&format!("{number}")).await?, Some(number as u64), "{number}");
    }
    Ok(())
}

fn error_of<T>(result: io::Result<T>) -> Result<AwsError, &'static str> {
    let Err(error) = result else { return Err("it was taken") };
    AwsError::from_io(&error).ok_or("no AWS error")
}

#[tokio::test]
async fn the_first_failure_ends_all_uploads() -> Outcome {
    let rule = |request: &Request| {
        let refused = is_part(request) && request.target.contains("/refused");
        if refused { Answer::error(403, "AccessDenied") } else { Answer::Pass }
    };
    let place = Place::versioned().await?.behind(rule).await?;
    let uploads = place.uploads();
    let (mut refused, mut other) = (uploads.begin("refused"), uploads.begin("other"));
    let (uploads, errors) = blocking(move || {
        other.write_all(&content(9 * MIB))?;
        let begun = std::time::Instant::now();
        let mut written = Ok(());
        while written.is_ok() && begun.elapsed() < LONG {
            written = refused.write_all(&content(MIB));
        }
        let errors = [
            error_of(written),
            error_of(refused.finish()),
            error_of(other.write(b"more")),
            error_of(other.finish()),
            error_of(uploads.begin("later").write(b"more")),
            error_of(uploads.begin("never").finish()),
        ];
        io::Result::Ok((uploads, errors))
    })
    .await??;
    for error in errors {
        let error = error?;
        assert_eq!((error.kind, error.call), (Kind::Denied, "s3:UploadPart"), "{error}");
        assert!(error.message.ends_with("/refused: as the test wants it"), "{error}");
    }
    assert_eq!(uploads.put("more", Vec::new()).await.map_err(|error| error.kind), Err(Kind::Denied));
    assert_eq!(uploads.done().await.map_err(|error| error.kind), Err(Kind::Denied));
    assert_eq!(place.unfinished().await?, 0);
    assert_eq!(place.bucket.size("other").await?, None);
    Ok(())
}

#[tokio::test]
async fn small_and_large_objects_share_little_memory() -> Outcome {
    // Sizes around a part, and around what is left of one.
    const SIZES: [usize; 12] = [0, 1, 3 * MIB, MIB, 2 * MIB, 12 * MIB, 5 * MIB, 5 * MIB + 1, 7 * MIB, 0, 20 * MIB, 1];
    let place = Place::versioned().await?;
    let uploads = place.bucket.uploads(UploadOptions::lean());
    let uploads = timeout(
        LONG,
        blocking(move || {
            // More are open at once than the memory is for.
            let mut open: Vec<_> = (0..SIZES.len()).map(|number| uploads.begin(&number.to_string())).collect();
            let contents: Vec<_> = SIZES.iter().map(|size| content(*size)).collect();
            for at in 0..20 {
                for (upload, content) in open.iter_mut().zip(&contents) {
                    upload.write_all(content.chunks(MIB).nth(at).unwrap_or_default())?;
                }
            }
            open.into_iter().try_for_each(slipway_aws::bucket::Upload::finish)?;
            for (number, content) in contents.iter().enumerate() {
                let mut upload = uploads.begin(&format!("again-{number}"));
                upload.write_all(content)?;
                upload.finish()?;
            }
            io::Result::Ok(uploads)
        }),
    )
    .await???;
    uploads.done().await?;
    for (number, size) in SIZES.iter().enumerate() {
        for key in [number.to_string(), format!("again-{number}")] {
            let found = place.bucket.get(&key, 20 * MIB as u64).await?;
            assert!(found.is_some_and(|found| found == content(*size)), "{key}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_failure_wakes_who_waits_for_memory() -> Outcome {
    let (refusal, parts) = (Gate::default(), Gate::default());
    let (refusing, holding) = (refusal.clone(), parts.clone());
    let rule = move |request: &Request| match request.target.contains("/refused") {
        true => refusing.then(Answer::error(403, "AccessDenied")),
        false if is_part(request) => holding.then(Answer::Pass),
        false => Answer::Pass,
    };
    let place = Place::versioned().await?.behind(rule).await?;
    let uploads = place.uploads();
    let mut upload = uploads.begin("object");
    uploads.put("refused", vec![1]).await?;
    let writing = tokio::task::spawn_blocking(move || upload.write_all(&content(80 * MIB)));
    timeout(LONG, parts.wait_for(5)).await?;
    sleep(Duration::from_millis(200)).await;
    assert!(!writing.is_finished());
    refusal.open();
    let error = error_of(timeout(LONG, writing).await??)?;
    assert_eq!((error.kind, error.call), (Kind::Denied, "s3:PutObject"), "{error}");
    assert_eq!(uploads.done().await.map_err(|error| error.kind), Err(Kind::Denied));
    assert_eq!(place.unfinished().await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_failure_ends_what_is_on_its_way() -> Outcome {
    let gate = Gate::default();
    let held = gate.clone();
    let rule = move |request: &Request| match request.target.contains("/refused") {
        true => Answer::error(403, "AccessDenied"),
        false if request.method == "PUT" => held.then(Answer::Pass),
        false => Answer::Pass,
    };
    let place = Place::versioned().await?.behind(rule).await?;
    let uploads = place.uploads();
    let mut large = uploads.begin("large");
    blocking(move || {
        large.write_all(&content(9 * MIB))?;
        large.finish()
    })
    .await??;
    uploads.put("small", vec![1]).await?;
    timeout(LONG, gate.wait_for(3)).await?;
    uploads.put("refused", vec![1]).await?;
    // The gate stays closed.
    assert_eq!(timeout(LONG, uploads.done()).await?.map_err(|error| error.kind), Err(Kind::Denied));
    assert_eq!(place.unfinished().await?, 0);
    Ok(())
}

#[tokio::test]
async fn throttling_that_does_not_end_is_told_as_such() -> Outcome {
    let place = Place::versioned().await?.behind(|_| Answer::error(503, "SlowDown")).await?;
    let uploads = place.uploads();
    uploads.put("object", vec![1]).await?;
    let Err(error) = uploads.done().await else { return Err("it is done".into()) };
    assert_eq!((error.kind, error.code.as_str()), (Kind::Throttled, "SlowDown"));
    Ok(())
}

#[tokio::test]
async fn a_failed_completion_leaves_nothing() -> Outcome {
    let rule = |request: &Request| {
        let complete = request.method == "POST" && request.target.contains("uploadId=");
        if complete { Answer::error(400, "InvalidPart") } else { Answer::Pass }
    };
    let place = Place::versioned().await?.behind(rule).await?;
    let Err(error) = place.write("object", &content(9 * MIB)).await else { return Err("it was written".into()) };
    assert!(error.to_string().starts_with("s3:CompleteMultipartUpload: InvalidPart: s3://"), "{error}");
    assert_eq!(place.unfinished().await?, 0);
    Ok(())
}

#[tokio::test]
async fn options_hold_for_every_object() -> Outcome {
    let place = Place::versioned().await?;
    let options = UploadOptions {
        metadata: BTreeMap::from([("team".to_owned(), "blue".to_owned())]),
        kms_key_id: Some("1234abcd-12ab-34cd-56ef-1234567890ab".to_owned()),
        ..UploadOptions::lean()
    };
    let uploads: Uploads = place.bucket.uploads(options);
    uploads.put("put", vec![1]).await?;
    let mut large = uploads.begin("large");
    blocking(move || {
        large.write_all(&content(9 * MIB))?;
        large.finish()
    })
    .await??;
    uploads.done().await?;
    for key in ["put", "large"] {
        let head = place.s3.head_object().bucket(place.bucket.name()).key(key).send().await?;
        assert_eq!(head.metadata().and_then(|all| all.get("team")).map(String::as_str), Some("blue"), "{key}");
        assert_eq!(head.server_side_encryption(), Some(&ServerSideEncryption::AwsKms), "{key}");
        assert!(head.ssekms_key_id().is_some_and(|id| id.contains("1234abcd")), "{key}: {head:?}");
    }
    Ok(())
}
