//! The one way in. What is not entirely right is rejected as a whole: a directive that means less than
//! its author thought would match more.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::directive::{Directive, DirectiveSet, Life, Match};
use crate::json::Json;
use crate::level::Level;
use crate::limits::{
    MAX_DIRECTIVES, MAX_FLAG_BYTES, MAX_FLAGS, MAX_ID_BYTES, MAX_MATCH_BYTES, MAX_PER_MILLE, MAX_SET_BYTES,
    MAX_TTL_SECS,
};
use crate::path::Path;
use crate::reason::{Reason, Rejection};
use crate::rfc3339;
use crate::subject::Attribute;

type Decoded<T> = Result<T, Rejection>;

pub(crate) fn set(text: &[u8]) -> Decoded<DirectiveSet> {
    let json = read(text)?;
    let [items] = fields(&json, &Path::Whole, ["directives"])?;
    let at = Path::Whole.key("directives");
    let items = array(items.ok_or_else(|| reject(Reason::MissingField, &at))?, &at)?;
    if items.len() > MAX_DIRECTIVES {
        return Err(reject(Reason::TooManyDirectives, &at));
    }
    let mut ids = BTreeSet::new();
    let mut directives = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let at = at.index(index);
        let directive = one(item, &at)?;
        if !ids.insert(directive.id.clone()) {
            return Err(reject(Reason::DuplicateId, &at.key("id")));
        }
        directives.push(directive);
    }
    Ok(DirectiveSet { directives })
}

pub(crate) fn directive(text: &[u8]) -> Decoded<Directive> {
    one(&read(text)?, &Path::Whole)
}

fn read(text: &[u8]) -> Decoded<Json> {
    if text.len() > MAX_SET_BYTES {
        return Err(reject(Reason::TooLarge, &Path::Whole));
    }
    Json::parse(text)
}

fn one(item: &Json, at: &Path<'_>) -> Decoded<Directive> {
    let [id, level, matches, flags, sample, ttl, expiry] = fields(
        item,
        at,
        [
            "id",
            "level",
            "match",
            "flags",
            "sample_per_mille",
            "ttl_secs",
            "expires_at",
        ],
    )?;
    Ok(Directive {
        id: id_of(id, &at.key("id"))?,
        level: level_of(level, &at.key("level"))?,
        matches: match matches {
            Some(matches) => match_of(matches, &at.key("match"))?,
            None => Match::any(),
        },
        flags: match flags {
            Some(flags) => flags_of(flags, &at.key("flags"))?,
            None => Vec::new(),
        },
        sample_per_mille: match sample {
            Some(sample) => Some(rate_of(sample, &at.key("sample_per_mille"))?),
            None => None,
        },
        life: life_of(ttl, expiry, at)?,
    })
}

fn id_of(id: Option<&Json>, at: &Path<'_>) -> Decoded<String> {
    let id = text(id.ok_or_else(|| reject(Reason::MissingField, at))?, at)?;
    if id.is_empty() {
        return Err(reject(Reason::EmptyId, at));
    }
    Ok(bounded(id, MAX_ID_BYTES, at)?.to_owned())
}

fn level_of(level: Option<&Json>, at: &Path<'_>) -> Decoded<Level> {
    let level = text(level.ok_or_else(|| reject(Reason::MissingField, at))?, at)?;
    level.parse().map_err(|_| reject(Reason::UnknownLevel, at))
}

fn match_of(value: &Json, at: &Path<'_>) -> Decoded<Match> {
    let names = Attribute::ALL.map(Attribute::as_str);
    let mut matches = Match::any();
    for (attribute, value) in Attribute::ALL.into_iter().zip(fields(value, at, names)?) {
        let Some(value) = value else { continue };
        let at = at.key(attribute.as_str());
        matches.set(attribute, filled(text(value, &at)?, MAX_MATCH_BYTES, &at)?);
    }
    Ok(matches)
}

