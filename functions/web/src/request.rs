//! A request, read strictly: what is asked, and with which proof.

use aws_lambda_events::event::lambda_function_urls::LambdaFunctionUrlRequest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use slipway_domain::approval::Verdict;
use slipway_domain::names::Digest;

/// The most bytes of a decision: a proof and a reason.
pub const MAX_BODY_BYTES: usize = 32 * 1024;
/// The most bytes of a query: what GitLab sends a browser back with.
const MAX_QUERY_BYTES: usize = 8 * 1024;
/// The most cookies that are looked at, and the most bytes of each.
const MAX_COOKIES: usize = 100;
const MAX_COOKIE_BYTES: usize = 8 * 1024;

/// The secret part of an approval's link: 64 hex digits. It has no `Debug`: it is in nobody's log.
#[derive(Clone, PartialEq, Eq)]
pub struct Link(String);

impl Link {
    /// Reads one.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        Digest::new(text).is_ok().then(|| Self(text.to_owned()))
    }

    /// As it is in the address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    #[must_use]
    pub fn id(&self) -> Digest {
        Digest::of(self.0.as_bytes())
    }
}

/// A request.
pub struct Request {
    /// What is asked.
    pub asked: Asked,
    /// Whether the answer is for a program, and not for a person.
    pub json: bool,
    /// Whether only the answer's head is wanted.
    pub head: bool,
    /// Where this was sent to, as Lambda says: `<id>.lambda-url.<region>.on.aws`.
    pub host: String,
    /// The same with its scheme, as a browser has it.
    pub origin: String,
    /// The cookies: name and value.
    pub cookies: Vec<(String, String)>,
}

impl Request {
    /// The cookie called `name`; nothing, where there are several.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&str> {
        let mut found = self.cookies.iter().filter(|(known, _)| known == name);
        let (_, value) = found.next()?;
        found.next().is_none().then_some(value)
    }
}

/// What is asked.
pub enum Asked {
    /// To see an approval.
    Show(Link),
    /// To be sent to GitLab, to sign in.
    SignIn {
        /// For which approval.
        link: Link,
        /// Whether GitLab is to ask who it is, although it may know somebody.
        anew: bool,
    },
    /// Back from GitLab.
    Return(Return),
    /// To decide.
    Decide(Link, Form),
}

/// With what GitLab sends a browser back
/// (<https://docs.gitlab.com/api/oauth2/#authorization-code-with-proof-key-for-code-exchange-pkce>).
pub struct Return {
    /// What the sign-in was given on its way.
    pub state: String,
    /// The code, or GitLab's word for why there is none.
    pub code: Result<String, String>,
}

/// A decision, as it is sent.
pub struct Form {
    /// Yes or no.
    pub verdict: Verdict,
    /// Why.
    pub reason: Option<String>,
    /// Whose it is.
    pub proof: Proof,
}

/// What proves whose a decision is. It has no `Debug`: it is in nobody's log.
pub enum Proof {
    /// The session's cookie, and what was in the form that it was shown.
    Session {
        /// See [`crate::session::csrf`].
        csrf: String,
    },
    /// A job's ID token.
    Job {
        /// The token.
        id_token: String,
    },
    /// An AWS principal's signature.
    Caller {
        /// A presigned `sts:GetCallerIdentity`.
        url: String,
    },
}

/// Why a request is not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// No address of ours.
    #[error("There is nothing here.")]
    NotFound,
    /// A method that is not answered.
    #[error("Only GET, HEAD and POST are answered.")]
    Method,
    /// A decision, or a return from GitLab, that cannot be read.
    #[error("{0}")]
    Malformed(String),
    /// A form that another site sent, or a browser on its own account.
    #[error("This decision was not sent by the approval's own page.")]
    OtherSite,
}

fn malformed<T>(what: impl Into<String>) -> Result<T, BadRequest> {
    Err(BadRequest::Malformed(what.into()))
}

