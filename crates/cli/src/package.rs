//! `slipway package`: puts an application's artifacts into a bucket, and writes its template with their S3 locations.
//! Takes the place of `aws cloudformation package`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use slipway_aws::bucket::{Bucket, Upload, UploadOptions, Uploads};
use slipway_bundle::{Artifact, BundleError, Tree};
use slipway_domain::ErrorName;
use slipway_domain::names::Digest;
use slipway_domain::release::Artifact as Named;
use slipway_packaging::{Application, Plan, Release};
use slipway_template::{S3Object, Template};

use crate::application::{self, Read};
use crate::args::Package;
use crate::bundle;
use crate::commands::{aside, size};
use crate::console::Console;
use crate::error::CliError;
use crate::settings::{self, Env};

/// The exit code of a failure, as of `aws cloudformation package`; a wrong command line ends with 2, there and here.
pub(crate) const EXIT_FAILED: u8 = 255;

/// The document that `--json` asks for.
#[derive(Serialize)]
struct Packaged<'a> {
    template: String,
    template_sha256: Digest,
    bucket: &'a str,
    /// As in a release's manifest: docs/PACKAGING.md.
    artifacts: Vec<Named>,
    uploaded: usize,
    unchanged: usize,
    warnings: Vec<String>,
}

/// What was read, and what becomes of it.
struct Prepared {
    tree: Tree,
    application: Application,
    plan: Plan,
}

/// Where things go.
struct Destination {
    bucket: Bucket,
    prefix: String,
    region: String,
}

impl Destination {
    fn key(&self, digest: &str) -> String {
        if self.prefix.is_empty() { digest.to_owned() } else { format!("{}/{digest}", self.prefix) }
    }

    fn object(&self, digest: &str) -> S3Object {
        let key = self.key(digest);
        S3Object { bucket: self.bucket.name().to_owned(), url: self.bucket.path_url(&key, &self.region), key }
    }

    /// The sizes of those digests that are there.
    async fn known(&self, digests: &[&str]) -> Result<BTreeMap<String, u64>, CliError> {
        let keys: Vec<String> = digests.iter().map(|digest| self.key(digest)).collect();
        let sizes = self.bucket.sizes(&keys).await?;
        let there = digests.iter().zip(sizes).filter_map(|(digest, size)| Some(((*digest).to_owned(), size?)));
        Ok(there.collect())
    }
}

pub(crate) async fn package(flags: &Package, env: &Env, console: &Console) -> Result<u8, CliError> {
    if console.is_json() && flags.output_template_file.is_none() {
        return Err(CliError::Usage(
            "--json prints its document on stdout: give --output-template-file as well".into(),
        ));
    }
    let options = UploadOptions {
        kms_key_id: flags.kms_key_id.clone(),
        metadata: metadata(flags.metadata.as_deref())?,
        ..UploadOptions::default()
    };
    let template = bundle::template(flags.template_file.clone().or_else(|| settings::template_variable(env)))?;
    console.progress("reading what the template references");
    let shown = template.display().to_string();
    let (prepared, config) = tokio::join!(
        aside(move || prepare(&template)),
        crate::aws::own_config(flags.region.as_deref(), flags.profile.as_deref())
    );
    let (Prepared { tree, application, plan }, config) = (prepared?, config?);
    let warnings = application::warnings(&application);
    warnings.iter().for_each(|warning| console.error(warning));

    let to = Destination {
        bucket: Bucket::new(&config, flags.s3_bucket.clone()),
        prefix: flags.s3_prefix.trim_matches('/').to_owned(),
        region: config.region().map(ToString::to_string).unwrap_or_default(),
    };
    let release = application.release(&plan, |digest| to.object(digest))?;
    let text = if flags.use_json { as_json(&release.template)? } else { release.template.clone() };

    console.progress("asking what is in the bucket");
    let digests = plan.artifacts().map(|artifact| artifact.digest.as_str());
    let digests: Vec<&str> = digests.chain(release.documents.iter().map(|document| document.digest.as_str())).collect();
    let known = if flags.force_upload { BTreeMap::new() } else { to.known(&digests).await? };
    console.progress("uploading");
    let uploads = to.bucket.uploads(options);
    let sent = send(tree, &plan, &release, &known, &to, uploads).await?;

    match &flags.output_template_file {
        Some(path) => write(path, &text)?,
        None => console.raw(&text),
    }
    let bytes = size(sent.values().sum());
    let place = format!("s3://{}/{}", flags.s3_bucket, to.prefix);
    console.note(&format!(
        "Packaged {shown}: {} sent ({bytes}), {} there already, in {place}",
        sent.len(),
        known.len()
    ));
    if let Some(path) = &flags.output_template_file {
        let path = path.display().to_string();
        console.note(&format!(
            "Wrote {path}. To deploy it: aws cloudformation deploy --template-file {path} --stack-name …"
        ));
        console.document(&Packaged {
            template: path,
            template_sha256: Digest::of(text.as_bytes()),
            bucket: &flags.s3_bucket,
            artifacts: release.artifacts(|digest| known.get(digest).or_else(|| sent.get(digest)).copied().unwrap_or(0)),
            uploaded: sent.len(),
            unchanged: known.len(),
            warnings,
        });
    }
    Ok(0)
}

