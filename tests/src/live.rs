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
pub fn backend<T>(name: &str, found: anyhow::Result<T>) -> Option<T> {
    backend_if(is_required(), name, found)
}

#[expect(clippy::print_stderr, reason = "a test that did not run has to be heard of")]
fn backend_if<T>(required: bool, name: &str, found: anyhow::Result<T>) -> Option<T> {
    match found {
        Ok(backend) => Some(backend),
        Err(error) if required => {
            panic!("TIDEWATCH_LIVE_REQUIRED is set, but there is no {name}: {error:#}")
        }
        Err(error) => {
            eprintln!("\nNOT RUN: this test needs {name}, and there is none: {error:#}\n");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_backend_is_no_failure_unless_it_is_required() {
        let missing = || Err::<(), _>(anyhow::anyhow!("not installed"));
        assert!(backend_if(true, "engine", Ok(())).is_some());
        assert!(backend_if(false, "engine", missing()).is_none());
        let panicked = std::panic::catch_unwind(|| backend_if(true, "engine", missing())).unwrap_err();
        let text = panicked.downcast_ref::<String>().unwrap();
        assert!(text.contains("there is no engine: not installed"), "{text}");
    }
}
