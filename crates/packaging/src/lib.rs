//! Makes a release of an application: follows its template to everything that it references, says which artifacts that
//! takes, and writes the templates anew with S3 locations in place of the paths.
//!
//! The function `package` does it with a bundle, `slipway package` with a folder. Where files come from and where artifacts
//! go is the caller's: nothing here reads a disk or knows S3.
//!
//! 1. [`Application::read`] reads the template and, recursively, nested templates and the files that `AWS::Include`
//!    brings in.
//! 2. [`Application::plan`] looks up every other path in a listing of the files: each distinct content is one artifact.
//! 3. [`Application::release`] rewrites from the innermost template outwards, and says what became of each path.

mod application;
mod error;
mod plan;
mod release;

pub use application::Application;
pub use error::{PackagingError, Site};
pub use plan::Plan;
pub use release::{Document, Release};

/// How deep templates and included files may be nested in each other. CloudFormation names no limit; three levels are
/// unusual.
pub const MAX_NESTING: usize = 10;

/// How many nested templates and included files an application may have: CloudFormation's own quota of resources in a
/// template
/// (<https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html>).
pub const MAX_DOCUMENTS: usize = 500;
