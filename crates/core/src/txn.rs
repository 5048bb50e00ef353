//! Reads, writes and transactions, with their answers. Their meaning is etcd's.

use std::cmp::Ordering;

use bytes::Bytes;

use crate::error::Error;
use crate::event::KeyValue;
use crate::key::{KeyRange, check_key};
use crate::lease::LeaseId;
use crate::limits::{MAX_TXN_BYTES, MAX_TXN_OPS, MAX_TXN_OPS_NESTED, MAX_VALUE_BYTES};
use crate::revision::{KeyspaceId, Revision};

/// A read of the keys in a range, at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeRequest {
    /// Which keys.
    pub range: KeyRange,
    /// At which revision; none: the current one.
    pub revision: Option<Revision>,
    /// The most entries to return; none: all.
    pub limit: Option<usize>,
    /// In which order, and so which ones remain under a limit.
    pub sort: Option<Sort>,
    /// Return keys without values.
    pub keys_only: bool,
    /// Return the number of keys only.
    pub count_only: bool,
    /// Leave out entries written before this revision.
    pub min_mod_revision: Option<Revision>,
    /// Leave out entries written after this revision.
    pub max_mod_revision: Option<Revision>,
    /// Leave out entries created before this revision.
    pub min_create_revision: Option<Revision>,
    /// Leave out entries created after this revision.
    pub max_create_revision: Option<Revision>,
    /// A cached answer will do: the backend need not ask anybody else. Embedded keyspaces are always
    /// exact; see each backend for how old an answer may be.
    pub serializable: bool,
}

impl RangeRequest {
    /// A read of all of `range` as it is now, by key.
    pub fn new(range: KeyRange) -> Self {
        Self {
            range,
            revision: None,
            limit: None,
            sort: None,
            keys_only: false,
            count_only: false,
            min_mod_revision: None,
            max_mod_revision: None,
            min_create_revision: None,
            max_create_revision: None,
            serializable: false,
        }
    }
}

/// An order of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// By what.
    pub by: SortBy,
    /// From the largest to the smallest.
    pub descending: bool,
}

/// What entries are sorted by; equal ones stay in the order of their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortBy {
    /// The key.
    Key,
    /// The version.
    Version,
    /// The revision of creation.
    Create,
    /// The revision of the last write.
    Mod,
    /// The value.
    Value,
}

/// A write of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutRequest {
    /// The key.
    pub key: Bytes,
    /// Its new value.
    pub value: Bytes,
    /// The lease to attach it to; none detaches it.
    pub lease: Option<LeaseId>,
    /// Return the entry it replaces.
    pub prev_kv: bool,
    /// Keep the value there is, which must exist; `value` is empty then.
    pub ignore_value: bool,
    /// Keep the lease there is, if the key exists, which it must; `lease` is none then.
    pub ignore_lease: bool,
}

impl PutRequest {
    /// A write of `value` to `key`, without a lease.
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self {
            key: key.into(),
            value: value.into(),
            lease: None,
            prev_kv: false,
            ignore_value: false,
            ignore_lease: false,
        }
    }

    /// Attaches the key to `lease`.
    #[must_use]
    pub fn lease(mut self, lease: LeaseId) -> Self {
        self.lease = Some(lease);
        self
    }
}

/// The deletion of all keys in a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRequest {
    /// Which keys.
    pub range: KeyRange,
    /// Return the entries it removes.
    pub prev_kv: bool,
}

impl DeleteRequest {
    /// The deletion of all of `range`.
    pub fn new(range: KeyRange) -> Self {
        Self {
            range,
            prev_kv: false,
        }
    }
}

/// One condition of a transaction: `target` of every key in `range`, compared with a constant.
///
/// A range without keys compares as one absent key does (version, revisions and lease 0), except
/// that a value comparison with it is false, as in etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// Whose property.
    pub range: KeyRange,
    /// How it must relate to the constant.
    pub op: CompareOp,
    /// Which property, and the constant.
    pub target: CompareTarget,
}

