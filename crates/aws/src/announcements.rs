//! What Slipway tells others of its own accord: on its event bus, and to its SNS topic.

use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use slipway_domain::announcement::{Announcement, ApprovalRequested, SOURCE};

use crate::error::{AwsError, Kind, sort};

/// The event bus.
#[derive(Debug, Clone)]
pub struct Bus {
    client: aws_sdk_eventbridge::Client,
    name: String,
}

impl Bus {
    /// The one called `name`.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig, name: impl Into<String>) -> Self {
        Self { client: aws_sdk_eventbridge::Client::new(config), name: name.into() }
    }

    /// Tells something. Whoever listens may hear it more than once.
    ///
    /// # Errors
    /// [`AwsError`].
    pub async fn tell<A: Announcement>(&self, told: &A) -> Result<(), AwsError> {
        const CALL: &str = "events:PutEvents";
        let detail = serde_json::to_string(told).map_err(|error| AwsError::unexpected(CALL, error.to_string()))?;
        let entry = PutEventsRequestEntry::builder().event_bus_name(&self.name).source(SOURCE);
        let entry = entry.detail_type(A::DETAIL_TYPE).detail(detail).build();
        let sent = self.client.put_events().entries(entry).send().await;
        let answer = sent.map_err(|error| sort(CALL, &error))?;
        // It says yes to the call, and no to what is in it.
        match answer.entries().iter().find(|entry| entry.error_code().is_some()) {
            None => Ok(()),
            Some(entry) => Err(AwsError {
                kind: Kind::Unavailable,
                call: CALL,
                code: entry.error_code().unwrap_or_default().to_owned(),
                message: entry.error_message().unwrap_or_default().to_owned(),
            }),
        }
    }
}

/// The event bus and the topic.
#[derive(Debug, Clone)]
pub struct Announcements {
    bus: Bus,
    topics: aws_sdk_sns::Client,
    topic: String,
}

impl Announcements {
    /// To the bus called `bus`, and the topic with the ARN `topic`.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig, bus: impl Into<String>, topic: impl Into<String>) -> Self {
        Self { bus: Bus::new(config, bus), topics: aws_sdk_sns::Client::new(config), topic: topic.into() }
    }

    /// Tells that a decision is wanted: both are tried, whatever comes of the other.
    ///
    /// # Errors
    /// [`AwsError`], the first.
    pub async fn approval_requested(&self, requested: &ApprovalRequested) -> Result<(), AwsError> {
        let event = self.bus.tell(requested).await;
        let mail = self.mail(&requested.subject(), &requested.text()).await;
        match (event, mail) {
            (Err(one), Err(other)) => Err(AwsError { message: format!("{}; and {other}", one.message), ..one }),
            (event, mail) => event.and(mail),
        }
    }

    async fn mail(&self, subject: &str, text: &str) -> Result<(), AwsError> {
        let sent = self.topics.publish().topic_arn(&self.topic).subject(subject).message(text).send().await;
        sent.map(drop).map_err(|error| sort("sns:Publish", &error))
    }
}
