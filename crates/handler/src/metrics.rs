//! Metrics, as lines of the log that CloudWatch reads numbers from: its embedded format
//! (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>).

use std::io::Write as _;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// Where CloudWatch keeps them.
const NAMESPACE: &str = "Slipway";

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Seconds.
    Seconds,
}

impl Unit {
    fn as_str(self) -> &'static str {
        match self {
            Unit::Count => "Count",
            Unit::Seconds => "Seconds",
        }
    }
}

/// Numbers of one moment, each for every combination of `dimensions`, of which none may be a secret: all are in the log.
#[derive(Debug)]
pub struct Metrics<'a> {
    /// The control plane, which is a dimension of all.
    pub control_plane: &'a str,
    /// What else tells them apart.
    pub dimensions: &'a [(&'static str, &'a str)],
    /// The numbers.
    pub numbers: &'a [(&'static str, Unit, u64)],
}

impl Metrics<'_> {
    fn line(&self, at: Timestamp) -> String {
        let names: Vec<&str> =
            std::iter::once("ControlPlane").chain(self.dimensions.iter().map(|(name, _)| *name)).collect();
        let units: Vec<Value> =
            self.numbers.iter().map(|(name, unit, _)| json!({"Name": name, "Unit": unit.as_str()})).collect();
        let directive = json!({"Namespace": NAMESPACE, "Dimensions": [names], "Metrics": units});
        let mut line = Map::new();
        line.insert("_aws".to_owned(), json!({"Timestamp": at.as_millisecond(), "CloudWatchMetrics": [directive]}));
        line.insert("ControlPlane".to_owned(), self.control_plane.into());
        line.extend(self.dimensions.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))));
        line.extend(self.numbers.iter().map(|(name, _, value)| ((*name).to_owned(), Value::from(*value))));
        Value::Object(line).to_string()
    }

    /// Writes them to the log.
    pub fn write(&self, at: Timestamp) {
        // Whoever reads the log is gone, or there is no log: then there are no numbers.
        let _ = writeln!(std::io::stdout().lock(), "{}", self.line(at));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cloudwatch_finds_its_numbers() {
        let metrics = Metrics {
            control_plane: "slipway",
            dimensions: &[("Stage", "dev")],
            numbers: &[("Deployments", Unit::Count, 1), ("DeploymentSeconds", Unit::Seconds, 90)],
        };
        let line: Value = serde_json::from_str(&metrics.line(Timestamp::UNIX_EPOCH)).unwrap_or_default();
        let expected = json!({
            "_aws": {
                "Timestamp": 0,
                "CloudWatchMetrics": [{
                    "Namespace": "Slipway",
                    "Dimensions": [["ControlPlane", "Stage"]],
                    "Metrics": [{"Name": "Deployments", "Unit": "Count"}, {"Name": "DeploymentSeconds", "Unit": "Seconds"}],
                }],
            },
            "ControlPlane": "slipway",
            "Stage": "dev",
            "Deployments": 1,
            "DeploymentSeconds": 90,
        });
        assert_eq!(line, expected);
    }
}
