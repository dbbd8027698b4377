//! A list that is sent as it is stored: the objects' own bytes, joined piece by piece as the client takes them. However
//! long the list and however slow the client, it has no memory of its own; objects that are changed or deleted
//! meanwhile stay as long as it needs them.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::HttpBody;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use super::unread::PIECE;
use crate::store::Object;

const TAIL: &[u8] = b"]}";

/// The bytes of a list of objects.
pub(crate) struct Joined {
    /// Nothing once it was sent.
    head: Vec<u8>,
    objects: std::vec::IntoIter<Arc<Object>>,
    is_first: bool,
    /// An object that goes out as a piece of its own, and is not copied.
    large: Option<Bytes>,
    /// Bytes that are still to come.
    left: usize,
}

impl Joined {
    /// `head` is everything before the first object.
    pub(crate) fn new(head: Vec<u8>, objects: Vec<Arc<Object>>) -> Self {
        let bodies: usize = objects.iter().map(|object| object.body.len()).sum();
        let left = head.len() + bodies + objects.len().saturating_sub(1) + TAIL.len();
        Self { head, objects: objects.into_iter(), is_first: true, large: None, left }
    }

    fn next_piece(&mut self) -> Bytes {
        let piece = self.large.take().unwrap_or_else(|| self.join());
        self.left = self.left.saturating_sub(piece.len());
        piece
    }

    fn join(&mut self) -> Bytes {
        let mut piece = Vec::with_capacity(self.left.min(PIECE));
        piece.append(&mut self.head);
        while let Some(next) = self.objects.as_slice().first() {
            let is_large = next.body.len() >= PIECE;
            if !is_large && piece.len() + 1 + next.body.len() > PIECE {
                return piece.into();
            }
            let Some(object) = self.objects.next() else { break };
            if !std::mem::take(&mut self.is_first) {
                piece.push(b',');
            }
            if !is_large {
                piece.extend_from_slice(&object.body);
                continue;
            }
            let body = object.body.clone();
            if piece.is_empty() {
                return body;
            }
            self.large = Some(body);
            return piece.into();
        }
        piece.extend_from_slice(TAIL);
        piece.into()
    }
}

impl HttpBody for Joined {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready((self.left > 0).then(|| Ok(Frame::data(self.next_piece()))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    use super::*;
    use crate::store::Key;

    fn object(size: usize) -> Arc<Object> {
        let body = json!({"a": "x".repeat(size)}).to_string().into();
        Arc::new(Object { key: Key::new("configmaps", "a", "b"), revision: 1, uid: "".into(), body })
    }

    #[tokio::test]
    async fn what_was_announced_comes_in_small_pieces() {
        for sizes in
            [vec![], vec![1], vec![1; 5000], vec![PIECE; 3], vec![10, 5 * PIECE, 10], vec![PIECE - 20, 30]]
        {
            let objects: Vec<Arc<Object>> = sizes.iter().map(|size| object(*size)).collect();
            let mut list = Joined::new(b"{\"items\":[".to_vec(), objects);
            let announced = list.size_hint().exact().unwrap();
            let mut text = Vec::new();
            while let Some(frame) = list.frame().await {
                let piece = frame.unwrap().into_data().unwrap();
                assert!(
                    piece.len() <= PIECE + TAIL.len() || sizes.iter().any(|size| *size >= PIECE),
                    "{}",
                    piece.len()
                );
                text.extend_from_slice(&piece);
            }
            assert_eq!(text.len() as u64, announced);
            assert!(list.is_end_stream());
            let read: Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(read["items"].as_array().unwrap().len(), sizes.len());
        }
    }
}
