//! Finds the local paths in a template, in one walk through it.

use std::collections::HashSet;
use std::ops::Range;

use crate::node::{At, Kind, Mapping, Node, is_merge, key_text};
use crate::packageable::{self, LAMBDA_FUNCTION, SERVERLESS_FUNCTION};
use crate::{LocationStyle, PackageForm, Template, TemplateError};

/// A local path that a template references.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Logical id of the resource, or the section. In `Fn::ForEach`, with the loops around it:
    /// `Fn::ForEach::Functions/Function${Name}`. In a fragment that holds neither, what it is a part of.
    ///
    /// A name that is very long is shortened, here and in `property`.
    pub resource: String,
    /// The property's path, dotted: `CodeUri`, `Command.ScriptLocation`; of an `AWS::Include`, from the resource or
    /// section on: `Properties.DefinitionBody.Fn::Transform.Parameters.Location`.
    pub property: String,
    /// The path as written, without blanks around it. It is not resolved: it may be absolute or lead anywhere.
    pub path: String,
    /// What is made of it.
    pub becomes: Becomes,
    /// How its S3 object is written.
    pub location: LocationStyle,
    /// Line of the value, from one.
    pub line: usize,
    /// Column of the value in characters, from one.
    pub column: usize,
}

/// What is made of a local path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Becomes {
    /// A file or folder that is uploaded.
    Artifact {
        /// What becomes of it before that.
        form: PackageForm,
        /// Whether it is the code of a Lambda function or layer, which Lambda's limit on unzipped code holds for.
        code: bool,
    },
    /// A template of its own, packaged like this one.
    Template,
    /// A part of this template in a file of its own, packaged as what stands at this place.
    Include(Place),
}

/// Where the text of an included file lands in a template, and so what it can hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// At the top: sections.
    Sections,
    /// In `Resources`: resources.
    Resources,
    /// In a resource that does not say its type elsewhere: its type, properties and other attributes.
    Resource,
    /// In a resource of this type: its properties and other attributes.
    TypedResource(String),
    /// In the properties of a resource of this type.
    Properties(String),
    /// Deeper, where there may be local paths still.
    Inside {
        /// The resource type or section.
        of: String,
        /// The names that lead there from the properties, or from the section; `*` is any.
        path: Vec<String>,
    },
    /// Anywhere else.
    Value,
}

/// A reference with its place in the tree.
pub(crate) struct Site<'n> {
    pub(crate) reference: Reference,
    pub(crate) value: &'n Node,
}

pub(crate) fn find(template: &Template) -> Result<Vec<Reference>, TemplateError> {
    let anchors = template.anchors();
    let sites = sites(template, At::new(&template.root, &anchors))?;
    Ok(sites.into_iter().map(|site| site.reference).collect())
}

/// All references, in document order.
pub(crate) fn sites<'n>(template: &'n Template, root: At<'n>) -> Result<Vec<Site<'n>>, TemplateError> {
    let whole = template.place.is_none();
    let place = template.place.as_ref().unwrap_or(&Place::Sections);
    let globals = if *place == Place::Sections { root.child("Globals") } else { None };
    let functions = globals.and_then(|globals| globals.child("Function"));
    let mut search = Search {
        sites: Vec::new(),
        place,
        whole,
        globals: functions,
        open_globals: includes_sections(root) || [globals, functions].into_iter().flatten().any(is_open),
        path: Vec::new(),
        loops: Vec::new(),
        line: root.node.line,
        owner: 0..0,
        base: 0,
        seen: HashSet::new(),
    };
    search.visit(root, &Spot::of(place))?;
    Ok(search.sites)
}

/// Whether sections may come from a file that the `Transform` section includes.
pub(crate) fn includes_sections(root: At<'_>) -> bool {
    let transform = root.child("Transform");
    let transforms = transform.map(|transform| [vec![transform], transform.items()].concat()).unwrap_or_default();
    transforms.into_iter().any(is_include)
}

