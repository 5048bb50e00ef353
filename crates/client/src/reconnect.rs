//! What a watch tells about its connection.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tidewatch_core::Position;

/// The pause before the first attempt to resume a watch is drawn below this: a server that was
/// restarted is back in a moment.
pub(crate) const FIRST_WATCH_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause between two attempts to resume a watch. Ten thousand watches of one server then
/// make about four thousand attempts a second, which it can refuse.
pub const MAX_WATCH_PAUSE: Duration = Duration::from_secs(5);

/// What happens to the connection of a running watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reconnect {
    /// The connection was lost, or could not be made again.
    Lost {
        /// Why.
        error: String,
        /// How often it has been lost or not been made since the watch last worked; 1 at first.
        attempt: u32,
        /// How long the watch waits before it tries again.
        retry_in: Duration,
        /// Where it will go on. None: at its start, or with a new snapshot.
        resume: Option<Position>,
    },
    /// The watch goes on.
    Resumed {
        /// After how many attempts.
        attempts: u32,
        /// From where. None: from its start, or with a new snapshot.
        resume: Option<Position>,
    },
}

/// Who is told.
pub(crate) type OnReconnect = Arc<dyn Fn(&Reconnect) + Send + Sync>;

impl fmt::Display for Reconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resume = match self {
            Self::Lost {
                error,
                retry_in,
                resume,
                ..
            } => {
                write!(
                    f,
                    "disconnected: {error}; retrying in {} ms",
                    retry_in.as_millis()
                )?;
                resume
            }
            Self::Resumed { resume, .. } => {
                f.write_str("connected again")?;
                resume
            }
        };
        match resume {
            Some(position) => write!(f, ", going on after revision {}", position.revision),
            None => f.write_str(", starting over"),
        }
    }
}
