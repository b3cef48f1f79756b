//! An application: its template, and every document that this one brings in.

use std::collections::BTreeMap;

use slipway_bundle::{BundleError, Form, normalise};
use slipway_domain::release::TemplateParameter;
use slipway_template::{Becomes, MAX_TEMPLATE_BYTES, PackageForm, Parameter, Place, Reference, Template, Warning};

use crate::error::{PackagingError, Site};
use crate::{MAX_DOCUMENTS, MAX_NESTING};

/// A template with all that it contains, read but not changed.
#[derive(Debug)]
pub struct Application {
    /// Innermost first, so that each stands behind those that it names; the application's template is the last.
    pub(crate) documents: Vec<Parsed>,
}

/// A document and what it names.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// Its path below the application's folder.
    pub(crate) path: String,
    pub(crate) template: Template,
    pub(crate) references: Vec<Located>,
}

/// A reference and where it leads.
#[derive(Debug)]
pub(crate) struct Located {
    pub(crate) reference: Reference,
    /// Its path below the application's folder, normalised.
    pub(crate) path: String,
    pub(crate) target: Target,
}

/// Where a reference leads.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// To files.
    Artifact { form: Form, code: bool },
    /// To another document, by its place in [`Application::documents`].
    Document(usize),
}

impl Application {
    /// Reads `template`, which is `name` in the application's folder, and every document that it contains. Paths are
    /// relative to the document that names them, and never leave the folder.
    ///
    /// `read_file` gives the content of the file at a normalised path, unless that has more bytes than it is told.
    ///
    /// # Errors
    /// [`PackagingError`], with the document and line of the fault.
    pub fn read(
        name: &str,
        template: &[u8],
        mut read_file: impl FnMut(&str, u64) -> Result<Vec<u8>, BundleError>,
    ) -> Result<Self, PackagingError> {
        let read_file = &mut read_file;
        let mut reader = Reader { read_file, documents: Vec::new(), read: BTreeMap::new(), open: Vec::new() };
        reader.document(name, None, template)?;
        Ok(Self { documents: reader.documents })
    }

    /// Every path that a bundle of the application must hold, normalised: documents, files and folders.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        self.located().map(|located| located.path.clone()).collect()
    }

    /// The paths that artifacts are made of, normalised: not the documents, which are written anew.
    #[must_use]
    pub fn artifact_paths(&self) -> Vec<String> {
        let artifacts = self.located().filter(|located| matches!(located.target, Target::Artifact { .. }));
        artifacts.map(|located| located.path.clone()).collect()
    }

    /// What is wrong with the application's files, with the place of the template that asks for them.
    #[must_use]
    pub fn explain(&self, error: BundleError) -> PackagingError {
        let (BundleError::ReferenceMissing { path }
        | BundleError::ReferenceEmpty { path }
        | BundleError::OutsideRoot { path }
        | BundleError::DanglingLink { path }
        | BundleError::LinkLoop { path }
        | BundleError::SpecialFile { path }
        | BundleError::NameNotUtf8 { path }
        | BundleError::UnsafePath { path, .. }
        | BundleError::PathTooLong { path, .. }
        | BundleError::EntryTooLarge { path, .. }
        | BundleError::Changed { path }) = &error
        else {
            return PackagingError::Files(error);
        };
        let asks = |located: &Located| {
            let folder = located.path.as_str();
            folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        for document in self.documents.iter().rev() {
            if let Some(located) = document.references.iter().find(|located| asks(located)) {
                return PackagingError::Path { site: Site::of(&document.path, &located.reference), error };
            }
        }
        PackagingError::Files(error)
    }

    /// The parameters that the application's template declares, in its order.
    #[must_use]
    pub fn parameters(&self) -> Vec<TemplateParameter> {
        let declared = self.documents.last().map(|root| root.template.parameters()).unwrap_or_default();
        let parameter = |Parameter { name, has_default, no_echo }| TemplateParameter { name, has_default, no_echo };
        declared.into_iter().map(parameter).collect()
    }

    /// What a person should know of each document, by its path.
    #[must_use]
    pub fn warnings(&self) -> Vec<(&str, Warning)> {
        let outermost_first = self.documents.iter().rev();
        outermost_first
            .flat_map(|document| {
                document.template.warnings().into_iter().map(|warning| (document.path.as_str(), warning))
            })
            .collect()
    }

    fn located(&self) -> impl Iterator<Item = &Located> {
        self.documents.iter().flat_map(|document| &document.references)
    }
}

