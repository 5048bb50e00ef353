//! Versions of etcd, and which of them tell their progress truly.

use std::fmt;

/// The version of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u64,
    minor: u64,
    patch: u64,
}

impl Version {
    /// A version.
    pub const fn new(major: u64, minor: u64, patch: u64) -> Self {
        Self { major, minor, patch }
    }

    /// Reads `3.5.13`, also with something behind it, as in `3.6.0-rc.1`. None if it is no such thing.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.').map(|part| {
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..digits].parse().ok()
        });
        Some(Self::new(parts.next()??, parts.next()??, parts.next()??))
    }

    /// Whether a report of progress at a revision means that every event up to it has been sent. Earlier ones also said so
    /// while events were on their way (etcd 15220, 15695, 15697 and what was found after compactions later).
    pub fn tells_progress_truly(self) -> bool {
        match (self.major, self.minor) {
            (3, 4) => self.patch >= 31,
            (3, 5) => self.patch >= 13,
            (major, minor) => (major, minor) > (3, 5),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_believed_from_the_versions_on_that_got_it_right() {
        for (text, truly) in [
            ("3.3.27", false),
            ("3.4.23", false),
            ("3.4.30", false),
            ("3.4.31", true),
            ("3.5.1", false),
            ("3.5.12", false),
            ("3.5.13", true),
            ("3.6.0-rc.1", true),
            ("3.5.99+tidewatch", true),
            ("4.0.0", true),
        ] {
            assert_eq!(
                Version::parse(text).map(Version::tells_progress_truly),
                Some(truly),
                "{text}"
            );
        }
        for text in ["", "3", "3.5", "v3.5.1", "three.5.1"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }
}