/// What a value is, as far as the table is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Spot<'n> {
    Sections,
    Resources,
    /// Its type, where that is known.
    Resource(Option<&'n str>),
    /// The properties of a resource type, a section, or what is on the way from there to a path.
    Inside(&'n str, Vec<&'n str>),
    /// Only `AWS::Include` is looked for.
    Value,
}

impl<'n> Spot<'n> {
    fn of(place: &'n Place) -> Self {
        match place {
            Place::Sections => Self::Sections,
            Place::Resources => Self::Resources,
            Place::Resource => Self::Resource(None),
            Place::TypedResource(kind) => Self::Resource(Some(kind)),
            Place::Properties(kind) => Self::Inside(kind, Vec::new()),
            Place::Inside { of, path } => Self::Inside(of, path.iter().map(String::as_str).collect()),
            Place::Value => Self::Value,
        }
    }

    fn place(&self) -> Place {
        match self {
            Self::Sections => Place::Sections,
            Self::Resources => Place::Resources,
            Self::Resource(None) => Place::Resource,
            Self::Resource(Some(kind)) => Place::TypedResource((*kind).to_owned()),
            Self::Inside(of, path) if path.is_empty() && !packageable::is_section(of) => {
                Place::Properties((*of).to_owned())
            }
            Self::Inside(of, path) if packageable::rows(of, path).any(|(_, next)| next.is_some()) => {
                Place::Inside { of: (*of).to_owned(), path: path.iter().map(|&name| name.to_owned()).collect() }
            }
            Self::Inside(..) | Self::Value => Place::Value,
        }
    }
}

