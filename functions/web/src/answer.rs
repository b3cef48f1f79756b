//! An answer, as a function URL takes it (<https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html>), with the headers that keep
//! the page from being framed, cached, followed back, or made to do what it was not written for.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::page;

/// An answer. It has no `Debug`: its cookies are in nobody's log.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer {
    status_code: u16,
    headers: serde_json::Map<String, serde_json::Value>,
    cookies: Vec<String>,
    body: String,
}

impl Answer {
    /// With a cookie, if there is one.
    pub(crate) fn with_cookie(mut self, cookie: Option<String>) -> Self {
        self.cookies.extend(cookie);
        self
    }

    /// Its head alone.
    pub(crate) fn without_body(self) -> Self {
        Self { body: String::new(), ..self }
    }
}

/// A page.
pub(crate) fn html(status: u16, body: String) -> Answer {
    answer(status, "text/html; charset=utf-8", body)
}

/// A document for a program.
pub(crate) fn json(status: u16, document: &serde_json::Value) -> Answer {
    answer(status, "application/json", document.to_string())
}

/// Sends a browser elsewhere, by GET.
pub(crate) fn redirect(location: &str) -> Answer {
    let mut answer = answer(303, "text/plain; charset=utf-8", String::new());
    answer.headers.insert("location".into(), location.into());
    answer
}

fn answer(status: u16, content_type: &str, body: String) -> Answer {
    let style = format!("sha256-{}", STANDARD.encode(page::style_digest()));
    let policy =
        format!("default-src 'none'; style-src '{style}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'");
    let headers = [
        ("content-type", content_type),
        ("content-security-policy", &policy),
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("strict-transport-security", "max-age=31536000"),
        ("x-robots-tag", "noindex"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), serde_json::Value::from(value)));
    Answer { status_code: status, headers: headers.into_iter().collect(), cookies: Vec::new(), body }
}
