//! Reading ranges.

use std::cmp::Ordering;

use bytes::Bytes;

use super::index::{Index, Version};
use crate::error::Error;
use crate::event::KeyValue;
use crate::revision::Revision;
use crate::txn::{RangeRequest, RangeResponse, Sort, SortBy};

/// The revisions that can be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Readable {
    pub(super) oldest: Revision,
    pub(super) current: Revision,
}

impl Readable {
    /// The revision to read at: the one requested if it can be read, or else the current one.
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::FutureRevision`].
    pub(super) fn choose(self, requested: Option<Revision>) -> Result<Revision, Error> {
        let Self { oldest, current } = self;
        match requested {
            None => Ok(current),
            Some(requested) if requested > current => Err(Error::FutureRevision { requested, current }),
            Some(requested) if requested < oldest => Err(Error::Compacted { requested, oldest }),
            Some(requested) => Ok(requested),
        }
    }
}

/// Reads a range in one go.
pub(super) fn read(index: &Index, request: &RangeRequest, revision: Revision) -> RangeResponse {
    let mut collector = Collector::new(request);
    collector.page(index, revision, None, usize::MAX);
    collector.finish()
}

/// Gathers the answer to a [`RangeRequest`], page by page.
pub(super) struct Collector<'a> {
    request: &'a RangeRequest,
    /// Beyond this many entries, nothing more can matter. One more than the limit, to know whether
    /// there are more.
    enough: usize,
    kvs: Vec<KeyValue>,
    count: u64,
}

impl<'a> Collector<'a> {
    pub(super) fn new(request: &'a RangeRequest) -> Self {
        let by_key = request
            .sort
            .is_none_or(|sort| sort.by == SortBy::Key && !sort.descending);
        let enough = match request.limit {
            _ if request.count_only => 0,
            Some(limit) if by_key => limit.saturating_add(1),
            _ => usize::MAX,
        };
        Self {
            request,
            enough,
            kvs: Vec::new(),
            count: 0,
        }
    }

    /// Looks at no more than `max` keys after `after`, and returns the last of them if there may be
    /// more.
    pub(super) fn page(
        &mut self,
        index: &Index,
        revision: Revision,
        after: Option<&[u8]>,
        max: usize,
    ) -> Option<Bytes> {
        if let Some(key) = self.request.range.as_single() {
            let kv = index.get(key, revision)?;
            self.count = 1;
            if self.enough > 0 && passes(self.request, &Filtered::from(&kv)) {
                self.kvs.push(kv);
            }
            return None;
        }
        let mut seen = 0;
        for (key, version) in index.scan(&self.request.range, after, revision) {
            if let Some(version) = version {
                self.count += 1;
                if self.kvs.len() < self.enough && passes(self.request, &Filtered::from(version)) {
                    self.kvs.push(version.entry(key));
                }
            }
            seen += 1;
            if seen >= max {
                return Some(key.clone());
            }
        }
        None
    }

    /// Forgets all pages, to start over.
    pub(super) fn reset(&mut self) {
        self.kvs.clear();
        self.count = 0;
    }

    /// Sorts, cuts off and strips.
    pub(super) fn finish(self) -> RangeResponse {
        let Self {
            request,
            mut kvs,
            count,
            ..
        } = self;
        if let Some(sort) = request.sort {
            kvs.sort_by(|a, b| compare(sort, a, b));
        }
        let more = request.limit.is_some_and(|limit| kvs.len() > limit);
        if let Some(limit) = request.limit {
            kvs.truncate(limit);
        }
        if request.keys_only {
            for kv in &mut kvs {
                kv.value = Bytes::new();
            }
        }
        RangeResponse { kvs, more, count }
    }
}

/// What the revision filters look at.
struct Filtered {
    created: Revision,
    modified: Revision,
}

impl From<&Version> for Filtered {
    fn from(version: &Version) -> Self {
        Self {
            created: version.create_revision,
            modified: version.mod_revision,
        }
    }
}

impl From<&KeyValue> for Filtered {
    fn from(kv: &KeyValue) -> Self {
        Self {
            created: kv.create_revision,
            modified: kv.mod_revision,
        }
    }
}

fn passes(request: &RangeRequest, found: &Filtered) -> bool {
    let within = |revision, min: Option<Revision>, max: Option<Revision>| {
        min.is_none_or(|min| revision >= min) && max.is_none_or(|max| revision <= max)
    };
    within(found.modified, request.min_mod_revision, request.max_mod_revision)
        && within(
            found.created,
            request.min_create_revision,
            request.max_create_revision,
        )
}

/// Equal entries stay in the order of their keys, because the sort is stable.
fn compare(sort: Sort, a: &KeyValue, b: &KeyValue) -> Ordering {
    let ascending = match sort.by {
        SortBy::Key => a.key.cmp(&b.key),
        SortBy::Version => a.version.cmp(&b.version),
        SortBy::Create => a.create_revision.cmp(&b.create_revision),
        SortBy::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortBy::Value => a.value.cmp(&b.value),
    };
    if sort.descending {
        ascending.reverse()
    } else {
        ascending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{KeyRange, key, prefix};

    /// `/c` at 2, `/b` at 3, `/a` at 4, `/b` again at 5; values so that they sort as c, a, b.
    fn index() -> Index {
        let mut index = Index::default();
        for (revision, key, value) in [(2, "/c", "1"), (3, "/b", "0"), (4, "/a", "2"), (5, "/b", "3")] {
            index.put(Revision(revision), &key.into(), value.into(), None);
        }
        index
    }

    fn keys(request: &RangeRequest) -> Vec<Bytes> {
        let response = read(&index(), request, Revision(5));
        response.kvs.into_iter().map(|kv| kv.key).collect()
    }

    fn all() -> RangeRequest {
        RangeRequest::new(KeyRange::all())
    }

    #[test]
    fn each_order_and_its_reverse() {
        let by = |by, descending| {
            keys(&RangeRequest {
                sort: Some(Sort { by, descending }),
                ..all()
            })
        };
        assert_eq!(by(SortBy::Key, false), ["/a", "/b", "/c"]);
        assert_eq!(by(SortBy::Key, true), ["/c", "/b", "/a"]);
        assert_eq!(
            by(SortBy::Version, false),
            ["/a", "/c", "/b"],
            "equal ones by key"
        );
        assert_eq!(by(SortBy::Version, true), ["/b", "/a", "/c"], "equal ones by key");
        assert_eq!(by(SortBy::Create, false), ["/c", "/b", "/a"]);
        assert_eq!(by(SortBy::Mod, false), ["/c", "/a", "/b"]);
        assert_eq!(by(SortBy::Value, true), ["/b", "/a", "/c"]);
    }

    #[test]
    fn a_limit_cuts_off_after_sorting_and_does_not_change_the_count() {
        let request = RangeRequest {
            limit: Some(2),
            ..all()
        };
        let response = read(&index(), &request, Revision(5));
        assert_eq!((response.kvs.len(), response.more, response.count), (2, true, 3));
        let request = RangeRequest {
            limit: Some(1),
            sort: Some(Sort {
                by: SortBy::Mod,
                descending: true,
            }),
            ..all()
        };
        assert_eq!(keys(&request), ["/b"]);
        let request = RangeRequest {
            limit: Some(3),
            ..all()
        };
        assert!(!read(&index(), &request, Revision(5)).more);
    }

    #[test]
    fn revision_filters_are_inclusive_and_do_not_change_the_count() {
        let request = RangeRequest {
            min_mod_revision: Some(Revision(4)),
            ..all()
        };
        assert_eq!(keys(&request), ["/a", "/b"]);
        assert_eq!(read(&index(), &request, Revision(5)).count, 3);
        let request = RangeRequest {
            max_mod_revision: Some(Revision(4)),
            ..all()
        };
        assert_eq!(keys(&request), ["/a", "/c"]);
        let request = RangeRequest {
            min_create_revision: Some(Revision(3)),
            max_create_revision: Some(Revision(3)),
            ..all()
        };
        assert_eq!(keys(&request), ["/b"]);
        let request = RangeRequest {
            max_create_revision: Some(Revision(3)),
            ..RangeRequest::new(key("/a").unwrap())
        };
        assert_eq!(keys(&request), [""; 0]);
    }

    #[test]
    fn keys_only_and_count_only_leave_out_the_rest() {
        let request = RangeRequest {
            keys_only: true,
            ..all()
        };
        let response = read(&index(), &request, Revision(5));
        assert!(
            response
                .kvs
                .iter()
                .all(|kv| kv.value.is_empty() && kv.version > 0)
        );
        let request = RangeRequest {
            count_only: true,
            limit: Some(1),
            ..all()
        };
        let response = read(&index(), &request, Revision(5));
        assert_eq!((response.kvs.len(), response.count, response.more), (0, 3, false));
    }

    #[test]
    fn pages_add_up_to_the_whole() {
        let index = index();
        for range in [KeyRange::all(), prefix("/").unwrap(), key("/b").unwrap()] {
            for revision in 1..=5 {
                let request = RangeRequest::new(range.clone());
                let mut collector = Collector::new(&request);
                let mut after = None;
                loop {
                    after = collector.page(&index, Revision(revision), after.as_deref(), 1);
                    if after.is_none() {
                        break;
                    }
                }
                assert_eq!(collector.finish(), read(&index, &request, Revision(revision)));
            }
        }
    }
}
