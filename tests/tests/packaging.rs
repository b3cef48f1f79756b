//! The function `package` in the embedded AWS, on every case of crates/packaging and on nested stacks that CloudFormation
//! makes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "../../crates/packaging/tests/case/mod.rs"]
#[allow(dead_code, reason = "the cases need more of it")]
mod case;

use std::io::Cursor;
use std::path::{Path, PathBuf};

use slipway_bundle::{Archive, Limits, TEMPLATE};
use slipway_domain::names::Digest;
use slipway_domain::release::{Manifest, artifact_key, manifest_key, template_key};
use slipway_domain::stages::Capability;
use slipway_tests::{Ended, World, in_world, job, launch, on, unique};
use tokio::task::JoinSet;

/// How many deployments go on at once.
const AT_ONCE: usize = 6;

async fn read(world: &World, key: &str) -> Option<Vec<u8>> {
    let object = world.s3.get_object().bucket(world.bucket()).key(key).send().await.ok()?;
    Some(object.body.collect().await.unwrap().to_vec())
}

/// Launches the application at `app`, and gives the execution's end and what packaging it here gives.
async fn launched(world: &World, app: &Path, name: &str) -> (Ended, Digest, case::Packaged) {
    let packaged = case::from_bundle(app, world.bucket()).unwrap();
    let (job, on) = (job("deploy-dev", "feature"), on("dev", &format!("review/{name}-{}", unique())));
    let mut bundle = Archive::open(Cursor::new(&packaged.bundle), &Limits::default()).unwrap();
    let digest = Digest::new(bundle.verify().unwrap().digest().as_str()).unwrap();
    let mut launch = launch(&digest);
    launch.capabilities.push(Capability::AutoExpand);
    let arn = world.begin_launch(&job, &on, launch, packaged.bundle.clone()).await;
    (world.end(&arn).await, digest, packaged)
}

async fn becomes_the_same(world: &'static World, folder: PathBuf) {
    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
    let app = case::copy(&folder);
    // What CloudFormation then says of it is its own affair: the embedded one does not know every type.
    let (ended, digest, here) = launched(world, &app.path(), &name).await;
    let template = read(world, &template_key(&digest)).await;
    let template = template.unwrap_or_else(|| panic!("{name}: no release: {ended:?}"));
    assert_eq!(String::from_utf8(template.clone()).unwrap(), here.release.template, "{name}");
    for (digest, bytes) in &here.zips {
        assert!(read(world, &artifact_key(digest)).await.as_ref() == Some(bytes), "{name}: {digest}");
    }
    for document in &here.release.documents {
        let found = read(world, &artifact_key(document.digest.as_str())).await;
        assert_eq!(found, Some(document.text.clone().into_bytes()), "{name}: {}", document.path);
    }
    let manifest: Manifest = serde_json::from_slice(&read(world, &manifest_key(&digest)).await.unwrap()).unwrap();
    assert_eq!(manifest.template_sha256, Digest::of(&template), "{name}");
    let sizes = |digest: &str| here.zips.get(digest).map_or(0, |bytes| bytes.len() as u64);
    assert_eq!(manifest.artifacts, here.release.artifacts(sizes), "{name}");
}

#[test]
fn every_case_becomes_the_same_release_as_here() {
    in_world(|world| async move {
        let mut running = JoinSet::new();
        let mut cases = case::all();
        cases
            .retain(|folder| folder.join("app").join(TEMPLATE).exists() && !folder.join("expected/error.txt").exists());
        assert!(cases.len() > 50, "{} cases", cases.len());
        for folder in cases {
            if running.len() == AT_ONCE {
                running.join_next().await.unwrap().unwrap();
            }
            running.spawn(becomes_the_same(world, folder));
        }
        while let Some(ended) = running.join_next().await {
            ended.unwrap();
        }
    });
}

#[test]
fn nested_stacks_and_included_files_are_deployed() {
    in_world(|world| async move {
        let app = tempfile::tempdir().unwrap();
        let n = unique();
        let write = |path: &str, text: String| {
            let path = app.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let parameter =
            |value: &str| format!("{{Type: AWS::SSM::Parameter, Properties: {{Type: String, Value: {value}}}}}");
        let nested = |url: &str| format!("{{Type: AWS::CloudFormation::Stack, Properties: {{TemplateURL: {url}}}}}");
        write(
            "template.yaml",
            format!(
                "# {n}\nResources:\n  Own: {}\n  Child: {}\n  Fn::Transform: {{Name: AWS::Include, Parameters: {{Location: more/included.yaml}}}}\n",
                parameter("own"),
                nested("child/template.yaml"),
            ),
        );
        write("child/template.yaml", format!("Resources:\n  Grandchild: {}\n", nested("../grandchild.yaml")));
        write("grandchild.yaml", format!("Resources:\n  Innermost: {}\n", parameter("innermost")));
        write("more/included.yaml", format!("Included: {}\n", parameter("included")));
        let (ended, digest, _) = launched(world, app.path(), "nested").await;
        assert_eq!(ended.status, "SUCCEEDED", "{ended:?}");

        let manifest: Manifest = serde_json::from_slice(&read(world, &manifest_key(&digest)).await.unwrap()).unwrap();
        let named: Vec<_> = manifest.artifacts.iter().map(|a| (a.template.as_str(), a.path.as_str())).collect();
        assert_eq!(
            named,
            [
                ("template.yaml", "child/template.yaml"),
                ("template.yaml", "more/included.yaml"),
                ("child/template.yaml", "grandchild.yaml"),
            ]
        );
        let dev = world.control_plane.emulator.sdk_config(slipway_local::DEV);
        let stacks = slipway_local::inspect::stacks(&dev, "slipway-tiny-dev-review-nested").await.unwrap();
        assert_eq!(stacks.len(), 3, "{stacks:?}");
    });
}
