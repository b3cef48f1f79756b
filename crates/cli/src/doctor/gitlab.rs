//! GitLab: its OpenID provider in AWS, the role of its jobs, and what it publishes of itself.

use serde_json::Value;

use super::policy::{condition, is, principals, statements};
use super::stack::Plane;
use super::{Finding, Verdict};
use crate::aws::remote;
use crate::error::CliError;
use crate::http;

const PROVIDER: &str = "OpenID provider";
const ROLE: &str = "role of the jobs";
const ISSUER: &str = "GitLab";

/// The instance, as AWS names it: without https://.
pub(super) fn host(plane: &Plane) -> String {
    let url = plane.parameter("GitLabUrl");
    url.split_once("://").map_or(url, |(_, host)| host).to_owned()
}

/// What is found of the jobs' role.
pub(super) struct Trust {
    pub(super) finding: Finding,
    /// Whether jobs come with credentials of their runner instead.
    runners: bool,
}

/// The client role of setup/gitlab.yaml, and whom it trusts.
pub(super) async fn client_role(config: &aws_config::SdkConfig, plane: &Plane, host: &str, name: &str) -> Trust {
    match aws_sdk_iam::Client::new(config).get_role().role_name(name).send().await {
        Ok(answer) => {
            let text = answer.role.and_then(|role| role.assume_role_policy_document).unwrap_or_default();
            // IAM hands it out as a URL would have it.
            let pair = format!("policy={text}");
            let text = form_urlencoded::parse(pair.as_bytes()).next().map(|(_, text)| text.into_owned());
            let policy = text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
            trust(&policy, &arn(plane, host), host, plane.parameter("Audience"))
        }
        Err(error) => {
            let finding = match remote("iam:GetRole", &error) {
                error if is_absent(&error) => Finding::broken(
                    ROLE,
                    format!("there is no role {name}"),
                    "Deploy setup/gitlab.yaml, or give the role's name with --client-role.",
                ),
                error => Finding::unseen(ROLE, &error),
            };
            Trust { finding, runners: false }
        }
    }
}

/// Whether IAM has no such thing.
fn is_absent(error: &CliError) -> bool {
    matches!(error, CliError::Remote { code, .. } if code == "NoSuchEntity")
}

fn arn(plane: &Plane, host: &str) -> String {
    format!("arn:{}:iam::{}:oidc-provider/{host}", plane.partition, plane.account)
}

fn trust(policy: &Value, provider: &str, host: &str, audience: &str) -> Trust {
    let anew = "Deploy setup/gitlab.yaml anew, with GitLabHost, Audience and SubjectPattern.";
    let found = |finding| Trust { finding, runners: false };
    let all = statements(policy);
    let with_token: Vec<_> =
        all.iter().filter(|statement| is(statement, "Allow", "sts:AssumeRoleWithWebIdentity")).collect();
    let runners: Vec<_> = all.iter().filter(|statement| is(statement, "Allow", "sts:AssumeRole")).collect();
    if with_token.is_empty() && !runners.is_empty() {
        let who = runners.iter().flat_map(|statement| principals(statement, "AWS")).collect::<Vec<_>>().join(", ");
        return Trust { finding: Finding::ok(ROLE, format!("jobs come as their runner: {who}")), runners: true };
    }
    let Some(statement) =
        with_token.iter().find(|statement| principals(statement, "Federated").iter().any(|who| who == provider))
    else {
        return found(Finding::broken(ROLE, format!("it does not trust {provider}"), anew));
    };
    let audiences = condition(statement, "StringEquals", &format!("{host}:aud"));
    if !audiences.iter().any(|found| found == audience) {
        let message = format!("it wants the audience \"{}\", the control plane \"{audience}\"", audiences.join(", "));
        return found(Finding::broken(ROLE, message, anew));
    }
    let key = format!("{host}:sub");
    let subjects_of = |statement: &Value| {
        ["StringLike", "StringEquals"].map(|operator| condition(statement, operator, &key)).concat()
    };
    let subjects = subjects_of(statement);
    // One statement that takes everybody is enough, whatever the others say.
    let everybody = |statement: &&&Value| {
        let subjects = subjects_of(statement);
        subjects.is_empty() || subjects.iter().any(|subject| is_everybodys(subject))
    };
    if all.iter().any(|statement| allows_anybody(statement)) || with_token.iter().any(everybody) {
        return found(Finding::broken(
            ROLE,
            "it takes every project's jobs",
            "Deploy setup/gitlab.yaml with SubjectPattern=project_path:GROUP/*: on a shared instance everybody can ask for any audience.",
        ));
    }
    found(Finding::ok(ROLE, format!("trusts jobs of {} with the audience {audience}", subjects.join(", "))))
}

/// Whether a subject names no group and no project: what it begins with is the same for all of an instance.
fn is_everybodys(subject: &str) -> bool {
    let named = subject.strip_prefix("project_path:").unwrap_or(subject);
    named.is_empty() || named.starts_with(['*', '?'])
}

/// Whether any principal of AWS may.
fn allows_anybody(statement: &Value) -> bool {
    statement.get("Effect").and_then(Value::as_str) == Some("Allow")
        && principals(statement, "AWS").iter().any(|who| who == "*")
}

