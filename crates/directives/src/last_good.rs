//! The last good set on disk, for a start while the source cannot be reached.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidewatch_core::{Clock, Revision, Uptime};

use crate::directive::DirectiveSet;
use crate::limits::{MAX_DIRECTIVES, MAX_ID_BYTES, MAX_SET_BYTES};
use crate::rfc3339;
use crate::sample::fnv1a;
use crate::sight::Sight;
use crate::snapshot::Origin;

/// Which form of file this is.
const FORMAT: u32 = 1;

/// The largest file that is read: a set, each byte of it escaped, and a line for each directive. What is
/// larger was not written here.
const MAX_FILE_BYTES: usize = 6 * MAX_SET_BYTES + MAX_DIRECTIVES * (6 * MAX_ID_BYTES + 32) + 1024;

/// What is wrong with the file of the last good set. It is never a reason to stop.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It could not be read.
    #[error("failed to read the last good directives from {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It could not be written; what was there before is still there.
    #[error("failed to write the last good directives to {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not what was written. The next good set replaces it.
    #[error("ignored the last good directives in {}: {reason}; the next good set replaces the file", .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Two lines: JSON, and its checksum.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    format: u32,
    keyspace: String,
    revision: u64,
    /// When the set was first seen.
    first_seen: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot: Option<Boot>,
    /// What each directive had to live then, in milliseconds.
    lives_ms: BTreeMap<String, u64>,
    /// The value of the key, as it was; none if the key was not there.
    set: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Boot {
    id: String,
    uptime_ms: u64,
}

/// What a file had to say.
pub(crate) struct Recalled {
    pub(crate) sight: Sight,
    /// None: there was no key.
    pub(crate) value: Option<Bytes>,
    pub(crate) set: DirectiveSet,
}

/// A file that is to be written. May be sent to a thread where that takes as long as it wants.
#[derive(Debug)]
pub(crate) struct Save {
    path: PathBuf,
    text: String,
}

impl Save {
    pub(crate) fn new(path: &Path, sight: &Sight, value: Option<&Bytes>) -> Self {
        let boot = |uptime: Uptime| Boot {
            id: format!("{:032x}", uptime.boot),
            uptime_ms: millis(uptime.elapsed),
        };
        let lives = sight.lives.iter();
        let content = Content {
            format: FORMAT,
            keyspace: sight.origin.keyspace.to_string(),
            revision: sight.origin.revision.0,
            first_seen: rfc3339::format(sight.wall),
            boot: sight.uptime.map(boot),
            lives_ms: lives.map(|(id, &life)| (id.clone(), millis(life))).collect(),
            // It was accepted, so it is UTF-8.
            set: value.map(|value| String::from_utf8_lossy(value).into_owned()),
        };
        let json = serde_json::json!(content).to_string();
        Self {
            path: path.to_owned(),
            text: format!("{json}\n{:016x}\n", fnv1a(json.as_bytes())),
        }
    }

    /// Replaces the file: whoever reads it finds the old content or the new one, whole.
    pub(crate) fn write(&self) -> Result<(), FileError> {
        let write = || {
            let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty());
            let mut file = tempfile::NamedTempFile::new_in(dir.unwrap_or(Path::new(".")))?;
            file.write_all(self.text.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&self.path).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(|source| FileError::Write {
            path: self.path.clone(),
            source,
        })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Reads a file. None if there is none.
pub(crate) fn read(path: &Path, clock: &dyn Clock) -> Result<Option<Recalled>, FileError> {
    let text = match read_bounded(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(FileError::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    decode(&text, clock)
        .map(Some)
        .map_err(|reason| FileError::Corrupt {
            path: path.to_owned(),
            reason,
        })
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let limit = MAX_FILE_BYTES as u64 + 1;
    File::open(path)?.take(limit).read_to_end(&mut text)?;
    Ok(text)
}

fn decode(text: &[u8], clock: &dyn Clock) -> Result<Recalled, &'static str> {
    if text.len() > MAX_FILE_BYTES {
        return Err("it is larger than any that is written");
    }
    let content = verified(text).ok_or("it is cut off or damaged")?;
    let content: Content = serde_json::from_slice(content).map_err(|_| "it has another form")?;
    if content.format != FORMAT {
        return Err("it has another format");
    }
    let recalled = content
        .recall(clock)
        .ok_or("one of its fields has another form")?;
    Ok(recalled)
}

/// The JSON of a file whose checksum is right.
fn verified(text: &[u8]) -> Option<&[u8]> {
    let text = text.strip_suffix(b"\n")?;
    let at = text.iter().rposition(|&byte| byte == b'\n')?;
    let (json, checksum) = (&text[..at], &text[at + 1..]);
    (checksum == format!("{:016x}", fnv1a(json)).as_bytes()).then_some(json)
}

impl Content {
    fn recall(self, clock: &dyn Clock) -> Option<Recalled> {
        let origin = Origin {
            keyspace: self.keyspace.parse().ok()?,
            revision: Revision(self.revision),
        };
        let wall: SystemTime = rfc3339::parse(&self.first_seen)?;
        let uptime = match self.boot {
            Some(boot) => Some(Uptime {
                boot: u128::from_str_radix(&boot.id, 16).ok()?,
                elapsed: Duration::from_millis(boot.uptime_ms),
            }),
            None => None,
        };
        let value = self.set.map(Bytes::from);
        let set = match &value {
            Some(value) => DirectiveSet::decode(value).ok()?,
            None => DirectiveSet::new(),
        };
        let lives = self.lives_ms.into_iter();
        let lives = lives
            .map(|(id, life)| (id, Duration::from_millis(life)))
            .collect();
        Some(Recalled {
            sight: Sight::recalled(clock, origin, value.clone(), wall, uptime, lives),
            value,
            set,
        })
    }
}