fn flags_of(value: &Json, at: &Path<'_>) -> Decoded<Vec<String>> {
    let items = array(value, at)?;
    if items.len() > MAX_FLAGS {
        return Err(reject(Reason::TooManyFlags, at));
    }
    let mut flags: Vec<String> = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let at = at.index(index);
        let flag = filled(text(item, &at)?, MAX_FLAG_BYTES, &at)?;
        if flags.iter().any(|other| other == flag) {
            return Err(reject(Reason::DuplicateFlag, &at));
        }
        flags.push(flag.to_owned());
    }
    Ok(flags)
}

fn rate_of(value: &Json, at: &Path<'_>) -> Decoded<u16> {
    let rate = number(value, Reason::BadSampleRate, at)?;
    u16::try_from(rate)
        .ok()
        .filter(|&rate| rate <= MAX_PER_MILLE)
        .ok_or_else(|| reject(Reason::BadSampleRate, at))
}

fn life_of(ttl: Option<&Json>, expiry: Option<&Json>, at: &Path<'_>) -> Decoded<Life> {
    match (ttl, expiry) {
        (None, None) => Err(reject(Reason::NoLife, at)),
        (Some(_), Some(_)) => Err(reject(Reason::TwoLives, at)),
        (Some(ttl), None) => {
            let at = at.key("ttl_secs");
            let secs = number(ttl, Reason::BadTtl, &at)?;
            if (1..=MAX_TTL_SECS).contains(&secs) {
                Ok(Life::Ttl(Duration::from_secs(secs)))
            } else {
                Err(reject(Reason::BadTtl, &at))
            }
        }
        (None, Some(expiry)) => {
            let at = at.key("expires_at");
            let end = rfc3339::parse(text(expiry, &at)?);
            end.map(Life::Until).ok_or_else(|| reject(Reason::BadExpiry, &at))
        }
    }
}

/// The values of the fields of these names, in their order. Nothing else may be in the object, and
/// nothing twice.
fn fields<'a, const N: usize>(
    value: &'a Json,
    at: &Path<'_>,
    names: [&str; N],
) -> Decoded<[Option<&'a Json>; N]> {
    let Json::Object(entries) = value else {
        return Err(reject(Reason::WrongType, at));
    };
    let mut found = [None; N];
    for (key, value) in entries {
        let Some(place) = names.iter().position(|name| name == key) else {
            return Err(reject(Reason::UnknownField, &at.key(key)));
        };
        if found[place].replace(value).is_some() {
            return Err(reject(Reason::DuplicateKey, &at.key(key)));
        }
    }
    Ok(found)
}

fn array<'a>(value: &'a Json, at: &Path<'_>) -> Decoded<&'a [Json]> {
    match value {
        Json::Array(items) => Ok(items),
        _ => Err(reject(Reason::WrongType, at)),
    }
}

fn text<'a>(value: &'a Json, at: &Path<'_>) -> Decoded<&'a str> {
    match value {
        Json::Text(text) => Ok(text),
        _ => Err(reject(Reason::WrongType, at)),
    }
}

/// A whole number; one that is negative or has a fraction is out of range, what is no number is of the
/// wrong type.
fn number(value: &Json, out_of_range: Reason, at: &Path<'_>) -> Decoded<u64> {
    match value {
        Json::Whole(number) => Ok(*number),
        Json::Number => Err(reject(out_of_range, at)),
        _ => Err(reject(Reason::WrongType, at)),
    }
}

fn filled<'a>(text: &'a str, max: usize, at: &Path<'_>) -> Decoded<&'a str> {
    if text.is_empty() {
        return Err(reject(Reason::EmptyValue, at));
    }
    bounded(text, max, at)
}

fn bounded<'a>(text: &'a str, max: usize, at: &Path<'_>) -> Decoded<&'a str> {
    if text.len() > max {
        return Err(reject(Reason::TooLong, at));
    }
    Ok(text)
}

fn reject(reason: Reason, at: &Path<'_>) -> Rejection {
    Rejection::new(reason, at.show())
}
