//! What a process would do about a signal.

use rustix::process::{Pid, Signal};

/// The signals for which a process has said what is to be done, as `/proc` tells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Dispositions {
    caught: u64,
    ignored: u64,
    /// By its first thread. Programs that read their signals instead of catching them block them.
    blocked: u64,
}

impl Dispositions {
    /// Those of this process; none where the system does not tell, or where there is no such process.
    pub(crate) fn of(pid: Pid) -> Option<Self> {
        let path = format!("/proc/{}/status", pid.as_raw_nonzero());
        Self::parse(&std::fs::read_to_string(path).ok()?)
    }

    fn parse(status: &str) -> Option<Self> {
        let mask = |name: &str| {
            let mask = status.lines().find_map(|line| line.strip_prefix(name))?;
            u64::from_str_radix(mask.trim(), 16).ok()
        };
        Some(Self {
            caught: mask("SigCgt:")?,
            ignored: mask("SigIgn:")?,
            blocked: mask("SigBlk:")?,
        })
    }

    /// Whether the process does something of its own about the signal. To ignore it is nothing of the kind: programs inherit
    /// that, as under `nohup`, until they have said what is to be done.
    pub(crate) fn handles(&self, signal: Signal) -> bool {
        (self.caught | self.blocked) & bit(signal) != 0
    }

    /// Whether the signal does nothing.
    pub(crate) fn ignores(&self, signal: Signal) -> bool {
        self.ignored & bit(signal) != 0
    }
}

/// Signals count from 1, bits from 0.
fn bit(signal: Signal) -> u64 {
    1_u64.checked_shl(signal.as_raw().unsigned_abs() - 1).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_catches_and_ignores_is_read_from_its_status() {
        // Of `sh -c "trap : USR1; trap '' HUP; ..."`, with SIGTERM blocked.
        let status = "Name:\tsh\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\nSigBlk:\t0000000000004000\n\
                      SigIgn:\t0000000000000001\nSigCgt:\t0000000000000200\nCapInh:\t0000000000000000\n";
        let shell = Dispositions::parse(status).unwrap();
        for signal in [Signal::USR1, Signal::TERM] {
            assert!(shell.handles(signal), "{signal:?}");
        }
        for signal in [Signal::HUP, Signal::USR2, Signal::INT] {
            assert!(!shell.handles(signal), "{signal:?}");
        }
        assert!(shell.ignores(Signal::HUP) && !shell.ignores(Signal::USR1));
        assert_eq!(Dispositions::parse("Name:\tsh\n"), None);
    }
}
