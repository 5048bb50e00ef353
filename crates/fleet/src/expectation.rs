//! Whether a workload has what it was declared to have.

use crate::join::JoinedRow;
use crate::name::Role;
use crate::state::{Health, State};
use crate::workload::Workload;

/// An expectation that is not met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// The role.
    pub role: Role,
    /// How many there should be.
    pub min: u32,
    /// How many are running and not unhealthy.
    pub found: u32,
}

/// The expectations of a workload that these rows do not meet. Rows of other workloads do not count.
pub fn shortfalls<'a>(workload: &Workload, rows: impl IntoIterator<Item = &'a JoinedRow>) -> Vec<Shortfall> {
    let up: Vec<_> = rows
        .into_iter()
        .filter(|row| row.workload_id == workload.id && is_up(row))
        .collect();
    let all = workload.expect.iter().map(|(role, expect)| Shortfall {
        role: role.clone(),
        min: expect.min,
        found: u32::try_from(up.iter().filter(|row| row.role == *role).count()).unwrap_or(u32::MAX),
    });
    all.filter(|each| each.found < each.min).collect()
}

/// What `tidewatch wait --healthy` waits for: every expectation is met; without any, there is a row
/// and all rows are running and not unhealthy.
pub fn is_healthy<'a>(workload: &Workload, rows: impl IntoIterator<Item = &'a JoinedRow>) -> bool {
    if !workload.expect.is_empty() {
        return shortfalls(workload, rows).is_empty();
    }
    let mut own = rows
        .into_iter()
        .filter(|row| row.workload_id == workload.id)
        .peekable();
    own.peek().is_some() && own.all(is_up)
}

fn is_up(row: &JoinedRow) -> bool {
    row.state == State::Running && row.health != Some(Health::Unhealthy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::kv;
    use crate::view::View;
    use crate::workload::{Expect, Kind};

    fn rows(states: &[(&str, &str, &str)]) -> Vec<JoinedRow> {
        let mut view = View::default();
        view.put(&kv("/alive/h1", r#"{"instance":"i"}"#, 2));
        for (row, role, rest) in states {
            let value = format!(
                r#"{{"id":"shop:{row}","workload_id":"shop","workload_kind":"stack","role":"{role}","host":"h1",{rest}}}"#
            );
            view.put(&kv(&format!("/containers/shop/h1/{row}"), &value, 3));
        }
        assert!(view.skipped.is_empty(), "{:?}", view.skipped);
        view.joined()
    }

    fn shop(expect: &[(&str, u32)]) -> Workload {
        let mut workload = Workload::new("shop".parse().unwrap(), Kind::Stack);
        for (role, min) in expect {
            workload
                .expect
                .insert(role.parse().unwrap(), Expect { min: *min });
        }
        workload
    }

    #[test]
    fn an_expectation_counts_rows_of_the_role_that_run_and_are_not_unhealthy() {
        let rows = rows(&[
            ("web", "web", r#""state":"running","health":"healthy""#),
            ("web.2", "web", r#""state":"running","health":"unhealthy""#),
            ("web.3", "web", r#""state":"running""#),
            ("web.4", "web", r#""state":"stopped""#),
            ("db", "db", r#""state":"running","health":"starting""#),
        ]);
        assert!(is_healthy(&shop(&[("web", 2), ("db", 1)]), &rows));
        let short = shortfalls(&shop(&[("web", 3), ("cache", 1), ("db", 1)]), &rows);
        let short: Vec<_> = short.iter().map(|s| (s.role.as_str(), s.min, s.found)).collect();
        assert_eq!(short, [("cache", 1, 0), ("web", 3, 2)]);
    }

    #[test]
    fn without_expectations_there_must_be_a_row_and_all_must_run() {
        let workload = shop(&[]);
        let running = ("web", "web", r#""state":"running""#);
        assert!(!is_healthy(&workload, &[]));
        assert!(is_healthy(&workload, &rows(&[running])));
        for rest in [
            r#""state":"missing""#,
            r#""state":"stopped""#,
            r#""state":"running","health":"unhealthy""#,
        ] {
            assert!(
                !is_healthy(&workload, &rows(&[running, ("db", "db", rest)])),
                "{rest}"
            );
        }
        let other = Workload::new("other".parse().unwrap(), Kind::Stack);
        assert!(!is_healthy(&other, &rows(&[running])));
    }
}
