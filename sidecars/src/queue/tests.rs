use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn backoff() -> Backoff {
    Backoff::with_random(SECOND, 60 * SECOND, || 1.0)
}

/// The bookkeeping with a clock of the test's own.
struct Bench {
    state: State<u32>,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self { state: State::default(), now: Instant::now() }
    }

    fn add(&mut self, key: u32) -> bool {
        self.state.add(key, self.now)
    }

    fn take(&mut self) -> Option<u32> {
        match self.state.take(self.now) {
            Taken::Key { key, .. } => Some(key),
            Taken::NothingUntil(_) => None,
        }
    }

    fn finish(&mut self, key: u32, outcome: Outcome) -> bool {
        self.state.finish(key, outcome, &backoff(), self.now)
    }
}

#[test]
fn a_key_added_twice_runs_once() {
    let mut bench = Bench::new();
    assert!(bench.add(1));
    assert!(!bench.add(1));
    assert_eq!(bench.state.depth(), 1);
    assert_eq!(bench.take(), Some(1));
    bench.finish(1, Outcome::Done);
    assert_eq!(bench.take(), None);
    assert_eq!(bench.state.take(bench.now), Taken::NothingUntil(None));
}

#[test]
fn a_key_added_while_running_runs_again_but_never_twice_at_once() {
    let mut bench = Bench::new();
    bench.add(1);
    assert_eq!(bench.take(), Some(1));
    assert!(!bench.add(1));
    assert_eq!(bench.take(), None);
    assert!(bench.finish(1, Outcome::Done));
    assert_eq!(bench.take(), Some(1));
    assert!(!bench.finish(1, Outcome::Done));
    assert_eq!(bench.take(), None);
}

#[test]
fn failures_back_off_and_success_forgets_them() {
    let mut bench = Bench::new();
    bench.add(1);
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(bench.take(), Some(1));
        assert!(bench.finish(1, Outcome::Retry), "a sleeping worker must learn of the new time");
        let due = bench.now + seconds * SECOND;
        assert_eq!(bench.state.take(bench.now), Taken::NothingUntil(Some(due)));
        bench.now = due;
    }
    assert_eq!(bench.take(), Some(1));
    bench.finish(1, Outcome::Done);
    bench.add(1);
    assert_eq!(bench.take(), Some(1));
    bench.finish(1, Outcome::Retry);
    assert_eq!(bench.state.take(bench.now), Taken::NothingUntil(Some(bench.now + SECOND)));
}

#[test]
fn a_change_during_backoff_runs_at_once_and_only_once() {
    let mut bench = Bench::new();
    bench.add(1);
    bench.take();
    bench.finish(1, Outcome::After(300 * SECOND));
    assert_eq!(bench.take(), None);
    assert!(bench.add(1));
    assert_eq!(bench.take(), Some(1));
    bench.finish(1, Outcome::Done);
    bench.now += 600 * SECOND;
    assert_eq!(bench.take(), None);
}

#[test]
fn a_change_while_failing_runs_again_without_a_wait() {
    let mut bench = Bench::new();
    bench.add(1);
    bench.take();
    bench.add(1);
    bench.finish(1, Outcome::Retry);
    assert_eq!(bench.take(), Some(1));
}

#[test]
fn oldest_age_counts_waiting_and_running_but_not_backoff() {
    let mut bench = Bench::new();
    assert_eq!(bench.state.oldest_age(bench.now), Duration::ZERO);
    bench.add(1);
    bench.now += 5 * SECOND;
    assert_eq!(bench.state.oldest_age(bench.now), 5 * SECOND);
    bench.take();
    bench.now += 7 * SECOND;
    assert_eq!(bench.state.oldest_age(bench.now), 7 * SECOND);
    bench.finish(1, Outcome::Retry);
    assert_eq!(bench.state.oldest_age(bench.now), Duration::ZERO);
}

#[tokio::test]
async fn workers_are_bounded_and_every_key_is_worked_on() {
    let queue: Arc<Queue<u32>> = Arc::new(Queue::new(backoff()));
    let counts: [Arc<AtomicUsize>; 3] = Default::default();
    let cancel = CancellationToken::new();
    for key in 0..100 {
        queue.add(key);
    }
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let work = {
        let (counts, cancel, gate) = (counts.clone(), cancel.clone(), Arc::clone(&gate));
        move |_| {
            let ([now, most, done], cancel, gate) = (counts.clone(), cancel.clone(), Arc::clone(&gate));
            async move {
                let running = now.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(running, Ordering::SeqCst);
                if running == 4 {
                    // All workers have a key: from here on nobody waits.
                    gate.add_permits(1000);
                }
                gate.acquire().await.expect("never closed").forget();
                now.fetch_sub(1, Ordering::SeqCst);
                if done.fetch_add(1, Ordering::SeqCst) == 99 {
                    cancel.cancel();
                }
                Outcome::Done
            }
        }
    };
    run_workers(queue, 4, cancel, work).await.expect("no worker panics");
    let [_, most, done] = counts;
    assert_eq!(done.load(Ordering::SeqCst), 100);
    assert_eq!(most.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_delayed_key_wakes_a_sleeping_worker() {
    let queue: Arc<Queue<u32>> = Arc::new(Queue::new(Backoff::with_random(
        Duration::from_millis(10),
        Duration::from_millis(10),
        || 0.0,
    )));
    queue.add(1);
    let cancel = CancellationToken::new();
    let tries = Arc::new(AtomicUsize::new(0));
    let work = {
        let (tries, cancel) = (Arc::clone(&tries), cancel.clone());
        move |_| {
            let (tries, cancel) = (Arc::clone(&tries), cancel.clone());
            async move {
                if tries.fetch_add(1, Ordering::SeqCst) == 2 {
                    cancel.cancel();
                    return Outcome::Done;
                }
                Outcome::Retry
            }
        }
    };
    run_workers(queue, 3, cancel, work).await.expect("no worker panics");
    assert_eq!(tries.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_panic_is_a_failure_of_its_key_alone() {
    let delay = Duration::from_millis(1);
    let queue: Arc<Queue<u32>> = Arc::new(Queue::new(Backoff::with_random(delay, delay, || 0.0)));
    let (cancel, done) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    for key in 0..5 {
        queue.add(key);
    }
    let work = {
        let (cancel, queue) = (cancel.clone(), Arc::clone(&queue));
        move |key: u32| {
            let (cancel, queue, done) = (cancel.clone(), Arc::clone(&queue), Arc::clone(&done));
            async move {
                let enough = done.load(Ordering::SeqCst) == 4 && Gauges::panics(&*queue) >= 2;
                assert!(key != 1 || enough, "this panic is part of the test");
                if key == 1 {
                    cancel.cancel();
                } else {
                    done.fetch_add(1, Ordering::SeqCst);
                }
                Outcome::Done
            }
        }
    };
    run_workers(Arc::clone(&queue), 2, cancel, work).await.expect("the workers go on");
    assert!(Gauges::panics(&*queue) >= 2, "it was tried again");
}

proptest! {
    #[test]
    fn a_wait_is_within_its_bounds(failures in 1u32..100, random in 0.0f64..1.0) {
        let (first, longest) = (Duration::from_millis(200), Duration::from_secs(300));
        let delay = Backoff::with_random(first, longest, move || random).delay(failures);
        prop_assert!(delay >= first / 2);
        prop_assert!(delay <= longest);
    }
}
