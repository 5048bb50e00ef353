//! The names that keys are made of.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 128;

/// A text that cannot be a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid {what} {:?}: {reason}; a {what} has 1 to 128 letters, digits, '.', '_' or '-' and begins with a letter or digit",
    .text
)]
pub struct NameError {
    /// What it was to name, for instance `workload id`.
    pub what: &'static str,
    /// The text, shortened if it is long.
    pub text: String,
    /// What is wrong, and where.
    pub reason: String,
}

/// Checks a text against `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`.
fn check(what: &'static str, text: &str) -> Result<(), NameError> {
    let reason = match text.char_indices().find(|&(at, c)| !allowed(at, c)) {
        _ if text.is_empty() => "it is empty".to_owned(),
        Some((0, c)) => format!("it begins with {c:?}"),
        Some((at, c)) => format!("{c:?} at byte {at} is not allowed"),
        None if text.len() > MAX_NAME_BYTES => format!("it has {} bytes", text.len()),
        None => return Ok(()),
    };
    Err(NameError {
        what,
        text: text.chars().take(MAX_NAME_BYTES).collect(),
        reason,
    })
}

fn allowed(at: usize, c: char) -> bool {
    c.is_ascii_alphanumeric() || (at > 0 && matches!(c, '.' | '_' | '-'))
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        ///
        /// Matches `[A-Za-z0-9][A-Za-z0-9._-]{0,127}`. Clones are cheap.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks a text.
            ///
            /// # Errors
            /// [`NameError`], which says what is wrong, where, and what is allowed.
            pub fn new(text: &str) -> Result<Self, NameError> {
                check($what, text)?;
                Ok(Self(text.into()))
            }

            /// The name before all others: where ranges begin.
            #[allow(dead_code, reason = "not every name begins a range")]
            pub(crate) fn first() -> Self {
                Self("0".into())
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(&text)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = NameError;

            fn try_from(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                &*self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                &*self.0 == *other
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name!(
    /// The name of a Docker host, as the fleet knows it.
    HostName,
    "host name"
);
name!(
    /// The id of a workload.
    WorkloadId,
    "workload id"
);
name!(
    /// The role of a container within its workload, for instance `web`.
    Role,
    "role"
);
name!(
    /// The name of a row within its workload (and host): a deploy row's name, a role, or `<role>.<n>`.
    RowName,
    "row name"
);

impl RowName {
    /// The name of the `n`th container of a role: `<role>` for the first, `<role>.<n>` from the
    /// second on. A role that leaves no room for the number is shortened.
    pub fn of_role(role: &Role, n: usize) -> Self {
        if n < 2 {
            return Self(role.0.clone());
        }
        let number = format!(".{n}");
        let kept = role.0.len().min(MAX_NAME_BYTES - number.len());
        Self(format!("{}{number}", &role.0[..kept]).into())
    }
}

impl From<Role> for RowName {
    fn from(role: Role) -> Self {
        Self(role.0)
    }
}

impl From<RowName> for Role {
    fn from(row: RowName) -> Self {
        Self(row.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_error_says_what_where_and_how_to_mend_it() {
        for (text, reason) in [
            ("", "it is empty"),
            ("-web", "it begins with '-'"),
            ("we b", "' ' at byte 2 is not allowed"),
            ("shop/web", "'/' at byte 4 is not allowed"),
            ("wëb", "'ë' at byte 1 is not allowed"),
            (&"x".repeat(129), "it has 129 bytes"),
        ] {
            let error = Role::new(text).unwrap_err();
            assert_eq!(error.reason, reason, "{text}");
            assert!(error.to_string().ends_with(
                "a role has 1 to 128 letters, digits, '.', '_' or '-' and begins with a letter or digit"
            ));
        }
        for text in ["w", "9", "a.b_c-d", &"x".repeat(128)] {
            assert_eq!(Role::new(text).unwrap(), text);
        }
    }

    #[test]
    fn a_name_that_arrives_as_json_is_checked() {
        assert_eq!(serde_json::from_str::<HostName>("\"h1\"").unwrap(), "h1");
        let error = serde_json::from_str::<HostName>("\"h 1\"").unwrap_err();
        assert!(error.to_string().starts_with("invalid host name \"h 1\""));
    }

    #[test]
    fn further_containers_of_a_role_are_numbered_and_stay_valid_names() {
        let role = Role::new("web").unwrap();
        assert_eq!(RowName::of_role(&role, 1), "web");
        assert_eq!(RowName::of_role(&role, 2), "web.2");
        let long = Role::new(&"r".repeat(128)).unwrap();
        let row = RowName::of_role(&long, 12);
        assert!(RowName::new(row.as_str()).is_ok() && row.as_str().ends_with("r.12"));
    }
}
