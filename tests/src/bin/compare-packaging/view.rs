//! What a packaged template says, with every S3 location replaced by what lies there: comparable, whatever the keys are.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Cursor, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use aws_sdk_s3::Client;
use serde_json::{Map, Value, json};
use slipway_domain::names::Digest;

use crate::Fallible;

/// Reads templates as CloudFormation does: a process of its own, see `read.py`.
#[derive(Debug)]
pub(crate) struct Reader {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Reader {
    pub(crate) fn start(python: &Path) -> Fallible<Self> {
        let mut command = Command::new(python);
        command.args(["-c", include_str!("read.py")]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let (questions, answers) = (process.stdin.take(), process.stdout.take());
        let (Some(questions), Some(answers)) = (questions, answers) else { return Err("read.py has no pipes".into()) };
        Ok(Self { process, questions, answers: BufReader::new(answers) })
    }

    fn read(&mut self, text: &str) -> Fallible<Value> {
        writeln!(self.questions, "{}", json!({ "text": text }))?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let mut answer: Map<String, Value> = serde_json::from_str(&line)?;
        match answer.remove("value") {
            Some(value) => Ok(value),
            None => Err(format!("{}", Value::Object(answer)).into()),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Its input ends, and so does it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An object, as far as one of them could make it differently.
#[derive(Debug)]
pub(crate) struct Object {
    bytes: Vec<u8>,
    /// User-defined metadata, and the KMS key, if it has any.
    attributes: Map<String, Value>,
    /// How often it was sent: the bucket keeps versions.
    pub(crate) times_sent: usize,
}

/// The objects below a prefix, by key.
pub(crate) async fn objects(s3: &Client, bucket: &str, prefix: &str) -> Fallible<BTreeMap<String, Object>> {
    let listed = s3.list_object_versions().bucket(bucket).prefix(format!("{prefix}/")).send().await?;
    let mut objects: BTreeMap<String, Object> = BTreeMap::new();
    for key in listed.versions().iter().filter_map(|version| version.key()) {
        if let Some(object) = objects.get_mut(key) {
            object.times_sent += 1;
            continue;
        }
        let found = s3.get_object().bucket(bucket).key(key).send().await?;
        let mut attributes = Map::new();
        if let Some(metadata) = found.metadata().filter(|metadata| !metadata.is_empty()) {
            attributes.insert("metadata".into(), json!(metadata));
        }
        if let Some(kms_key) = found.ssekms_key_id() {
            attributes.insert("KMS key".into(), json!(kms_key));
        }
        let bytes = found.body.collect().await?.to_vec();
        objects.insert(key.to_owned(), Object { bytes, attributes, times_sent: 1 });
    }
    Ok(objects)
}

/// One tool's result of one case.
pub(crate) struct View<'r> {
    reader: &'r mut Reader,
    endpoint: &'r str,
    bucket: &'r str,
    objects: &'r BTreeMap<String, Object>,
    /// The keys that were named, in order.
    pub(crate) keys: Vec<String>,
}

impl<'r> View<'r> {
    /// `objects` are all that it put into the bucket, by key.
    pub(crate) fn new(
        reader: &'r mut Reader,
        endpoint: &'r str,
        bucket: &'r str,
        objects: &'r BTreeMap<String, Object>,
    ) -> Self {
        Self { reader, endpoint, bucket, objects, keys: Vec::new() }
    }

    /// A packaged document.
    pub(crate) fn document(&mut self, text: &[u8]) -> Fallible<Value> {
        let document = self.reader.read(std::str::from_utf8(text)?)?;
        self.value(document, "")
    }

    fn value(&mut self, value: Value, key: &str) -> Fallible<Value> {
        if let Some((written, object)) = self.location(&value) {
            return self.object(written, &object, matches!(key, "TemplateURL" | "Location"));
        }
        Ok(match value {
            Value::Object(map) => {
                let seen = map.into_iter().map(|(key, value)| self.value(value, &key).map(|value| (key, value)));
                Value::Object(seen.collect::<Fallible<_>>()?)
            }
            Value::Array(list) => {
                Value::Array(list.into_iter().map(|value| self.value(value, key)).collect::<Fallible<_>>()?)
            }
            value @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => value,
        })
    }

    /// How a value that is a location of ours is written, and its key.
    fn location(&self, value: &Value) -> Option<(&'static str, String)> {
        let ours = |key: &str| self.objects.contains_key(key).then(|| key.to_owned());
        if let Some(text) = value.as_str() {
            let (uri, path) = (format!("s3://{}/", self.bucket), format!("{}/{}/", self.endpoint, self.bucket));
            let amazon = format!("https://s3.{}.amazonaws.com/{}/", slipway_local::REGION, self.bucket);
            let url = || text.strip_prefix(&path).or_else(|| text.strip_prefix(&amazon));
            return match text.strip_prefix(&uri) {
                Some(key) => Some(("s3://", ours(key)?)),
                None => Some(("URL", ours(url()?)?)),
            };
        }
        let map = value.as_object().filter(|map| map.len() == 2)?;
        let pair = |bucket: &str, key: &str| {
            let named = map.get(bucket)?.as_str()? == self.bucket;
            if named { ours(map.get(key)?.as_str()?) } else { None }
        };
        let bare = pair("Bucket", "Key").map(|key| ("Bucket, Key", key));
        bare.or_else(|| pair("S3Bucket", "S3Key").map(|key| ("S3Bucket, S3Key", key)))
    }

    fn object(&mut self, written: &str, key: &str, is_document: bool) -> Fallible<Value> {
        self.keys.push(key.to_owned());
        let Some(Object { bytes, attributes, .. }) = self.objects.get(key) else { return Err("it went away".into()) };
        let (kind, content) = if is_document {
            ("document", self.document(bytes)?)
        } else if bytes.starts_with(b"PK") {
            ("zip", entries(bytes)?)
        } else {
            ("file", content(bytes))
        };
        let mut seen = attributes.clone();
        seen.insert("written".into(), json!(written));
        seen.insert(kind.into(), content);
        Ok(Value::Object(seen))
    }
}

/// A zip's files, by name.
fn entries(bytes: &[u8]) -> Fallible<Value> {
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes))?;
    let mut entries = Map::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index)?;
        let name = entry.name()?.into_owned();
        let mode = entry.unix_mode();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        let may = |bit: u32| mode.map(|mode| mode & bit != 0);
        let seen = json!({ "content": content(&bytes), "executable": may(0o100), "readable by all": may(0o004) });
        if entries.insert(name.clone(), seen).is_some() {
            return Err(format!("the zip has `{name}` twice").into());
        }
    }
    Ok(Value::Object(entries))
}

/// Text as it is, as far as one would read it; all else by size and digest.
fn content(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.len() <= 300 => json!(text),
        Ok(_) | Err(_) => json!(format!("{} bytes, SHA-256 {}", bytes.len(), Digest::of(bytes))),
    }
}