fn prepare(template: &Path) -> Result<Prepared, CliError> {
    let Read { folder, application, .. } = Read::from(template)?;
    let tree = folder.tree(&application.artifact_paths(), None).map_err(|error| application.explain(error))?;
    let plan = application.plan(tree.listing())?;
    Ok(Prepared { tree, application, plan })
}

/// Sends what is not there. Gives the sizes, by digest.
async fn send(
    tree: Tree,
    plan: &Plan,
    release: &Release,
    known: &BTreeMap<String, u64>,
    to: &Destination,
    uploads: Uploads,
) -> Result<BTreeMap<String, u64>, CliError> {
    let absent: Vec<Artifact> =
        plan.artifacts().filter(|artifact| !known.contains_key(artifact.digest.as_str())).cloned().collect();
    let keys: BTreeMap<String, String> =
        absent.iter().map(|artifact| (artifact.digest.to_string(), to.key(artifact.digest.as_str()))).collect();
    let (uploads, sent) = aside(move || {
        let absent: Vec<&Artifact> = absent.iter().collect();
        let mut sent = BTreeMap::new();
        let key = |artifact: &Artifact| keys.get(artifact.digest.as_str()).map(String::as_str).unwrap_or_default();
        let written = tree.write_artifacts(
            &absent,
            |artifact| Ok(Counted { upload: uploads.begin(key(artifact)), bytes: 0 }),
            |artifact, counted| {
                sent.insert(artifact.digest.to_string(), counted.bytes);
                counted.upload.finish().map_err(|source| BundleError::Io { what: "uploading".into(), source })
            },
        );
        Ok((uploads, written.map(|()| sent)))
    })
    .await?;
    let mut sent = match sent {
        Ok(sent) => sent,
        Err(error) => {
            // No part of an upload that was begun stays in the bucket.
            let _ = uploads.done().await;
            return Err(error.into());
        }
    };
    for document in release.documents.iter().filter(|document| !known.contains_key(document.digest.as_str())) {
        uploads.put(&to.key(document.digest.as_str()), document.text.clone().into_bytes()).await?;
        sent.insert(document.digest.to_string(), document.text.len() as u64);
    }
    uploads.done().await?;
    Ok(sent)
}

/// An upload that knows how many bytes went into it.
struct Counted {
    upload: Upload,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.upload.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.upload.flush()
    }
}

fn as_json(template: &str) -> Result<String, CliError> {
    let json = Template::parse(template.as_bytes()).and_then(|template| template.to_json());
    json.map_err(|error| {
        let name = if error.is_limit() { ErrorName::LimitExceeded } else { ErrorName::TemplateInvalid };
        CliError::named(name, error.to_string())
    })
}

fn write(path: &Path, text: &str) -> Result<(), CliError> {
    std::fs::write(path, text).map_err(|error| CliError::local(format!("writing {}", path.display()), error))
}

/// `name=value,…` or a JSON object, as the AWS command line takes it.
fn metadata(text: Option<&str>) -> Result<BTreeMap<String, String>, CliError> {
    let wrong = || CliError::Usage("--metadata takes name=value,name=value or a JSON object of texts".into());
    let text = text.unwrap_or_default().trim();
    if text.starts_with('{') {
        return serde_json::from_str(text).map_err(|_| wrong());
    }
    let pairs = text.split(',').filter(|pair| !pair.trim().is_empty());
    let pairs = pairs.map(|pair| {
        let (name, value) = pair.split_once('=').ok_or_else(wrong)?;
        Ok((name.trim().to_owned(), value.trim().to_owned()))
    });
    pairs.collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may")]
mod tests {
    use super::*;

    #[test]
    fn metadata_comes_as_pairs_or_as_json() {
        let expected = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "x=y".to_owned())]);
        assert_eq!(metadata(Some("a=1,b=x=y")).unwrap(), expected);
        assert_eq!(metadata(Some(r#"{"a": "1", "b": "x=y"}"#)).unwrap(), expected);
        assert_eq!(metadata(None).unwrap(), BTreeMap::new());
        for wrong in ["a", "a=1,b", r#"{"a": 1}"#, "{"] {
            assert_eq!(metadata(Some(wrong)).unwrap_err().exit_code(), 2, "{wrong}");
        }
    }
}
