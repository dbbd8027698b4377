//! Answers on their way: a request is not over when its answer is known but when the client has taken it, so until then
//! the answer keeps the request's room among those under way. Else who asks for much and reads nothing would
//! fill the memory, one request after the other.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use http::Version;
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::limits::{Permit, Room};

/// Bytes of an answer that are handed on in one go. What is handed on waits in the connection's own buffers,
/// without a permit.
pub(crate) const PIECE: usize = 16 * 1024;

/// How long an answer of which nothing is read is kept; upstream's limit for a whole request.
const PATIENCE: Duration = Duration::from_secs(60);

/// Marks an answer that goes on for as long as something happens: a watch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Streamed;

/// The room of a copy that the audit log has made of an answer: the answer is that copy from then on.
#[derive(Clone)]
pub(crate) struct Noted(pub(crate) Arc<Room>);

/// The client took too long.
#[derive(Debug, Error)]
#[error("the answer was not read in time")]
struct NotRead;

/// Keeps the permit, and the room that the answer itself has, until the answer has been handed on to its last byte or
/// nobody is there any more to take it.
pub(crate) fn hold(response: Response, permit: Option<Permit>, version: Version) -> Response {
    hold_within(PATIENCE, response, permit, version)
}

fn hold_within(
    patience: Duration,
    mut response: Response,
    permit: Option<Permit>,
    version: Version,
) -> Response {
    let room = response.extensions_mut().remove::<Arc<Room>>();
    let noted = response.extensions_mut().remove::<Noted>();
    let is_streamed = response.extensions_mut().remove::<Streamed>().is_some();
    if permit.is_none() && room.is_none() && noted.is_none() && !is_streamed {
        return response;
    }
    let (parts, body) = response.into_parts();
    let size = body.size_hint();
    let is_small = size.exact().is_some_and(|bytes| bytes <= PIECE as u64);
    let waiting = Waiting {
        body,
        rest: Bytes::new(),
        is_shared: true,
        taken: 0,
        is_awaited: false,
        _permit: permit,
        _rooms: [room, noted.map(|Noted(room)| room)],
    };
    let waiting = Arc::new(Mutex::new(Some(waiting)));
    // Over HTTP/1 a small answer is taken at once, whoever reads it when.
    let is_taken_at_once = is_small && version < Version::HTTP_2;
    let guard =
        (!is_taken_at_once).then(|| tokio::spawn(give_up(patience, Arc::downgrade(&waiting))).abort_handle());
    Response::from_parts(parts, Body::new(Held { waiting, guard }))
}

/// An answer, and what it keeps.
struct Waiting {
    body: Body,
    /// What is left of the last part that the body gave.
    rest: Bytes,
    /// Whether `rest` is still the whole part.
    is_shared: bool,
    /// How many pieces were handed on.
    taken: u64,
    /// Whether the client has taken everything and waits for more, as of a quiet watch.
    is_awaited: bool,
    _permit: Option<Permit>,
    _rooms: [Option<Arc<Room>>; 2],
}

impl Waiting {
    fn next_piece(&mut self) -> Bytes {
        if self.rest.len() > PIECE {
            self.is_shared = false;
            return Bytes::copy_from_slice(&self.rest.split_to(PIECE));
        }
        let last = std::mem::take(&mut self.rest);
        // A slice would keep all of it in memory for as long as the slice waits to be sent.
        let piece = if self.is_shared { last } else { Bytes::copy_from_slice(&last) };
        self.is_shared = true;
        piece
    }
}

