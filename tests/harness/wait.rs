//! Waiting for something to become so, with a bound.

use std::time::Duration;

use tokio::time::{Instant, sleep};

const POLL: Duration = Duration::from_millis(20);

/// Polls until `probe` has a value.
///
/// # Panics
/// With the probe's last objection, if it has none within the time.
pub async fn until<T>(
    what: &str,
    within: Duration,
    mut probe: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + within;
    loop {
        match probe().await {
            Ok(value) => return value,
            Err(problem) if Instant::now() >= deadline => {
                panic!("after {within:?} still not so: {what}: {problem}")
            }
            Err(_) => sleep(POLL).await,
        }
    }
}

/// `Ok` if so, else the objection.
pub fn so(is: bool, objection: impl FnOnce() -> String) -> Result<(), String> {
    if is { Ok(()) } else { Err(objection()) }
}
