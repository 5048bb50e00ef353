//! Why a set is rejected.

use std::fmt;

/// What is wrong with a set. The words are stable: programs branch on them.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It is not JSON.
    InvalidJson,
    /// It has more than [`MAX_SET_BYTES`](crate::limits::MAX_SET_BYTES) bytes.
    TooLarge,
    /// It has more than [`MAX_DIRECTIVES`](crate::limits::MAX_DIRECTIVES) directives.
    TooManyDirectives,
    /// An object has a key twice.
    DuplicateKey,
    /// An object has a key that means nothing.
    UnknownField,
    /// A field that must be there is not.
    MissingField,
    /// A value is of another type than it must be.
    WrongType,
    /// An id is empty.
    EmptyId,
    /// Two directives have the same id.
    DuplicateId,
    /// A level is not one of the six.
    UnknownLevel,
    /// A value to match, or a flag, is empty.
    EmptyValue,
    /// An id, a value to match or a flag is too long; see [`limits`](crate::limits).
    TooLong,
    /// A directive has more than [`MAX_FLAGS`](crate::limits::MAX_FLAGS) flags.
    TooManyFlags,
    /// A directive has a flag twice.
    DuplicateFlag,
    /// A sampling rate is not between 0 and 1000.
    BadSampleRate,
    /// A life in seconds is not between 1 and [`MAX_TTL_SECS`](crate::limits::MAX_TTL_SECS).
    BadTtl,
    /// A point in time is not RFC 3339, or not between 1970 and 9999.
    BadExpiry,
    /// A directive has neither `ttl_secs` nor `expires_at`.
    NoLife,
    /// A directive has both `ttl_secs` and `expires_at`.
    TwoLives,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 19] = [
        Self::InvalidJson,
        Self::TooLarge,
        Self::TooManyDirectives,
        Self::DuplicateKey,
        Self::UnknownField,
        Self::MissingField,
        Self::WrongType,
        Self::EmptyId,
        Self::DuplicateId,
        Self::UnknownLevel,
        Self::EmptyValue,
        Self::TooLong,
        Self::TooManyFlags,
        Self::DuplicateFlag,
        Self::BadSampleRate,
        Self::BadTtl,
        Self::BadExpiry,
        Self::NoLife,
        Self::TwoLives,
    ];

    /// The stable word.
    pub fn slug(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid_json",
            Self::TooLarge => "too_large",
            Self::TooManyDirectives => "too_many_directives",
            Self::DuplicateKey => "duplicate_key",
            Self::UnknownField => "unknown_field",
            Self::MissingField => "missing_field",
            Self::WrongType => "wrong_type",
            Self::EmptyId => "empty_id",
            Self::DuplicateId => "duplicate_id",
            Self::UnknownLevel => "unknown_level",
            Self::EmptyValue => "empty_value",
            Self::TooLong => "too_long",
            Self::TooManyFlags => "too_many_flags",
            Self::DuplicateFlag => "duplicate_flag",
            Self::BadSampleRate => "bad_sample_rate",
            Self::BadTtl => "bad_ttl",
            Self::BadExpiry => "bad_expiry",
            Self::NoLife => "no_life",
            Self::TwoLives => "two_lives",
        }
    }

    /// The reason of a word.
    pub fn from_slug(slug: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.slug() == slug)
    }

    /// What is wrong, and what would be right.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::InvalidJson => "this is not JSON",
            Self::TooLarge => "a set has at most 65536 bytes",
            Self::TooManyDirectives => "a set has at most 128 directives",
            Self::DuplicateKey => "an object has each key at most once",
            Self::UnknownField => {
                "a set has the field directives; a directive has id, level, match, flags, sample_per_mille and either \
                 ttl_secs or expires_at; a match has host, workload, role, component and principal"
            }
            Self::MissingField => "the field is required",
            Self::WrongType => {
                "texts are strings, directives and flags are arrays, match is an object, numbers are whole, and null \
                 is nothing of these"
            }
            Self::EmptyId => "an id has at least one character",
            Self::DuplicateId => "another directive before it has this id",
            Self::UnknownLevel => "a level is one of off, error, warn, info, debug, trace",
            Self::EmptyValue => "leave the field out instead of writing an empty text",
            Self::TooLong => "an id has at most 128 bytes, a value to match at most 256, a flag at most 64",
            Self::TooManyFlags => "a directive has at most 32 flags",
            Self::DuplicateFlag => "a directive has each flag at most once",
            Self::BadSampleRate => "a rate is a whole number from 0 to 1000",
            Self::BadTtl => "a life is a whole number of seconds from 1 to 31622400",
            Self::BadExpiry => {
                "a point in time looks like 2026-11-21T03:12:00Z (RFC 3339), from 1970 to 9999"
            }
            Self::NoLife => "a directive says how long it lives, with ttl_secs or expires_at",
            Self::TwoLives => "a directive has either ttl_secs or expires_at, not both",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.slug())
    }
}

/// A set that is rejected as a whole: why, and because of which field. Never says what the field holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason} at {path}: {}", .reason.explanation())]
pub struct Rejection {
    reason: Reason,
    path: String,
}

impl Rejection {
    pub(crate) fn new(reason: Reason, path: impl Into<String>) -> Self {
        let path = path.into();
        Self { reason, path }
    }

    /// What somebody else found, for instance a server.
    pub fn from_parts(reason: Reason, path: impl Into<String>) -> Self {
        Self::new(reason, path)
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Where: the path of the field, for instance `directives[0].match.host`; `$` for the whole; a line
    /// and column where it is not JSON.
    pub fn path(&self) -> &str {
        &self.path
    }
}
