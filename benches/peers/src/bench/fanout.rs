//! What `fanout_burst` and `fanout_single` have in common.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;

use crate::contender::Fanout;
use crate::crowd::Crowd;
use crate::payload;
use crate::two_workers::{self, now};

const KEY: &str = "/fanout/key";

/// Watchers of the key.
const WATCHERS: usize = 1000;

/// How long one repetition publishes.
const MEASURED: Duration = Duration::from_secs(1);

/// How long it does so before, unmeasured: channels, rings and allocator have grown to their size then.
const WARM_UP: Duration = Duration::from_millis(200);

/// Deliveries a second, where events come in rounds of so many.
pub(super) fn deliveries<F: Fanout, const EVENTS: usize>() -> Result<f64> {
    two_workers::run(async {
        let values: Vec<_> = (0..EVENTS as u64).map(payload::numbered).collect();
        let fanout = F::start();
        let mut crowd = Crowd::gather(&fanout, KEY, WATCHERS, EVENTS).await?;
        rounds(&fanout, &mut crowd, &values, WARM_UP).await?;
        rounds(&fanout, &mut crowd, &values, MEASURED).await
    })
}

async fn rounds<F: Fanout>(
    fanout: &F,
    crowd: &mut Crowd,
    values: &[Bytes],
    at_least: Duration,
) -> Result<f64> {
    let started = now();
    let mut deliveries = 0;
    loop {
        crowd.round(fanout, KEY, values).await?;
        deliveries += WATCHERS * values.len();
        let elapsed = started.elapsed();
        if elapsed >= at_least {
            return Ok(deliveries as f64 / elapsed.as_secs_f64());
        }
    }
}