/// How a property must relate to the constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareOp {
    /// The same.
    Equal,
    /// Greater than the constant.
    Greater,
    /// Less than the constant.
    Less,
    /// Different.
    NotEqual,
}

impl CompareOp {
    /// Whether a property that is ordered like this towards the constant passes.
    pub fn accepts(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::Greater => ordering.is_gt(),
            Self::Less => ordering.is_lt(),
            Self::NotEqual => ordering.is_ne(),
        }
    }
}

/// A property of an entry, and what to compare it with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareTarget {
    /// The version; 0 if the key is absent.
    Version(u64),
    /// The revision of creation; 0 if the key is absent.
    Create(Revision),
    /// The revision of the last write; 0 if the key is absent.
    Mod(Revision),
    /// The value.
    Value(Bytes),
    /// The lease; none if there is none or the key is absent.
    Lease(Option<LeaseId>),
}

impl Compare {
    /// Holds if `key` does not exist.
    pub fn absent(key: KeyRange) -> Self {
        Self {
            range: key,
            op: CompareOp::Equal,
            target: CompareTarget::Create(Revision(0)),
        }
    }

    /// Holds if `key` exists.
    pub fn exists(key: KeyRange) -> Self {
        Self {
            range: key,
            op: CompareOp::Greater,
            target: CompareTarget::Create(Revision(0)),
        }
    }

    /// Holds if `key` was last written at `revision`.
    pub fn mod_revision(key: KeyRange, revision: Revision) -> Self {
        Self {
            range: key,
            op: CompareOp::Equal,
            target: CompareTarget::Mod(revision),
        }
    }

    /// Holds if `key` was created at `revision`.
    pub fn create_revision(key: KeyRange, revision: Revision) -> Self {
        Self {
            range: key,
            op: CompareOp::Equal,
            target: CompareTarget::Create(revision),
        }
    }

    /// Holds if `key` has this value.
    pub fn value(key: KeyRange, value: impl Into<Bytes>) -> Self {
        Self {
            range: key,
            op: CompareOp::Equal,
            target: CompareTarget::Value(value.into()),
        }
    }
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A write.
    Put(PutRequest),
    /// A deletion.
    Delete(DeleteRequest),
    /// A read; it sees what the operations before it wrote.
    Range(RangeRequest),
    /// A transaction within the transaction. As in etcd, its compares see the keyspace as it was before
    /// the first operation of the outermost one.
    Txn(Txn),
}

/// A transaction: if all compares hold, `then` happens, otherwise `otherwise`; all at one revision
/// or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// The conditions; without any, `then` happens.
    pub compares: Vec<Compare>,
    /// What to do if all of them hold.
    pub then: Vec<Op>,
    /// What to do otherwise.
    pub otherwise: Vec<Op>,
}

impl Txn {
    /// A transaction that does nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition.
    #[must_use]
    pub fn when(mut self, compare: Compare) -> Self {
        self.compares.push(compare);
        self
    }

    /// Adds a write to what happens if all conditions hold.
    #[must_use]
    pub fn put(mut self, put: PutRequest) -> Self {
        self.then.push(Op::Put(put));
        self
    }

    /// Adds a deletion to what happens if all conditions hold.
    #[must_use]
    pub fn delete(mut self, range: KeyRange) -> Self {
        self.then.push(Op::Delete(DeleteRequest::new(range)));
        self
    }

    /// Adds an operation to what happens if all conditions hold.
    #[must_use]
    pub fn and_then(mut self, op: Op) -> Self {
        self.then.push(op);
        self
    }

    /// Adds an operation to what happens if a condition does not hold.
    #[must_use]
    pub fn or_else(mut self, op: Op) -> Self {
        self.otherwise.push(op);
        self
    }

    /// Whether no branch can write anything.
    pub fn is_read_only(&self) -> bool {
        self.then.iter().chain(&self.otherwise).all(|op| match op {
            Op::Range(_) => true,
            Op::Txn(txn) => txn.is_read_only(),
            Op::Put(_) | Op::Delete(_) => false,
        })
    }

