//! Finds the local paths in a template.

use std::cmp::Ordering;

use crate::node::{At, Found, Node};
use crate::packageable::{self, Action, Row};
use crate::{LocationStyle, PackageForm, Template, TemplateError};

/// Names one reference of a template.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReferenceId {
    /// Logical id of the resource, or `Globals` or `Metadata`.
    pub resource: String,
    /// The property's path, dotted: `CodeUri`, `Command.ScriptLocation`.
    pub property: String,
}

/// A local path that a template references.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Logical id of the resource, or `Globals` or `Metadata`.
    pub resource: String,
    /// The property's path, dotted: `CodeUri`, `Command.ScriptLocation`.
    pub property: String,
    /// The path as written, relative to the template and inside its folder. Not normalised.
    pub path: String,
    /// What becomes of it before it is uploaded.
    pub form: PackageForm,
    /// How its S3 object is written.
    pub location: LocationStyle,
    /// Line of the value, from one.
    pub line: usize,
    /// Column of the value in characters, from one.
    pub column: usize,
}

impl Reference {
    /// The reference's name for [`Template::rewrite`].
    #[must_use]
    pub fn id(&self) -> ReferenceId {
        ReferenceId { resource: self.resource.clone(), property: self.property.clone() }
    }
}

/// A reference with its place in the tree.
pub(crate) struct Site<'n> {
    pub(crate) reference: Reference,
    pub(crate) key: &'n Node,
    pub(crate) value: &'n Node,
}

pub(crate) fn find(template: &Template) -> Result<Vec<Reference>, TemplateError> {
    let anchors = template.anchors();
    let sites = sites(At::new(&template.root, &anchors))?;
    Ok(sites.into_iter().map(|site| site.reference).collect())
}

/// All references, in document order.
pub(crate) fn sites(root: At<'_>) -> Result<Vec<Site<'_>>, TemplateError> {
    refuse_includes(root)?;
    let mut sites = Vec::new();
    for row in packageable::SECTIONS {
        let Some(section) = root.child(row.of) else { continue };
        let images = row.property == "Function.CodeUri" && is_image(section.value.child("Function").map(|f| f.value));
        if !images {
            collect(&mut sites, row, row.of, section.value, false)?;
        }
    }
    if let Some(resources) = root.child("Resources") {
        let globals = root.child("Globals").and_then(|globals| globals.value.child("Function")).map(|f| f.value);
        resources_of(&mut sites, resources.value, globals, false, 0)?;
    }
    sites.sort_by_key(|site| site.value.span.start);
    Ok(sites)
}

/// How deep `Fn::ForEach` is followed; CloudFormation allows 5.
const MAX_LOOPS: usize = 8;

fn resources_of<'n>(
    sites: &mut Vec<Site<'n>>,
    resources: At<'n>,
    globals: Option<At<'n>>,
    looped: bool,
    depth: usize,
) -> Result<(), TemplateError> {
    for Found { key, value } in resources.found() {
        let id = crate::node::key_text(key);
        if id == "<<" && depth < MAX_LOOPS {
            resources_of(sites, value, globals, looped, depth + 1)?;
            for item in value.items() {
                resources_of(sites, item, globals, looped, depth + 1)?;
            }
        } else if id.starts_with("Fn::ForEach") {
            if depth >= MAX_LOOPS {
                let what = format!("nested deeper than {MAX_LOOPS} loops: flatten it");
                return Err(unsupported(id, "Fn::ForEach", what, key.line));
            }
            if let Some(body) = value.items().get(2) {
                resources_of(sites, *body, globals, true, depth + 1)?;
            }
        } else {
            resource(sites, id, key, value, globals, looped)?;
        }
    }
    Ok(())
}

fn resource<'n>(
    sites: &mut Vec<Site<'n>>,
    id: &str,
    key: &Node,
    resource: At<'n>,
    globals: Option<At<'n>>,
    looped: bool,
) -> Result<(), TemplateError> {
    let Some(kind) = resource.child("Type").and_then(|kind| kind.value.text()) else { return Ok(()) };
    let properties = resource.child("Properties").map(|found| found.value);
    for row in packageable::RESOURCES.iter().filter(|row| row.of == kind) {
        if is_function(kind) && (has(properties, "InlineCode") || is_image(properties)) {
            continue;
        }
        // SAM lets a function inherit what Globals say.
        let inherited = if kind == packageable::SERVERLESS_FUNCTION { globals } else { None };
        if inherited.is_some() && !has(properties, "PackageType") && is_image(inherited) {
            continue;
        }
        let found = match properties {
            Some(properties) => collect(sites, row, id, properties, looped)?,
            None => false,
        };
        let unknown = has(properties, "Fn::Transform") || is_intrinsic(properties, "PackageType");
        if row.required && !found && !has(inherited, row.property) && !unknown {
            let (resource, property) = (id.to_owned(), row.property.to_owned());
            return Err(TemplateError::MissingPath { resource, property, line: key.line });
        }
    }
    Ok(())
}

