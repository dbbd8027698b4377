//! What keeps a process that has lost its lease from writing.
//!
//! The holder of a lease may act for as long as nobody else can have taken it. That is known from the holder's own clock
//! alone: from the moment before its last successful renewal was sent, for the renew deadline, which is shorter than the
//! time after which others take the lease. Every write asks this clock before it is sent, so that a process that was
//! stopped and goes on (a paused machine, a debugger) writes nothing before it has looked at its lease again; and a write
//! that is under way when the time runs out is dropped.
//!
//! It is asked once more when the body of the request is handed to the socket: between the two a request waits for a
//! connection and for the task that serves it, and that is where a process that is stopped has its requests.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Poll, ready},
    time::Duration,
};

use http::Request;
use hyper::body::{Frame, SizeHint};
use jiff::Timestamp;
use kube::{Client, client::Body};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The lease was lost, or its last renewal is too long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the leader's lease was lost: nothing was sent")]
pub(crate) struct NotLeading;

/// One term of holding a lease. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Fence(Option<Arc<Term>>);

#[derive(Debug)]
struct Term {
    renewed: Mutex<Renewed>,
    valid_for: Duration,
    ended: CancellationToken,
}

/// A moment before a lease was taken or renewed, on two clocks: one stands still while the machine sleeps, the other can
/// be set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Renewed {
    at: Instant,
    wall: Timestamp,
}

impl Renewed {
    pub(super) fn now() -> Self {
        Self { at: Instant::now(), wall: Timestamp::now() }
    }

    /// By the clock that says more: a jump ahead costs an election, a sleep that is not seen costs data.
    fn age(&self) -> Duration {
        let wall = Timestamp::now().duration_since(self.wall);
        self.at.elapsed().max(wall.try_into().unwrap_or(Duration::ZERO))
    }
}

impl Fence {
    /// For who needs no lease.
    pub(crate) fn open() -> Self {
        Self(None)
    }

    /// A term that began at `taken`.
    pub(super) fn term(taken: Renewed, valid_for: Duration) -> Self {
        let renewed = Mutex::new(taken);
        Self(Some(Arc::new(Term { renewed, valid_for, ended: CancellationToken::new() })))
    }

    /// After a successful renewal that was sent after `renewed`.
    pub(super) fn extend(&self, renewed: Renewed) {
        if let Some(term) = &self.0 {
            *term.renewed.lock() = renewed;
        }
    }

    /// Ends the term for good.
    pub(super) fn end(&self) {
        if let Some(term) = &self.0 {
            term.ended.cancel();
        }
    }

    /// For how long it is certain from now on that nobody else leads; nothing once the term has ended.
    pub(crate) fn left(&self) -> Duration {
        match &self.0 {
            None => Duration::MAX,
            Some(term) if term.ended.is_cancelled() => Duration::ZERO,
            Some(term) => term.valid_for.saturating_sub(term.renewed.lock().age()),
        }
    }

    /// Whether the term should have been ended longer than `grace` ago.
    pub(crate) fn is_overdue(&self, grace: Duration) -> bool {
        self.0.as_ref().is_some_and(|term| {
            !term.ended.is_cancelled() && term.renewed.lock().age() > term.valid_for + grace
        })
    }

    /// Does `write` if the lease is held, and no longer than that.
    pub(crate) async fn pass<T>(&self, write: impl Future<Output = T>) -> Result<T, NotLeading> {
        let Some(term) = &self.0 else { return Ok(write.await) };
        if self.left().is_zero() {
            return Err(NotLeading);
        }
        tokio::select! {
            biased;
            () = term.ended.cancelled() => Err(NotLeading),
            done = write => Ok(done),
        }
    }

    /// A request's body that nobody gets once the lease is lost: a request without its body is not done.
    pub(crate) fn guard<B>(&self, body: B) -> Guarded<B> {
        Guarded { fence: self.clone(), body, over: false }
    }