/// A step from the root of the document.
#[derive(Debug, Clone, Copy)]
enum Step<'n> {
    Key(&'n str),
    Item(usize),
    /// The key of `Fn::ForEach`, whose body follows.
    Loop(&'n str),
}

/// How deep `Fn::ForEach` is followed; CloudFormation allows 5.
const MAX_LOOPS: usize = 8;

struct Search<'n> {
    sites: Vec<Site<'n>>,
    /// What the document is.
    place: &'n Place,
    /// Nothing that is required may be missing: it is not in another file.
    whole: bool,
    /// What functions inherit.
    globals: Option<At<'n>>,
    /// Functions may inherit more, from a file that is included.
    open_globals: bool,
    path: Vec<Step<'n>>,
    /// The identifiers of the loops around.
    loops: Vec<&'n str>,
    /// Line of the last resource's logical id.
    line: usize,
    /// The steps that name the resource or section.
    owner: Range<usize>,
    /// Where the properties' names begin.
    base: usize,
    /// What was reached through an alias or a merge: once is enough, also when thousands name it.
    seen: HashSet<(*const Node, Spot<'n>)>,
}

impl<'n> Search<'n> {
    fn visit(&mut self, at: At<'n>, spot: &Spot<'n>) -> Result<(), TemplateError> {
        match &at.node.kind {
            Kind::Scalar { .. } => self.scalar(at, spot),
            Kind::Sequence(items) => {
                if at.node.short() == Some("Transform") {
                    self.short_include(at, spot)?;
                }
                items.iter().enumerate().try_for_each(|(n, item)| self.enter(at, Step::Item(n), item, &Spot::Value))
            }
            Kind::Mapping(mapping) if at.node.short().is_some() => {
                if at.node.short() == Some("Transform") {
                    self.short_include(at, spot)?;
                }
                let mut entries = mapping.entries.iter();
                entries.try_for_each(|(key, value)| self.enter(at, Step::Key(key_text(key)), value, &Spot::Value))
            }
            Kind::Mapping(mapping) => self.mapping(at, mapping, spot),
            Kind::Alias(_) => Ok(()),
        }
    }

    /// Visits what stands in `at`. Aliases are followed where the table leads; everything is visited where it is written.
    fn enter(&mut self, at: At<'n>, step: Step<'n>, node: &'n Node, spot: &Spot<'n>) -> Result<(), TemplateError> {
        let inside = at.step(node);
        if node.is_alias() && (*spot == Spot::Value || !self.seen.insert((inside.node, spot.clone()))) {
            return Ok(());
        }
        self.within(step, |search| {
            match spot {
                Spot::Resource(_) => search.owner = search.top()..search.path.len(),
                Spot::Inside(_, path) if path.is_empty() => search.base = search.path.len(),
                Spot::Sections | Spot::Resources | Spot::Inside(..) | Spot::Value => {}
            }
            search.visit(inside, spot)
        })
    }

    /// Does something one step further.
    fn within(
        &mut self,
        step: Step<'n>,
        visit: impl FnOnce(&mut Self) -> Result<(), TemplateError>,
    ) -> Result<(), TemplateError> {
        let outer = (self.owner.clone(), self.base);
        self.path.push(step);
        if self.path.len() == 1 {
            self.owner = 0..self.top();
        }
        visit(self)?;
        self.path.pop();
        (self.owner, self.base) = outer;
        Ok(())
    }

    fn scalar(&mut self, at: At<'n>, spot: &Spot<'n>) -> Result<(), TemplateError> {
        let Spot::Inside(of, path) = spot else { return Ok(()) };
        let Some((row, _)) = packageable::rows(of, path).find(|(_, next)| next.is_none()) else { return Ok(()) };
        let property = self.property(self.base);
        self.local_path(at, property, row.becomes.clone(), row.location)
    }

    fn mapping(&mut self, at: At<'n>, mapping: &'n Mapping, spot: &Spot<'n>) -> Result<(), TemplateError> {
        let mut spot = spot.clone();
        let mut code_elsewhere = false;
        if let Spot::Resource(kind) = &mut spot {
            let written = at.child("Type").and_then(At::text).or(*kind);
            // What is longer is no type, and would be copied for each include.
            *kind = written.filter(|kind| kind.len() <= MAX_NAME);
            if let Some(kind) = kind {
                code_elsewhere = self.resource(at, kind)?;
            }
        }
        for (key, value) in &mapping.entries {
            let name = key_text(key);
            if is_merge(key) {
                self.merge(at, key, value, if code_elsewhere { &Spot::Value } else { &spot })?;
            } else if name == "Fn::Transform" || (spot == Spot::Sections && name == "Transform") {
                self.within(Step::Key(name), |search| search.includes(at, value, &spot.place()))?;
                self.enter(at, Step::Key(name), value, &Spot::Value)?;
            } else if name.starts_with("Fn::ForEach") {
                // Loops make resources and properties, nothing else that is looked for.
                let looped = matches!(spot, Spot::Resources | Spot::Inside(..));
                self.each(at, key, value, if looped { &spot } else { &Spot::Value })?;
            } else {
                if spot == Spot::Resources {
                    self.line = key.line;
                }
                let inner = if code_elsewhere { Spot::Value } else { self.spot_of(at, name, value, &spot) };
                self.enter(at, Step::Key(name), value, &inner)?;
            }
        }
        Ok(())
    }

    /// What the value of a key is.
    fn spot_of(&self, at: At<'n>, name: &'n str, value: &'n Node, spot: &Spot<'n>) -> Spot<'n> {
        match spot {
            Spot::Sections if name == "Resources" => Spot::Resources,
            Spot::Sections if packageable::is_section(name) => Spot::Inside(name, Vec::new()),
            Spot::Resources => Spot::Resource(None),
            Spot::Resource(Some(kind)) if name == "Properties" => Spot::Inside(kind, Vec::new()),
            // Functions that are images have no code that others could inherit.
            Spot::Inside("Globals", _) if name == "Function" && is_image(at.step(value).present("PackageType")) => {
                Spot::Value
            }
            Spot::Inside(of, path) => {
                let mut steps = packageable::rows(of, path).filter_map(|(_, next)| next);
                match steps.find(|step| *step == "*" || *step == name) {
                    Some(step) => Spot::Inside(of, [path.as_slice(), &[step]].concat()),
                    None => Spot::Value,
                }
            }
            Spot::Sections | Spot::Resource(_) | Spot::Value => Spot::Value,
        }
    }

    /// Follows `<<`. What comes through it is shared, and so must be no local path.
    fn merge(&mut self, at: At<'n>, key: &'n Node, value: &'n Node, spot: &Spot<'n>) -> Result<(), TemplateError> {
        self.enter(at.sharing(key), Step::Key("<<"), value, &Spot::Value)?;
        let names = match spot {
            Spot::Value => return Ok(()),
            Spot::Sections | Spot::Resources => {
                for merged in at.merged() {
                    if self.seen.insert((merged.node, spot.clone())) {
                        self.visit(merged, spot)?;
                    }
                }
                return Ok(());
            }
            Spot::Resource(_) => vec!["Properties"],
            Spot::Inside(of, path) => packageable::rows(of, path).filter_map(|(_, next)| next).collect(),
        };
        let own = at.node.mapping();
        for name in names {
            if name == "*" {
                let what = "a place where keys are merged, which cannot be packaged: write them out".to_owned();
                return Err(self.unsupported(self.property(self.base), what, key.line));
            }
            let missing = own.is_none_or(|own| own.get(name).is_none());
            if let Some(found) = at.child(name).filter(|_| missing) {
                let inner = self.spot_of(at, name, found.node, spot);
                if self.seen.insert((found.node, inner.clone())) {
                    self.enter(found, Step::Key(name), found.node, &inner)?;
                }
            }
        }
        Ok(())
    }

    /// `Fn::ForEach::Loop: [Identifier, [Value, …], {Key: Value}]`: the body is what the loop stands in.
    fn each(&mut self, at: At<'n>, key: &'n Node, value: &'n Node, spot: &Spot<'n>) -> Result<(), TemplateError> {
        let step = Step::Loop(key_text(key));
        let parts = at.step(value);
        if value.is_alias() && (*spot == Spot::Value || !self.seen.insert((parts.node, spot.clone()))) {
            return Ok(());
        }
        let Some([identifier, collection, body]) = parts.node.sequence() else {
            return self.enter(at, step, value, &Spot::Value);
        };
        if self.loops.len() >= MAX_LOOPS {
            let what = format!("in more than {MAX_LOOPS} loops: CloudFormation allows 5");
            return Err(self.unsupported(key_text(key).to_owned(), what, key.line));
        }
        self.enter(parts, step, identifier, &Spot::Value)?;
        self.enter(parts, step, collection, &Spot::Value)?;
        self.loops.push(parts.step(identifier).text().unwrap_or_default());
        let inner = parts.step(body);
        if !body.is_alias() || (*spot != Spot::Value && self.seen.insert((inner.node, spot.clone()))) {
            // The body is no resource or property of its own.
            self.within(step, |search| search.visit(inner, spot))?;
        }
        self.loops.pop();
        Ok(())
    }

    /// Checks a resource. Tells whether its code is no local path, whatever its properties say.
    fn resource(&self, at: At<'n>, kind: &str) -> Result<bool, TemplateError> {
        let properties = at.child("Properties");
        let own = |name| properties.and_then(|properties| properties.present(name));
        // SAM lets a function inherit what Globals say, unless it says otherwise.
        let ignored = at.child("IgnoreGlobals").and_then(At::text) == Some("*");
        let serverless = kind == SERVERLESS_FUNCTION;
        let inherited = self.globals.filter(|_| serverless && !ignored);
        let find = |name| own(name).or(inherited.and_then(|inherited| inherited.present(name)));

        let (mut code_elsewhere, mut unknown) = (false, false);
        if serverless || kind == LAMBDA_FUNCTION {
            let package_type = find("PackageType");
            let (property, image) = if serverless {
                ("ImageUri", own("ImageUri").filter(|_| package_type.is_none_or(|kind| is_image(Some(kind)))))
            } else {
                ("Code.ImageUri", own("Code").and_then(|code| code.present("ImageUri")))
            };
            if let Some((image, name)) = image.and_then(|image| Some((image, image.text()?)))
                && self.is_local_image(name)
            {
                let what = format!(
                    "the local image `{name}`, which CloudFormation cannot reach: push it to ECR in the build job, and \
                     give its URI there, as a parameter for instance"
                );
                return Err(self.unsupported(property.to_owned(), what, image.node.line));
            }
            code_elsewhere = own("InlineCode").is_some() || is_image(package_type) || image.is_some();
            unknown = package_type.is_some_and(|kind| kind.text().is_none()) || (serverless && self.open_globals);
        }
        unknown |= is_open(at) || properties.is_some_and(is_open);
        let mut required = packageable::rows(kind, &[]).filter(|(row, _)| row.required).map(|(row, _)| row.property);
        let missing = required.find(|property| find(property).is_none());
        match missing.filter(|_| self.whole && !code_elsewhere && !unknown) {
            None => Ok(code_elsewhere),
            Some(property) => Err(TemplateError::MissingPath {
                resource: self.owner(),
                property: property.to_owned(),
                line: self.line,
            }),
        }
    }

    /// `app:latest` is an image on somebody's machine; a registry has a domain name.
    fn is_local_image(&self, name: &str) -> bool {
        let name = name.trim();
        let host = name.split('/').next().unwrap_or_default();
        !host.contains('.') && self.varying(name).is_none()
    }

    /// An include in the short form: `!Transform {Name: …, Parameters: …}`.
    fn short_include(&mut self, at: At<'n>, spot: &Spot<'n>) -> Result<(), TemplateError> {
        self.within(Step::Key("Fn::Transform"), |search| search.include_each(at, &spot.place()))
    }

    /// Finds the includes in the value of `Fn::Transform`, or of the section `Transform`.
    fn includes(&mut self, at: At<'n>, value: &'n Node, place: &Place) -> Result<(), TemplateError> {
        let transforms = at.step(value);
        if value.is_alias() && !self.seen.insert((transforms.node, Spot::Value)) {
            return Ok(());
        }
        self.include_each(transforms, place)
    }

    fn include_each(&mut self, transforms: At<'n>, place: &Place) -> Result<(), TemplateError> {
        self.include(transforms, place)?;
        let mut items = transforms.items().into_iter().enumerate();
        items.try_for_each(|(n, item)| self.within(Step::Item(n), |search| search.include(item, place)))
    }

    fn include(&mut self, transform: At<'n>, place: &Place) -> Result<(), TemplateError> {
        let location = transform.child("Parameters").and_then(|parameters| parameters.child("Location"));
        let Some(location) = location.filter(|_| is_include(transform)) else { return Ok(()) };
        self.within(Step::Key("Parameters"), |search| {
            search.within(Step::Key("Location"), |search| {
                let property = search.property(search.owner.end);
                search.local_path(location, property, Becomes::Include(place.clone()), LocationStyle::Uri)
            })
        })
    }

    /// Adds a path if it is a local one.
    fn local_path(
        &mut self,
        at: At<'n>,
        property: String,
        becomes: Becomes,
        location: LocationStyle,
    ) -> Result<(), TemplateError> {
        let (line, column) = (at.node.line, at.node.column);
        let path = at.text().map(str::trim).filter(|path| !path.is_empty() && !at.node.is_null());
        let Some(path) = path else { return Ok(()) };
        let scheme = path.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        match scheme.as_deref() {
            Some("s3" | "https") => return Ok(()),
            Some(scheme) => {
                let what = format!("a {scheme}:// location, which CloudFormation does not read: use s3:// or https://");
                return Err(self.unsupported(property, what, line));
            }
            None => {}
        }
        if let Some(identifier) = self.varying(path) {
            let what = format!(
                "a local path that varies with the loop's `{identifier}`, which cannot be packaged: write the resources \
                 out, or use one path for all"
            );
            return Err(self.unsupported(property, what, line));
        }
        if let Some((line, column)) = at.shared {
            return Err(TemplateError::Shared { resource: self.owner(), property, line, column });
        }
        let (resource, path) = (self.owner(), path.to_owned());
        let reference = Reference { resource, property, path, becomes, location, line, column };
        self.sites.push(Site { reference, value: at.node });
        Ok(())
    }

    /// The identifier of a loop around that `text` contains: CloudFormation puts each value in its place.
    fn varying(&self, text: &str) -> Option<&'n str> {
        let contains = |identifier: &&str| {
            ["${", "&{"].iter().any(|open| {
                text.split(open)
                    .skip(1)
                    .any(|rest| rest.strip_prefix(*identifier).is_some_and(|rest| rest.starts_with('}')))
            })
        };
        self.loops.iter().copied().find(contains)
    }

    fn unsupported(&self, property: String, what: String, line: usize) -> TemplateError {
        TemplateError::Unsupported { resource: self.owner(), property, what, line }
    }

    /// Where the names of resources begin.
    fn top(&self) -> usize {
        usize::from(*self.place == Place::Sections)
    }

    /// The name of the resource or section.
    fn owner(&self) -> String {
        match (self.place, self.path.get(self.owner.clone())) {
            (_, Some(steps)) if !steps.is_empty() => dotted(steps),
            (Place::Sections, _) => "Sections".to_owned(),
            (Place::Resources, _) => "Resources".to_owned(),
            (Place::TypedResource(kind) | Place::Properties(kind) | Place::Inside { of: kind, .. }, _) => shown(kind),
            (Place::Resource | Place::Value, _) => "AWS::Include".to_owned(),
        }
    }

    /// The name of a property: the steps from one on.
    fn property(&self, from: usize) -> String {
        let name = dotted(self.path.get(from..).unwrap_or_default());
        if from == 0
            && let Place::Inside { path, .. } = self.place
        {
            return format!("{}.{name}", path.join("."));
        }
        name
    }
}