/// The OpenID provider of setup/gitlab.yaml, unless the runners have a role of their own.
pub(super) async fn provider(
    config: &aws_config::SdkConfig,
    plane: &Plane,
    host: &str,
    trust: &Trust,
) -> Option<Finding> {
    if trust.runners {
        return None;
    }
    let arn = arn(plane, host);
    let sent =
        aws_sdk_iam::Client::new(config).get_open_id_connect_provider().open_id_connect_provider_arn(&arn).send().await;
    Some(match sent {
        Ok(answer) => audience(answer.client_id_list(), plane.parameter("Audience"), &arn),
        Err(error) => match remote("iam:GetOpenIDConnectProvider", &error) {
            error if is_absent(&error) => Finding::broken(
                PROVIDER,
                format!("there is no {arn}"),
                format!("Deploy setup/gitlab.yaml with GitLabHost={host} and ProviderExists=false"),
            ),
            error => Finding::unseen(PROVIDER, &error),
        },
    })
}

fn audience(known: &[String], wanted: &str, arn: &str) -> Finding {
    match known.iter().any(|audience| audience == wanted) {
        true => Finding::ok(PROVIDER, format!("it is there, with the audience {wanted}")),
        false => Finding::broken(
            PROVIDER,
            match known.is_empty() {
                true => format!("{arn} knows no audience, not {wanted} either"),
                false => format!("{arn} knows the audience {}, not {wanted}", known.join(", ")),
            },
            format!(
                "If setup/gitlab.yaml made it, deploy that with Audience={wanted}. If it was there before (ProviderExists=true), add ours to its list, which harms nobody: \
                 aws iam add-client-id-to-open-id-connect-provider --open-id-connect-provider-arn {arn} --client-id {wanted}"
            ),
        ),
    }
}

/// What the instance publishes, as it is seen from here.
pub(super) async fn issuer(url: &str, has_keys: bool) -> Finding {
    match published(url).await {
        Ok(keys) => Finding::ok(ISSUER, format!("{url} is its own issuer, and publishes {keys} keys")),
        Err(finding) if has_keys => Finding {
            verdict: Verdict::Warning,
            what_to_do: Some("Nothing, if AWS cannot reach it either: the control plane has its keys as GitLabKeys. Keep them up to date.".into()),
            ..finding
        },
        Err(finding) => finding,
    }
}

async fn published(url: &str) -> Result<usize, Finding> {
    let unreachable = |error: CliError| {
        Finding::broken(
            ISSUER,
            error.to_string(),
            "See whether it can be reached from here and, more so, from AWS: api and web ask it. Where it cannot, deploy template.yaml with GitLabKeys.",
        )
    };
    let discovery = json(&format!("{url}/.well-known/openid-configuration")).await.map_err(unreachable)?;
    let text = |member: &str| discovery.get(member).and_then(Value::as_str).unwrap_or_default();
    if text("issuer") != url {
        return Err(Finding::broken(
            ISSUER,
            format!("it calls itself {}, not {url}", text("issuer")),
            format!("Deploy template.yaml with GitLabUrl={}, and setup/gitlab.yaml with that host.", text("issuer")),
        ));
    }
    let keys = json(text("jwks_uri")).await.map_err(unreachable)?;
    let keys = keys.get("keys").and_then(Value::as_array).map_or(0, Vec::len);
    match keys {
        0 => Err(Finding::broken(
            ISSUER,
            "it publishes no keys",
            "See the instance's log: no token of it can be verified.",
        )),
        keys => Ok(keys),
    }
}

async fn json(url: &str) -> Result<Value, CliError> {
    let failed = |error| CliError::local(format!("asking {url}"), http::why(error));
    let answer = http::client()?.get(url).send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
    answer.json().await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ARN: &str = "arn:aws:iam::999999999999:oidc-provider/gitlab.example.com";

    fn found(audience: &str, subject: &str, provider: &str) -> Finding {
        let policy = json!({"Statement": [{
        "Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity", "Principal": {"Federated": provider},
        "Condition": {
            "StringEquals": {"gitlab.example.com:aud": audience},
            "StringLike": {"gitlab.example.com:sub": subject},
        }}]});
        trust(&policy, ARN, "gitlab.example.com", "slipway").finding
    }

    #[test]
    fn the_role_takes_the_tokens_of_the_audience_from_some_projects() {
        assert_eq!(found("slipway", "project_path:group/*", ARN).verdict, Verdict::Ok);
        assert_eq!(found("other", "project_path:group/*", ARN).verdict, Verdict::Broken);
        for everybodys in ["*", "project_path:*", "project_path:*/news", "?*"] {
            assert_eq!(found("slipway", everybodys, ARN).verdict, Verdict::Broken, "{everybodys}");
        }
        assert_eq!(found("slipway", "*", ARN).verdict, Verdict::Broken);
        assert_eq!(found("slipway", "project_path:group/*", "arn:aws:iam::1:oidc-provider/x").verdict, Verdict::Broken);
    }

    #[test]
    fn runners_may_have_a_role_of_their_own() {
        let policy = json!({"Statement": {"Effect": "Allow", "Action": "sts:AssumeRole",
            "Principal": {"AWS": "arn:aws:iam::999999999999:role/runner"}}});
        let trust = trust(&policy, ARN, "gitlab.example.com", "slipway");
        assert_eq!((trust.finding.verdict, trust.runners), (Verdict::Ok, true));
    }
}