/// Gives the content of the file at a path, unless that has more bytes than it is told.
type ReadFile<'r> = &'r mut dyn FnMut(&str, u64) -> Result<Vec<u8>, BundleError>;

struct Reader<'r> {
    read_file: ReadFile<'r>,
    documents: Vec<Parsed>,
    /// Documents by path and by where they land: one file may be included in two places of different kinds.
    read: BTreeMap<(String, Option<Place>), usize>,
    /// The documents around the one that is being read.
    open: Vec<String>,
}

impl Reader<'_> {
    /// Reads a document and all it names. `place` is where an included file lands, and nothing for a whole template.
    fn document(&mut self, path: &str, place: Option<&Place>, bytes: &[u8]) -> Result<usize, PackagingError> {
        let faulty = |error| PackagingError::Template { document: path.to_owned(), error };
        let parsed = match place {
            None => Template::parse(bytes),
            Some(place) => Template::parse_fragment(bytes, place),
        };
        let template = parsed.map_err(faulty)?;
        let references = template.references().map_err(faulty)?;
        self.open.push(path.to_owned());
        let references = references.into_iter().map(|reference| self.locate(path, reference));
        let references = references.collect::<Result<_, _>>()?;
        self.open.pop();
        self.documents.push(Parsed { path: path.to_owned(), template, references });
        Ok(self.documents.len() - 1)
    }

    fn locate(&mut self, document: &str, reference: Reference) -> Result<Located, PackagingError> {
        let wrong = |error| PackagingError::Path { site: Site::of(document, &reference), error };
        let path = resolve(document, &reference.path).map_err(wrong)?;
        let target = match &reference.becomes {
            Becomes::Artifact { form, code } => Target::Artifact { form: form_of(*form), code: *code },
            Becomes::Template => Target::Document(self.contained(document, &reference, &path, None)?),
            Becomes::Include(place) => Target::Document(self.contained(document, &reference, &path, Some(place))?),
        };
        Ok(Located { reference, path, target })
    }

    /// Reads a document that another one names, unless it was read before.
    fn contained(
        &mut self,
        document: &str,
        reference: &Reference,
        path: &str,
        place: Option<&Place>,
    ) -> Result<usize, PackagingError> {
        let site = || Site::of(document, reference);
        if self.open.iter().any(|open| open == path) {
            return Err(PackagingError::Cycle { site: site(), path: path.to_owned() });
        }
        let known = (path.to_owned(), place.cloned());
        if let Some(&index) = self.read.get(&known) {
            return Ok(index);
        }
        if self.open.len() > MAX_NESTING {
            return Err(PackagingError::TooDeep { site: site() });
        }
        if self.documents.len() + self.open.len() > MAX_DOCUMENTS {
            return Err(PackagingError::TooManyDocuments { site: site() });
        }
        let bytes = (self.read_file)(path, MAX_TEMPLATE_BYTES as u64);
        let bytes = bytes.map_err(|error| {
            let error = PackagingError::of_document(path, error);
            if let PackagingError::Files(error) = error { PackagingError::Path { site: site(), error } } else { error }
        })?;
        let index = self.document(path, place, &bytes)?;
        self.read.insert(known, index);
        Ok(index)
    }
}

fn form_of(form: PackageForm) -> Form {
    match form {
        PackageForm::Zip => Form::Zip,
        PackageForm::FileOrZip => Form::FileOrZip,
        PackageForm::File => Form::File,
    }
}

/// A path that `document` names, below the application's folder. What would leave it is refused, and named as written.
fn resolve(document: &str, path: &str) -> Result<String, BundleError> {
    if path.starts_with('/') {
        return Err(BundleError::OutsideRoot { path: path.to_owned() });
    }
    let resolved = match document.rsplit_once('/') {
        Some((folder, _)) => normalise(&format!("{folder}/{path}")),
        None => normalise(path),
    };
    resolved.map_err(|error| {
        let outside = matches!(error, BundleError::OutsideRoot { .. });
        if outside { BundleError::OutsideRoot { path: path.to_owned() } } else { error }
    })
}
