//! What a directive is asked about.

use std::fmt;
use std::str::FromStr;

/// A property by which directives tell subjects apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Attribute {
    /// The Docker host.
    Host,
    /// The workload.
    Workload,
    /// The role within the workload.
    Role,
    /// The part of the program: `http`, `reconciler`.
    Component,
    /// On whose behalf.
    Principal,
}

impl Attribute {
    /// Every attribute, in the order in which they are written.
    pub const ALL: [Self; 5] = [
        Self::Host,
        Self::Workload,
        Self::Role,
        Self::Component,
        Self::Principal,
    ];

    /// Its key in a `match`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Workload => "workload",
            Self::Role => "role",
            Self::Component => "component",
            Self::Principal => "principal",
        }
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that is no attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must be one of host, workload, role, component, principal")]
pub struct UnknownAttribute;

impl FromStr for Attribute {
    type Err = UnknownAttribute;

    fn from_str(text: &str) -> Result<Self, UnknownAttribute> {
        Self::ALL
            .into_iter()
            .find(|attribute| attribute.as_str() == text)
            .ok_or(UnknownAttribute)
    }
}

/// What is asked about: the attributes it has. Making one allocates nothing.
///
/// ```
/// use tidewatch_directives::Subject;
///
/// let subject = Subject::new().component("http").host("h1");
/// # let _ = subject;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subject<'a> {
    values: [Option<&'a str>; Attribute::ALL.len()],
}

impl<'a> Subject<'a> {
    /// A subject without attributes. Only directives that match everything apply to it.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same subject with this attribute.
    #[must_use]
    pub fn with(mut self, attribute: Attribute, value: &'a str) -> Self {
        self.values[attribute as usize] = Some(value);
        self
    }

    /// On this host.
    #[must_use]
    pub fn host(self, value: &'a str) -> Self {
        self.with(Attribute::Host, value)
    }

    /// Of this workload.
    #[must_use]
    pub fn workload(self, value: &'a str) -> Self {
        self.with(Attribute::Workload, value)
    }

    /// In this role.
    #[must_use]
    pub fn role(self, value: &'a str) -> Self {
        self.with(Attribute::Role, value)
    }

    /// In this part of the program.
    #[must_use]
    pub fn component(self, value: &'a str) -> Self {
        self.with(Attribute::Component, value)
    }

    /// On behalf of this principal.
    #[must_use]
    pub fn principal(self, value: &'a str) -> Self {
        self.with(Attribute::Principal, value)
    }

    /// The value of an attribute, if it has it.
    #[inline]
    pub fn get(&self, attribute: Attribute) -> Option<&'a str> {
        self.values[attribute as usize]
    }
}
