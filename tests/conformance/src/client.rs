//! One gRPC channel to a CSI socket, over which any message of any RPC can be sent: typed
//! ones, and bytes that no typed client would send.

use std::{io, path::PathBuf, time::Duration};

use bytes::{Buf, BufMut};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use crate::rpc::{Call, Rpc};

/// A channel, cheap to copy. It connects again by itself when the plugin was restarted.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    channel: Channel,
    timeout: Duration,
}

impl Client {
    /// `timeout`: how long the plugin may take for one answer.
    pub(crate) fn new(socket: PathBuf, timeout: Duration) -> Self {
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
        });
        // The address is the HTTP authority only; the connector knows the socket.
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector);
        Self { channel, timeout }
    }

    /// One call, one answer.
    pub(crate) async fn call<R: Call>(&self, request: R) -> Result<R::Answer, Status> {
        let codec = ProstCodec::<R, R::Answer>::default();
        self.unary(R::RPC, request, codec).await
    }

    /// The bytes as they are, as the message of a call. The answer is not decoded.
    pub(crate) async fn raw(&self, rpc: Rpc, message: Vec<u8>) -> Result<Vec<u8>, Status> {
        self.unary(rpc, message, RawCodec).await
    }

    async fn unary<C: Codec>(&self, rpc: Rpc, message: C::Encode, codec: C) -> Result<C::Decode, Status>
    where
        C::Encode: Send + Sync + 'static,
        C::Decode: Send + Sync + 'static,
    {
        let work = async {
            let mut grpc = self.ready().await?;
            Ok(grpc.unary(Request::new(message), rpc.path(), codec).await?.into_inner())
        };
        tokio::time::timeout(self.timeout, work).await.unwrap_or_else(|_| Err(self.late()))
    }

    /// One call, answered by a stream, of which all messages are read.
    pub(crate) async fn stream<R: Call>(&self, request: R) -> Result<Vec<R::Answer>, Status> {
        let work = async {
            let codec = ProstCodec::<R, R::Answer>::default();
            let mut grpc = self.ready().await?;
            let answer = grpc.server_streaming(Request::new(request), R::RPC.path(), codec).await?;
            let (mut stream, mut messages) = (answer.into_inner(), Vec::new());
            while let Some(message) = stream.message().await? {
                messages.push(message);
            }
            Ok(messages)
        };
        tokio::time::timeout(self.timeout, work).await.unwrap_or_else(|_| Err(self.late()))
    }

    async fn ready(&self) -> Result<Grpc<Channel>, Status> {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.map_err(|error| Status::unavailable(format!("cannot connect: {error}")))?;
        Ok(grpc)
    }

    fn late(&self) -> Status {
        Status::deadline_exceeded(format!("no answer within {:?}", self.timeout))
    }
}

/// Sends bytes unchecked.
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }
}