fn header<'a>(request: &'a LambdaFunctionUrlRequest, name: &str) -> &'a str {
    request.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Whether the answer is for a program.
#[must_use]
pub fn wants_json(request: &LambdaFunctionUrlRequest) -> bool {
    header(request, "accept").starts_with("application/json")
}

/// Reads a request.
///
/// # Errors
/// [`BadRequest`].
pub fn read(request: &LambdaFunctionUrlRequest) -> Result<Request, BadRequest> {
    let path = request.raw_path.as_deref().unwrap_or_default();
    let method = request.request_context.http.method.as_deref().unwrap_or_default();
    let host = request.request_context.domain_name.clone().unwrap_or_default();
    let origin = format!("https://{host}");
    let (link, sign_in) = match path.strip_prefix("/a/") {
        Some(rest) => match rest.strip_suffix("/sign-in") {
            Some(link) => (Some(Link::new(link).ok_or(BadRequest::NotFound)?), true),
            None => (Some(Link::new(rest).ok_or(BadRequest::NotFound)?), false),
        },
        None if path == "/callback" => (None, false),
        None => return Err(BadRequest::NotFound),
    };
    let asked = match (method, link, sign_in) {
        ("GET" | "HEAD", Some(link), true) => {
            let anew = request.raw_query_string.as_deref() == Some("as=somebody-else");
            Asked::SignIn { link, anew }
        }
        ("GET" | "HEAD", Some(link), false) => Asked::Show(link),
        ("GET", None, _) => Asked::Return(returned(request)?),
        ("POST", Some(link), false) => Asked::Decide(link, form(request, &origin)?),
        _ => return Err(BadRequest::Method),
    };
    let cookies = request.cookies.iter().flatten().take(MAX_COOKIES).filter(|cookie| cookie.len() <= MAX_COOKIE_BYTES);
    let cookies = cookies.filter_map(|cookie| cookie.split_once('='));
    let cookies = cookies.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect();
    Ok(Request { asked, json: wants_json(request), head: method == "HEAD", host, origin, cookies })
}

/// The fields of a form or a query: each once, and none but those that are known.
fn fields<const N: usize>(text: &[u8], known: [&str; N], strict: bool) -> Result<[Option<String>; N], BadRequest> {
    let mut found = [const { None }; N];
    for (name, value) in form_urlencoded::parse(text) {
        let mut fields = known.iter().zip(found.iter_mut());
        match fields.find(|(known, _)| **known == name) {
            Some((_, field)) if field.is_none() => *field = Some(value.into_owned()),
            Some((known, _)) => return malformed(format!("The field {known} is there twice.")),
            None if strict => return malformed("There is a field that is not known."),
            None => {}
        }
    }
    Ok(found)
}

fn returned(request: &LambdaFunctionUrlRequest) -> Result<Return, BadRequest> {
    let query = request.raw_query_string.as_deref().unwrap_or_default();
    if query.len() > MAX_QUERY_BYTES {
        return malformed(format!("The address has more than {MAX_QUERY_BYTES} bytes."));
    }
    let [state, code, error] = fields(query.as_bytes(), ["state", "code", "error"], false)?;
    let Some(state) = state.filter(|state| !state.is_empty()) else {
        return malformed("GitLab sent nothing back: open the approval's link, and sign in from there.");
    };
    match (code, error) {
        (Some(code), None) if !code.is_empty() => Ok(Return { state, code: Ok(code) }),
        (None, Some(error)) => Ok(Return { state, code: Err(error.chars().take(100).collect()) }),
        _ => {
            malformed("GitLab sent neither a code nor an error back: open the approval's link, and sign in from there.")
        }
    }
}

