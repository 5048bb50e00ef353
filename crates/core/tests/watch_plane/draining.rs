//! The end of all watches of a server that goes away.

use super::*;

#[tokio::test]
async fn each_watch_is_told_where_to_resume_and_a_time_of_its_own() {
    let mut plane = Plane::new();
    let mut watches: Vec<_> = (0..20).map(|_| plane.exact("/a").into_watch()).collect();
    plane.put("/a", "1");
    for watch in &mut watches {
        next_batch(watch).await;
    }
    let retry_after = Duration::from_secs(10);
    plane.registry.close(EndReason::Draining { retry_after });
    let mut times = Vec::new();
    for watch in &mut watches {
        let ended = end_of(watch).await;
        assert_eq!(
            ended.resume,
            Some(Position {
                keyspace: KEYSPACE,
                revision: Revision(2)
            })
        );
        let EndReason::Draining { retry_after: own } = ended.reason else {
            panic!("{ended}")
        };
        assert!(own >= retry_after / 2 && own <= retry_after);
        times.push(own);
    }
    times.sort();
    times.dedup();
    assert!(times.len() > 10, "they do not come back together");
}