fn is_image(package_type: Option<At<'_>>) -> bool {
    package_type.and_then(At::text) == Some("Image")
}

/// Whether `transform` is an `AWS::Include`.
fn is_include(transform: At<'_>) -> bool {
    transform.child("Name").and_then(At::text) == Some("AWS::Include")
}

/// Whether a mapping may have more than what is written: CloudFormation adds what a transform or a loop yields.
fn is_open(at: At<'_>) -> bool {
    let loops = at.node.mapping().is_some_and(|mapping| mapping.has_prefix("Fn::ForEach"));
    loops || at.node.short().is_some() || at.child("Fn::Transform").is_some()
}

/// A logical id or key may have 255 characters in CloudFormation.
const MAX_NAME: usize = 255;
/// A path that has more is shortened.
const MAX_NAMES: usize = 1_000;

fn dotted(steps: &[Step<'_>]) -> String {
    let (mut names, mut separator) = (String::new(), "");
    for step in steps {
        names.push_str(separator);
        (names, separator) = match step {
            Step::Key(key) => (names + &shown(key), "."),
            Step::Item(item) => (names + &item.to_string(), "."),
            Step::Loop(key) => (names + &shown(key), "/"),
        };
    }
    match names.chars().count().checked_sub(MAX_NAMES) {
        None | Some(0) => names,
        Some(more) => format!("…{}", names.chars().skip(more).collect::<String>()),
    }
}

fn shown(name: &str) -> String {
    match name.char_indices().nth(MAX_NAME).and_then(|(end, _)| name.get(..end)) {
        None => name.to_owned(),
        Some(start) => format!("{start}…"),
    }
}
