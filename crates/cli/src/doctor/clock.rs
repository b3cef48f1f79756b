//! This machine's clock.

use jiff::{SignedDuration, Timestamp};

use super::Finding;
use crate::error::CliError;
use crate::http;

/// How far it may be off: AWS refuses signatures that are five minutes off, and GitLab's tokens live as long.
const TOLERATED: SignedDuration = SignedDuration::from_secs(60);
const CHECK: &str = "clock";

/// Compares it with the date that AWS puts on its answers.
pub(super) async fn clock(config: &aws_config::SdkConfig) -> Finding {
    let region = config.region().map_or("us-east-1", aws_config::Region::as_ref);
    let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let url = config.endpoint_url().map_or_else(|| format!("https://sts.{region}.{suffix}/"), str::to_owned);
    match date(&url).await {
        Ok(date) => compare(&date, now()),
        Err(error) => Finding::unseen(CHECK, &error),
    }
}

async fn date(url: &str) -> Result<String, CliError> {
    // Whatever is answered has a date.
    let answer = http::client()?.get(url).send().await;
    let answer = answer.map_err(|error| CliError::local(format!("asking {url} for the time"), http::why(error)))?;
    let date = answer.headers().get("date").and_then(|date| date.to_str().ok()).unwrap_or_default();
    Ok(date.to_owned())
}

fn compare(date: &str, now: Timestamp) -> Finding {
    let Ok(theirs) = jiff::fmt::rfc2822::parse(date) else {
        return Finding::warning(
            CHECK,
            format!("AWS's date cannot be read: \"{date}\""),
            "See whether a proxy answers in its place.",
        );
    };
    let off = now.duration_since(theirs.timestamp()).abs();
    match off < TOLERATED {
        true => Finding::ok(CHECK, format!("{} s off", off.as_secs())),
        false => Finding::broken(
            CHECK,
            format!("this machine's clock is {} s off", off.as_secs()),
            "Set it, by NTP: AWS refuses signatures of another time, and tokens seem to be expired or not yet valid.",
        ),
    }
}

#[allow(clippy::disallowed_methods, reason = "it is this clock that is looked at")]
fn now() -> Timestamp {
    Timestamp::now()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn less_than_a_minute_is_well() {
        let now: Timestamp = "2026-11-23T12:00:59Z".parse().unwrap();
        for (date, verdict) in [
            ("Mon, 23 Nov 2026 12:00:00 GMT", Verdict::Ok),
            ("Mon, 23 Nov 2026 12:01:58 GMT", Verdict::Ok),
            ("Mon, 23 Nov 2026 11:59:59 GMT", Verdict::Broken),
            ("Mon, 23 Nov 2026 12:01:59 GMT", Verdict::Broken),
            ("yesterday", Verdict::Warning),
        ] {
            assert_eq!(compare(date, now).verdict, verdict, "{date}");
        }
    }
}