/// The body of a response that is held.
struct Held {
    /// Nothing once it was given up or came to its end.
    waiting: Arc<Mutex<Option<Waiting>>>,
    guard: Option<AbortHandle>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(guard) = &self.guard {
            guard.abort();
        }
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut slot = self.waiting.lock();
        let Some(waiting) = slot.as_mut() else {
            return Poll::Ready(Some(Err(axum::Error::new(NotRead))));
        };
        if waiting.rest.is_empty() {
            let polled = Pin::new(&mut waiting.body).poll_frame(cx);
            waiting.is_awaited = polled.is_pending();
            match ready!(polled) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => waiting.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        waiting.taken += 1;
        Poll::Ready(Some(Ok(Frame::data(waiting.next_piece()))))
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.lock().as_ref().is_some_and(|held| held.rest.is_empty() && held.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let slot = self.waiting.lock();
        let Some(waiting) = slot.as_ref() else { return SizeHint::default() };
        let rest = waiting.rest.len() as u64;
        let (mut hint, inner) = (SizeHint::default(), waiting.body.size_hint());
        hint.set_lower(inner.lower().saturating_add(rest));
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}

/// Lets go of an answer that nobody takes: its connection may stay, its memory and its room may not.
async fn give_up(patience: Duration, waiting: Weak<Mutex<Option<Waiting>>>) {
    let mut seen = 0;
    loop {
        sleep(patience).await;
        let Some(waiting) = waiting.upgrade() else { return };
        let mut slot = waiting.lock();
        match slot.as_ref() {
            None => return,
            Some(waiting) if waiting.is_awaited || waiting.taken > seen => seen = waiting.taken,
            Some(_) => {
                tracing::debug!("an answer that was not read in time is given up");
                slot.take();
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use http_body_util::BodyExt;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::apiserver::limits::{Limits, Most};

    fn limits() -> Limits {
        Limits::register(&mut Registry::default(), Most { list: 1000, watches: 1, connections: 1 })
    }

    fn answer(patience: Duration, limits: &Limits, size: usize, version: Version) -> Body {
        let mut response = Response::new(Body::from(vec![7; size]));
        response.extensions_mut().insert(Arc::new(limits.convert(1000).unwrap()));
        let permit = limits.enter("a", true).unwrap();
        hold_within(patience, response, Some(permit), version).into_body()
    }

    #[tokio::test]
    async fn an_answer_keeps_its_room_until_it_is_taken() {
        let limits = limits();
        for size in [0, 1, PIECE, PIECE + 1, 10 * PIECE] {
            let mut body = answer(PATIENCE, &limits, size, Version::HTTP_11);
            assert_eq!(body.size_hint().exact(), Some(size as u64));
            let mut taken = 0;
            while let Some(frame) = body.frame().await {
                assert_eq!(limits.reading(), 1);
                let piece = frame.unwrap().into_data().unwrap();
                assert!(piece.len() <= PIECE && piece.iter().all(|byte| *byte == 7));
                taken += piece.len();
                assert_eq!(body.size_hint().exact(), Some((size - taken) as u64));
            }
            assert_eq!(taken, size);
            assert!(body.is_end_stream());
            drop(body);
            assert_eq!(limits.reading(), 0);
        }
    }

    #[tokio::test]
    async fn who_hangs_up_gives_it_back() {
        let limits = limits();
        let bodies: Vec<Body> = (0..4).map(|_| answer(PATIENCE, &limits, 1 << 20, Version::HTTP_2)).collect();
        assert_eq!(limits.reading(), 4);
        assert!(limits.convert(1).is_err(), "the lists have all the room");
        drop(bodies);
        assert_eq!(limits.reading(), 0);
        limits.convert(1000).unwrap();
    }

    #[tokio::test]
    async fn what_is_not_read_is_given_up() {
        let limits = limits();
        let patience = Duration::from_millis(200);
        for (size, version) in [(1, Version::HTTP_2), (10 * PIECE, Version::HTTP_11)] {
            let started = Instant::now();
            let mut body = answer(patience, &limits, size, version);
            while limits.reading() > 0 {
                assert!(started.elapsed() < Duration::from_secs(20), "it is kept");
                sleep(Duration::from_millis(5)).await;
            }
            assert!(started.elapsed() >= patience);
            limits.convert(1000).unwrap();
            let error = body.frame().await.unwrap().unwrap_err();
            assert!(error.to_string().contains("not read in time"), "{error}");
        }
    }

    /// A watch on which nothing happens is no answer that is not read; one with something to tell is.
    #[tokio::test]
    async fn a_quiet_watch_stays_and_an_unread_one_goes() {
        let patience = Duration::from_millis(100);
        let watch = |events: usize| {
            let events =
                futures::stream::iter((0..events).map(|_| Ok::<_, axum::Error>(Bytes::from("event"))));
            let stream = futures::StreamExt::chain(events, futures::stream::pending());
            let mut response = Response::new(Body::from_stream(stream));
            response.extensions_mut().insert(Streamed);
            hold_within(patience, response, None, Version::HTTP_11).into_body()
        };
        let mut quiet = watch(1);
        quiet.frame().await.unwrap().unwrap();
        let next = tokio::time::timeout(patience * 5, quiet.frame()).await;
        assert!(next.is_err(), "it was ended: {next:?}");
        let mut unread = watch(2);
        unread.frame().await.unwrap().unwrap();
        sleep(patience * 5).await;
        assert!(unread.frame().await.unwrap().is_err(), "it is kept");
    }

    #[tokio::test]
    async fn who_reads_slowly_gets_everything() {
        let limits = limits();
        let mut body = answer(Duration::from_secs(2), &limits, 12 * PIECE, Version::HTTP_11);
        let mut taken = 0;
        while let Some(frame) = body.frame().await {
            taken += frame.unwrap().into_data().unwrap().len();
            sleep(Duration::from_millis(400)).await;
        }
        assert_eq!(taken, 12 * PIECE);
    }
}