    /// Checks sizes, keys, and that no key is written twice. Every backend calls this before it does
    /// anything else.
    ///
    /// # Errors
    /// [`Error::InvalidKey`], [`Error::ValueTooLarge`], [`Error::TxnTooLarge`],
    /// [`Error::TooManyOps`], [`Error::DuplicateKey`], [`Error::InvalidArgument`].
    pub fn validate(&self) -> Result<(), Error> {
        Size::default().add(self, MAX_TXN_OPS)?;
        check_duplicates(&self.then, &mut Vec::new(), &mut Vec::new())?;
        check_duplicates(&self.otherwise, &mut Vec::new(), &mut Vec::new())
    }
}

impl From<PutRequest> for Txn {
    fn from(put: PutRequest) -> Self {
        Self {
            then: vec![Op::Put(put)],
            ..Self::default()
        }
    }
}

impl From<DeleteRequest> for Txn {
    fn from(delete: DeleteRequest) -> Self {
        Self {
            then: vec![Op::Delete(delete)],
            ..Self::default()
        }
    }
}

#[derive(Default)]
struct Size {
    bytes: usize,
    /// Compares and operations of all branches.
    ops: usize,
}

impl Size {
    /// Counts as etcd does: the longest of the three lists uses up the allowance, and what is left
    /// of it is for nested transactions, which bounds their depth too. It does not bound how many they
    /// are together, so that is counted as well.
    fn add(&mut self, txn: &Txn, allowance: usize) -> Result<(), Error> {
        let ops = txn.compares.len().max(txn.then.len()).max(txn.otherwise.len());
        if ops > allowance {
            return Err(Error::TooManyOps {
                ops: ops + (MAX_TXN_OPS - allowance),
                max: MAX_TXN_OPS,
            });
        }
        self.ops += txn.compares.len() + txn.then.len() + txn.otherwise.len();
        if self.ops > MAX_TXN_OPS_NESTED {
            return Err(Error::TooManyOps {
                ops: self.ops,
                max: MAX_TXN_OPS_NESTED,
            });
        }
        for compare in &txn.compares {
            check_range(&compare.range)?;
            let constant = match &compare.target {
                CompareTarget::Value(value) => value.len(),
                _ => size_of::<u64>(),
            };
            self.count(compare.range.start().len() + constant)?;
        }
        for op in txn.then.iter().chain(&txn.otherwise) {
            match op {
                Op::Put(put) => {
                    check_put(put)?;
                    self.count(put.key.len() + put.value.len())?;
                }
                Op::Delete(DeleteRequest { range, .. }) | Op::Range(RangeRequest { range, .. }) => {
                    check_range(range)?;
                    self.count(range.start().len())?;
                }
                Op::Txn(nested) => self.add(nested, (allowance - ops).min(allowance - 1))?,
            }
        }
        Ok(())
    }

    fn count(&mut self, bytes: usize) -> Result<(), Error> {
        self.bytes += bytes;
        if self.bytes > MAX_TXN_BYTES {
            return Err(Error::TxnTooLarge {
                len: self.bytes,
                max: MAX_TXN_BYTES,
            });
        }
        Ok(())
    }
}

fn check_put(put: &PutRequest) -> Result<(), Error> {
    check_key(&put.key)?;
    if put.value.len() > MAX_VALUE_BYTES {
        return Err(Error::ValueTooLarge {
            key: put.key.clone(),
            len: put.value.len(),
            max: MAX_VALUE_BYTES,
        });
    }
    if put.ignore_value && !put.value.is_empty() {
        return Err(Error::InvalidArgument {
            what: "put",
            reason: "a value was provided together with ignore_value".into(),
        });
    }
    if put.ignore_lease && put.lease.is_some() {
        return Err(Error::InvalidArgument {
            what: "put",
            reason: "a lease was provided together with ignore_lease".into(),
        });
    }
    Ok(())
}