/// Adds what a row finds below `at`. Tells whether the property is there at all.
fn collect<'n>(
    sites: &mut Vec<Site<'n>>,
    row: &Row,
    resource: &str,
    at: At<'n>,
    looped: bool,
) -> Result<bool, TemplateError> {
    let steps: Vec<&str> = row.property.split('.').collect();
    let mut level: Vec<(String, Option<&'n Node>, At<'n>)> = vec![(String::new(), None, at)];
    for step in steps {
        let mut next = Vec::new();
        for (path, _, at) in level {
            let mut add = |found: Found<'n>| {
                let name = crate::node::key_text(found.key);
                let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                next.push((path, Some(found.key), found.value));
            };
            if step != "*" {
                at.child(step).into_iter().for_each(&mut add);
                continue;
            }
            for found in at.found() {
                let name = crate::node::key_text(found.key);
                if name == "<<" || name.starts_with("Fn::ForEach") {
                    let what = "a place where keys are merged or looped, which cannot be packaged: write them out";
                    let property = row.property.replace('*', name);
                    return Err(unsupported(resource, &property, what.to_owned(), found.key.line));
                }
                add(found);
            }
        }
        level = next;
    }
    let mut there = false;
    for (property, key, at) in level {
        if at.node.is_null() || at.text().is_some_and(|text| text.trim().is_empty()) {
            continue;
        }
        there = true;
        let (Some(key), Some(path)) = (key, at.text().map(str::trim)) else { continue };
        if let Some(site) = site(row, resource, &property, key, at, path, looped)? {
            sites.push(site);
        }
    }
    Ok(there)
}

fn site<'n>(
    row: &Row,
    resource: &str,
    property: &str,
    key: &'n Node,
    at: At<'n>,
    path: &str,
    looped: bool,
) -> Result<Option<Site<'n>>, TemplateError> {
    let (line, column) = (at.node.line, at.node.column);
    let scheme = path.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_deref() {
        Some("s3" | "https") => return Ok(None),
        Some(scheme) => {
            let what = format!("a {scheme}:// location, which CloudFormation does not read: use s3:// or https://");
            return Err(unsupported(resource, property, what, line));
        }
        None => {}
    }
    let (form, location) = match row.action {
        Action::Replace(form, location) => (form, location),
        Action::Refuse(what) => return Err(unsupported(resource, property, what.to_owned(), line)),
    };
    if looped {
        let what = "a local path inside Fn::ForEach, which cannot be packaged yet: write the resources out";
        return Err(unsupported(resource, property, what.to_owned(), line));
    }
    let (resource, property) = (resource.to_owned(), property.to_owned());
    if let Some((line, column)) = at.shared {
        return Err(TemplateError::Shared { resource, property, line, column });
    }
    let path = path.to_owned();
    if leaves_root(&path) {
        return Err(TemplateError::OutsideRoot { resource, property, path, line, column });
    }
    let reference = Reference { resource, property, path, form, location, line, column };
    Ok(Some(Site { reference, key, value: at.node }))
}

/// Whether a path is absolute or climbs above where it begins. Links are for whoever reads the files.
fn leaves_root(path: &str) -> bool {
    if path.starts_with(['/', '\\']) || path.contains("://") {
        return true;
    }
    let mut depth = 0_usize;
    path.split('/').any(|part| match part {
        "" | "." => false,
        ".." => match depth.cmp(&0) {
            Ordering::Equal | Ordering::Less => true,
            Ordering::Greater => {
                depth -= 1;
                false
            }
        },
        _ => {
            depth += 1;
            false
        }
    })
}

/// `AWS::Include` brings in another file wherever it stands: as `Fn::Transform`, `!Transform` or in `Transform`.
fn refuse_includes(root: At<'_>) -> Result<(), TemplateError> {
    let mut fault = None;
    root.node.walk(&mut |node| {
        if fault.is_some() || node.mapping().is_none() {
            return;
        }
        let at = root.at(node);
        if at.child("Name").and_then(|name| name.value.text()) != Some("AWS::Include") {
            return;
        }
        let Some(location) = at.child("Parameters").and_then(|found| found.value.child("Location")) else { return };
        let local = location.value.text().is_some_and(|text| {
            let text = text.trim().to_ascii_lowercase();
            !text.starts_with("s3://") && !text.starts_with("https://")
        });
        if local {
            let what = "a local file to include, which cannot be packaged yet: upload it and give its s3:// location";
            fault = Some(unsupported("AWS::Include", "Location", what.to_owned(), location.key.line));
        }
    });
    fault.map_or(Ok(()), Err)
}

fn unsupported(resource: &str, property: &str, what: String, line: usize) -> TemplateError {
    TemplateError::Unsupported { resource: resource.to_owned(), property: property.to_owned(), what, line }
}

fn is_function(kind: &str) -> bool {
    kind == packageable::SERVERLESS_FUNCTION || kind == packageable::LAMBDA_FUNCTION
}

fn has(at: Option<At<'_>>, property: &str) -> bool {
    at.and_then(|at| at.child(property)).is_some_and(|found| !found.value.node.is_null())
}

fn is_image(at: Option<At<'_>>) -> bool {
    at.and_then(|at| at.child("PackageType")).and_then(|found| found.value.text()) == Some("Image")
}

fn is_intrinsic(at: Option<At<'_>>, property: &str) -> bool {
    at.and_then(|at| at.child(property)).is_some_and(|found| found.value.text().is_none())
}
