//! What the system tells of another process, on Linux.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Ticks a second in which `/proc` counts CPU: the same on every Linux.
const TICKS: u64 = 100;

/// CPU that a process has used so far, all of its threads, user and system.
///
/// # Errors
/// There is no such process.
pub fn cpu(pid: u32) -> Result<Duration> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).context("the server is gone")?;
    parse_cpu(&text).context("/proc tells no CPU")
}

/// Bytes of memory that are a process's own: in use, and neither a file's nor shared.
///
/// # Errors
/// There is no such process.
pub fn memory(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).context("the server is gone")?;
    parse_memory(&text).context("/proc tells no memory")
}

fn parse_cpu(stat: &str) -> Option<Duration> {
    // The name of the program may have anything in it.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 1000 / TICKS))
}

fn parse_memory(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kibibytes: u32 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(f64::from(kibibytes) * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_that_of_user_and_system() {
        let stat = "4711 (a) b) S 1 2 3 0 -1 4194560 5 6 7 8 150 50 9 10 20 0 3 0 100 1 2";
        assert_eq!(parse_cpu(stat), Some(Duration::from_secs(2)));
    }

    #[test]
    fn memory_is_what_is_no_file() {
        let status = "Name:\tetcd\nVmRSS:\t  3000 kB\nRssAnon:\t    2000 kB\nRssFile:\t    1000 kB\n";
        assert_eq!(parse_memory(status), Some(2_048_000.0));
    }
}
