//! What setting up something that follows etcd has in common.

use std::time::Duration;

use crate::failure::Failure;

/// How long the start may take unless told otherwise: an election, and a member or two that do not answer.
pub const DEFAULT_START_BUDGET: Duration = Duration::from_secs(10);

/// The longest start that is waited for; who asks for more means for ever.
pub(crate) const LONGEST_START: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Counts failures that only a person can mend. One endpoint may be set up wrongly, and a refused handshake may also look like a
/// connection that broke; when as many in a row as there are endpoints have ended like that, there is no hope.
#[derive(Debug)]
pub(crate) struct Hopeless {
    endpoints: usize,
    in_a_row: usize,
}

impl Hopeless {
    pub(crate) fn new(endpoints: usize) -> Self {
        Self {
            endpoints,
            in_a_row: 0,
        }
    }

    /// Notes a failure, and says whether there is no hope.
    pub(crate) fn failed(&mut self, failure: &Failure) -> bool {
        self.in_a_row = if failure.kind.needs_a_hand() {
            self.in_a_row + 1
        } else {
            0
        };
        self.in_a_row >= self.endpoints
    }
}
