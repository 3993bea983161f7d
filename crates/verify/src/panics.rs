//! Panics as values: a driver that refuses a kernel ends in a panic of burn's.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Returns the result of `work`, or the message of its error or panic.
///
/// # Errors
/// The error or the panic of `work`, as text.
pub fn catch_panics<T, E: Display>(work: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            Err(text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("panicked without a message").to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::catch_panics;

    #[test]
    fn a_panic_is_returned_as_its_message() {
        assert_eq!(catch_panics::<(), String>(|| panic!("no kernel")), Err("no kernel".to_owned()));
    }
}
