//! What every function's `main` needs: its settings, its clients, strict input, and errors under their names.

mod budget;
mod deliver;
mod discard;
mod failure;
mod keys;
mod lookup;
pub mod metrics;
mod settings;
mod step;

pub use budget::Budget;
pub use deliver::deliver;
pub use discard::discard;
pub use failure::Failure;
pub use keys::keys;
pub use lookup::{hold, not_ended, note, note_recording, record, stages, still_ours, wait_for_idle};
pub use settings::{Settings, SettingsError};
pub use step::{Done, Polled};

use jiff::Timestamp;
use lambda_runtime::{LambdaEvent, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The AWS configuration that the function's clients share: its own role, region, and the SDK's retries.
pub async fn aws() -> aws_config::SdkConfig {
    aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await
}

/// Reads `payload` as `T`, strictly.
///
/// # Errors
/// [`slipway_domain::ErrorName::InvalidRequest`], which says what is wrong and where.
pub fn parse<T: DeserializeOwned>(payload: serde_json::Value) -> Result<T, Failure> {
    let malformed =
        |why: &str| Failure::new(slipway_domain::ErrorName::InvalidRequest, format!("the request is malformed: {why}"));
    if !payload.is_object() {
        // serde would take a list of the fields for the fields.
        return Err(malformed("a JSON object is expected"));
    }
    serde_json::from_value(payload).map_err(|error| malformed(&without_values(&error.to_string())))
}

/// serde quotes what it does not understand, which may be a token in the wrong place: long words are left out.
fn without_values(text: &str) -> String {
    let word = |word: &str| if word.chars().count() > 40 { "…".to_owned() } else { word.to_owned() };
    let words: Vec<String> = text.split(' ').take(60).map(word).collect();
    words.join(" ")
}

/// Serves the function: hands each event, with the time that it came, to `handle`, until Lambda ends the process.
///
/// What is logged is the outcome and its name, never an input: inputs hold tokens.
///
/// # Errors
/// When the Lambda runtime cannot be reached.
pub async fn serve<O, F>(handle: impl Fn(serde_json::Value, Timestamp) -> F) -> Result<(), lambda_runtime::Error>
where
    O: Serialize,
    F: Future<Output = Result<O, Failure>>,
{
    serve_within(|payload, now, _| handle(payload, now)).await
}

/// The same for a function that stops by itself before its time is up.
///
/// # Errors
/// When the Lambda runtime cannot be reached.
pub async fn serve_within<O, F>(
    handle: impl Fn(serde_json::Value, Timestamp, Budget) -> F,
) -> Result<(), lambda_runtime::Error>
where
    O: Serialize,
    F: Future<Output = Result<O, Failure>>,
{
    start_logging();
    let handle = &handle;
    lambda_runtime::run(service_fn(move |event: LambdaEvent<serde_json::Value>| async move {
        let now = now();
        let result = handle(event.payload, now, Budget::until(event.context.deadline, now)).await;
        match &result {
            Ok(_) => tracing::info!(request_id = event.context.request_id, "done"),
            Err(failure) => tracing::error!(request_id = event.context.request_id, error = %failure.name, message = failure.message, "failed"),
        }
        result
    }))
    .await
}

/// The one place where a function looks at the clock.
#[allow(clippy::disallowed_methods, reason = "time enters here, and is passed on")]
fn now() -> Timestamp {
    Timestamp::now()
}

fn start_logging() {
    let format = tracing_subscriber::fmt().json().with_max_level(tracing::Level::INFO);
    let _ = format.with_target(false).without_time().try_init();
}