fn check_range(range: &KeyRange) -> Result<(), Error> {
    match range.as_single() {
        Some(key) => check_key(key),
        None => Ok(()),
    }
}

/// Refuses a branch that may write a key twice: two puts of it, or a put and a deletion around it.
/// The two branches of a nested transaction exclude each other, so each is checked on its own
/// against what surrounds it.
fn check_duplicates<'a>(
    ops: &'a [Op],
    puts: &mut Vec<&'a Bytes>,
    deletes: &mut Vec<&'a KeyRange>,
) -> Result<(), Error> {
    for op in ops {
        match op {
            Op::Put(put) => {
                if puts.contains(&&put.key) || deletes.iter().any(|range| range.contains(&put.key)) {
                    return Err(Error::DuplicateKey { key: put.key.clone() });
                }
                puts.push(&put.key);
            }
            Op::Delete(delete) => {
                if let Some(key) = puts.iter().find(|key| delete.range.contains(key)) {
                    return Err(Error::DuplicateKey { key: (*key).clone() });
                }
                deletes.push(&delete.range);
            }
            Op::Txn(txn) => {
                let (outer_puts, outer_deletes) = (puts.clone(), deletes.clone());
                let (mut else_puts, mut else_deletes) = (outer_puts.clone(), outer_deletes.clone());
                check_duplicates(&txn.then, puts, deletes)?;
                check_duplicates(&txn.otherwise, &mut else_puts, &mut else_deletes)?;
                puts.extend(&else_puts[outer_puts.len()..]);
                deletes.extend(&else_deletes[outer_deletes.len()..]);
            }
            Op::Range(_) => {}
        }
    }
    Ok(())
}

/// Where an answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The keyspace that answered.
    pub keyspace: KeyspaceId,
    /// Its revision when it did; for a write, the revision it made.
    pub revision: Revision,
}

/// The answer to a [`RangeRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeResponse {
    /// The entries.
    pub kvs: Vec<KeyValue>,
    /// Whether there are more than the limit let through.
    pub more: bool,
    /// How many keys the range holds, whatever the limit and the revision filters, as in etcd.
    pub count: u64,
}

/// The answer to one operation of a transaction, of the same variant as the operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpResponse {
    /// Of a write: the entry it replaced, if that was asked for and there was one.
    Put {
        /// The entry before.
        prev: Option<KeyValue>,
    },
    /// Of a deletion.
    Delete {
        /// How many keys were removed.
        deleted: u64,
        /// Their entries, if that was asked for.
        prev: Vec<KeyValue>,
    },
    /// Of a read.
    Range(RangeResponse),
    /// Of a nested transaction.
    Txn {
        /// Whether its compares held.
        succeeded: bool,
        /// The answers to the operations of the branch that happened.
        responses: Vec<Self>,
    },
}

/// The answer to a [`Txn`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnResponse {
    /// Who answered, at which revision.
    pub header: Header,
    /// Whether the compares held.
    pub succeeded: bool,
    /// The answers to the operations of the branch that happened.
    pub responses: Vec<OpResponse>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_does_not_multiply_what_one_transaction_may_hold() {
        // No list is longer than what its level is allowed, yet there are two thousand operations.
        let mut bushy = Txn::new();
        for ops in [4, 16, 32] {
            bushy = Txn {
                compares: Vec::new(),
                then: vec![Op::Txn(bushy.clone()); ops],
                otherwise: Vec::new(),
            };
        }
        let error = bushy.validate().unwrap_err();
        assert!(
            matches!(
                error,
                Error::TooManyOps {
                    max: MAX_TXN_OPS_NESTED,
                    ..
                }
            ),
            "{error}"
        );
        let full = vec![Op::Range(RangeRequest::new(KeyRange::all())); MAX_TXN_OPS];
        let flat = Txn {
            compares: vec![Compare::absent(KeyRange::all()); MAX_TXN_OPS],
            then: full.clone(),
            otherwise: full,
        };
        flat.validate().unwrap();
    }
}
