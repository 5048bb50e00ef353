//! Live tests whose backend is missing.

use std::env;

/// Whether a missing backend is a failure: `TIDEWATCH_LIVE_REQUIRED=1`.
pub fn is_required() -> bool {
    env::var_os("TIDEWATCH_LIVE_REQUIRED").is_some_and(|value| !value.is_empty() && value != "0")
}

/// The backend, or word of why the test did not run.
///
/// # Panics
/// Where the backend is required and missing.
#[expect(clippy::print_stderr, reason = "a test that did not run has to be heard of")]
pub fn backend<T>(name: &str, found: anyhow::Result<T>) -> Option<T> {
    match found {
        Ok(backend) => Some(backend),
        Err(error) if is_required() => {
            panic!("TIDEWATCH_LIVE_REQUIRED is set, but there is no {name}: {error:#}")
        }
        Err(error) => {
            eprintln!("\nNOT RUN: this test needs {name}, and there is none: {error:#}\n");
            None
        }
    }
}
