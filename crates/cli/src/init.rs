//! `slipway init`: a project's files, and the commands that set the control plane up.

mod plan;

use std::io::{self, BufRead, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use self::plan::{Answers, Download, File, Step};
use crate::args::Init;
use crate::console::Console;
use crate::error::CliError;

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Became {
    /// It is written.
    Written,
    /// It was as it should be.
    Unchanged,
    /// Another one is there, and stays.
    Kept,
}

/// A file, for a document.
#[derive(Debug, Serialize)]
struct Written {
    path: PathBuf,
    became: Became,
    /// What it would have held.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// The document.
#[derive(Debug, Serialize)]
struct Document<'a> {
    files: Vec<Written>,
    steps: &'a [Step],
}

/// Writes the files, and prints what to do.
pub(crate) fn init(flags: &Init, console: &Console) -> Result<u8, CliError> {
    let answers = if io::stdin().is_terminal() && io::stderr().is_terminal() {
        ask(flags, &mut io::stdin().lock())?
    } else {
        given(flags)?
    };
    let plan = plan::plan(&answers)?;
    let mut files = Vec::new();
    for file in plan.files {
        let path = flags.folder.join(file.path);
        let became = write(&path, &file, flags.force)?;
        let kept = became == Became::Kept;
        // A whole pipeline is nothing to add by hand.
        let by_hand = kept && file.path.starts_with('.');
        console.line(&format!(
            "{} {}",
            path.display(),
            match became {
                Became::Written => "is written.",
                Became::Unchanged => "is as it should be.",
                Became::Kept if by_hand => "is there, and stays as it is: add these lines to it, or give --force.",
                Became::Kept => "is there, and stays as it is: --force writes it anew.",
            }
        ));
        if by_hand {
            file.text.lines().for_each(|line| console.line(&format!("    {line}")));
        }
        files.push(Written { path, became, text: kept.then_some(file.text) });
    }
    for (number, Step { what, commands }) in plan.steps.iter().enumerate() {
        console.line("");
        console.line(&format!("# {}. {what}", number + 1));
        commands.iter().for_each(|line| console.line(line));
    }
    if answers.control_plane_account.is_none() && answers.prod_account.is_some() {
        console.note("");
        console.note(
            "An application's roles in the control plane's account could reach its table and functions: give it an account \
             of its own with --control-plane-account.",
        );
    }
    console.document(&Document { files, steps: &plan.steps });
    Ok(0)
}

fn write(path: &Path, file: &File, force: bool) -> Result<Became, CliError> {
    let failed = |error| CliError::local(format!("writing {}", path.display()), error);
    match std::fs::read(path) {
        Ok(there) if there == file.text.as_bytes() => return Ok(Became::Unchanged),
        Ok(_) if !force => return Ok(Became::Kept),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(CliError::local(format!("reading {}", path.display()), error)),
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    std::fs::write(path, &file.text).map_err(failed)?;
    Ok(Became::Written)
}

/// The answers that the flags give, with `required` in the place of what has to be given and is not.
fn answers(
    flags: &Init,
    mut required: impl FnMut(&'static str, Option<&String>) -> Result<String, CliError>,
) -> Result<Answers, CliError> {
    Ok(Answers {
        account: required("account", flags.account.as_ref())?,
        region: required("region", flags.region.as_ref())?,
        gitlab_url: required("gitlab-url", flags.gitlab_url.as_ref())?,
        project: required("project", flags.project.as_ref())?,
        staging_account: flags.staging_account.clone(),
        prod_account: flags.prod_account.clone(),
        approvers: flags.approver.clone(),
        control_plane_account: flags.control_plane_account.clone(),
        branch: flags.branch.clone(),
        stack: flags.stack.clone(),
        external_id: flags.external_id.clone(),
        api: flags.api.clone(),
        image: flags.image.clone(),
        download: download(flags)?,
        include_from: flags.include_from.clone(),
    })
}

/// Where the command is downloaded from. Clap sees to it that both flags are given, or none.
fn download(flags: &Init) -> Result<Option<Download>, CliError> {
    let (Some(url), Some(path)) = (&flags.command_url, &flags.command_sums) else { return Ok(None) };
    let sums = std::fs::read_to_string(path)
        .map_err(|error| CliError::Usage(format!("--command-sums: {} cannot be read: {error}", path.display())))?;
    Ok(Some(Download { url: url.clone(), sums }))
}

/// Nobody can be asked: what is missing is said all at once.
fn given(flags: &Init) -> Result<Answers, CliError> {
    let mut missing = Vec::new();
    let answers = answers(flags, |name, flag| {
        if flag.is_none() {
            missing.push(format!("--{name}"));
        }
        Ok(flag.cloned().unwrap_or_default())
    })?;
    match missing.is_empty() {
        true => Ok(answers),
        false => {
            Err(CliError::Usage(format!("give {}: nobody can be asked where there is no terminal", missing.join(", "))))
        }
    }
}

/// Asks a person for what the flags do not say; a wrong answer is asked for again.
fn ask(flags: &Init, input: &mut impl BufRead) -> Result<Answers, CliError> {
    let asks_all = flags.account.is_none();
    let mut answers = answers(flags, |name, flag| match (flag, name) {
        (Some(flag), _) => Ok(flag.clone()),
        (None, "account") => {
            until(input, "The account of dev, 12 digits", |text| plan::account("account", text).map(drop))
        }
        (None, "region") => until(input, "The region, such as eu-central-1", |text| plan::region(text).map(drop)),
        (None, "gitlab-url") => {
            until(input, "GitLab, such as https://gitlab.example.com", |text| plan::gitlab_url(text).map(drop))
        }
        (None, _) => until(input, "The GitLab project, such as group/news", |text| plan::project(text).map(drop)),
    })?;
    if !asks_all {
        return Ok(answers);
    }
    let mut optional = |slot: &mut Option<String>, question: &str| -> Result<(), CliError> {
        if slot.is_none() {
            let ok = |text: &str| if text.is_empty() { Ok(()) } else { plan::account("account", text).map(drop) };
            *slot = Some(until(input, question, ok)?).filter(|text| !text.is_empty());
        }
        Ok(())
    };
    optional(&mut answers.staging_account, "The account of staging (empty: there is none)")?;
    optional(&mut answers.prod_account, "The account of prod (empty: there is none)")?;
    optional(&mut answers.control_plane_account, "The control plane's account (empty: that of dev)")?;
    if answers.prod_account.is_some() && answers.approvers.is_empty() {
        let people = until(input, "Who approves in prod: login#number or group/path, separated by spaces", |text| {
            if text.is_empty() { Err(CliError::Usage("somebody has to".into())) } else { Ok(()) }
        })?;
        answers.approvers = people.split_whitespace().map(str::to_owned).collect();
    }
    Ok(answers)
}

fn until(
    input: &mut impl BufRead,
    question: &str,
    check: impl Fn(&str) -> Result<(), CliError>,
) -> Result<String, CliError> {
    loop {
        let mut to = io::stderr();
        let _ = write!(to, "{question}: ").and_then(|()| to.flush());
        let mut line = String::new();
        let read = input.read_line(&mut line).map_err(|error| CliError::local("reading the answer", error))?;
        if read == 0 {
            return Err(CliError::Usage("there is no answer: give the flags, as `slipway init --help` shows".into()));
        }
        let answer = line.trim();
        match check(answer) {
            Ok(()) => return Ok(answer.to_owned()),
            Err(error) => {
                let _ = writeln!(to, "  {error}");
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may")]
mod tests {
    use super::*;

    fn flags(folder: &Path) -> Init {
        Init {
            account: Some("111111111111".into()),
            region: Some("eu-central-1".into()),
            gitlab_url: Some("https://gitlab.example.com".into()),
            project: Some("group/news".into()),
            branch: "main".into(),
            stack: "slipway".into(),
            folder: folder.into(),
            ..Init::default()
        }
    }

    #[test]
    fn what_is_there_is_not_overwritten_but_by_force() {
        let folder = tempfile::tempdir().unwrap();
        let console = Console::new(false, false, false);
        let own = folder.path().join(".gitlab-ci.yml");
        std::fs::write(&own, "mine: {}\n").unwrap();
        assert_eq!(init(&flags(folder.path()), &console), Ok(0));
        assert_eq!(std::fs::read_to_string(&own).unwrap(), "mine: {}\n");
        for file in ["slipway-stages.json", "gitlab/slipway.yml"] {
            assert!(folder.path().join(file).is_file(), "{file}");
        }
        assert_eq!(init(&Init { force: true, ..flags(folder.path()) }, &console), Ok(0));
        assert!(std::fs::read_to_string(&own).unwrap().starts_with("include:\n"));
    }

    #[test]
    fn without_a_terminal_all_that_is_missing_is_said_at_once() {
        let error = given(&Init { account: None, project: None, ..flags(Path::new(".")) }).unwrap_err();
        assert!(error.to_string().contains("give --account, --project:"), "{error}");
    }

    #[test]
    fn a_person_is_asked_again_until_the_answer_is_one() {
        let flags = Init { account: None, region: None, ..flags(Path::new(".")) };
        let answers =
            ask(&flags, &mut &b"12\n111111111111\neu-central-1\n\n333333333333\n\n\nada#4 group/leads\n"[..]).unwrap();
        assert_eq!((answers.account.as_str(), answers.region.as_str()), ("111111111111", "eu-central-1"));
        assert_eq!((answers.staging_account, answers.prod_account), (None, Some("333333333333".into())));
        assert_eq!(answers.approvers, ["ada#4", "group/leads"]);
    }

    #[test]
    fn a_person_who_goes_away_ends_it() {
        let flags = Init { account: None, ..flags(Path::new(".")) };
        assert_eq!(ask(&flags, &mut &b""[..]).unwrap_err().exit_code(), 2);
    }
}
