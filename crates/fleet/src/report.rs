//! What a reconciler tells about its host: held in memory by those who are told, never written.

use std::time::{Duration, SystemTime};

use crate::state::State;

/// The most verdicts that are told of one host. Beyond it those without a row come first, because the others
/// have a row that can be looked at.
pub const MAX_VERDICTS: usize = 5_000;

/// The most bytes of text that they may have together: a quarter of what a server accepts in one message.
pub const MAX_VERDICTS_BYTES: usize = 1 << 20;

/// How the reconciler of a host is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostReport {
    /// Whether Docker answers. None: not asked yet.
    pub reachable: Option<bool>,
    /// Since when that is so.
    pub since: Option<SystemTime>,
    /// Why Docker does not answer, or what else keeps the reconciler from its work; empty if nothing does.
    pub error: String,
    /// When everything was last listed and written.
    pub last_sync: Option<SystemTime>,
    /// From the oldest event of the last burst to the commit of what it led to.
    pub lag: Duration,
    /// Containers in the last full list.
    pub containers: u64,
    /// Full resyncs since the reconciler started.
    pub resyncs: u64,
    /// Events of Docker.
    pub events: u64,
    /// Keys written or deleted.
    pub changes: u64,
    /// Of these, rows that a periodic resync had to repair: events were lost.
    pub drift: u64,
    /// Connections to Docker that failed or were lost.
    pub failures: u64,
}

/// What became of a container, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerVerdict {
    /// Docker's id of the container.
    pub container_id: String,
    /// Its name.
    pub name: String,
    /// Its image.
    pub image_ref: String,
    /// Its state, if it has no row; one that has tells it there.
    pub state: State,
    /// The key of its row, if it has one.
    pub row: Option<String>,
    /// A stable name for why that is so.
    pub reason: String,
    /// The same for people, with what to do about it.
    pub message: String,
}

/// What became of the containers of a host, within bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Those that fit.
    pub verdicts: Vec<ContainerVerdict>,
    /// How many did not.
    pub omitted: u64,
}

impl Verdicts {
    /// Takes those without a row first, then the others, as long as there is room.
    pub fn bounded(all: impl IntoIterator<Item = ContainerVerdict>) -> Self {
        let (tracked, mut ordered): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|verdict| verdict.row.is_some());
        ordered.extend(tracked);
        let mut bytes = 0;
        let fits = ordered.iter().take(MAX_VERDICTS).take_while(|verdict| {
            bytes += verdict.bytes();
            bytes <= MAX_VERDICTS_BYTES
        });
        let fits = fits.count();
        let omitted = (ordered.len() - fits) as u64;
        ordered.truncate(fits);
        Self {
            verdicts: ordered,
            omitted,
        }
    }

    /// How much memory they take, about, in bytes.
    pub fn bytes(&self) -> usize {
        let each = |verdict: &ContainerVerdict| size_of::<ContainerVerdict>() + verdict.bytes();
        self.verdicts.iter().map(each).sum()
    }
}

impl ContainerVerdict {
    /// Whether it is about the container that is named like this, or whose id begins like this.
    pub fn is_about(&self, container: &str) -> bool {
        let wanted = container.trim_start_matches('/');
        !wanted.is_empty() && (self.name == wanted || self.container_id.starts_with(wanted))
    }

    fn bytes(&self) -> usize {
        let row = self.row.as_ref().map_or(0, String::len);
        let texts = [
            &self.container_id,
            &self.name,
            &self.image_ref,
            &self.reason,
            &self.message,
        ];
        row + texts.into_iter().map(String::len).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(id: usize, row: bool, message: &str) -> ContainerVerdict {
        ContainerVerdict {
            container_id: format!("c{id}"),
            name: format!("web-{id}"),
            image_ref: String::new(),
            state: State::Running,
            row: row.then(|| format!("/containers/shop/h1/web.{id}")),
            reason: "labels".to_owned(),
            message: message.to_owned(),
        }
    }

    #[test]
    fn what_does_not_fit_is_counted_and_those_without_a_row_fit_first() {
        let all = (0..MAX_VERDICTS + 10).map(|id| verdict(id, id >= 20, ""));
        let told = Verdicts::bounded(all);
        assert_eq!((told.verdicts.len(), told.omitted), (MAX_VERDICTS, 10));
        assert!(told.verdicts[..20].iter().all(|verdict| verdict.row.is_none()));
        let long = "x".repeat(MAX_VERDICTS_BYTES / 4);
        let told = Verdicts::bounded((0..9).map(|id| verdict(id, true, &long)));
        assert_eq!((told.verdicts.len(), told.omitted), (3, 6));
    }

    #[test]
    fn a_container_is_meant_by_its_name_or_the_beginning_of_its_id() {
        let verdict = verdict(12, false, "");
        for (container, meant) in [
            ("web-12", true),
            ("/web-12", true),
            ("c1", true),
            ("web", false),
            ("", false),
        ] {
            assert_eq!(verdict.is_about(container), meant, "{container}");
        }
    }
}