/// Reads `decision=approve&reason=…` and one proof.
fn form(request: &LambdaFunctionUrlRequest, origin: &str) -> Result<Form, BadRequest> {
    let content_type = header(request, "content-type").split(';').next().unwrap_or_default().trim();
    if !content_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return malformed("The decision must be sent as a form.");
    }
    let body = request.body.as_deref().unwrap_or_default();
    if body.len() > MAX_BODY_BYTES {
        return malformed(format!("The decision has {} bytes; the limit is {MAX_BODY_BYTES}.", body.len()));
    }
    let decoded = if request.is_base64_encoded {
        STANDARD.decode(body).or_else(|_| malformed("The decision cannot be read."))?
    } else {
        body.as_bytes().to_vec()
    };
    let known = ["decision", "reason", "csrf", "id_token", "aws_identity"];
    let [decision, reason, csrf, id_token, aws_identity] = fields(&decoded, known, true)?;
    let verdict = match decision.as_deref() {
        Some("approve") => Verdict::Approve,
        Some("reject") => Verdict::Reject,
        _ => return malformed("The decision must be approve or reject."),
    };
    let given = |proof: Option<String>| proof.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let proof = match (given(csrf), given(id_token), given(aws_identity)) {
        (Some(csrf), None, None) => Proof::Session { csrf },
        (None, Some(id_token), None) => Proof::Job { id_token },
        (None, None, Some(url)) => Proof::Caller { url },
        (None, None, None) => {
            return malformed("Who decides? Sign in first, or send the proof of a job or of an AWS principal.");
        }
        _ => return malformed("Who decides? There are several proofs."),
    };
    // The page's own form says "null", since it tells nobody where it was (Referrer-Policy: no-referrer); a browser says of itself
    // which site sent the form: <https://www.w3.org/TR/fetch-metadata/>.
    let (from, site) = (header(request, "origin"), header(request, "sec-fetch-site"));
    if !(from.is_empty() || from == "null" || from == origin) || !(site.is_empty() || site == "same-origin") {
        return Err(BadRequest::OtherSite);
    }
    Ok(Form { verdict, reason, proof })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const FORM: &str = "application/x-www-form-urlencoded";

    fn request(method: &str, path: &str, headers: Value, body: &str) -> LambdaFunctionUrlRequest {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        serde_json::from_value(json!({
            "headers": headers, "body": body, "isBase64Encoded": false, "rawPath": path, "rawQueryString": query,
            "cookies": ["a=1", "b=2=3", "a=4", "none"],
            "requestContext": {"timeEpoch": 0, "domainName": "x.lambda-url.eu-central-1.on.aws", "http": {"method": method}},
        }))
        .unwrap()
    }

    fn page() -> String {
        format!("/a/{}", "0f".repeat(32))
    }

    fn posted(headers: Value, body: &str) -> Result<Form, BadRequest> {
        match read(&request("POST", &page(), headers, body))?.asked {
            Asked::Decide(_, form) => Ok(form),
            Asked::Show(_) | Asked::SignIn { .. } | Asked::Return(_) => panic!("a POST decides"),
        }
    }

    #[test]
    fn an_address_is_one_of_ours() {
        let read = |method: &str, path: &str| read(&request(method, path, json!({}), "")).map(|request| request.asked);
        assert!(matches!(read("GET", &page()), Ok(Asked::Show(_))));
        assert!(matches!(read("HEAD", &page()), Ok(Asked::Show(_))));
        assert!(matches!(read("GET", &format!("{}/sign-in", page())), Ok(Asked::SignIn { anew: false, .. })));
        let anew = format!("{}/sign-in?as=somebody-else", page());
        assert!(matches!(read("GET", &anew), Ok(Asked::SignIn { anew: true, .. })));
        assert!(matches!(read("GET", "/callback?state=s&code=c"), Ok(Asked::Return(_))));
        for path in ["/", "/a/", "/a/x", "/callback/", "/A/x", "/favicon.ico"] {
            assert_eq!(read("GET", path).err(), Some(BadRequest::NotFound), "{path}");
        }
        for path in [format!("{}/", page()), page().to_uppercase(), format!("{}0", page())] {
            assert_eq!(read("GET", &path).err(), Some(BadRequest::NotFound), "{path}");
        }
        for (method, path) in [("PUT", page()), ("POST", format!("{}/sign-in", page())), ("POST", "/callback".into())] {
            assert_eq!(read(method, &path).err(), Some(BadRequest::Method), "{method} {path}");
        }
    }

    #[test]
    fn what_gitlab_sends_back_is_read() {
        let returned = |query: &str| match read(&request("GET", &format!("/callback?{query}"), json!({}), ""))?.asked {
            Asked::Return(returned) => Ok((returned.state, returned.code)),
            Asked::Show(_) | Asked::SignIn { .. } | Asked::Decide(..) => panic!("it is a return"),
        };
        assert_eq!(returned("code=c%2B&state=s"), Ok(("s".into(), Ok("c+".into()))));
        assert_eq!(
            returned("error=access_denied&error_description=no&state=s"),
            Ok(("s".into(), Err("access_denied".into())))
        );
        for query in [
            "",
            "code=c",
            "state=s",
            "state=&code=c",
            "state=s&code=",
            "state=s&code=c&error=e",
            "state=s&state=s&code=c",
        ] {
            assert!(matches!(returned(query), Err(BadRequest::Malformed(_))), "{query}");
        }
    }

    #[test]
    fn a_decision_is_read_strictly() {
        let form = json!({"content-type": FORM});
        let read = posted(form.clone(), "decision=approve&id_token=a.b.c&reason=looks+good%21").unwrap();
        assert_eq!((read.verdict, read.reason.as_deref()), (Verdict::Approve, Some("looks good!")));
        assert!(matches!(read.proof, Proof::Job { id_token } if id_token == "a.b.c"));
        let read = posted(
            json!({"content-type": "application/x-www-form-urlencoded; charset=utf-8"}),
            "decision=reject&csrf=t",
        );
        assert!(matches!(read.unwrap().proof, Proof::Session { csrf } if csrf == "t"));
        for body in [
            "",
            "decision=approve",
            "decision=approve&id_token=",
            "decision=maybe&id_token=a",
            "decision=approve&decision=reject&id_token=a",
            "decision=approve&id_token=a&csrf=b",
            "decision=approve&id_token=a&aws_identity=b",
            "decision=approve&id_token=a&admin=1",
        ] {
            assert!(matches!(posted(form.clone(), body), Err(BadRequest::Malformed(_))), "{body}");
        }
        assert!(posted(json!({"content-type": "application/json"}), "{}").is_err());
        assert!(posted(json!({"content-type": "text/plain"}), "decision=approve&csrf=t").is_err());
        assert!(posted(form, &format!("decision=approve&id_token={}", "a".repeat(MAX_BODY_BYTES))).is_err());
    }

    #[test]
    fn another_site_decides_nothing() {
        let sent = |origin: &str, site: &str| {
            let headers = json!({"content-type": FORM, "origin": origin, "sec-fetch-site": site});
            posted(headers, "decision=approve&csrf=t").err()
        };
        assert_eq!(sent("null", "same-origin"), None);
        assert_eq!(sent("https://x.lambda-url.eu-central-1.on.aws", ""), None);
        for (origin, site) in [
            ("https://evil.example", ""),
            ("https://x.lambda-url.eu-central-1.on.aws.evil.example", ""),
            ("http://x.lambda-url.eu-central-1.on.aws", ""),
            ("null", "cross-site"),
            ("null", "same-site"),
            ("", "none"),
        ] {
            assert_eq!(sent(origin, site), Some(BadRequest::OtherSite), "{origin} {site}");
        }
    }

    #[test]
    fn a_cookie_that_is_there_twice_is_not_there() {
        let read = read(&request("GET", &page(), json!({}), "")).unwrap();
        assert_eq!((read.cookie("a"), read.cookie("b"), read.cookie("none")), (None, Some("2=3"), None));
        assert_eq!(read.origin, "https://x.lambda-url.eu-central-1.on.aws");
    }
}
