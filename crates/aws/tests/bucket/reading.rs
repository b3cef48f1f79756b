//! Objects read by ranges.

use std::cell::RefCell;
use std::io::{self, Cursor, Read as _, Seek as _, SeekFrom};
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use slipway_aws::bucket::ObjectReader;
use slipway_aws::{AwsError, Kind};

use crate::proxy::{Answer, Request};
use crate::{MIB, Outcome, Place, blocking, content};

/// The reader of an object that must be there.
async fn open(place: &Place, key: &str) -> Result<ObjectReader, Box<dyn std::error::Error + Send + Sync>> {
    Ok(place.bucket.open(key).await?.ok_or("it is not there")?)
}

fn read_to_end(reader: &mut ObjectReader) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn gets(requests: &[Request]) -> Vec<(u64, u64)> {
    requests.iter().filter(|request| request.method == "GET").filter_map(|request| request.range).collect()
}

#[tokio::test]
async fn what_was_written_is_read() -> Outcome {
    let place = Place::versioned().await?;
    for size in [0, 1, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, 20 * MIB] {
        let (key, content) = (format!("{size}"), content(size));
        place.write(&key, &content).await?;
        let mut reader = open(&place, &key).await?;
        assert_eq!(reader.size(), size as u64);
        let read = blocking(move || read_to_end(&mut reader)).await??;
        assert!(read == content, "{size} bytes");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_is_none() -> Outcome {
    let place = Place::versioned().await?;
    assert!(place.bucket.open("nothing").await?.is_none());
    assert_eq!(place.bucket.size("nothing").await?, None);
    Ok(())
}

#[derive(Debug, Clone)]
enum Step {
    Seek(SeekFrom),
    Read(usize),
}

fn steps(size: u64) -> impl Strategy<Value = Vec<Step>> {
    let beyond = size + size / 8;
    let signed = i64::try_from(beyond).unwrap_or(i64::MAX);
    let step = prop_oneof![
        2 => (0..beyond).prop_map(|place| Step::Seek(SeekFrom::Start(place))),
        1 => (-signed..signed / 8).prop_map(|offset| Step::Seek(SeekFrom::End(offset))),
        2 => (-100_000_i64..100_000).prop_map(|offset| Step::Seek(SeekFrom::Current(offset))),
        1 => (-signed..signed).prop_map(|offset| Step::Seek(SeekFrom::Current(offset))),
        4 => (0_usize..100_000).prop_map(Step::Read),
        2 => (0_usize..6 * MIB).prop_map(Step::Read),
    ];
    prop::collection::vec(step, 1..24)
}

#[tokio::test]
async fn seeks_and_reads_are_those_of_a_slice() -> Outcome {
    let place = Place::versioned().await?;
    let content = content(12 * MIB + 345);
    place.write("object", &content).await?;
    let reader = open(&place, "object").await?;
    blocking(move || {
        let (size, reader) = (reader.size(), RefCell::new(reader));
        let config = Config { cases: 32, failure_persistence: None, ..Config::default() };
        TestRunner::new(config).run(&steps(size), |steps| {
            let mut slice = Cursor::new(&content);
            let mut reader = reader.borrow_mut();
            reader.rewind()?;
            for step in steps {
                match step {
                    Step::Seek(to) => prop_assert_eq!(reader.seek(to).ok(), slice.seek(to).ok()),
                    Step::Read(length) => {
                        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
                        reader.by_ref().take(length as u64).read_to_end(&mut ours)?;
                        slice.by_ref().take(length as u64).read_to_end(&mut theirs)?;
                        prop_assert!(ours == theirs, "{} bytes to {}", length, slice.position());
                    }
                }
                prop_assert_eq!(reader.stream_position()?, slice.stream_position()?);
            }
            Ok(())
        })
    })
    .await??;
    Ok(())
}

#[tokio::test]
async fn ranges_grow_and_memory_is_bounded() -> Outcome {
    let place = Place::versioned().await?;
    let content = content(64 * MIB);
    place.write("object", &content).await?;
    let place = place.behind(|_| Answer::Pass).await?;
    let mut reader = open(&place, "object").await?;
    let place = blocking(move || {
        let mut asked = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        let mut furthest_ahead = 0;
        for (at, expected) in (0..).step_by(buffer.len()).zip(content.chunks(buffer.len())) {
            reader.read_exact(&mut buffer)?;
            assert!(buffer == expected, "from {at}");
            asked.extend(gets(&place.seen()));
            let end = asked.iter().map(|range| range.1).max().unwrap_or_default();
            furthest_ahead = furthest_ahead.max(end - at);
        }
        assert_eq!(reader.read(&mut buffer)?, 0);
        // Three ranges of 2 MiB, of which at least one is fetched while another is read.
        assert!((4 * MIB as u64..=6 * MIB as u64).contains(&furthest_ahead), "{furthest_ahead}");
        asked.sort_unstable();
        let lengths: Vec<u64> = asked.iter().map(|range| (range.1 - range.0) / 1024).collect();
        assert_eq!(lengths, [vec![64, 128, 256, 512, 1024], vec![2048; 31], vec![64]].concat());
        assert!(asked.iter().zip(asked.iter().skip(1)).all(|(one, next)| one.1 == next.0), "{asked:?}");
        io::Result::Ok(place)
    })
    .await??;

    // And from a seek on they are small again.
    let mut reader = open(&place, "object").await?;
    blocking(move || {
        reader.seek(SeekFrom::Start(50 * MIB as u64))?;
        reader.read_exact(&mut [0; 10])?;
        let start = 50 * MIB as u64;
        assert_eq!(gets(&place.seen()), [(start, start + 64 * 1024)]);
        io::Result::Ok(())
    })
    .await??;
    Ok(())
}

#[tokio::test]
async fn moves_within_what_was_fetched_cost_nothing() -> Outcome {
    let place = Place::versioned().await?;
    let content = content(MIB);
    place.write("object", &content).await?;
    let place = place.behind(|_| Answer::Pass).await?;
    let mut reader = open(&place, "object").await?;
    blocking(move || {
        let mut buffer = [0; 1000];
        for at in [0, 60_000, 100, 30_000, 64 * 1024 - 1000] {
            reader.seek(SeekFrom::Start(at as u64))?;
            reader.read_exact(&mut buffer)?;
            assert!(content[at..at + 1000] == buffer, "at {at}");
        }
        assert_eq!(gets(&place.seen()), [(0, 64 * 1024)]);
        io::Result::Ok(())
    })
    .await??;
    Ok(())
}

#[tokio::test]
async fn the_version_that_was_opened_is_read() -> Outcome {
    let place = Place::versioned().await?;
    let content = content(2 * MIB);
    place.write("object", &content).await?;
    let mut reader = open(&place, "object").await?;
    place.bucket.put("object", b"something else".to_vec()).await?;
    let read = blocking(move || read_to_end(&mut reader)).await??;
    assert!(read == content);
    Ok(())
}

/// What reading on ends with, after the first byte was read and `change` was made.
async fn read_after(
    place: &Place,
    change: impl AsyncFnOnce() -> Outcome,
) -> Result<AwsError, Box<dyn std::error::Error + Send + Sync>> {
    place.write("object", &content(MIB)).await?;
    let mut reader = open(place, "object").await?;
    let mut reader = blocking(move || reader.read_exact(&mut [0]).map(|()| reader)).await??;
    change().await?;
    let Err(error) = blocking(move || read_to_end(&mut reader)).await? else { return Err("it was read".into()) };
    Ok(AwsError::from_io(&error).ok_or("no AWS error")?)
}

#[tokio::test]
async fn a_deleted_version_is_an_error() -> Outcome {
    let place = Place::versioned().await?;
    let error = read_after(&place, async || {
        let version = place.s3.head_object().bucket(place.bucket.name()).key("object").send().await?.version_id;
        let request = place.s3.delete_object().bucket(place.bucket.name()).key("object").set_version_id(version);
        request.send().await?;
        Ok(())
    })
    .await?;
    assert_eq!(error.kind, Kind::NotFound);
    let name = place.bucket.name();
    assert_eq!(error.message, format!("s3://{name}/object: it was deleted while it was read"));
    Ok(())
}

#[tokio::test]
async fn an_overwritten_object_without_versions_is_an_error() -> Outcome {
    let place = Place::plain().await?;
    let error = read_after(&place, async || Ok(place.bucket.put("object", vec![0; 100]).await?)).await?;
    assert_eq!(error.kind, Kind::Conflict);
    let name = place.bucket.name();
    assert_eq!(error.message, format!("s3://{name}/object: it was overwritten while it was read"));
    Ok(())
}

#[tokio::test]
async fn a_body_that_breaks_off_is_read_on_from_there() -> Outcome {
    let place = Place::versioned().await?;
    let content = content(MIB);
    place.write("object", &content).await?;
    let tries = AtomicUsize::new(0);
    let rule = move |request: &Request| {
        let broken = request.method == "GET" && tries.fetch_add(1, Ordering::Relaxed) < 3;
        if broken { Answer::Break(1000) } else { Answer::Pass }
    };
    let place = place.behind(rule).await?;
    let mut reader = open(&place, "object").await?;
    let read = blocking(move || read_to_end(&mut reader)).await??;
    assert!(read == content);
    let first: Vec<(u64, u64)> = gets(&place.seen()).into_iter().take(4).collect();
    let end = 64 * 1024;
    assert_eq!(first, [(0, end), (1000, end), (2000, end), (3000, end)]);
    Ok(())
}

#[tokio::test]
async fn a_body_that_always_breaks_off_is_an_error() -> Outcome {
    let place = Place::versioned().await?;
    place.write("object", &content(MIB)).await?;
    let broken = |request: &Request| if request.method == "GET" { Answer::Break(10) } else { Answer::Pass };
    let place = place.behind(broken).await?;
    let mut reader = open(&place, "object").await?;
    let Err(error) = blocking(move || read_to_end(&mut reader)).await? else { return Err("it was read".into()) };
    let error = AwsError::from_io(&error).ok_or("no AWS error")?;
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(error.message.contains("/object: the body broke off 5 times: "), "{error}");
    assert_eq!(gets(&place.seen()).len(), 5);
    Ok(())
}

#[tokio::test]
async fn an_answer_that_is_not_the_range_is_an_error() -> Outcome {
    let place = Place::versioned().await?;
    place.write("object", &content(MIB)).await?;
    let rule = |request: &Request| match request.method.as_str() {
        "GET" => Answer::Instead(200, "", "the whole object".to_owned()),
        _ => Answer::Pass,
    };
    let place = place.behind(rule).await?;
    let mut reader = open(&place, "object").await?;
    let Err(error) = blocking(move || read_to_end(&mut reader)).await? else { return Err("it was read".into()) };
    assert!(error.to_string().contains("S3 answered with the whole for bytes 0-65535 of 1048576"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_read_that_failed_can_be_tried_again() -> Outcome {
    let place = Place::versioned().await?;
    let content = content(MIB);
    place.write("object", &content).await?;
    let tries = AtomicUsize::new(0);
    let rule = move |request: &Request| {
        let refused = request.method == "GET" && tries.fetch_add(1, Ordering::Relaxed) == 1;
        if refused { Answer::error(403, "AccessDenied") } else { Answer::Pass }
    };
    let place = place.behind(rule).await?;
    let mut reader = open(&place, "object").await?;
    let (refused, read) = blocking(move || {
        let mut read = Vec::new();
        let refused = reader.read_to_end(&mut read);
        reader.read_to_end(&mut read)?;
        io::Result::Ok((refused, read))
    })
    .await??;
    let Err(error) = refused else { return Err("it was read".into()) };
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    assert!(read == content);
    Ok(())
}
