//! The address of a member.

use std::borrow::Cow;
use std::fmt;

use crate::error::Error;

/// An address with its scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint(String);

impl Endpoint {
    /// Reads what a person wrote. With TLS the scheme may be left out for `https`, otherwise for `http`.
    pub(super) fn parse(text: &str, has_tls: bool) -> Result<Self, Error> {
        let invalid = |reason: &str| Error::Config {
            what: "endpoint",
            reason: format!("{:?} {reason}", without_user(text)),
        };
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None if has_tls => ("https", text),
            None => ("http", text),
        };
        match scheme {
            "https" if !has_tls => {
                return Err(invalid("needs TLS; say with which CA its certificate is checked"));
            }
            "http" if has_tls => {
                return Err(invalid("is without TLS, which was asked for; write https://"));
            }
            "http" | "https" => {}
            _ => {
                return Err(invalid(
                    "has an unknown scheme; write it like https://etcd-1:2379",
                ));
            }
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let uri: http::Uri = format!("{scheme}://{authority}")
            .parse()
            .map_err(|_| invalid("is no address; write it like https://etcd-1:2379"))?;
        if uri.host().is_none_or(str::is_empty) {
            return Err(invalid("has no host; write it like https://etcd-1:2379"));
        }
        if authority.contains(['/', '?', '#', '@']) {
            return Err(invalid(
                "holds more than a host and a port; write it like https://etcd-1:2379",
            ));
        }
        let names_port = authority
            .rsplit(']')
            .next()
            .is_some_and(|rest| rest.contains(':'));
        if names_port && uri.port_u16().is_none() {
            return Err(invalid("is no address; write it like https://etcd-1:2379"));
        }
        let port = if names_port { "" } else { ":2379" };
        Ok(Self(format!("{scheme}://{authority}{port}")))
    }

    pub(super) fn uri(&self) -> &str {
        &self.0
    }
}

/// What may be shown of an address that somebody wrote: neither a user nor a password that stands in it.
pub(super) fn without_user(text: &str) -> Cow<'_, str> {
    let Some((_, host)) = text.rsplit_once('@') else {
        return Cow::Borrowed(text);
    };
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    let is_scheme = |scheme: &&str| scheme.bytes().all(|byte| byte.is_ascii_alphabetic());
    match scheme.filter(is_scheme) {
        Some(scheme) => format!("{scheme}://…@{host}").into(),
        None => format!("…@{host}").into(),
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_becomes_an_address() {
        for (text, has_tls, expected) in [
            ("127.0.0.1:2379", false, "http://127.0.0.1:2379"),
            ("etcd-1", false, "http://etcd-1:2379"),
            ("etcd-1", true, "https://etcd-1:2379"),
            ("http://etcd-1:1/", false, "http://etcd-1:1"),
            ("https://[::1]:2379", true, "https://[::1]:2379"),
        ] {
            assert_eq!(Endpoint::parse(text, has_tls).unwrap().uri(), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused_with_a_word_about_what_can() {
        for (text, has_tls, word) in [
            ("https://etcd-1:2379", false, "CA"),
            ("http://etcd-1:2379", true, "https://"),
            ("etcd://etcd-1:2379", false, "scheme"),
            ("http://", false, "address"),
            ("", false, "address"),
            ("http://etcd-1:2379/v3", false, "more than"),
            ("http://me@etcd-1:2379", false, "more than"),
            ("http://etcd-1:port", false, "address"),
        ] {
            let error = Endpoint::parse(text, has_tls).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn a_user_and_a_password_in_an_address_are_not_shown() {
        for text in [
            "http://root:s3cret@etcd-1:2379",
            "https://root:s3cret@etcd-1:2379",
            "root:s3cret@etcd-1:2379",
            "etcd://root:s3cret@etcd-1:2379",
            "http://root:s3cret/@@etcd-1:2379/v3",
            "root:s3cret://x@etcd-1:2379",
            "http://root:s3cret@",
        ] {
            let error = Endpoint::parse(text, false).unwrap_err().to_string();
            assert!(!error.contains("s3cret") && !error.contains("root"), "{error}");
            assert!(text.ends_with('@') || error.contains("etcd-1:2379"), "{error}");
        }
        assert_eq!(without_user("http://etcd-1:2379"), "http://etcd-1:2379");
    }
}
