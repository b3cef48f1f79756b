//! What a change set would do, for the person who decides: sorted by what it can cost.

use serde::{Deserialize, Serialize};

/// What CloudFormation would do to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeAction {
    /// Create it.
    Add,
    /// Change it.
    Modify,
    /// Delete it.
    Remove,
    /// Take it under management.
    Import,
    /// Known only when it is executed.
    Dynamic,
}

/// Whether a changed resource is made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replacement {
    /// It stays.
    No,
    /// It depends on a value that is known only when it is executed.
    Conditional,
    /// It is made anew, and the old one is deleted.
    Yes,
}

/// What a change can cost, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    /// A resource that holds data is deleted or replaced.
    DataLoss,
    /// Another resource is deleted or replaced.
    Replacement,
    /// Rights change.
    Iam,
    /// The rest.
    Other,
}

impl Risk {
    /// As a person reads it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Risk::DataLoss => "LOSS OF DATA",
            Risk::Replacement => "replacement",
            Risk::Iam => "rights",
            Risk::Other => "",
        }
    }
}

/// One resource's change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// What happens.
    pub action: ChangeAction,
    /// The resource's name in the template.
    pub logical_id: String,
    /// Its type.
    pub resource_type: String,
    /// Its id, if it exists.
    pub physical_id: Option<String>,
    /// Whether it is made anew.
    pub replacement: Replacement,
    /// Which of its parts change.
    pub scope: Vec<String>,
}

/// Types whose deletion loses what they hold. A type ending in `::` stands for the whole service.
const HOLDS_DATA: [&str; 14] = [
    "AWS::DynamoDB::",
    "AWS::S3::Bucket",
    "AWS::RDS::",
    "AWS::DocDB::",
    "AWS::Neptune::",
    "AWS::EFS::FileSystem",
    "AWS::FSx::FileSystem",
    "AWS::SQS::Queue",
    "AWS::Logs::LogGroup",
    "AWS::Kinesis::Stream",
    "AWS::OpenSearchService::Domain",
    "AWS::ElastiCache::",
    "AWS::Cognito::UserPool",
    "AWS::ECR::Repository",
];

impl Change {
    /// What it can cost.
    #[must_use]
    pub fn risk(&self) -> Risk {
        let goes = self.action == ChangeAction::Remove
            || self.action == ChangeAction::Dynamic
            || self.replacement != Replacement::No;
        let holds_data = HOLDS_DATA.iter().any(|known| {
            if known.ends_with("::") { self.resource_type.starts_with(known) } else { self.resource_type == *known }
        });
        if goes && holds_data {
            Risk::DataLoss
        } else if goes {
            Risk::Replacement
        } else if self.resource_type.starts_with("AWS::IAM::") || self.resource_type == "AWS::Lambda::Permission" {
            Risk::Iam
        } else {
            Risk::Other
        }
    }

    /// The action as one word, with what makes it serious.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match (self.action, self.replacement) {
            (ChangeAction::Add, _) => "add",
            (ChangeAction::Modify, Replacement::Yes) => "replace",
            (ChangeAction::Modify, Replacement::Conditional) => "modify, may replace",
            (ChangeAction::Modify, Replacement::No) => "modify",
            (ChangeAction::Remove, _) => "delete",
            (ChangeAction::Import, _) => "import",
            (ChangeAction::Dynamic, _) => "known only at execution",
        }
    }
}

/// A whole change set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Review {
    /// Its changes, the worst first.
    pub changes: Vec<Change>,
}

impl Review {
    /// Sorts `changes`: the worst first, then by name.
    #[must_use]
    pub fn new(mut changes: Vec<Change>) -> Self {
        changes.sort_by(|a, b| a.risk().cmp(&b.risk()).then_with(|| a.logical_id.cmp(&b.logical_id)));
        Self { changes }
    }

    /// One line that says how many changes of which kind.
    #[must_use]
    pub fn summary(&self) -> String {
        let count = |wanted: fn(&Change) -> bool| self.changes.iter().filter(|change| wanted(change)).count();
        let mut parts = vec![format!("{} changes", self.changes.len())];
        for (many, what) in [
            (count(|change| change.risk() == Risk::DataLoss), "with LOSS OF DATA"),
            (count(|change| change.risk() == Risk::Replacement), "delete or replace"),
            (count(|change| change.risk() == Risk::Iam), "change rights"),
        ] {
            if many > 0 {
                parts.push(format!("{many} {what}"));
            }
        }
        parts.join(", ")
    }

    /// As a table of plain text, for a terminal or a job's log.
    #[must_use]
    pub fn to_text(&self) -> String {
        let rows: Vec<[&str; 4]> = self
            .changes
            .iter()
            .map(|change| {
                [change.verb(), change.logical_id.as_str(), change.resource_type.as_str(), change.risk().as_str()]
            })
            .collect();
        let width = |column: usize| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let (first, second, third) = (width(0), width(1), width(2));
        rows.iter()
            .map(|[verb, id, kind, risk]| {
                let line = format!("{verb:first$}  {id:second$}  {kind:third$}  {risk}");
                format!("{}\n", line.trim_end())
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(action: ChangeAction, id: &str, kind: &str, replacement: Replacement) -> Change {
        Change {
            action,
            logical_id: id.into(),
            resource_type: kind.into(),
            physical_id: None,
            replacement,
            scope: vec![],
        }
    }

    #[test]
    fn the_worst_comes_first() {
        let review = Review::new(vec![
            change(ChangeAction::Add, "Api", "AWS::Serverless::Api", Replacement::No),
            change(ChangeAction::Modify, "Role", "AWS::IAM::Role", Replacement::No),
            change(ChangeAction::Modify, "Table", "AWS::DynamoDB::Table", Replacement::Conditional),
            change(ChangeAction::Remove, "Topic", "AWS::SNS::Topic", Replacement::No),
            change(ChangeAction::Modify, "Bucket", "AWS::S3::Bucket", Replacement::No),
        ]);
        assert_eq!(
            review.to_text(),
            "modify, may replace  Table   AWS::DynamoDB::Table  LOSS OF DATA\n\
             delete               Topic   AWS::SNS::Topic       replacement\n\
             modify               Role    AWS::IAM::Role        rights\n\
             add                  Api     AWS::Serverless::Api\n\
             modify               Bucket  AWS::S3::Bucket\n"
        );
        assert_eq!(review.summary(), "5 changes, 1 with LOSS OF DATA, 1 delete or replace, 1 change rights");
    }
}