    /// A client whose writes pass here.
    pub(crate) fn client(&self, client: &Client) -> Client {
        let (fence, inner) = (self.clone(), client.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (fence, inner) = (fence.clone(), inner.clone());
            async move {
                if request.method().is_safe() {
                    return inner.send(request).await;
                }
                match fence.pass(inner.send(request)).await {
                    Ok(sent) => sent,
                    Err(lost) => Err(kube::Error::Service(Box::new(lost))),
                }
            }
        });
        Client::new(service, client.default_namespace())
    }
}

/// See [`Fence::guard`].
pub(crate) struct Guarded<B> {
    fence: Fence,
    body: B,
    over: bool,
}

impl<B> hyper::body::Body for Guarded<B>
where
    B: hyper::body::Body + Unpin,
    B::Error: Into<tower::BoxError>,
{
    type Data = B::Data;
    type Error = tower::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if self.fence.left().is_zero() {
            self.over = true;
            return Poll::Ready(Some(Err(NotLeading.into())));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const TERM: Duration = Duration::from_secs(100);

    /// By both clocks, or by one of them.
    fn ago(by_the_clock: Duration, by_the_wall: Duration) -> Renewed {
        let at = Instant::now().checked_sub(by_the_clock).expect("the machine has run for a while");
        let wall = Timestamp::now() - jiff::SignedDuration::try_from(by_the_wall).expect("fits");
        Renewed { at, wall }
    }

    #[tokio::test]
    async fn a_term_ends_with_its_time_by_either_clock() {
        let none = Duration::ZERO;
        for (number, age, passes) in [
            (1, (none, none), true),
            (2, (TERM - SECOND, TERM - SECOND), true),
            (3, (TERM, TERM), false),
            // The machine slept, and then somebody set the clock.
            (4, (none, TERM), false),
            (5, (TERM, none), false),
        ] {
            let fence = Fence::term(ago(age.0, age.1), TERM);
            assert_eq!(fence.pass(async {}).await.is_ok(), passes, "row {number}");
            assert_eq!(fence.left().is_zero(), !passes, "row {number}");
        }
        // A clock set back is no reason.
        let wall = Timestamp::now() + jiff::SignedDuration::from_hours(1);
        assert_eq!(Fence::term(Renewed { at: Instant::now(), wall }, TERM).pass(async { 1 }).await, Ok(1));
        assert_eq!(Fence::open().pass(async { 2 }).await, Ok(2));
    }

    #[tokio::test]
    async fn renewals_count_until_the_end() {
        let fence = Fence::term(ago(TERM, TERM), TERM);
        assert!(!fence.is_overdue(SECOND));
        assert!(Fence::term(ago(TERM + SECOND, TERM), TERM).is_overdue(SECOND), "nobody ended it");
        fence.extend(Renewed::now());
        assert_eq!(fence.pass(async { 1 }).await, Ok(1));
        fence.end();
        assert_eq!(fence.pass(async { 2 }).await, Err(NotLeading));
        fence.extend(Renewed::now());
        assert_eq!(fence.pass(async { 3 }).await, Err(NotLeading), "for good");
        assert!(!Fence::term(ago(TERM, TERM), TERM).is_overdue(SECOND) && !fence.is_overdue(SECOND));
    }

    #[tokio::test]
    async fn a_body_is_not_handed_over_once_the_term_has_ended() {
        let fence = Fence::term(Renewed::now(), TERM);
        let body = || Body::from(b"a write".to_vec());
        let mut sent = fence.guard(body());
        let frame = std::future::poll_fn(|cx| hyper::body::Body::poll_frame(Pin::new(&mut sent), cx)).await;
        assert!(frame.is_some_and(|frame| frame.is_ok()));
        let mut kept = fence.guard(body());
        fence.end();
        let frame = std::future::poll_fn(|cx| hyper::body::Body::poll_frame(Pin::new(&mut kept), cx)).await;
        assert!(frame.is_some_and(|frame| frame.is_err_and(|error| error.is::<NotLeading>())));
    }

    #[tokio::test]
    async fn what_is_under_way_is_dropped_when_the_term_ends() {
        let fence = Fence::term(Renewed::now(), TERM);
        let other = fence.clone();
        let (passed, ()) = tokio::join!(fence.pass(std::future::pending::<()>()), async { other.end() });
        assert_eq!(passed, Err(NotLeading));
    }
}
