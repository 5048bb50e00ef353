//! The parameters of a query: those that are known, each what it should be, or a problem that says which is
//! not.

use std::fmt::Display;
use std::str::FromStr;

use http::{StatusCode, Uri};

use crate::http::problem::Problem;

/// How many parameters a query may have. Names may be repeated where that makes sense, but nobody needs so
/// many.
const MAX_PARAMETERS: usize = 100;

/// The parameters of a query, decoded.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Takes a query apart.
    ///
    /// # Errors
    /// A problem for a parameter that is not one of `known`.
    pub(super) fn of(uri: &Uri, known: &[&str]) -> Result<Self, Problem> {
        let text = uri.query().unwrap_or_default();
        let parameters: Vec<(String, String)> = form_urlencoded::parse(text.as_bytes())
            .into_owned()
            .take(MAX_PARAMETERS + 1)
            .collect();
        if parameters.len() > MAX_PARAMETERS {
            let detail = format!("a query has at most {MAX_PARAMETERS} parameters");
            return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
        }
        for (name, _) in &parameters {
            if !known.contains(&name.as_str()) {
                let path = uri.path();
                let detail = if known.is_empty() {
                    format!("{path} takes no parameters: leave {name:?} out")
                } else {
                    format!(
                        "{path} knows no parameter {name:?}; there are {}",
                        known.join(", ")
                    )
                };
                return Err(Problem::with_parameter(name, detail));
            }
        }
        Ok(Self(parameters))
    }

    /// Whether a parameter is given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(given, _)| given == name)
    }

    /// A parameter that may be given once, as text; empty if it is not.
    ///
    /// # Errors
    /// A problem if it is given twice, or empty.
    pub(super) fn text(&self, name: &str) -> Result<&str, Problem> {
        let mut given = self.0.iter().filter(|(given, _)| given == name);
        match (given.next(), given.next()) {
            (None, _) => Ok(""),
            (Some((_, value)), None) if value.is_empty() => {
                let detail = format!("{name} is empty; give it a value, or leave it out");
                Err(Problem::with_parameter(name, detail))
            }
            (Some((_, value)), None) => Ok(value),
            (Some(_), Some(_)) => {
                let detail = format!("{name} is given more than once");
                Err(Problem::with_parameter(name, detail))
            }
        }
    }

    /// A parameter that may be given once.
    ///
    /// # Errors
    /// Those of [`text`](Self::text); a problem if it is not what it should be.
    pub(super) fn one<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, Problem> {
        match self.text(name)? {
            "" => Ok(None),
            text => parsed(name, text).map(Some),
        }
    }

    /// A parameter that may be repeated.
    ///
    /// # Errors
    /// A problem if one is not what it should be.
    pub(super) fn all<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Vec<T>, Problem> {
        let given = self.0.iter().filter(|(given, _)| given == name);
        given.map(|(_, value)| parsed(name, value)).collect()
    }
}

fn parsed<T: FromStr<Err: Display>>(name: &str, text: &str) -> Result<T, Problem> {
    text.parse()
        .map_err(|error: T::Err| Problem::with_parameter(name, format!("{name} cannot be {text:?}: {error}")))
}
